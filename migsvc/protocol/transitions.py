"""The state machines of a migration connection.

Two laws:

1. Everything that decides which event may come when is in this file. (What an event must *say*, e.g. the right
   epoch, is in agreement.py.)
2. This file knows no octets, no clock and no catalogue.

A row reads: in this state, this event, whoever sends it, leads to that state; an event without an entry is an error
of its sender. Events cross on the wire: so a source that has sent Cancel still takes what the destination had said
before it knew. Terminal states have empty rows.

SOURCE dials to migrate. DESTINATION listens. RECOVERY dials after a crash, from either host: to repeat Commit or
Cancel, or to ask how a migration ended; the listener answers it by DESTINATION's table, for who listens cannot know
who dials. Ping and Pong keep every state in which they may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from .events import (
    Accept,
    Cancel,
    Commit,
    Disconnected,
    Failed,
    Gone,
    Hello,
    Offer,
    Outcome,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Query,
    Refuse,
    RoundAck,
    Running,
    Side,
    StreamBegan,
    StreamEnded,
    StreamRecord,
    Welcome,
)


class Role(Enum):
    """What this end of the connection is."""

    SOURCE = "source"
    DESTINATION = "destination"
    RECOVERY = "recovery"

    @property
    def side(self) -> Side:
        """Whether this role dials or listens."""
        return Side.LISTENER if self is Role.DESTINATION else Side.DIALER


class State(StrEnum):
    """Where the conversation stands."""

    IDLE = "idle"  # nothing said
    GREETING = "greeting"  # Hello said
    GREETED = "greeted"  # Welcome said; now Offer, or in recovery Commit, Cancel or Query
    OFFERED = "offered"
    ACCEPTED = "accepted"
    STREAMING = "streaming"
    STREAMED = "streamed"  # END passed
    PREPARING = "preparing"  # the destination verifies, loads, journals
    PREPARED = "prepared"  # the destination is bound by its word
    COMMITTED = "committed"  # source: beyond the commit point; destination: has been told so
    RUNNING = "running"  # destination: owns and runs the VM
    CANCELLING = "cancelling"  # Cancel said, Gone awaited
    ASKED = "asked"  # Query said, Outcome awaited
    COMPLETED = "completed"  # end; source: the destination runs the VM
    ABORTED = "aborted"  # end; the source has the VM, the destination has nothing
    IN_DOUBT = "in_doubt"  # end; between Prepared and Running: the journals decide (ownership.py)
    CLOSED = "closed"  # end; nothing was at stake


Row = Mapping[type, State]

_ENDS: Mapping[State, Row] = {state: {} for state in (State.COMPLETED, State.ABORTED, State.IN_DOUBT, State.CLOSED)}


_SOURCE: dict[State, Row] = {
    State.IDLE: {Hello: State.GREETING, Disconnected: State.ABORTED},
    State.GREETING: {Welcome: State.GREETED, Failed: State.ABORTED, Disconnected: State.ABORTED},
    State.GREETED: {
        Offer: State.OFFERED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.OFFERED: {
        Accept: State.ACCEPTED,
        Refuse: State.ABORTED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.ACCEPTED: {
        StreamBegan: State.STREAMING,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.STREAMING: {
        StreamRecord: State.STREAMING,
        RoundAck: State.STREAMING,
        StreamEnded: State.STREAMED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.STREAMED: {
        Prepare: State.PREPARING,
        RoundAck: State.STREAMED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.PREPARING: {
        Prepared: State.PREPARED,
        RoundAck: State.PREPARING,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.PREPARED: {
        Commit: State.COMMITTED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.COMMITTED: {
        Commit: State.COMMITTED,
        Running: State.COMPLETED,
        Failed: State.IN_DOUBT,
        Disconnected: State.IN_DOUBT,
    },
    State.CANCELLING: {
        Gone: State.ABORTED,
        Refuse: State.ABORTED,
        Failed: State.ABORTED,
        Accept: State.CANCELLING,
        RoundAck: State.CANCELLING,
        Prepared: State.CANCELLING,
        Disconnected: State.ABORTED,
    },
    **_ENDS,
}

_DESTINATION: dict[State, Row] = {
    State.IDLE: {Hello: State.GREETING, Disconnected: State.CLOSED},
    State.GREETING: {Welcome: State.GREETED, Failed: State.CLOSED, Disconnected: State.CLOSED},
    State.GREETED: {
        Offer: State.OFFERED,
        Commit: State.COMMITTED,
        Cancel: State.CANCELLING,
        Query: State.ASKED,
        Failed: State.CLOSED,
        Disconnected: State.CLOSED,
    },
    State.OFFERED: {
        Accept: State.ACCEPTED,
        Refuse: State.ABORTED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.ACCEPTED: {
        StreamBegan: State.STREAMING,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.STREAMING: {
        StreamRecord: State.STREAMING,
        RoundAck: State.STREAMING,
        StreamEnded: State.STREAMED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.STREAMED: {
        Prepare: State.PREPARING,
        RoundAck: State.STREAMED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    State.PREPARING: {
        Prepared: State.PREPARED,
        RoundAck: State.PREPARING,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Gone: State.ABORTED,
        Disconnected: State.ABORTED,
    },
    # Gone is missing here on purpose: after Prepared the copy is discarded only when the source says so. Failed means
    # that there is no copy any more (its worker died), not that the destination changed its mind.
    State.PREPARED: {
        Commit: State.COMMITTED,
        Cancel: State.CANCELLING,
        Failed: State.ABORTED,
        Disconnected: State.IN_DOUBT,
    },
    State.COMMITTED: {
        Running: State.RUNNING,
        Commit: State.COMMITTED,
        Failed: State.IN_DOUBT,
        Disconnected: State.IN_DOUBT,
    },
    State.RUNNING: {Commit: State.COMMITTED, Disconnected: State.COMPLETED},
    State.CANCELLING: {Gone: State.ABORTED, Failed: State.ABORTED, Disconnected: State.ABORTED},
    State.ASKED: {Outcome: State.GREETED, Disconnected: State.CLOSED},
    **_ENDS,
}

_RECOVERY: dict[State, Row] = {
    State.IDLE: {Hello: State.GREETING, Disconnected: State.CLOSED},
    State.GREETING: {Welcome: State.GREETED, Failed: State.CLOSED, Disconnected: State.CLOSED},
    State.GREETED: {
        Query: State.ASKED,
        Commit: State.COMMITTED,
        Cancel: State.CANCELLING,
        Failed: State.CLOSED,
        Disconnected: State.CLOSED,
    },
    State.ASKED: {Outcome: State.GREETED, Disconnected: State.CLOSED},
    State.COMMITTED: {
        Commit: State.COMMITTED,
        Running: State.COMPLETED,
        Failed: State.IN_DOUBT,
        Disconnected: State.IN_DOUBT,
    },
    State.CANCELLING: {Gone: State.ABORTED, Failed: State.CLOSED, Disconnected: State.CLOSED},
    **_ENDS,
}

TERMINAL = frozenset(_ENDS)
"""States in which nothing more is said."""

_BEFORE_PING = frozenset({State.IDLE, State.GREETING})


def _with_pings(table: Mapping[State, Row]) -> dict[State, Row]:
    return {
        state: row if state in TERMINAL | _BEFORE_PING else {**row, Ping: state, Pong: state}
        for state, row in table.items()
    }


TRANSITIONS: Mapping[Role, Mapping[State, Row]] = {
    Role.SOURCE: _with_pings(_SOURCE),
    Role.DESTINATION: _with_pings(_DESTINATION),
    Role.RECOVERY: _with_pings(_RECOVERY),
}
"""Role -> state -> event -> next state."""


def next_state(role: Role, state: State, event: type) -> State | None:
    """Return the state that an event leads to, None if it may not come now."""
    return TRANSITIONS[role].get(state, {}).get(event)
