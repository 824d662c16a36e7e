"""Keep the tables in PROTOCOL.md in step with the code: `python -m migsvc.protocol.docs [--write]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields

from migsvc.stream.docs import renew

from .events import EVENTS
from .ownership import PREPARED_DECISIONS, SOURCE_DECISIONS, Decision, decide_destination
from .transitions import TRANSITIONS, Role, State


def events_table() -> str:
    """Return the table of frames as Markdown."""
    rows = ["| type | event | sent by | fields |", "|---:|---|---|---|"]
    for spec in EVENTS:
        named = ", ".join(f"`{field.name}` {field.type}".replace("|", "or") for field in fields(spec.cls))
        rows.append(f"| {spec.number} | {spec.cls.__name__} | {spec.sender.value} | {named} |")
    return "\n".join(rows)


def transitions_table(role: Role) -> str:
    """Return one role's state machine as Markdown: state, then each event with the state it leads to."""
    rows = ["| state | event → next state |", "|---|---|"]
    for state in State:
        if state in TRANSITIONS[role]:
            row = TRANSITIONS[role][state]
            steps = ", ".join(f"{event.__name__} → {to}" for event, to in row.items())
            rows.append(f"| {state} | {steps or '(end)'} |")
    return "\n".join(rows)


def _decisions(rows: Mapping[str, Decision], first: str) -> str:
    lines = [f"| {first} | action | owner | why |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {d.action.value} | {d.owner.value} | {d.explanation} [{d.rule}] |" for name, d in rows.items()
    ]
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Return every generated table of PROTOCOL.md by the name of its markers."""
    return {
        "events": events_table(),
        **{f"transitions {role.value}": transitions_table(role) for role in Role},
        "decisions source": _decisions(SOURCE_DECISIONS, "source's journal"),
        "decisions destination": _decisions(
            {state: decide_destination(state) for state in SOURCE_DECISIONS}, "destination's journal"
        ),
        "decisions prepared": _decisions(
            {answer or "no answer": d for answer, d in PREPARED_DECISIONS.items()}, "the source's answer"
        ),
    }


if __name__ == "__main__":
    sys.exit(renew("migsvc.protocol", "PROTOCOL.md", tables(), sys.argv[1:]))
