"""Migrations and their events: the journal from which a restarted agent decides what to do."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.errors import ConflictError, NotFoundError
from migsvc.storage import models
from migsvc.storage.repositories.base import Repository, columns_of
from migsvc.storage.rows import EventDraft, EventRow, MigrationRow


class MigrationRepository(Repository[MigrationRow]):
    """The migrations of this host, outgoing and incoming. Their state changes only through `transition`."""

    TABLE = models.migrations
    ROW = MigrationRow
    WHAT = "migration"

    async def transition(
        self,
        migration_id: str,
        state: str,
        *,
        at: datetime,
        allowed_from: Collection[str] | None = None,
        event: EventDraft | None = None,
        **changes: Any,
    ) -> MigrationRow:
        """Move a migration to `state`, with further columns and an event, in one transaction.

        The present state must be one of `allowed_from`; by default, any in which the outcome is not fixed yet. So of
        two rivals, say a cancellation and the commit, only one gets through.

        Raises:
            ConflictError: it is in another state; `extra` has state, owner and epoch.
            NotFoundError: there is no such migration.
        """

        async def work(connection: AsyncConnection) -> MigrationRow:
            await require_state(connection, migration_id, allowed_from)
            row = await self._set(connection, migration_id, {"state": state, "updated_at": at, **changes})
            if event is not None:
                await append_event(connection, migration_id, event)
            return row

        return await self._database.write(work)

    async def list_unfinished(self) -> list[MigrationRow]:
        """Return every migration that has something left to do, oldest first."""
        query = select(self.TABLE).where(self.TABLE.c.state.not_in(models.ENDED_STATES)).order_by(self.TABLE.c.seq)
        return list(await self._database.read(lambda connection: self._many(connection, query)))

    async def active_of_vm(self, vm_id: str) -> MigrationRow | None:
        """Return the newest unfinished migration of a VM, or None."""
        table = self.TABLE.c
        query = (
            select(self.TABLE)
            .where(table.vm_id == vm_id, table.state.not_in(models.ENDED_STATES))
            .order_by(table.seq.desc())
            .limit(1)
        )
        found = await self._database.read(lambda connection: self._many(connection, query))
        return found[0] if found else None

    async def last_of_vm(self, vm_id: str) -> MigrationRow | None:
        """Return the newest migration of a VM, finished or not, or None."""
        query = select(self.TABLE).where(self.TABLE.c.vm_id == vm_id).order_by(self.TABLE.c.seq.desc()).limit(1)
        found = await self._database.read(lambda connection: self._many(connection, query))
        return found[0] if found else None

    async def add_event(self, migration_id: str, event: EventDraft) -> EventRow:
        """Append an event and return it with its number.

        Raises:
            NotFoundError: there is no such migration.
        """

        async def work(connection: AsyncConnection) -> EventRow:
            if await self._one(connection, self.TABLE.c.id == migration_id) is None:
                raise NotFoundError(f"there is no migration {migration_id!r} on this host")
            return await append_event(connection, migration_id, event)

        return await self._database.write(work)

    async def events(self, migration_id: str, after_seq: int = 0, limit: int = 1000) -> list[EventRow]:
        """Return at most `limit` events of a migration after `after_seq`, oldest first."""
        table = models.migration_events
        query = (
            select(table)
            .where(table.c.migration_id == migration_id, table.c.seq > after_seq)
            .order_by(table.c.seq)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> list[EventRow]:
            return [EventRow(**found) for found in (await connection.execute(query)).mappings()]

        return await self._database.read(work)

    async def prune(self, keep: int) -> int:
        """Delete the oldest ended migrations beyond `keep` of them, with their events; return how many went."""
        table = self.TABLE.c
        ended = select(table.id).where(table.state.in_(models.ENDED_STATES)).order_by(table.seq.desc()).offset(keep)

        async def work(connection: AsyncConnection) -> int:
            old = list((await connection.execute(ended)).scalars())
            events = models.migration_events
            await connection.execute(delete(events).where(events.c.migration_id.in_(old)))
            await connection.execute(delete(self.TABLE).where(table.id.in_(old)))
            return len(old)

        return await self._database.write(work)


async def require_state(
    connection: AsyncConnection, migration_id: str, allowed_from: Collection[str] | None = None
) -> None:
    """Refuse unless the migration is in one of those states; None: any in which its outcome is open.

    Raises:
        ConflictError: it is in another state.
        NotFoundError: there is no such migration.
    """
    table = models.migrations.c
    query = select(table.state, table.owner, table.epoch).where(table.id == migration_id)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise NotFoundError(f"there is no migration {migration_id!r} on this host")
    state, owner, epoch = found
    if state in models.OVER_STATES if allowed_from is None else state not in allowed_from:
        raise ConflictError(
            f"migration {migration_id} is {state}: {owner} owns the VM at epoch {epoch}",
            state=state,
            owner=owner,
            epoch=epoch,
        )


async def append_event(connection: AsyncConnection, migration_id: str, event: EventDraft) -> EventRow:
    """Number and insert an event within a transaction."""
    table = models.migration_events
    last = select(func.coalesce(func.max(table.c.seq), 0)).where(table.c.migration_id == migration_id)
    seq = (await connection.execute(last)).scalar_one() + 1
    row = EventRow(migration_id=migration_id, seq=seq, at=event.at, type=event.type, data=event.data)
    await connection.execute(insert(table).values(columns_of(row, leave_out=())))
    return row
