"""What the use cases share: settings, stores, the VMs that live here, and what is under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from migsvc.config import Settings
from migsvc.errors import MigsvcError
from migsvc.service.cancel import CancelToken
from migsvc.service.hub import Hub
from migsvc.service.jobs import Jobs
from migsvc.service.registry import Registry
from migsvc.storage.catalogue import Catalogue
from migsvc.storage.snapshots import SnapshotStore

log = logging.getLogger("migsvc.host")

P = ParamSpec("P")
T = TypeVar("T")

THREADS_PER_MIGRATION = 2
"""One blocks on the socket, one hashes or scans memory."""

SPARE_THREADS = 8
"""Snapshots, uploads and connections that have not said yet what they want."""


class Host:
    """One running host. The use cases get it and nothing else."""

    def __init__(self, settings: Settings) -> None:
        """Hold the settings; `open` opens the rest."""
        self.settings = settings
        self.hub = Hub()
        self.registry = Registry()
        self.jobs = Jobs()
        self.migration_address = ""
        self._catalogue: Catalogue | None = None
        self._store: SnapshotStore | None = None
        threads = 2 * settings.max_migrations * THREADS_PER_MIGRATION + SPARE_THREADS
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="migsvc")
        self._background: set[asyncio.Task[None]] = set()
        self.closing = False

    @property
    def name(self) -> str:
        """Name of this host."""
        return self.settings.name

    @property
    def id(self) -> str:
        """Id of this host: made once per data directory."""
        return self.catalogue.host.id

    @property
    def catalogue(self) -> Catalogue:
        """The open catalogue."""
        if self._catalogue is None:
            raise MigsvcError("the host is not started")
        return self._catalogue

    @property
    def store(self) -> SnapshotStore:
        """The open snapshot store."""
        if self._store is None:
            raise MigsvcError("the host is not started")
        return self._store

    async def open(self) -> None:
        """Open the catalogue and the snapshot store.

        Raises:
            StorageError: another agent uses the data directory, or it cannot be used.
        """
        self._catalogue = await Catalogue.open(self.settings.data_dir, self.name)
        self._store = await self.blocking(SnapshotStore, self.settings.snapshots_dir)

    async def close(self) -> None:
        """Close the catalogue and let the threads go."""
        for task in list(self._background):
            task.cancel()
        if self._background:
            await asyncio.wait(set(self._background))
        if self._catalogue is not None:
            await self._catalogue.close()
        self._catalogue = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else until it ends or the host closes."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def blocking(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which blocks, in a thread of this host and return what it returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    async def stall(self, role: str, point: str, cancel: CancelToken | None) -> None:
        """Wait here if the setting `test_stall` names this role and point: tests kill and cancel in every phase.

        Raises:
            CancelledError: `cancel` was asked for meanwhile.
        """
        wanted_role, _, rest = (self.settings.test_stall or "").partition(":")
        wanted_point, _, seconds = rest.partition(":")
        if (wanted_role, wanted_point) != (role, str(point)):
            return
        if cancel is None:
            await asyncio.sleep(float(seconds))
        else:
            await cancel.sleep(float(seconds))
