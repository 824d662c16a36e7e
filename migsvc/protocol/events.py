"""Everything that can be said on a migration connection, as frozen values; PROTOCOL.md is normative.

The dialer is the source of the migration, or, after a crash, whichever host recovers; the listener is the other one.
`EVENTS` is the one table of frames. The three stream events at the end are not frames: they stand for octets of the
stream on their way through the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from migsvc.stream import Record

Octets = bytes
"""Octets of any length up to `frames.MAX_OCTETS`; plain `bytes` in an event are a digest."""

PROTOCOL_VERSION = 1
"""Version of the conversation that this package speaks."""

PROTOCOL_VERSIONS = (1,)
"""Versions that a listener accepts: the present one and the one before it, when there is one."""


class Side(Enum):
    """Who sends an event."""

    DIALER = "dialer"
    LISTENER = "listener"


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens every connection. `epoch` is the ownership epoch *before* the handover, in recovery as well.

    Its body never changes in any version, so that hosts of different versions can refuse each other politely.
    """

    protocol_version: int
    stream_version: int
    schema_version: int
    migration_id: str
    vm_id: str
    vm_name: str
    epoch: int
    source_host: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The listener takes the connection; `profile` is its HostProfile as JSON values."""

    protocol_version: int
    host_id: str
    host_name: str
    profile: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be moved: `config` as in CONFIG (`config_map`), `summary` as the compatibility check wants it."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Accept:
    """The destination can hold the state and has room for it."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The destination cannot hold the state; one finding per reason, each a JSON object."""

    findings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RoundAck:
    """Everything up to the end of this round has been applied; rounds are acknowledged in order."""

    round: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get ready to take over: `round` is the last round of the stream, `root` the root digest in its DIGEST.

    `run`: the VM was running and is to run after Commit; else it stays paused. `console` is the end of the VM's
    console output as the source keeps it, so that readers see no gap; it is no machine state and not in any digest.
    """

    round: int
    root: bytes
    run: bool = True
    console: Octets = b""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The copy is verified, loaded, paused and durably journalled; `epoch` is the one it would get."""

    root: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The destination owns the VM with this epoch: the source has committed it durably. May be repeated."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Running:
    """The destination has taken the ownership durably and runs the VM (or keeps it paused, if it was paused)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The source gives up; the VM stays with it. Never after the commit point."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The destination has discarded its copy: the answer to Cancel, or on its own before Prepared."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The destination cannot go on; `problem` is a problem document (type, title, detail, hint ...)."""

    problem: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """How did this migration end, as far as you know?"""

    migration_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the journal says: `state` is a journal state or "unknown"; `epoch` is the VM's present epoch."""

    migration_id: str
    state: str
    owner: str
    epoch: int
    explanation: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you alive?"""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes: the number of the oldest Ping without an answer."""

    number: int


@dataclass(frozen=True, slots=True)
class StreamBegan:
    """The file header of the stream passed."""

    record: Record


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record of the stream passed, END excepted."""

    record: Record


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """END passed: the stream is complete."""

    record: Record


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone: the peer closed it, it broke, or this side closed it."""


Event = (
    Hello | Welcome | Offer | Accept | Refuse | RoundAck | Prepare | Prepared | Commit | Running
    | Cancel | Gone | Failed | Query | Outcome | Ping | Pong
)  # fmt: skip
"""What travels as a frame."""

Received = Event | StreamBegan | StreamRecord | StreamEnded | Disconnected
"""What `next_event` returns."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One row of the table of frames; `number` is the type in the frame header without the control bit."""

    number: int
    cls: type[Event]
    sender: Side


EVENTS: tuple[EventSpec, ...] = (
    EventSpec(1, Hello, Side.DIALER),
    EventSpec(2, Welcome, Side.LISTENER),
    EventSpec(3, Offer, Side.DIALER),
    EventSpec(4, Accept, Side.LISTENER),
    EventSpec(5, Refuse, Side.LISTENER),
    EventSpec(6, RoundAck, Side.LISTENER),
    EventSpec(7, Prepare, Side.DIALER),
    EventSpec(8, Prepared, Side.LISTENER),
    EventSpec(9, Commit, Side.DIALER),
    EventSpec(10, Running, Side.LISTENER),
    EventSpec(11, Cancel, Side.DIALER),
    EventSpec(12, Gone, Side.LISTENER),
    EventSpec(13, Failed, Side.LISTENER),
    EventSpec(14, Query, Side.DIALER),
    EventSpec(15, Outcome, Side.LISTENER),
    EventSpec(16, Ping, Side.DIALER),
    EventSpec(17, Pong, Side.LISTENER),
)
"""Every frame of the conversation."""

SENDER: Mapping[type[Event], Side] = {spec.cls: spec.sender for spec in EVENTS}
