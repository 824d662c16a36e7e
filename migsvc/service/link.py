"""One migration connection as the engines use it: events to send and to wait for, in asyncio; bytes move in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from migsvc.errors import MigsvcError, PeerError, StreamRejectedError
from migsvc.protocol.connection import MigrationConnection
from migsvc.protocol.errors import ProtocolError
from migsvc.protocol.events import Disconnected, Event, Failed, Gone, Received, StreamBegan, StreamEnded, StreamRecord
from migsvc.protocol.transitions import TERMINAL, Role
from migsvc.service.cancel import CancelToken
from migsvc.stream import MachineMemory, Memory, StreamError, StreamReader, Zero
from migsvc.transport.tcp import Channel

if TYPE_CHECKING:
    from migsvc.service.context import Host

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")

IDLE_TIMEOUT_S = 900.0
"""Silence inside an event. A source that searches for a moment to pause at may be silent for minutes; a host that has
vanished is noticed by keepalive within 30 s."""

POLL_S = 0.05
"""How often a wait for the peer looks whether it has been cancelled."""

CANCEL_GRACE_S = 0.5
"""A thread notices a cancellation between two records; one that does not in this time has its connection cut."""


class Patience(Enum):
    """How long to wait for the peer's next event, in seconds."""

    ANSWER = 10.0  # to something that needs no work
    WORD = 30.0  # after Prepared; then the source is asked over a fresh connection
    WORK = 900.0  # while it applies a round, verifies, prepares one, or searches for a moment


