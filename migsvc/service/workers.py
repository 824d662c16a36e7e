"""The worker processes of this host's VMs: spawned, adopted, watched, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from migsvc.backends.client import WorkerHandle
from migsvc.backends.config import VmConfig
from migsvc.errors import MigsvcError, NotFoundError, WorkerError
from migsvc.service.records import VmStatus
from migsvc.service.registry import LiveVm

if TYPE_CHECKING:
    from migsvc.service.context import Host

log = logging.getLogger("migsvc.vm")


async def spawn(host: Host, vm_id: str, name: str, config: VmConfig) -> LiveVm:
    """Start a worker with a VM of `config`, and watch it.

    Raises:
        InputError: the backend or the configuration is wrong.
        WorkerError: the process does not come up.
    """
    wanted = replace(config, keeps_smm_shadow=host.settings.smm_carriers != "none")
    handle = await WorkerHandle.spawn(host.settings.run_dir, vm_id, wanted)
    return _live(host, vm_id, name, handle)


async def adopt(host: Host, vm_id: str, name: str) -> LiveVm | None:
    """Take up the worker that an agent before us left, or return None if it is gone."""
    try:
        handle = await WorkerHandle.adopt(host.settings.run_dir, vm_id)
    except MigsvcError as error:
        log.warning("VM %s (%s): its worker cannot be adopted: %s", name, vm_id, error)
        return None
    return _live(host, vm_id, name, handle)


async def end(host: Host, live: LiveVm) -> None:
    """End a VM's worker on purpose; its memory is gone then."""
    live.leaving = True
    host.registry.remove(live.id)
    await live.handle.quit()


def _live(host: Host, vm_id: str, name: str, handle: WorkerHandle) -> LiveVm:
    live = LiveVm(vm_id, name, handle)
    host.registry.add(live)
    handle.on_event = lambda event: _on_event(host, live, event)
    host.spawn(_watch(host, live))
    return live


def _on_event(host: Host, live: LiveVm, event: Mapping[str, Any]) -> None:
    """Wake those who wait for this VM; note a guest's end."""
    host.hub.tell(vm_topic(live.id))
    if event.get("event") == "stopped" and event.get("status") == VmStatus.STOPPED:
        host.spawn(_note_stop(host, live, event))


def vm_topic(vm_id: str) -> str:
    """Return the hub's topic for news of a VM: console output, a stop, its end."""
    return f"vm:{vm_id}"


async def _note_stop(host: Host, live: LiveVm, event: Mapping[str, Any]) -> None:
    try:
        await host.catalogue.vms.update(live.id, stop_reason=event.get("stop_reason"), exit_code=event.get("exit_code"))
    except NotFoundError:
        return  # deleted meanwhile
    log.info("VM %s stopped: %s", live.name, event.get("stop_reason"))


async def _watch(host: Host, live: LiveVm) -> None:
    """Note the death of a worker that nobody ended."""
    await asyncio.wait({live.handle.exited})
    if live.handle.exited.cancelled():
        return  # detached: the worker lives on for the next agent
    host.registry.remove(live.id)
    host.hub.tell(vm_topic(live.id))
    if live.leaving or host.closing:
        return
    log.error("VM %s: its worker (pid %s) died", live.name, live.handle.pid)
    try:
        row = await host.catalogue.vms.get(live.id)
        # An incoming copy is discarded by its migration; a VM that has left is not ours to lose.
        if row.present and row.status != VmStatus.INCOMING:
            await host.catalogue.vms.update(
                live.id, status=VmStatus.LOST, stop_reason=f"its worker process {live.handle.pid} died"
            )
    except NotFoundError:
        return


async def fence(live: LiveVm, epoch: int) -> None:
    """Make sure that this copy never runs again. A worker that is dead never will."""
    try:
        await live.handle.call("fence", epoch=epoch)
    except WorkerError:
        live.handle.kill()


async def resume(host: Host, live: LiveVm, *, stop_log: bool) -> None:
    """Let a VM go on as the catalogue says that it should."""
    with suppress(MigsvcError):
        if stop_log:
            await live.handle.call("dirty_stop")
    row = await host.catalogue.vms.get(live.id)
    if row.present and row.owner == host.name and row.status == VmStatus.RUNNING:
        try:
            await live.handle.call("run", epoch=row.epoch)
        except MigsvcError as error:
            log.warning("VM %s does not go on: %s", live.name, error)
