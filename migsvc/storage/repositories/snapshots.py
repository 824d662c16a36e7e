"""Rows of snapshots; the bytes are files, see `storage.snapshots`."""

from __future__ import annotations

from sqlalchemy import select

from migsvc.errors import NotFoundError
from migsvc.storage import models
from migsvc.storage.repositories.base import Repository
from migsvc.storage.rows import SnapshotRow


class SnapshotRepository(Repository[SnapshotRow]):
    """The snapshots of this host."""

    TABLE = models.snapshots
    ROW = SnapshotRow
    WHAT = "snapshot"

    async def resolve(self, ref: str) -> SnapshotRow:
        """Return the snapshot of that id, else the newest of that name; a failed one comes last.

        Raises:
            NotFoundError: there is none of that id or name.
        """
        table = self.TABLE.c
        query = (
            select(self.TABLE)
            .where((table.id == ref) | (table.name == ref))
            .order_by((table.id == ref).desc(), (table.status != "failed").desc(), table.seq.desc())
            .limit(1)
        )
        found = await self._database.read(lambda connection: self._many(connection, query))
        if not found:
            raise NotFoundError(f"there is no snapshot {ref!r} on this host")
        return found[0]
