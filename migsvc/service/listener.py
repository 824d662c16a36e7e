"""Listens for migration connections and gives each to the destination, in a task of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

from migsvc.errors import PeerError
from migsvc.protocol.transitions import Role
from migsvc.service.context import Host
from migsvc.service.destination import Destination
from migsvc.service.link import Link
from migsvc.transport.tcp import Channel, format_address
from migsvc.transport.tcp import Listener as TcpListener

log = logging.getLogger("migsvc.migration")

PORT_FILE = "migration-port"
"""Keeps the port that the system chose: peers that wait for this host's word find it again after a restart."""

CONNECTIONS_PER_MIGRATION = 3
"""A migration's own, one that repeats Commit, and one that asks."""


class Listener:
    """The migration port of this host."""

    def __init__(self, host: Host, destination: Destination) -> None:
        """Take connections for `destination`."""
        self._host = host
        self._destination = destination
        self._tcp: TcpListener | None = None
        self._thread: threading.Thread | None = None
        self._talking: dict[asyncio.Task[None], Link] = {}

    def bind(self) -> None:
        """Take the port and make it known; nobody is answered yet.

        Raises:
            PeerError: the address cannot be used.
        """
        settings = self._host.settings
        self._tcp = self._bound(settings.migration_host, settings.migration_port)
        with suppress(OSError):
            (settings.data_dir / PORT_FILE).write_text(f"{self._tcp.port}\n")
        shown = settings.migration_advertise or settings.migration_host
        self._host.migration_address = format_address(shown, self._tcp.port)

    def begin(self) -> None:
        """Answer connections from now on."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._accept, args=(loop,), name="migration-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and hang up on whoever moves nothing. What carries a migration ends with its job."""
        if self._tcp is not None:
            self._tcp.close()
        working = {job.task for job in self._host.jobs}
        for task, link in list(self._talking.items()):
            if task not in working:
                link.close()

    def _bound(self, host: str, port: int) -> TcpListener:
        """Listen at the wanted port, or, where any will do, at the one of last time if it is free."""
        if port == 0:
            with suppress(OSError, ValueError, PeerError):
                last = int((self._host.settings.data_dir / PORT_FILE).read_text()[:16])
                if 0 < last < 65536:
                    return TcpListener(host, last)
        return TcpListener(host, port)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run in a thread of its own until the listener closes."""
        while self._tcp is not None and (channel := self._tcp.accept()) is not None:
            try:
                loop.call_soon_threadsafe(self._talk, channel)
            except RuntimeError:  # the loop has ended
                channel.close()
                return

    def _talk(self, channel: Channel) -> None:
        limit = CONNECTIONS_PER_MIGRATION * self._host.settings.max_migrations
        if len(self._talking) >= limit or self._host.closing:
            log.warning("%d migration connections are open; one more is refused", len(self._talking))
            channel.close()
            return
        link = Link(self._host, Role.DESTINATION, channel)
        task = asyncio.create_task(self._destination.converse(link), name="migration-connection")
        self._talking[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._talking.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a migration connection failed by a fault of ours", exc_info=error)