class Link:
    """One end of one connection. One task at a time sends or receives."""

    def __init__(self, host: Host, role: Role, channel: Channel) -> None:
        """Speak as `role` over a connected channel."""
        self._host = host
        self._connection = MigrationConnection(role)
        self._channel = channel
        self.memory: MachineMemory | None = None
        self.peer = channel.name

    @classmethod
    async def dial(cls, host: Host, role: Role, address: str) -> Self:
        """Connect to a host's migration listener at `HOST:PORT`.

        Raises:
            PeerError: it cannot be reached.
        """
        return cls(host, role, await host.blocking(Channel.connect, address, idle_timeout_s=IDLE_TIMEOUT_S))

    @property
    def reader(self) -> StreamReader:
        """The reader of the stream that passes through, for `MachineMemory`."""
        return self._connection.reader

    @property
    def over(self) -> bool:
        """Whether nothing can be said any more."""
        return self._connection.state in TERMINAL

    @property
    def bytes_sent(self) -> int:
        """Bytes that left on this connection."""
        return self._channel.bytes_sent

    def limit_bandwidth(self, bytes_per_s: int | None) -> None:
        """Send no faster than that; None: as fast as it goes."""
        self._channel.limit_bandwidth(bytes_per_s)

    async def send(self, event: Event) -> None:
        """Send one event.

        Raises:
            PeerError: the connection is broken, or the conversation has taken another turn.
        """
        try:
            frame = self._connection.send(event)
        except ProtocolError as error:
            raise PeerError(f"{type(event).__name__} cannot be said to {self.peer} now: {error}") from error
        await self._host.blocking(self._channel.send, frame)

    def write_record(self, head: bytes, pages: bytes) -> None:
        """Send one record of the stream; blocks.

        Raises:
            PeerError: the connection is broken, or the conversation has taken another turn.
            CancelledError: `abort` was called.
        """
        try:
            self._connection.send_stream(head)
        except ProtocolError as error:
            raise PeerError(f"the stream to {self.peer} cannot go on: {error}") from error
        self._channel.send(head, pages)

    async def receive(self, patience: Patience, cancel: CancelToken | None = None) -> Received:
        """Return the peer's next event; pages are applied to `memory` on the way.

        Raises:
            PeerError: silence, or a broken connection.
            StreamRejectedError: the stream or the conversation breaks a rule.
            CancelledError: `cancel` was asked for.
        """
        token = cancel or CancelToken()
        return await self.threaded(token, self._receive, patience.value, token.check)

    async def expect(self, *wanted: type[E], patience: Patience, cancel: CancelToken | None = None) -> E:
        """Return the next event of one of those classes; others that may come in between are passed over.

        Raises:
            PeerError: the peer gave up, hung up, or says nothing.
            CancelledError: `cancel` was asked for.
        """
        while True:
            event = await self.receive(patience, cancel)
            if isinstance(event, wanted):
                return event
            if isinstance(event, Disconnected):
                raise PeerError(f"{self.peer} hung up", hint="see the other host's log")
            if isinstance(event, Failed | Gone):
                raise gave_up(self.peer, event)

    async def require_quiet(self) -> None:
        """Look, without waiting, whether the peer has taken its word back or hung up.

        Raises:
            PeerError: it has.
        """
        if await self._host.blocking(self._channel.readable):
            event = await self.receive(Patience.ANSWER)
            if isinstance(event, Failed | Gone):
                raise gave_up(self.peer, event)
            raise PeerError(f"{self.peer} hung up, or says {type(event).__name__} out of turn")

    async def threaded(self, cancel: CancelToken, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work of this connection that looks at `cancel` by itself; cut the connection if it does not."""
        running = asyncio.ensure_future(self._host.blocking(work, *args, **kwargs))
        try:
            await cancel.until_done(running)
            if not running.done():
                await asyncio.wait({running}, timeout=CANCEL_GRACE_S)
            if not running.done():
                self._channel.abort(cancel.reason)
            return await running
        except asyncio.CancelledError:
            self._channel.abort("the host stops")
            raise

    async def reason(self, error: PeerError) -> MigsvcError:
        """Return why the peer broke off while we were sending: what it said last, else `error`."""
        try:
            while not isinstance(event := await self.receive(Patience.ANSWER), Disconnected):
                if isinstance(event, Failed | Gone):
                    return gave_up(self.peer, event)
        except MigsvcError:
            pass
        return error

    def close(self) -> None:
        """Hang up; may be repeated. A thread that still waits on the connection comes back."""
        self._channel.abort("hung up")
        self._channel.close()

    def _receive(self, timeout_s: float, check: Callable[[], None]) -> Received:
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                event = self._next(deadline, check)
                if not isinstance(event, StreamBegan | StreamRecord | StreamEnded):
                    return event
                if self.memory is not None:
                    self.memory.take(event.record)
                if not (isinstance(event, StreamRecord) and isinstance(event.record, Memory | Zero)):
                    return event
                deadline = time.monotonic() + timeout_s
        except StreamError as error:
            raise StreamRejectedError(str(error), [error.to_finding()], hint=error.hint) from error
        except ProtocolError as error:
            raise StreamRejectedError(f"{self.peer}: {error}", [error.to_finding()]) from error

    def _next(self, deadline: float, check: Callable[[], None]) -> Received:
        event = self._connection.next_event()
        while event is None:
            check()
            if self.over:
                raise PeerError(f"the conversation with {self.peer} is over ({self._connection.state})")
            if self._channel.readable(POLL_S):
                # Once an octet is there the rest must come in time too: a peer that dribbles would hold its place.
                left_s = max(deadline - time.monotonic(), 0.001)
                event = self._channel.receive(self._connection, self.memory, timeout_s=left_s)
            elif time.monotonic() > deadline:
                raise PeerError(f"{self.peer} has been silent for too long", hint="the host or the network hangs")
        return event


def gave_up(peer: str, event: Failed | Gone) -> PeerError:
    """Return the error for a peer that said Failed or Gone."""
    if isinstance(event, Gone):
        return PeerError(f"{peer} has discarded its copy: {event.reason}")
    problem = dict(event.problem)
    detail = str(problem.get("detail", "it gives no reason"))[:2000]
    return PeerError(f"{peer} cannot go on: {detail}", hint=str(problem.get("hint", ""))[:500], problem=problem)
