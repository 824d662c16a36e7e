"""Use cases on snapshots: take, list, download, upload, restore."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from migsvc.errors import ConflictError, LimitError, MigsvcError, StorageError
from migsvc.service import snapshot_files
from migsvc.service.context import Host
from migsvc.service.faults import fault_json
from migsvc.service.journal import now
from migsvc.service.mapping import snapshot_record
from migsvc.service.paging import page_of
from migsvc.service.records import (
    Page,
    SnapshotCreate,
    SnapshotRecord,
    SnapshotRestore,
    SnapshotStatus,
    VmRecord,
)
from migsvc.service.registry import LiveVm
from migsvc.service.vm_lookup import VmLookup
from migsvc.service.vms import Vms
from migsvc.storage.rows import SnapshotRow, VmRow

log = logging.getLogger("migsvc.snapshot")

UPLOAD_BATCH_BYTES = 1 << 20
"""Chunks of an upload are gathered to this size before a thread writes them."""


class Snapshots:
    """The snapshots of this host; `ref` is an id or a name."""

    def __init__(self, host: Host, vms: Vms) -> None:
        """Work on that host."""
        self._host = host
        self._vms = vms
        self._lookup = VmLookup(host)
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, request: SnapshotCreate) -> SnapshotRecord:
        """Begin to write a snapshot; its status goes from writing to ready or failed.

        A running VM is paused while its memory is written, and goes on afterwards.

        Raises:
            NotFoundError: no such VM.
            NotOwnerError: another host owns the VM.
            ConflictError: the name is taken, or a migration or another snapshot works on the VM.
            LimitError: as many snapshots as this host keeps.
        """
        vm, live = await self._lookup.owned(request.vm)
        await self._require_room()
        live.require_free("be snapshot")
        row = SnapshotRow(
            id=str(uuid.uuid4()),
            name=request.name,
            status=SnapshotStatus.WRITING,
            vm_id=vm.id,
            vm_name=vm.name,
            epoch=vm.epoch,
            ram_bytes=vm.ram_bytes,
            created_at=now(),
        )
        live.snapshot = row.id
        try:
            row = await self._host.catalogue.snapshots.add(row)
        except BaseException:
            live.snapshot = None
            raise
        task = asyncio.create_task(self._take(row, vm, live), name=f"snapshot-{row.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return snapshot_record(row)

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[SnapshotRecord]:
        """Return one page of the snapshots, oldest first."""
        return await page_of(self._host.catalogue.snapshots.list, snapshot_record, cursor, limit)

    async def get(self, ref: str) -> SnapshotRecord:
        """Return one snapshot.

        Raises:
            NotFoundError: there is none of that id or name.
        """
        return snapshot_record(await self._host.catalogue.snapshots.resolve(ref))

    async def delete(self, ref: str) -> None:
        """Delete a snapshot and its file.

        Raises:
            NotFoundError: there is none of that id or name.
            ConflictError: it is being written.
        """
        row = await self._host.catalogue.snapshots.resolve(ref)
        if row.status == SnapshotStatus.WRITING:
            raise ConflictError(f"snapshot {row.id} is being written", hint="wait until it is ready, then delete it")
        # The row first: a file without a row is swept at the next start, a row without a file would be a lie.
        await self._host.catalogue.snapshots.delete(row.id)
        if row.status == SnapshotStatus.READY:
            await self._host.blocking(self._host.store.delete, row.id)

    async def open_content(self, ref: str) -> tuple[Path, int]:
        """Return the path and the size in bytes of a ready snapshot's stream file.

        Raises:
            NotFoundError: there is none of that id or name.
            ConflictError: it is not ready.
        """
        row = await self._ready(ref)
        return self._host.store.path(row.id), row.size_bytes

    async def put_content(
        self, snapshot_id: str, chunks: AsyncIterator[bytes], name: str | None = None
    ) -> SnapshotRecord:
        """Take in an uploaded stream; it is verified as a whole before it is listed.

        Raises:
            ConflictError: the id or the name is taken.
            StreamRejectedError: the stream breaks rules of the format; all that were found are listed.
            LimitError: it is larger than this host takes, or too many snapshots.
        """
        await self._require_room()
        if await self._host.catalogue.snapshots.find(snapshot_id) is not None:
            raise ConflictError(f"snapshot {snapshot_id} exists", hint="choose another id, or delete it first")
        limit = self._host.settings.max_snapshot_bytes
        writer = await self._host.blocking(self._host.store.create, snapshot_id, limit)
        try:
            batch = bytearray()
            async for chunk in chunks:
                batch += chunk
                if len(batch) >= UPLOAD_BATCH_BYTES:
                    await self._host.blocking(writer.write, bytes(batch))
                    batch.clear()
            if batch:
                await self._host.blocking(writer.write, bytes(batch))
            about = await self._host.blocking(snapshot_files.verify_file, writer.partial_path, self._host.settings)
            size = await self._host.blocking(writer.commit)
        finally:
            await asyncio.shield(self._host.blocking(writer.abort))
        row = SnapshotRow(
            id=snapshot_id,
            name=name,
            status=SnapshotStatus.READY,
            vm_name=about.vm_name,
            epoch=about.epoch,
            size_bytes=size,
            ram_bytes=about.ram_bytes,
            state_digest=about.state_digest,
            summary=about.summary,
            created_at=now(),
        )
        try:
            return snapshot_record(await self._host.catalogue.snapshots.add(row))
        except MigsvcError:
            await self._host.blocking(self._host.store.delete, snapshot_id)
            raise

    async def restore(self, ref: str, request: SnapshotRestore) -> VmRecord:
        """Make a new VM, with an id of its own and epoch 1, of a snapshot.

        Raises:
            NotFoundError: there is no such snapshot.
            ConflictError: it is not ready, or the VM's name is taken.
            StreamRejectedError: the file has been damaged since.
            IncompatibleError: this host cannot hold the machine; every reason is listed.
            IllegalStateError: the state breaks the rules; every finding is listed.
        """
        row = await self._ready(ref)
        return await self._vms.restore(row.id, request.name, run=request.run)

    async def recover(self) -> None:
        """After a start: fail what was being written, and sweep files that no row names."""
        known: set[str] = set()
        after = 0
        while rows := await self._host.catalogue.snapshots.list(after, 500):
            after = rows[-1].seq
            known.update(row.id for row in rows if row.status == SnapshotStatus.READY)
            for row in (row for row in rows if row.status == SnapshotStatus.WRITING):
                error = StorageError("the agent was stopped while it wrote this snapshot", hint="take it again")
                await self._fail(row, error)
        for stray in set(await self._host.blocking(self._host.store.list)) - known:
            log.warning("snapshot file %s belongs to no snapshot; it is removed", stray)
            await self._host.blocking(self._host.store.delete, stray)

    async def stop(self) -> None:
        """Wait for the snapshots that are being written."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, row: SnapshotRow, vm: VmRow, live: LiveVm) -> None:
        try:
            async with live.lock:
                written = await snapshot_files.take(self._host, row.id, vm, live)
            await self._host.catalogue.snapshots.update(
                row.id,
                status=SnapshotStatus.READY,
                size_bytes=written.size_bytes,
                state_digest=written.state_digest,
                summary=written.summary,
            )
        except Exception as error:
            log.warning("snapshot %s of VM %s failed: %s", row.id, vm.name, error)
            await self._fail(row, error)
        finally:
            live.snapshot = None

    async def _fail(self, row: SnapshotRow, error: BaseException) -> None:
        await self._host.catalogue.snapshots.update(row.id, status=SnapshotStatus.FAILED, error=fault_json(error))

    async def _ready(self, ref: str) -> SnapshotRow:
        row = await self._host.catalogue.snapshots.resolve(ref)
        if row.status != SnapshotStatus.READY:
            raise ConflictError(f"snapshot {row.id} is {row.status}", hint="only a ready snapshot has content")
        return row

    async def _require_room(self) -> None:
        limit = self._host.settings.max_snapshots
        if await self._host.catalogue.snapshots.count() >= limit:
            raise LimitError(f"this host keeps at most {limit} snapshots", hint="delete some", limit=limit)
