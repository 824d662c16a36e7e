"""Whether a copy may come in: every reason against it, before any page moves; then its place is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from migsvc.errors import ConflictError, IncompatibleError, InputError, MigsvcError
from migsvc.protocol.events import Hello, Offer
from migsvc.service import workers
from migsvc.service.context import Host
from migsvc.service.hosts import host_profile
from migsvc.service.journal import Journal, now
from migsvc.service.offer import OfferSummary, read_summary, refusal, refusals
from migsvc.service.records import NAME_PATTERN, MigrationOptions, MigrationState, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.service.snapshot_files import vm_config
from migsvc.storage.rows import MigrationRow, VmRow
from migsvc.stream import Config, parse_config_map

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids become names of files."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A copy that may come in: its migration's row, its configuration, and the worker that will hold it."""

    row: MigrationRow
    config: Config
    live: LiveVm


async def admit(host: Host, hello: Hello, offer: Offer) -> Admitted:
    """Check an Offer and make place for the copy.

    Raises:
        IncompatibleError: with every reason; nothing was made.
        MigsvcError: the place cannot be made; nothing is left of it.
    """
    config = parse_config_map(offer.config)
    try:
        summary = read_summary(offer.summary)
    except InputError as error:
        raise _refused(host, hello, [refusal("offer", error.detail, "the source has another version?")]) from error
    profile = await host_profile(host)
    findings = refusals(summary.machine, config, profile) + await _local_refusals(host, hello, config)
    if findings:
        raise _refused(host, hello, findings)
    return await _make_place(host, hello, config, summary)


async def _local_refusals(host: Host, hello: Hello, config: Config) -> list[dict[str, Any]]:
    """Return what speaks against the copy besides its state."""
    settings, catalogue = host.settings, host.catalogue
    found: list[dict[str, Any]] = []
    if not (ID_PATTERN.fullmatch(hello.vm_id) and ID_PATTERN.fullmatch(hello.migration_id)):
        found.append(
            refusal("hello", "ids of VM and migration must be short and plain", "is the source a migsvc agent?")
        )
    if not (re.fullmatch(NAME_PATTERN, hello.vm_name) and re.fullmatch(NAME_PATTERN, hello.source_host)):
        found.append(refusal("hello", "names of VM and host must be short and plain", "rename it on the source"))
    if hello.source_host == host.name:
        found.append(refusal("hello.source_host", f"both hosts are named {host.name!r}", "rename one (MIGSVC_NAME)"))
    if config.memory.ram_bytes > settings.max_ram_bytes:
        limit = settings.max_ram_bytes
        found.append(
            refusal("config.memory.ram_bytes", f"more than {limit}, the most of a VM here", "MIGSVC_MAX_RAM_BYTES")
        )
    if host.jobs.count("destination") >= settings.max_migrations:
        found.append(refusal("host", f"{settings.max_migrations} migrations arrive already", "try again later"))
    present = await catalogue.vms.list_present()
    if len(present) >= settings.max_vms:
        found.append(refusal("host", f"{host.name} holds {settings.max_vms} VMs, its most", "delete or move some"))
    for row in present:
        if row.id == hello.vm_id:
            found.append(refusal("hello.vm_id", f"VM {row.id} is on {host.name} ({row.status})", "see who owns it"))
        elif row.name == hello.vm_name:
            found.append(refusal("hello.vm_name", f"{host.name} has another VM named {row.name}", "rename one of them"))
    seen = await catalogue.vms.highest_epoch(hello.vm_id)
    if seen is not None and hello.epoch < seen:
        text = f"{host.name} has seen epoch {seen} of this VM, the source owns it at {hello.epoch} only"
        found.append(refusal("hello.epoch", text, "the source is not the owner: an operator has to look"))
    if await catalogue.migrations.find(hello.migration_id) is not None:
        found.append(refusal("hello.migration_id", "a migration of this id is known here", "begin a new one"))
    return found


async def _make_place(host: Host, hello: Hello, config: Config, summary: OfferSummary) -> Admitted:
    at = now()
    row = MigrationRow(
        id=hello.migration_id,
        role="destination",
        vm_id=hello.vm_id,
        vm_name=hello.vm_name,
        peer=hello.source_host,
        state=MigrationState.NEGOTIATING,
        owner=hello.source_host,
        epoch=hello.epoch,
        explanation=f"{hello.source_host} owns the VM and has offered it",
        created_at=at,
        updated_at=at,
        options=MigrationOptions().model_dump(mode="json"),
        config={
            "source_address": summary.source_address,
            "source_host_id": summary.source_host_id,
            "answer_token": summary.answer_token,
            "schema_version": config.schema_version,
        },
    )
    vm = VmRow(
        id=hello.vm_id,
        name=hello.vm_name,
        backend=config.backend,
        guest=config.guest,
        status=VmStatus.INCOMING,
        owner=hello.source_host,
        epoch=hello.epoch,
        ram_bytes=config.memory.ram_bytes,
        vcpus=config.vcpus,
        created_at=at,
    )
    # The migration first: whatever is made after it is found and discarded by the next start.
    try:
        row = await host.catalogue.migrations.add(row)
    except ConflictError as error:
        raise _refused(host, hello, [refusal("hello.migration_id", error.detail, "begin a new one")]) from error
    try:
        await host.catalogue.vms.put_incoming(vm)
    except ConflictError as error:
        await _give_up(host, row, error)
        raise _refused(host, hello, [refusal("hello.vm_name", error.detail, error.hint or "try again")]) from error
    try:
        await host.stall("destination", MigrationState.NEGOTIATING, None)
        wanted = vm_config(config, epoch=config.epoch, incoming=True, paced=host.settings.paced)
        live = await workers.spawn(host, vm.id, vm.name, wanted)
    except MigsvcError as error:
        await host.catalogue.vms.discard_incoming(vm.id)
        await _give_up(host, row, error)
        raise
    live.migration = row.id
    return Admitted(row, config, live)


async def _give_up(host: Host, row: MigrationRow, error: MigsvcError) -> None:
    """Journal that no place could be made."""
    await Journal(host, row).end(
        MigrationState.FAILED, f"no place was made for the copy; {row.owner} keeps the VM", error=error
    )


def _refused(host: Host, hello: Hello, findings: list[dict[str, Any]]) -> IncompatibleError:
    return IncompatibleError(f"{host.name} cannot take VM {hello.vm_name}", findings)
