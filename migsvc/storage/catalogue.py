"""The catalogue: what this host knows of VMs, snapshots, peers and migrations, and who owns each VM.

One agent per data directory (`agent.lock`), one SQLite file in it. The two transactions by which ownership moves are
here; `migsvc/protocol/PROTOCOL.md` says when each may run.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.errors import ConflictError, StorageError
from migsvc.storage import models
from migsvc.storage.database import Database
from migsvc.storage.lock import DirectoryLock
from migsvc.storage.repositories.idempotency import IdempotencyRepository
from migsvc.storage.repositories.migrations import MigrationRepository, append_event, require_state
from migsvc.storage.repositories.peers import PeerRepository
from migsvc.storage.repositories.snapshots import SnapshotRepository
from migsvc.storage.repositories.vms import VmRepository, highest_epoch, note_epoch
from migsvc.storage.rows import EventDraft, HostRow
from migsvc.storage.schema import migrate

CATALOGUE_FILE = "catalogue.db"
LOCK_FILE = "agent.lock"


class Catalogue:
    """The open catalogue of one data directory. Make it with `open`, end it with `close`."""

    def __init__(self, database: Database, lock: DirectoryLock, host: HostRow) -> None:
        """Compose the repositories over an open, migrated database."""
        self._database = database
        self._lock = lock
        self.host = host
        self.vms = VmRepository(database)
        self.snapshots = SnapshotRepository(database)
        self.peers = PeerRepository(database)
        self.migrations = MigrationRepository(database)
        self.idempotency = IdempotencyRepository(database)

    @classmethod
    async def open(cls, data_dir: Path, host_name: str) -> Self:
        """Lock the directory (made if missing, mode 0700), bring the schema up to date, and open.

        A host that has been renamed owns under its new name what it owned under the old one.

        Raises:
            StorageError: another agent uses the directory, it cannot be written, or a newer migsvc wrote the catalogue.
        """
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"cannot make the data directory {data_dir}: {error.strerror}", hint="choose another with --data-dir"
            ) from error
        lock = DirectoryLock.acquire(data_dir / LOCK_FILE)
        database = Database(data_dir / CATALOGUE_FILE)
        try:
            await database.write(migrate)
            host = await database.write(lambda connection: _introduce(connection, host_name))
        except BaseException:
            await database.close()
            lock.release()
            raise
        return cls(database, lock, host)

    async def close(self) -> None:
        """Close the file, then give the directory free."""
        await asyncio.shield(self._database.close())
        self._lock.release()

    async def check(self) -> None:
        """Read one row, to say whether the catalogue answers.

        Raises:
            StorageError: it does not.
        """
        await self._database.read(lambda connection: connection.execute(select(models.host.c.id)))

    async def commit_handover(
        self,
        migration_id: str,
        vm_id: str,
        *,
        expected_owner: str,
        expected_epoch: int,
        new_owner: str,
        explanation: str,
        at: datetime,
        event: EventDraft | None = None,
    ) -> int:
        """Give the VM away: THE commit point of a migration, on the source. Returns the new epoch.

        One transaction: owner and epoch of the VM are compared and set, the epoch grows by one and is noted as seen,
        the VM is no longer present, the migration is `committed`. When this returns, it is on the disk. When it
        raises, nothing has changed; after a CancelledError, `migrations.get` tells which of the two it was.

        Raises:
            ConflictError: another owner or epoch, or the migration's outcome is fixed already (a cancellation won).
            NotFoundError: there is no such migration.
        """
        epoch = expected_epoch + 1

        async def work(connection: AsyncConnection) -> int:
            await require_state(connection, migration_id)
            vms = models.vms
            mine = (vms.c.id == vm_id, vms.c.owner == expected_owner, vms.c.epoch == expected_epoch, vms.c.present)
            given = {"owner": new_owner, "epoch": epoch, "status": models.MIGRATED, "present": False}
            done = await connection.execute(update(vms).where(*mine).values(**given))
            if done.rowcount != 1:
                raise ConflictError(
                    f"VM {vm_id} is not owned by {expected_owner} at epoch {expected_epoch}: it cannot be handed over"
                )
            await note_epoch(connection, vm_id, epoch)
            await _settle(connection, migration_id, "committed", new_owner, epoch, explanation, at, event)
            return epoch

        return await self._database.write(work)

    async def take_ownership(
        self,
        migration_id: str,
        vm_id: str,
        *,
        owner: str,
        epoch: int,
        explanation: str,
        at: datetime,
        event: EventDraft | None = None,
    ) -> bool:
        """Take the VM over on the destination: the source has committed to `epoch`. Only after this may it run here.

        One transaction: the incoming VM gets owner and epoch and becomes `paused`, the migration is `committed`.
        Returns False, and changes nothing, if this very handover has been done before: COMMIT may be repeated.

        Raises:
            ConflictError: an epoch not above the highest seen here, no incoming copy, or the outcome is fixed already.
            NotFoundError: there is no such migration.
        """

        async def work(connection: AsyncConnection) -> bool:
            state, vm = await _state_of(connection, migration_id), await _owner_of(connection, vm_id)
            if state in ("committed", "completed") and vm == (owner, epoch):
                return False
            await require_state(connection, migration_id)
            seen = await highest_epoch(connection, vm_id) or 0
            if epoch <= seen:
                raise ConflictError(
                    f"VM {vm_id}: epoch {epoch} is stale, this host has seen {seen}", epoch=epoch, highest_epoch=seen
                )
            vms = models.vms
            taken = {"owner": owner, "epoch": epoch, "status": models.PAUSED}
            waiting = (vms.c.id == vm_id, vms.c.status == models.INCOMING, vms.c.present)
            done = await connection.execute(update(vms).where(*waiting).values(**taken))
            if done.rowcount != 1:
                raise ConflictError(f"VM {vm_id} is not on its way in: there is no copy to take over")
            await note_epoch(connection, vm_id, epoch)
            await _settle(connection, migration_id, "committed", owner, epoch, explanation, at, event)
            return True

        return await self._database.write(work)


async def _settle(
    connection: AsyncConnection,
    migration_id: str,
    state: str,
    owner: str,
    epoch: int,
    explanation: str,
    at: datetime,
    event: EventDraft | None,
) -> None:
    """Write a migration's outcome within the transaction that makes it true."""
    table = models.migrations
    outcome = {"state": state, "owner": owner, "epoch": epoch, "explanation": explanation, "updated_at": at}
    await connection.execute(update(table).where(table.c.id == migration_id).values(**outcome))
    if event is not None:
        await append_event(connection, migration_id, event)


async def _state_of(connection: AsyncConnection, migration_id: str) -> str | None:
    table = models.migrations.c
    return (await connection.execute(select(table.state).where(table.id == migration_id))).scalar_one_or_none()


async def _owner_of(connection: AsyncConnection, vm_id: str) -> tuple[str, int] | None:
    table = models.vms.c
    found = (await connection.execute(select(table.owner, table.epoch).where(table.id == vm_id))).one_or_none()
    return None if found is None else (found.owner, found.epoch)


async def _introduce(connection: AsyncConnection, name: str) -> HostRow:
    """Return this host's row; make it at the first start, rename it and what it owns if the name has changed."""
    table = models.host
    found = (await connection.execute(select(table))).mappings().one_or_none()
    if found is None:
        row = HostRow(id=str(uuid.uuid4()), name=name, created_at=datetime.now(UTC))
        await connection.execute(insert(table).values(id=row.id, name=row.name, created_at=row.created_at))
        return row
    row = HostRow(**found)
    if row.name == name:
        return row
    await connection.execute(update(table).values(name=name))
    for owned in (models.vms, models.migrations):
        await connection.execute(update(owned).where(owned.c.owner == row.name).values(owner=name))
    return HostRow(id=row.id, name=name, created_at=row.created_at)
