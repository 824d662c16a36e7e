"""Use cases on snapshots: take, list, download, upload, restore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from migsvc.service.records import Page, SnapshotCreate, SnapshotRecord, SnapshotRestore, VmRecord


class Snapshots:
    """The snapshots of this host; `ref` is an id or a name."""

    async def create(self, request: SnapshotCreate) -> SnapshotRecord:
        """Begin to write a snapshot; its status goes from writing to ready or failed."""
        raise NotImplementedError

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[SnapshotRecord]:
        """Return one page of the snapshots, oldest first."""
        raise NotImplementedError

    async def get(self, ref: str) -> SnapshotRecord:
        """Return one snapshot."""
        raise NotImplementedError

    async def delete(self, ref: str) -> None:
        """Delete a snapshot and its file."""
        raise NotImplementedError

    async def open_content(self, ref: str) -> tuple[Path, int]:
        """Return the path and the size in bytes of a ready snapshot's stream file."""
        raise NotImplementedError

    async def put_content(self, snapshot_id: str, chunks: AsyncIterator[bytes], name: str | None = None) -> SnapshotRecord:
        """Take in an uploaded stream; it is verified before it is listed."""
        raise NotImplementedError

    async def restore(self, ref: str, request: SnapshotRestore) -> VmRecord:
        """Make a new VM, with an id of its own and epoch 1, of a snapshot."""
        raise NotImplementedError
