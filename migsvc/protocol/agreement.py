"""What both ends have said so far, and whether the next event agrees with it.

`transitions.py` decides when an event may come; this file decides what it may say then. The same checks hold for what
is sent and for what is received: `error` is the class of error to raise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from migsvc.stream import BodyError, Config, Digest, config_map, parse_config_map

from .errors import ProtocolError
from .events import (
    PROTOCOL_VERSIONS,
    Commit,
    Event,
    Hello,
    Offer,
    Outcome,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Query,
    RoundAck,
    Running,
    Welcome,
)

MAX_UNANSWERED_PINGS = 16
"""A driver pings about once a second; a peer that is silent this long is taken for dead long before."""

Blame = type[ProtocolError]


class Agreement:
    """The memory of one conversation."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._hello: Hello | None = None
        self._offer: Mapping[str, Any] | None = None
        self._prepare: Prepare | None = None
        self._query: Query | None = None
        self._digest: Digest | None = None
        self._pings: deque[int] = deque()
        self._rounds = 0
        self._acked = 0

    def require(self, event: Event, blame: Blame) -> None:
        """Require that an event agrees with what was said; PRO-007, PRO-008 and PRO-013 to PRO-019."""
        check = _CHECKS.get(type(event))
        if check is not None:
            check(self, event, blame)

    def note(self, event: Event) -> None:
        """Remember an event that was sent or received."""
        match event:
            case Hello():
                self._hello = event
            case Offer():
                self._offer = event.config
            case RoundAck():
                self._acked = event.round
            case Prepare():
                self._prepare = event
            case Query():
                self._query = event
            case Ping():
                self._pings.append(event.number)
            case Pong():
                self._pings.popleft()

    def note_round(self, number: int) -> None:
        """Remember that a round of the stream has ended."""
        self._rounds = number

    def note_digest(self, digest: Digest) -> None:
        """Remember the DIGEST record that was received."""
        self._digest = digest

    def require_config(self, config: Config, blame: Blame) -> None:
        """Require that the stream's CONFIG is what was offered: PRO-012."""
        if config_map(config) != self._offer:
            raise blame("PRO-012", "CONFIG of the stream differs from the Offer")

    def _welcome(self, event: Welcome, blame: Blame) -> None:
        said = self._hello.protocol_version if self._hello else None
        if event.protocol_version != said or said not in PROTOCOL_VERSIONS:
            raise blame("PRO-007", f"Welcome to version {event.protocol_version}, Hello said {said}")

    def _offered(self, event: Offer, blame: Blame) -> None:
        try:
            config = parse_config_map(event.config)
        except BodyError as error:
            raise blame("PRO-008", f"The offered config is not legal: {error.detail} [{error.rule}]") from error
        hello = self._hello
        if hello is None or (config.vm_id, config.vm_name, config.epoch) != (hello.vm_id, hello.vm_name, hello.epoch):
            raise blame("PRO-008", "The offered config is not of the VM and epoch in Hello")
        if config.schema_version != hello.schema_version:
            text = f"The offered config is of schema version {config.schema_version}, Hello says {hello.schema_version}"
            raise blame("PRO-019", text)

    def _round_ack(self, event: RoundAck, blame: Blame) -> None:
        if event.round != self._acked + 1 or event.round > self._rounds:
            raise blame("PRO-013", f"Ack of round {event.round}; {self._acked} of {self._rounds} were acknowledged")

    def _prepare_(self, event: Prepare, blame: Blame) -> None:
        if event.round != self._rounds or (self._digest is not None and event.root != self._digest.root):
            raise blame("PRO-014", f"Prepare names round {event.round} or a root that is not the stream's")

    def _prepared(self, event: Prepared, blame: Blame) -> None:
        if self._prepare is None or event.root != self._prepare.root:
            raise blame("PRO-015", "Prepared names another root digest than Prepare")
        self._epoch(event, blame)

    def _epoch(self, event: Prepared | Commit | Running, blame: Blame) -> None:
        due = self._hello.epoch + 1 if self._hello else None
        if event.epoch != due:
            raise blame("PRO-016", f"{type(event).__name__} names epoch {event.epoch}; the next epoch is {due}")

    def _ping(self, event: Ping, blame: Blame) -> None:
        if len(self._pings) >= MAX_UNANSWERED_PINGS:
            raise blame("PRO-017", f"Ping {event.number} with {len(self._pings)} unanswered")

    def _pong(self, event: Pong, blame: Blame) -> None:
        if not self._pings or self._pings[0] != event.number:
            raise blame("PRO-017", f"Pong {event.number} answers no Ping, or not the oldest")

    def _outcome(self, event: Outcome, blame: Blame) -> None:
        if self._query is None or event.migration_id != self._query.migration_id:
            raise blame("PRO-018", f"Outcome of migration {event.migration_id[:64]!r} was not asked for")


_CHECKS: Mapping[type[Event], Callable[[Agreement, Any, Blame], None]] = {
    Welcome: Agreement._welcome,
    Offer: Agreement._offered,
    RoundAck: Agreement._round_ack,
    Prepare: Agreement._prepare_,
    Prepared: Agreement._prepared,
    Commit: Agreement._epoch,
    Running: Agreement._epoch,
    Ping: Agreement._ping,
    Pong: Agreement._pong,
    Outcome: Agreement._outcome,
}
"""Event -> what it must agree with."""
