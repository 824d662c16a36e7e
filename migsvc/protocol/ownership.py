"""Who owns the VM after a crash, and what to do: decisions as tables, one row per case, no case left out.

Each host decides by its own durable journal; only a destination that is bound by Prepared needs the other host's
word, and it waits for it without limit. The journal's states are those of a migration (`MigrationState` of the
service). The commit point is the source's one transaction that writes `committed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .events import Outcome

JOURNAL_STATES = (
    "queued",
    "connecting",
    "negotiating",
    "precopy",
    "stop_and_copy",
    "verifying",
    "prepared",
    "committed",
    "completed",
    "cancelled",
    "failed",
)
"""States of a migration in either host's journal."""

UNKNOWN = "unknown"
"""Answer of a source whose journal has no such migration."""

CONTRADICTION = "contradiction"
"""What `answer_of` makes of an answer whose epoch is not the one that was prepared."""

ANSWERS = (*JOURNAL_STATES, UNKNOWN, CONTRADICTION)
"""Everything that an answer can be reduced to; None, besides, means that there is no answer yet."""


class Owner(Enum):
    """Who owns the VM."""

    SOURCE = "source"
    DESTINATION = "destination"
    UNDECIDED = "undecided"  # only the source knows


class Action(Enum):
    """What this host does."""

    ABORT_AND_RESUME = "abort_and_resume"  # tell the peer Cancel if it can be reached, run the VM if it ran before
    RESEND_COMMIT = "resend_commit"  # keep the VM fenced; repeat Commit until Running
    DISCARD = "discard"  # destroy the copy, journal the end
    ASK_SOURCE = "ask_source"  # keep the copy paused; Query until there is an answer; never run on a timeout
    HOLD = "hold"  # as ASK_SOURCE, and show an operator why
    RUN = "run"  # take the ownership durably, run the VM if it ran before, say Running
    KEEP = "keep"  # the ending is known; nothing to do


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, who owns the VM, why in one sentence, and the rule of PROTOCOL.md behind it."""

    action: Action
    owner: Owner
    explanation: str
    rule: str


_BEFORE_COMMIT = ("queued", "connecting", "negotiating", "precopy", "stop_and_copy", "verifying", "prepared")
_BEFORE_PREPARED = ("queued", "connecting", "negotiating", "precopy", "stop_and_copy", "verifying")

SOURCE_DECISIONS: Mapping[str, Decision] = {
    **dict.fromkeys(
        _BEFORE_COMMIT,
        Decision(
            Action.ABORT_AND_RESUME,
            Owner.SOURCE,
            "The source had not committed the handover, so the VM is the source's and goes on there.",
            "PRO-037",
        ),
    ),
    "committed": Decision(
        Action.RESEND_COMMIT,
        Owner.DESTINATION,
        "The source had committed the handover, so the VM is the destination's; it is told again until it confirms.",
        "PRO-036",
    ),
    "completed": Decision(Action.KEEP, Owner.DESTINATION, "The destination confirmed that it owns the VM.", "PRO-033"),
    "cancelled": Decision(
        Action.KEEP, Owner.SOURCE, "The migration was cancelled before the commit point; the VM stayed.", "PRO-037"
    ),
    "failed": Decision(
        Action.KEEP, Owner.SOURCE, "The migration failed before the commit point; the VM stayed.", "PRO-037"
    ),
}
"""State in the source's journal -> decision."""

_DESTINATION: Mapping[str, Decision] = {
    **dict.fromkeys(
        _BEFORE_PREPARED,
        Decision(
            Action.DISCARD,
            Owner.SOURCE,
            "The destination had not said Prepared, so the source cannot have committed; the partial copy goes.",
            "PRO-031",
        ),
    ),
    "committed": Decision(
        Action.RUN, Owner.DESTINATION, "The destination had taken the ownership durably; it runs the VM.", "PRO-034"
    ),
    "completed": Decision(Action.KEEP, Owner.DESTINATION, "The destination owns the VM and has run it.", "PRO-034"),
    "cancelled": Decision(Action.KEEP, Owner.SOURCE, "The source cancelled; the copy was discarded.", "PRO-031"),
    "failed": Decision(Action.KEEP, Owner.SOURCE, "The migration failed; the copy was discarded.", "PRO-031"),
}

_WAIT = Decision(
    Action.ASK_SOURCE,
    Owner.UNDECIDED,
    "The destination holds a prepared copy and has no answer yet; only the source knows, so the copy stays paused.",
    "PRO-035",
)
_RUN = Decision(
    Action.RUN,
    Owner.DESTINATION,
    "The source says that it committed; the destination runs the VM.",
    "PRO-032",
)
_DISCARD = Decision(
    Action.DISCARD, Owner.SOURCE, "The source says that it gave the migration up; the copy is discarded.", "PRO-037"
)

PREPARED_DECISIONS: Mapping[str | None, Decision] = {
    None: _WAIT,
    **dict.fromkeys(
        _BEFORE_COMMIT,
        Decision(
            Action.ASK_SOURCE,
            Owner.SOURCE,
            "The source says that it has not decided yet; until it does the VM is its own and the copy stays paused.",
            "PRO-035",
        ),
    ),
    "committed": _RUN,
    "completed": _RUN,
    "cancelled": _DISCARD,
    "failed": _DISCARD,
    UNKNOWN: Decision(
        Action.HOLD,
        Owner.UNDECIDED,
        "The source's journal does not know this migration, though it began there: it is not the same journal. "
        "The copy stays paused until an operator has looked.",
        "PRO-035",
    ),
    CONTRADICTION: Decision(
        Action.HOLD,
        Owner.UNDECIDED,
        "The source's answer names another epoch than the prepared one. The copy stays paused until an operator "
        "has looked.",
        "PRO-016",
    ),
}
"""A destination in state prepared: the source's answer -> decision."""


def decide_source(journal_state: str) -> Decision:
    """Decide for a source that finds this state in its journal.

    Raises:
        KeyError: there is no such state.
    """
    return SOURCE_DECISIONS[journal_state]


def decide_destination(journal_state: str, answer: str | None = None) -> Decision:
    """Decide for a destination that finds this state in its journal; `answer` is the source's, None: none yet.

    Raises:
        KeyError: there is no such state or answer.
    """
    if answer is not None and answer not in ANSWERS:
        raise KeyError(answer)
    return PREPARED_DECISIONS[answer] if journal_state == "prepared" else _DESTINATION[journal_state]


def answer_of(outcome: Outcome, prepared_epoch: int) -> str:
    """Reduce an Outcome to an answer; `prepared_epoch` is the epoch in Prepared (one above Hello's)."""
    if outcome.state not in JOURNAL_STATES:
        return UNKNOWN
    if outcome.state in {"committed", "completed"} and outcome.epoch != prepared_epoch:
        return CONTRADICTION
    return outcome.state
