"""Finds VMs: by id or name, with their workers, and as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migsvc.errors import ConflictError, NotFoundError, NotOwnerError, WorkerError
from migsvc.service.context import Host
from migsvc.service.records import VmRecord, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.storage.rows import VmRow


class VmLookup:
    """The VMs that this host has rows of; `ref` is an id or a name everywhere."""

    def __init__(self, host: Host) -> None:
        """Look on that host."""
        self._host = host

    async def row(self, ref: str) -> VmRow:
        """Return the row of a VM by id or name.

        Raises:
            NotFoundError: there is none.
        """
        found = await self._host.catalogue.vms.resolve(ref)
        if found is None:
            raise NotFoundError(f"there is no VM {ref!r} on this host")
        return found

    async def owned(self, ref: str) -> tuple[VmRow, LiveVm]:
        """Return row and worker of a VM that this host owns.

        Raises:
            NotFoundError: there is no such VM.
            NotOwnerError: another host owns it; owner and epoch are named.
            ConflictError: it is being made, or its worker was lost.
        """
        row = await self.row(ref)
        if not row.present or row.status == VmStatus.INCOMING:
            raise NotOwnerError(
                f"VM {row.name} is owned by {row.owner} at epoch {row.epoch}",
                hint=f"ask {row.owner}",
                owner=row.owner,
                epoch=row.epoch,
            )
        return row, await self.live(row)

    async def live(self, row: VmRow) -> LiveVm:
        """Return the worker of a VM.

        Raises:
            NotOwnerError: the VM has left.
            ConflictError: it is lost, or has no worker yet.
        """
        live = self._host.registry.find(row.id)
        if live is not None:
            return live
        if row.status == VmStatus.LOST:
            raise ConflictError(f"VM {row.name} is lost: {row.stop_reason}", hint="restore it from a snapshot")
        if not row.present:
            raise NotOwnerError(
                f"VM {row.name} has left: {row.owner} owns it at epoch {row.epoch}", owner=row.owner, epoch=row.epoch
            )
        raise ConflictError(f"VM {row.name} is {row.status}: it has no worker now", hint="try again in a moment")

    async def record(self, row: VmRow) -> VmRecord:
        """Return the record of a VM: the row, and what the worker says of a live one."""
        live = self._host.registry.find(row.id)
        record = VmRecord(
            id=row.id,
            name=row.name,
            backend=row.backend,
            guest=row.guest,
            status=VmStatus(row.status),
            stop_reason=row.stop_reason,
            exit_code=row.exit_code,
            owner=row.owner,
            epoch=row.epoch,
            ram_bytes=row.ram_bytes,
            vcpus=row.vcpus,
            created_at=row.created_at,
            migration=None if live is None else live.migration,
        )
        if live is None or not row.present:
            return record
        try:
            status = await live.handle.call("status")
        except WorkerError:
            return record  # it is dying; the watcher notes it
        return record.model_copy(update=_status_members(row, status, live))


def _status_members(row: VmRow, status: Mapping[str, Any], live: LiveVm) -> dict[str, Any]:
    """Return the members of a VmRecord that the worker knows best."""
    created = row.status != VmStatus.CREATING
    return {
        "status": VmStatus(status["status"]) if created else VmStatus.CREATING,
        "stop_reason": status["stop_reason"],
        "exit_code": status["exit_code"],
        "retired_instructions": status["retired"],
        "console_bytes": status["console_end"],
        "worker_pid": live.handle.pid,
    }
