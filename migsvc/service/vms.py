"""Use cases on one VM: make it, run it, stop it, look into it, change its state."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Mapping
from typing import Any

from migsvc.backends.config import Boot, Image, VmConfig
from migsvc.errors import (
    ConflictError,
    InputError,
    LimitError,
    MigsvcError,
    NotFoundError,
)
from migsvc.service import snapshot_files, workers
from migsvc.service.context import Host
from migsvc.service.dialect import own_dialect, to_dialect
from migsvc.service.hosts import host_profile
from migsvc.service.hub import wait_for_news
from migsvc.service.journal import now
from migsvc.service.paging import rows_of
from migsvc.service.records import BootSpec, ConsoleChunk, Page, PauseWhen, StepResult, VmCreate, VmRecord, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.service.vm_lookup import VmLookup
from migsvc.service.vm_state import machine_state, memory_map, pause_worker, require_known_flags, require_legal, sample
from migsvc.storage.rows import VmRow
from schemas.compat import HostProfile
from schemas.state import MachineState, VcpuState

STEP_TIMEOUT_S = 600.0
"""A step is bounded by its number of instructions; this is for a stuck worker."""

CONSOLE_POLL_S = 0.25
"""News of console output come from the worker; this is only for news that got lost with a connection."""


class Vms:
    """The VMs of this host; `ref` is an id or a name everywhere."""

    def __init__(self, host: Host) -> None:
        """Work on that host."""
        self._host = host
        self._lookup = VmLookup(host)
        self._naming = asyncio.Lock()

    # Life

    async def create(self, request: VmCreate) -> VmRecord:
        """Make a VM in a worker process of its own.

        Raises:
            ConflictError: the name is taken.
            InputError: no such backend or guest, or images that do not fit.
            LimitError: as many VMs as this host holds, or too much RAM.
        """
        self._require_ram(request.ram_bytes or 0)
        config = VmConfig(
            backend=request.backend,
            guest=request.guest,
            guest_params=request.guest_params,
            images=tuple(Image(spec.as_id, spec.gpa, _decode(spec.data_base64)) for spec in request.images),
            boot=_boot(request.boot),
            entry=request.entry,
            cpu_model=request.cpu_model,
            board=request.board,
            ram_bytes=request.ram_bytes,
            paced=self._host.settings.paced,
        )
        row = VmRow(
            id=str(uuid.uuid4()),
            name=request.name,
            backend=request.backend,
            guest=request.guest,
            status=VmStatus.CREATING,
            owner=self._host.name,
            epoch=1,
            created_at=now(),
        )
        live = await self._begin(row, config)
        return await self._finish(live, run=request.run)

    async def restore(self, snapshot_id: str, name: str, *, run: bool) -> VmRecord:
        """Make a VM of a snapshot's file; `Snapshots.restore` is the use case.

        Raises:
            StreamRejectedError: the file breaks the format.
            IncompatibleError: this host cannot hold the machine.
            IllegalStateError: the state breaks the rules.
            ConflictError: the name is taken.
        """
        about = await self._host.blocking(snapshot_files.read_config, self._host.store, snapshot_id)
        self._require_ram(about.memory.ram_bytes)
        config = snapshot_files.vm_config(about, epoch=1, incoming=False, paced=self._host.settings.paced)
        row = VmRow(
            id=str(uuid.uuid4()),
            name=name,
            backend=about.backend,
            guest=about.guest,
            status=VmStatus.CREATING,
            owner=self._host.name,
            epoch=1,
            created_at=now(),
        )
        live = await self._begin(row, config)
        try:
            await snapshot_files.restore(self._host, snapshot_id, live)
        except BaseException:
            await self._undo(live.id)
            raise
        return await self._finish(live, run=run)

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[VmRecord]:
        """Return one page of the VMs, oldest first; those that have left are among them."""
        rows, after = await rows_of(self._host.catalogue.vms.list, cursor, limit)
        return Page[VmRecord](items=[await self._lookup.record(row) for row in rows], next=after)

    async def get(self, ref: str) -> VmRecord:
        """Return one VM.

        Raises:
            NotFoundError: there is none of that id or name.
        """
        return await self._lookup.record(await self._lookup.row(ref))

    async def delete(self, ref: str) -> None:
        """End the VM's worker and forget the VM.

        Raises:
            NotFoundError: there is none of that id or name.
            ConflictError: a migration or a snapshot works on it.
        """
        row = await self._lookup.row(ref)
        live = self._host.registry.find(row.id)
        if live is not None:
            live.require_free("be deleted")
            async with live.lock:
                live.require_free("be deleted")
                live.leaving = True
                await workers.end(self._host, live)
        elif await self._host.catalogue.migrations.active_of_vm(row.id) is not None:
            raise ConflictError(f"VM {row.name} cannot be deleted: a migration of it is under way")
        await self._host.catalogue.vms.delete(row.id)

    # Running

    async def run(self, ref: str) -> VmRecord:
        """Let the VM run.

        Raises:
            NotFoundError, NotOwnerError: not here, or not ours.
            ConflictError: it has stopped for good, or is being migrated.
        """
        row, live = await self._lookup.owned(ref)
        async with live.lock:
            live.require_free("be run")
            # The wish first: after a crash in between the VM is run again.
            row = await self._host.catalogue.vms.update(row.id, status=VmStatus.RUNNING)
            try:
                await live.handle.call("run", epoch=row.epoch)
            except MigsvcError:
                row = await self._host.catalogue.vms.update(row.id, status=VmStatus.PAUSED)
                raise
        return await self._lookup.record(row)

    async def pause(self, ref: str, when: PauseWhen = PauseWhen.ANY, limit_instructions: int = 50_000_000) -> VmRecord:
        """Pause the VM at the next boundary at which `when` holds; a paused VM runs on to it.

        Raises:
            NotFoundError, NotOwnerError: not here, or not ours.
            ConflictError: there is no such moment within the limit (the VM goes on as before), or it is being migrated.
        """
        row, live = await self._lookup.owned(ref)
        async with live.lock:
            live.require_free("be paused")
            await pause_worker(live, when, limit_instructions)
            row = await self._host.catalogue.vms.update(row.id, status=VmStatus.PAUSED)
        return await self._lookup.record(row)

    async def step(self, ref: str, n: int) -> StepResult:
        """Run exactly n instructions of a paused VM, fewer only if it stops.

        Raises:
            NotFoundError, NotOwnerError: not here, or not ours.
            ConflictError: it is running, or is being migrated.
            LimitError: more than one call may ask for.
        """
        limit = self._host.settings.max_step_instructions
        if not 1 <= n <= limit:
            raise LimitError(f"a step is 1 to {limit} instructions, not {n}", limit=limit)
        _, live = await self._lookup.owned(ref)
        async with live.lock:
            live.require_free("be stepped")
            done = await live.handle.call("step", timeout_s=STEP_TIMEOUT_S, n=n)
        return StepResult(
            steps=done["steps"],
            reason=done["reason"],
            retired_instructions=done["retired"],
            rip=_hex(done["registers"].get("rip", 0)),
        )

    async def smi(self, ref: str) -> VmRecord:
        """Make an SMI pending."""
        return await self._inject(ref, "smi")

    async def nmi(self, ref: str) -> VmRecord:
        """Make an NMI pending."""
        return await self._inject(ref, "nmi")

    async def interrupt(self, ref: str, vector: int) -> VmRecord:
        """Ask for an external interrupt with that vector."""
        if not 0 <= vector <= 255:
            raise InputError(f"vector {vector} is not within 0 to 255")
        return await self._inject(ref, "interrupt", vector=vector)

    # Looking

    async def console(self, ref: str, offset: int = 0, max_bytes: int = 65536, wait_s: float = 0) -> ConsoleChunk:
        """Return console output from `offset` on; wait up to `wait_s` for the first byte.

        Offsets count from the VM's first byte ever, on whatever host; what is no longer kept is skipped.

        Raises:
            NotFoundError: there is no such VM here, or it has no worker.
            LimitError: larger or longer than one call may ask for.
        """
        settings = self._host.settings
        if max_bytes > settings.max_console_chunk_bytes or wait_s > settings.max_console_wait_s:
            raise LimitError(
                f"one call returns at most {settings.max_console_chunk_bytes} bytes after at most "
                f"{settings.max_console_wait_s} s"
            )
        row = await self._lookup.row(ref)
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            news = self._host.hub.watch(workers.vm_topic(row.id))
            live = await self._lookup.live(row)
            chunk = await live.handle.call("console", since=max(offset, 0), max_bytes=max(1, max_bytes))
            left_s = deadline - asyncio.get_running_loop().time()
            if chunk["data"] or left_s <= 0:
                data: bytes = chunk["data"]
                return ConsoleChunk(
                    offset=chunk["offset"],
                    next_offset=chunk["offset"] + len(data),
                    text=data.decode("utf-8", "replace"),
                    data_base64=base64.b64encode(data).decode(),
                )
            await wait_for_news(news, min(left_s, CONSOLE_POLL_S))

    async def get_state(self, ref: str, vcpu: int) -> VcpuState:
        """Return the state of one vCPU. A running VM is stopped for the moment that it takes.

        Raises:
            NotFoundError: no such VM, or no such vCPU.
            NotOwnerError: another host owns it.
        """
        machine = await self.get_machine(ref)
        if not 0 <= vcpu < len(machine.vcpus):
            raise NotFoundError(f"VM {ref!r} has vCPUs 0 to {len(machine.vcpus) - 1}, no {vcpu}")
        return machine.vcpus[vcpu]

    async def put_state(self, ref: str, vcpu: int, state: VcpuState) -> VcpuState:
        """Replace the state of one vCPU of a paused VM; all or nothing. Returns what the vCPU now holds.

        Raises:
            IllegalStateError: the state breaks the rules; every finding is listed and nothing is applied.
            ConflictError: the VM is running, or is being migrated.
            NotFoundError, NotOwnerError: as `get_state`.
        """
        row, live = await self._lookup.owned(ref)
        if not 0 <= vcpu < row.vcpus:
            raise NotFoundError(f"VM {ref!r} has vCPUs 0 to {row.vcpus - 1}, no {vcpu}")
        if state.index != vcpu:
            raise InputError(f"the state is of vCPU {state.index}, the request of {vcpu}", hint="make them agree")
        profile = await host_profile(self._host)
        require_legal(state)
        require_known_flags(state, profile)
        async with live.lock:
            live.require_free("have its state replaced")
            saved = await live.handle.call("save")
            vcpus = [*saved["vcpus"]]
            vcpus[vcpu] = state.to_sections()
            await live.handle.call("load", vm=saved["vm"], vcpus=vcpus)
            after = await live.handle.call("save")
        return VcpuState.from_sections(_spoken(after, profile)["vcpus"][vcpu], index=vcpu)

    async def get_machine(self, ref: str) -> MachineState:
        """Return the state of the whole machine but for the contents of its memory.

        Raises:
            NotFoundError: there is no such VM.
            NotOwnerError: another host owns it.
        """
        row, live = await self._lookup.owned(ref)
        async with live.lock:
            saved, described = await sample(live, row.epoch)
        return machine_state(memory_map(described), _spoken(saved, await host_profile(self._host)))

    # Inside

    async def _begin(self, row: VmRow, config: VmConfig) -> LiveVm:
        """Note a VM as being made and start its worker."""
        limit = self._host.settings.max_vms
        async with self._naming:
            if len(await self._host.catalogue.vms.list_present()) >= limit:
                raise LimitError(f"this host holds at most {limit} VMs", hint="delete or migrate some", limit=limit)
            await self._host.catalogue.vms.add(row)
        try:
            live = await workers.spawn(self._host, row.id, row.name, config)
            described = await live.handle.call("describe")
            memory = memory_map(described)
            self._require_ram(memory.ram_bytes)
            await self._host.catalogue.vms.update(row.id, ram_bytes=memory.ram_bytes, vcpus=described["vcpus"])
        except BaseException:
            await self._undo(row.id)
            raise
        return live

    async def _undo(self, vm_id: str) -> None:
        live = self._host.registry.find(vm_id)
        if live is not None:
            await workers.end(self._host, live)
        await self._host.catalogue.vms.delete(vm_id)

    async def _finish(self, live: LiveVm, *, run: bool) -> VmRecord:
        row = await self._host.catalogue.vms.update(live.id, status=VmStatus.PAUSED)
        return await self.run(row.id) if run else await self._lookup.record(row)

    async def _inject(self, ref: str, method: str, **params: Any) -> VmRecord:
        row, live = await self._lookup.owned(ref)
        async with live.lock:
            live.require_free(f"take an {method}")
            await live.handle.call(method, **params)
        return await self._lookup.record(row)

    def _require_ram(self, ram_bytes: int) -> None:
        limit = self._host.settings.max_ram_bytes
        if ram_bytes > limit:
            raise LimitError(f"{ram_bytes} bytes of RAM; this host gives a VM at most {limit}", limit=limit)


def _spoken(saved: Mapping[str, Any], profile: HostProfile) -> dict[str, Any]:
    """Return what a worker saved in the schema version and with the carrier that this host speaks."""
    return to_dialect(saved["vm"], saved["vcpus"], own_dialect(profile), None).sections._asdict()


def _boot(spec: BootSpec | None) -> Boot | None:
    return None if spec is None else Boot(spec.kind, _decode(spec.data_base64), spec.append)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image data is not base64: {error}") from error


def _hex(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:#x}"
