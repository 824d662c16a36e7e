"""The SQLite engine of the catalogue: how a connection is set up, and how reads and writes are run.

Source: sqlite.org "Write-Ahead Logging" and PRAGMA synchronous: in WAL mode only FULL makes a committed transaction
survive a power cut, and a reader never waits for the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from migsvc.errors import ConflictError, StorageError

T = TypeVar("T")

POOL_SIZE = 4
"""Connections, each with a thread of its own: one writes at a time, the others read."""

BUSY_TIMEOUT_MS = 10_000
"""How long a connection waits for a lock that another program (a backup, the sqlite3 shell) holds."""

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
)


class Database:
    """One SQLite file; `read` and `write` run one transaction each and map every error of the driver."""

    def __init__(self, path: Path) -> None:
        """Make the engine; nothing is opened before the first transaction."""
        self.path = path
        url = URL.create("sqlite+aiosqlite", database=str(path))
        self._engine: AsyncEngine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        self._writing = asyncio.Lock()
        event.listen(self._engine.sync_engine, "connect", _prepare)
        event.listen(self._engine.sync_engine, "begin", _begin)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one read transaction: all that it reads is of one moment.

        Raises:
            StorageError: the file cannot be read.
        """
        return await _finish(self._run(work, immediate=False))

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one write transaction: when this returns, all of it is on the disk; if it raises, none of it.

        A caller that is cancelled meanwhile gets its CancelledError after the transaction has ended one way or the
        other, never while it is open.

        Raises:
            ConflictError: a name or id is taken.
            StorageError: the file cannot be written (disk full, read-only).
        """
        return await _finish(self._locked(work))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def _locked(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._writing:
            return await self._run(work, immediate=True)

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]], *, immediate: bool) -> T:
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(immediate=immediate)
                async with connection.begin():
                    return await work(connection)
        except IntegrityError as error:
            raise ConflictError(_taken(error)) from error
        except DBAPIError as error:
            raise StorageError(
                f"the catalogue {self.path} failed: {error.orig}",
                hint="see that its disk has room and that this user may write there",
            ) from error
        except PoolTimeoutError as error:
            raise StorageError(
                f"the catalogue {self.path} is busy: no connection came free", hint="try again"
            ) from error


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if the caller is cancelled, then let the cancellation out."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: the caller is told of the cancellation instead
        raise


def _prepare(connection: Any, _record: Any) -> None:
    """Set up a new connection; the driver is to leave BEGIN to us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin: a write takes its lock at once, since a read that turns into a write can fail as busy."""
    immediate = connection.get_execution_options().get("immediate", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


_TAKEN = {
    "vms.name": "a VM of that name is present on this host; delete it or choose another name",
    "vms.id": "that VM is already present on this host",
    "snapshots.name": "a snapshot of that name exists; delete it or choose another name",
    "peers.name": "a peer of that name is registered; delete it or choose another name",
    "migrations.id": "a migration of that id is known on this host",
}


def _taken(error: IntegrityError) -> str:
    """Say which name or id is taken: SQLite names the column."""
    text = str(error.orig)
    column = text.rpartition(": ")[2]
    return _TAKEN.get(column, f"the catalogue holds a contradicting row: {text}")
