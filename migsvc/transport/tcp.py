"""Blocking TCP for migration connections: vectors of buffers out, guest RAM in, with time limits. Use it in threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from migsvc.errors import PeerError

CONNECT_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 30.0
"""A peer that takes nothing for this long is dead or stuck."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 5))
"""A host that vanished without a word is noticed within 15 s, even while nothing is sent."""

BUFFER_BYTES = 4 << 20
LISTEN_BACKLOG = 16
MAX_VECTOR = 512
"""Buffers given to one sendmsg; IOV_MAX is 1024."""

BURST_NS = 50_000_000
"""A bandwidth cap lets this much time's worth of octets go at once."""

Buffer = bytes | bytearray | memoryview


class Channel:
    """One connected socket. One thread may send while another receives; `close` in a third wakes both."""

    def __init__(self, peer: socket.socket, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Take a connected socket over. `clock_ns` is real time, for the bandwidth cap."""
        self._peer = peer
        self._clock_ns = clock_ns
        self._bytes_per_s: int | None = None
        self._due_ns = 0
        self._closed = False
        peer.settimeout(None)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
        host, port = peer.getpeername()[:2]
        self.name = f"{host}:{port}"

    @classmethod
    def connect(cls, address: tuple[str, int]) -> Channel:
        """Connect to a migration listener.

        Raises:
            PeerError: it cannot be reached.
        """
        try:
            return cls(socket.create_connection(address, CONNECT_TIMEOUT_S))
        except OSError as error:
            raise PeerError(
                f"{address[0]}:{address[1]} takes no migration connection: {error.strerror or error}",
                hint="see that its agent runs and the network lets this port through",
            ) from error

    def limit_bandwidth(self, bytes_per_s: int | None) -> None:
        """Send at most so many octets a second from now on; None: as many as the network takes."""
        self._bytes_per_s = bytes_per_s

    def send_all(self, buffers: Sequence[Buffer], check: Callable[[], None] | None = None) -> None:
        """Send every buffer. `check` is called while a bandwidth cap waits, and may raise.

        Raises:
            PeerError: the connection broke, or the peer takes nothing.
        """
        self._wait(sum(memoryview(buffer).nbytes for buffer in buffers), check)
        left = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        try:
            self._peer.settimeout(SEND_TIMEOUT_S)
            while left:
                sent = self._peer.sendmsg(left[:MAX_VECTOR])
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if sent:
                    left[0] = left[0][sent:]
        except OSError as error:
            raise self._broken(error) from error

    def receive_exactly(self, size: int, timeout_s: float | None) -> bytes:
        """Receive `size` octets; fewer only if the peer has closed.

        Raises:
            PeerError: nothing came for `timeout_s`, or the connection broke.
        """
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            count = self.receive_into([view[at:]], timeout_s)
            if count == 0:
                break
            at += count
        return bytes(data[:at])

    def receive_into(self, buffers: Sequence[memoryview], timeout_s: float | None) -> int:
        """Receive into buffers in order; return how many octets came, 0 at the end.

        Raises:
            PeerError: nothing came for `timeout_s`.
        """
        try:
            self._peer.settimeout(timeout_s)
            return self._peer.recvmsg_into(list(buffers))[0]
        except TimeoutError as error:
            raise PeerError(f"{self.name} has said nothing for {timeout_s:g} s") from error
        except OSError as error:
            if self._closed or isinstance(error, ConnectionError):
                return 0
            raise self._broken(error) from error

    def close(self) -> None:
        """Close; threads that wait on the socket see its end. May be repeated."""
        self._closed = True
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()

    def _wait(self, size: int, check: Callable[[], None] | None) -> None:
        if self._bytes_per_s is None:
            return
        now_ns = self._clock_ns()
        self._due_ns = max(self._due_ns, now_ns - BURST_NS) + size * 1_000_000_000 // self._bytes_per_s
        while (left_ns := self._due_ns - self._clock_ns()) > 0:
            if check is not None:
                check()
            time.sleep(min(left_ns, BURST_NS) / 1e9)

    def _broken(self, error: OSError) -> PeerError:
        what = "takes nothing any more" if isinstance(error, TimeoutError) else f"hung up: {error.strerror or error}"
        return PeerError(f"{self.name} {what}")


def listen(host: str, port: int) -> socket.socket:
    """Return a non-blocking listening socket; port 0 lets the system choose.

    Raises:
        PeerError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise PeerError(f"cannot take migrations at {host}:{port}: {error.strerror}") from error
    return listener
