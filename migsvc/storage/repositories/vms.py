"""VMs, and the highest ownership epoch that this host has seen of each."""

from __future__ import annotations

import dataclasses

from sqlalchemy import select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.errors import ConflictError
from migsvc.storage import models
from migsvc.storage.repositories.base import Repository, columns_of
from migsvc.storage.rows import VmRow


class VmRepository(Repository[VmRow]):
    """The VMs of this host. Owner and epoch change only through `storage.handover`."""

    TABLE = models.vms
    ROW = VmRow
    WHAT = "VM"

    async def add(self, row: VmRow) -> VmRow:
        """Insert a VM that begins here, and note its epoch as seen.

        Raises:
            ConflictError: its id is known, or its name is taken by a VM that is present.
        """

        async def work(connection: AsyncConnection) -> VmRow:
            added = await self._insert(connection, row)
            await note_epoch(connection, row.id, row.epoch)
            return added

        return await self._database.write(work)

    async def resolve(self, ref: str) -> VmRow | None:
        """Return the VM of that id, else the present one of that name, else the one of that name that left last."""
        table = self.TABLE.c
        query = (
            select(self.TABLE)
            .where((table.id == ref) | (table.name == ref))
            .order_by((table.id == ref).desc(), table.present.desc(), table.seq.desc())
            .limit(1)
        )
        found = await self._database.read(lambda connection: self._many(connection, query))
        return found[0] if found else None

    async def list_present(self) -> list[VmRow]:
        """Return every VM that this host holds, oldest first: a restarted agent adopts their workers."""
        query = select(self.TABLE).where(self.TABLE.c.present).order_by(self.TABLE.c.seq)
        return list(await self._database.read(lambda connection: self._many(connection, query)))

    async def put_incoming(self, row: VmRow) -> VmRow:
        """Insert a VM that a migration brings here, as `incoming`; the row of one that had left is used again.

        Raises:
            ConflictError: the VM or its name is present here.
        """
        incoming = dataclasses.replace(row, status=models.INCOMING, present=True)

        async def work(connection: AsyncConnection) -> VmRow:
            old = await self._one(connection, self.TABLE.c.id == row.id)
            if old is None:
                return await self._insert(connection, incoming)
            if old.present:
                raise ConflictError(f"VM {row.id} ({row.name}) is already present on this host")
            return await self._set(connection, row.id, columns_of(incoming, leave_out=("seq", "id")))

        return await self._database.write(work)

    async def discard_incoming(self, vm_id: str) -> None:
        """Undo `put_incoming`: the row of a VM that was here before stays, as not present; may be repeated.

        Raises:
            ConflictError: the VM is present and not on its way in: this host owns it.
        """

        async def work(connection: AsyncConnection) -> None:
            row = await self._one(connection, self.TABLE.c.id == vm_id)
            if row is None or not row.present:
                return
            if row.status != models.INCOMING:
                raise ConflictError(
                    f"VM {vm_id} ({row.name}) is not on its way in: {row.owner} owns it, epoch {row.epoch}"
                )
            if await highest_epoch(connection, vm_id) is None:
                await connection.execute(self.TABLE.delete().where(self.TABLE.c.id == vm_id))
            else:
                await self._set(connection, vm_id, {"present": False, "status": models.MIGRATED})

        await self._database.write(work)

    async def highest_epoch(self, vm_id: str) -> int | None:
        """Return the highest epoch that this host has owned or given away, None for a VM that it never owned."""
        return await self._database.read(lambda connection: highest_epoch(connection, vm_id))


async def highest_epoch(connection: AsyncConnection, vm_id: str) -> int | None:
    """Return the highest epoch seen of a VM within a transaction."""
    table = models.highest_epoch
    return (await connection.execute(select(table.c.epoch).where(table.c.vm_id == vm_id))).scalar_one_or_none()


async def note_epoch(connection: AsyncConnection, vm_id: str, epoch: int) -> None:
    """Note an epoch of a VM as seen; a lower one changes nothing."""
    table = models.highest_epoch
    values = upsert(table).values(vm_id=vm_id, epoch=epoch)
    await connection.execute(values.on_conflict_do_nothing())
    await connection.execute(update(table).where(table.c.vm_id == vm_id, table.c.epoch < epoch).values(epoch=epoch))
