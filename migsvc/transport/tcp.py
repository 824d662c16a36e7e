"""TCP for threads: a channel that carries one conversation, and the listener that accepts them.

The calls block, so each channel has a thread of its own; `abort` may come from any other one and ends them at once.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

from migsvc.errors import CancelledError, InputError, PeerError
from migsvc.protocol.connection import MigrationConnection
from migsvc.protocol.events import Received
from migsvc.stream.reader import MemoryBody
from migsvc.transport.bandwidth import TokenBucket

Buffer = bytes | bytearray | memoryview

CONNECT_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
"""A peer that neither takes nor gives a byte for this long is given up; both sides then recover by the rules."""

KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 10),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 4),
)
"""A host that vanished is noticed within 30 s even while nothing is being said."""

MAX_VECTOR = 512
"""Buffers in one sendmsg; the kernel takes 1024."""

RETRY_S = 0.05

LIMITED_PIECE_BYTES = 1 << 18
"""Pieces sent under a bandwidth bound, so that the pauses are short."""


class Backing(Protocol):
    """Whoever has the guest RAM into which pages are received."""

    @property
    def ram(self) -> Buffer:
        """The whole backing, writable."""


class Channel:
    """One TCP connection. `bytes_sent` and `bytes_received` count what went over it."""

    def __init__(self, peer: socket.socket, *, idle_timeout_s: float = IDLE_TIMEOUT_S, name: str = "") -> None:
        """Take over a connected socket; `name` is how errors call the other end."""
        self._peer = peer
        self._idle_timeout_s = idle_timeout_s
        self._aborted = threading.Event()
        self._abort_reason = ""
        self._limit: TokenBucket | None = None
        self.name = name or _name_of(peer)
        self.bytes_sent = 0
        self.bytes_received = 0
        peer.settimeout(idle_timeout_s)
        with suppress(OSError):  # a Unix socket pair, in tests, has no such options
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                peer.setsockopt(socket.IPPROTO_TCP, option, value)

    @classmethod
    def connect(
        cls, address: str, *, timeout_s: float = CONNECT_TIMEOUT_S, idle_timeout_s: float = IDLE_TIMEOUT_S
    ) -> Self:
        """Connect to `HOST:PORT`.

        Raises:
            InputError: that is no address.
            PeerError: nobody answers there.
        """
        try:
            peer = socket.create_connection(parse_address(address), timeout_s)
        except OSError as error:
            raise PeerError(
                f"cannot connect to {address}: {error.strerror or error}",
                hint="see that the peer's agent runs and that its migration address is reachable",
            ) from error
        return cls(peer, idle_timeout_s=idle_timeout_s, name=address)

    def limit_bandwidth(self, bytes_per_s: int | None) -> None:
        """Send no more than that from now on; None: as fast as it goes."""
        self._limit = TokenBucket(bytes_per_s, time.monotonic_ns) if bytes_per_s else None

    def send(self, *buffers: Buffer) -> None:
        """Send every byte of the buffers, in order.

        Raises:
            PeerError: the connection is lost, or the peer takes nothing for too long.
            CancelledError: `abort` was called.
        """
        views = [view for buffer in buffers if (view := memoryview(buffer).cast("B")).nbytes]
        with self._explained():
            for vector in self._pieces(views):
                self._send_vector(vector)

    def receive(
        self, connection: MigrationConnection, backing: Backing | None = None, *, timeout_s: float | None = None
    ) -> Received | None:
        """Return the peer's next event, None when the conversation is over. Pages go straight into `backing.ram`.

        `timeout_s` bounds the wait for the whole event; without it, only silence is bounded. When the connection is
        lost, the last event is `Disconnected`.

        Raises:
            RemoteProtocolError: the peer broke a rule.
            PeerError: the time is over.
            CancelledError: `abort` was called.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := connection.next_event()) is None:
            want = connection.expect()
            if want is None:
                return None
            with self._explained():
                if not isinstance(want, MemoryBody):
                    data = self._receive_exactly(want.size, deadline)
                    arrived = data is not None
                    if data is not None:
                        connection.fill(data)
                else:
                    if backing is None:
                        raise PeerError(f"{self.name} sends pages where none are taken")
                    count = self._receive_into(want.buffers(backing.ram), deadline)
                    arrived = count > 0
                    if arrived:
                        connection.filled(backing.ram, count)
            if not arrived:
                self._raise_if_aborted()
                connection.disconnected()
        return event

    def readable(self, timeout_s: float = 0) -> bool:
        """Tell whether bytes of the peer, or its end, are waiting: then `receive` has something to do."""
        poll = select.poll()
        poll.register(self._peer, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def abort(self, reason: str = "cancelled") -> None:
        """End every call on this channel, now and later, with CancelledError(reason). For any thread."""
        self._abort_reason = reason
        self._aborted.set()
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._peer.close()

    def __enter__(self) -> Self:
        """Return the channel."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _pieces(self, views: list[memoryview]) -> Iterator[list[memoryview]]:
        """Yield vectors for sendmsg, waiting before each as the bandwidth bound demands."""
        limit = self._limit
        if limit is None:
            for at in range(0, len(views), MAX_VECTOR):
                yield views[at : at + MAX_VECTOR]
            return
        for view in views:
            for at in range(0, view.nbytes, LIMITED_PIECE_BYTES):
                piece = view[at : at + LIMITED_PIECE_BYTES]
                self._aborted.wait(limit.take(piece.nbytes))
                self._raise_if_aborted()
                yield [piece]

    def _send_vector(self, vector: list[memoryview]) -> None:
        while vector:
            sent = self._peer.sendmsg(vector)
            self.bytes_sent += sent
            while vector and sent >= vector[0].nbytes:
                sent -= vector.pop(0).nbytes
            if sent:
                vector[0] = vector[0][sent:]

    def _receive_exactly(self, size: int, deadline: float | None) -> bytes | None:
        """Return `size` bytes, None if the peer closed before."""
        data = bytearray(size)
        view = memoryview(data)
        while view.nbytes:
            count = self._receive_into([view], deadline)
            if not count:
                return None
            view = view[count:]
        return bytes(data)

    def _receive_into(self, buffers: Iterable[memoryview], deadline: float | None) -> int:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._peer.settimeout(min(left, self._idle_timeout_s))
        try:
            count = self._peer.recvmsg_into(buffers)[0]
        except ConnectionError:
            count = 0  # reset by the peer: to the conversation it is the same as closed
        finally:
            if deadline is not None:
                self._peer.settimeout(self._idle_timeout_s)
        self.bytes_received += count
        return count

    def _raise_if_aborted(self) -> None:
        if self._aborted.is_set():
            raise CancelledError(self._abort_reason)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn socket errors into ours; after an abort, into CancelledError."""
        try:
            yield
        except TimeoutError as error:
            self._raise_if_aborted()
            raise PeerError(
                f"{self.name} has been silent for too long", hint="the host or the network hangs"
            ) from error
        except OSError as error:
            self._raise_if_aborted()
            raise PeerError(f"the connection to {self.name} is lost: {error.strerror or error}") from error


class Listener:
    """Accepts channels on one address."""

    def __init__(self, host: str, port: int = 0, *, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        """Listen; port 0 lets the kernel choose, `address` tells which.

        Raises:
            PeerError: the address cannot be had.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=16)
        except OSError as error:
            raise PeerError(
                f"cannot listen on {format_address(host, port)}: {error.strerror or error}",
                hint="another program has that port, or the address is not this machine's",
            ) from error
        self._idle_timeout_s = idle_timeout_s
        self._closed = threading.Event()
        self.host = host
        self.port = int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """`HOST:PORT`, with the port that was chosen."""
        return format_address(self.host, self.port)

    def accept(self) -> Channel | None:
        """Wait for the next connection; None once the listener is closed."""
        while not self._closed.is_set():
            try:
                peer, _ = self._listener.accept()
                return Channel(peer, idle_timeout_s=self._idle_timeout_s)
            except OSError:
                # Out of descriptors, or a connection that was reset while it waited: neither may end the listener.
                self._closed.wait(RETRY_S)
        return None

    def close(self) -> None:
        """Stop listening; a thread in `accept` comes back with None."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[IPv6]:PORT`.

    Raises:
        InputError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise InputError(f"{text[:300]!r} is not an address of the form HOST:PORT")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name_of(peer: socket.socket) -> str:
    try:
        address = peer.getpeername()
    except OSError:
        return "the peer"
    return format_address(address[0], address[1]) if isinstance(address, tuple) else "the peer"
