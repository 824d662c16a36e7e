"""Machines as stream files: a VM into a file, a file into a VM, and a file that somebody else wrote, checked."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migsvc.backends.config import VmConfig
from migsvc.config import Settings
from migsvc.errors import IncompatibleError, LimitError, MigsvcError, StreamRejectedError
from migsvc.service.carried import carried_summary
from migsvc.service.context import Host
from migsvc.service.dialect import RamView, from_version, own_dialect, spoken_versions, to_dialect
from migsvc.service.hosts import host_profile
from migsvc.service.offer import machine_summary, refusals
from migsvc.service.registry import LiveVm
from migsvc.service.vm_state import machine_state, memory_map, require_legal
from migsvc.service.workers import resume
from migsvc.storage.rows import VmRow
from migsvc.storage.snapshots import SnapshotStore
from migsvc.stream import (
    Config,
    MemoryDigest,
    StreamError,
    StreamHeader,
    StreamReader,
    VcpuSections,
    VmSections,
    machine_digest,
    read_machine,
    write_machine,
)
from migsvc.stream.bodies import VCPU_HEADER
from migsvc.stream.framing import RecordHeader
from migsvc.stream.packing import unpack_map
from migsvc.stream.records import FILE_HEADER_BYTES, RECORD_HEADER_BYTES, RecordType
from migsvc.stream.verify import VerifyReport, verify_stream
from migsvc.transport.pages import all_pages, select
from schemas.state import MachineSections

MAX_FINDINGS = 200
"""Violations listed of a bad upload; a stream of noise has one per record."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a snapshot once it is written or verified."""

    vm_name: str
    epoch: int
    ram_bytes: int
    size_bytes: int
    state_digest: str
    summary: list[dict[str, Any]]


async def take(host: Host, snapshot_id: str, vm: VmRow, live: LiveVm) -> Written:
    """Write a VM as a snapshot; a running one is paused meanwhile and goes on afterwards. Hold its lock.

    Raises:
        StorageError: the disk is full or fails; there is no snapshot then.
        WorkerError: the worker died.
    """
    await live.handle.call("pause")
    try:
        saved = await live.handle.call("save")
        described = await live.handle.call("describe")
        ram = memoryview(await live.handle.ram())
        own = own_dialect(await host_profile(host))
        said = to_dialect(saved["vm"], saved["vcpus"], own, RamView(memory_map(described), ram))
        config = machine_config(vm, described, host.name, said.version)
        return await host.blocking(_write, host.store, snapshot_id, config, ram, said.sections)
    finally:
        await resume(host, live, stop_log=False)


def _write(store: SnapshotStore, snapshot_id: str, config: Config, ram: memoryview, saved: MachineSections) -> Written:
    header = StreamHeader(secrets.token_bytes(16), time.time_ns(), config.schema_version)
    memory = MemoryDigest(len(ram))
    memory.update(ram)
    digest = machine_digest(config.memory, memory.root(), saved.vm, saved.vcpus)
    runs = select(ram, all_pages(config.memory)).data
    with store.create(snapshot_id) as writer:
        writer.write_all(write_machine(header, config, ram, runs, saved.vm, saved.vcpus, digest.memory))
        size = writer.commit()
    return Written(
        vm_name=config.vm_name,
        epoch=config.epoch,
        ram_bytes=config.memory.ram_bytes,
        size_bytes=size,
        state_digest=digest.root.hex(),
        summary=carried_summary(saved.vm, saved.vcpus),
    )


def machine_config(vm: VmRow, described: Mapping[str, Any], host_name: str, schema_version: int) -> Config:
    """Return CONFIG of a VM: the row's identity and what the worker describes."""
    return Config(
        vm_id=vm.id,
        vm_name=vm.name,
        backend=vm.backend,
        guest=vm.guest,
        epoch=vm.epoch,
        source_host=host_name,
        schema_version=schema_version,
        memory=memory_map(described),
        vcpus=described["vcpus"],
        machine=described["machine"],
    )


def vm_config(config: Config, *, epoch: int, incoming: bool, paced: bool) -> VmConfig:
    """Return what a worker needs to make the machine of a stream."""
    return VmConfig(
        backend=config.backend,
        guest=config.guest,
        ram_bytes=config.memory.ram_bytes,
        machine={"memory": config.memory.model_dump(), "vcpus": config.vcpus, "machine": dict(config.machine)},
        epoch=epoch,
        incoming=incoming,
        paced=paced,
    )


def read_config(store: SnapshotStore, snapshot_id: str) -> Config:
    """Return CONFIG of a snapshot's file.

    Raises:
        StreamRejectedError: it is damaged.
    """
    reader = StreamReader()
    with store.open_read(snapshot_id) as file:
        try:
            while reader.config is None:
                want = reader.expect()
                data = file.read(0 if want is None else want.size)
                if want is None or len(data) != want.size:
                    reader.end_of_input()
                reader.fill(data)
        except StreamError as error:
            raise rejected(error) from error
        return reader.config


async def restore(host: Host, snapshot_id: str, live: LiveVm) -> None:
    """Put a snapshot into a VM that was made of its CONFIG: pages, digests, checks, then the state.

    Raises:
        StreamRejectedError: the file is damaged.
        IncompatibleError: this host cannot hold the machine.
        IllegalStateError: the state breaks the rules.
    """
    ram = memoryview(await live.handle.ram())
    config, vm, vcpus = await host.blocking(_read, host.store, snapshot_id, ram)
    state = machine_state(config.memory, {"vm": vm, "vcpus": vcpus})
    profile = await host_profile(host)
    findings = refusals(machine_summary(config, state), config, profile)
    if findings:
        raise IncompatibleError(f"{host.name} cannot hold the machine of snapshot {snapshot_id}", findings)
    require_legal(state)
    read = from_version(vm, vcpus, config.schema_version, own_dialect(profile), RamView(config.memory, ram))
    await live.handle.call("load", vm=read.sections.vm, vcpus=read.sections.vcpus)


def _read(
    store: SnapshotStore, snapshot_id: str, ram: memoryview
) -> tuple[Config, dict[str, bytes], list[dict[str, bytes]]]:
    config: Config | None = None
    vm: dict[str, bytes] = {}
    vcpus: list[dict[str, bytes]] = []
    with store.open_read(snapshot_id) as file:
        try:
            for record in read_machine(file.readinto, lambda _config: ram):  # type: ignore[attr-defined]
                if isinstance(record, Config):
                    config = record
                elif isinstance(record, VmSections):
                    vm = dict(record.sections)
                elif isinstance(record, VcpuSections):
                    vcpus.append(dict(record.sections))
        except StreamError as error:
            raise rejected(error) from error
    if config is None:
        raise MigsvcError(f"snapshot {snapshot_id} has no CONFIG, and the reader let it pass")
    return config, vm, vcpus


def verify_file(path: Path, settings: Settings) -> Written:
    """Check a file with the independent verifier and return what it holds.

    Raises:
        StreamRejectedError: with the violations that were found.
    """
    with path.open("rb") as file:
        report = verify_stream(file.read)
    if not report.ok:
        findings = [violation.to_finding() for violation in report.violations[:MAX_FINDINGS]]
        first = findings[0]["message"] if findings else "its memory could not be checked within bounds"
        raise StreamRejectedError(
            f"the stream breaks rules of the format: {first}",
            findings,
            hint="take it again from its source; nothing was kept",
        )
    if report.summary["schema_version"] not in spoken_versions(settings):
        text = f"Schema version {report.summary['schema_version']} is not one of {list(spoken_versions(settings))}"
        raise rejected(StreamError("STR-006", text, offset=12))
    limit = settings.max_ram_bytes
    if report.summary["ram_bytes"] > limit:
        raise LimitError(f"the machine has {report.summary['ram_bytes']} bytes of RAM; this host holds at most {limit}")
    return _read_summary(path, report)


def rejected(error: StreamError) -> StreamRejectedError:
    """Return a stream's error as the service's."""
    return StreamRejectedError(str(error), [error.to_finding()], hint=error.hint)


def _read_summary(path: Path, report: VerifyReport) -> Written:
    """Return what a verified file holds; its pages are passed over."""
    vm: dict[str, bytes] = {}
    vcpus: list[dict[str, bytes]] = []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(FILE_HEADER_BYTES)
        while raw := file.read(RECORD_HEADER_BYTES):
            header = RecordHeader.parse(raw, file.tell())
            if header.type == RecordType.VM_STATE:
                vm = unpack_map(file.read(header.body_length))
            elif header.type == RecordType.VCPU_STATE:
                vcpus.append(unpack_map(file.read(header.body_length)[VCPU_HEADER.size :]))
            else:
                file.seek(header.body_length, 1)
    config = report.summary["config"]
    return Written(
        vm_name=config["vm_name"],
        epoch=config["epoch"],
        ram_bytes=report.summary["ram_bytes"],
        size_bytes=size,
        state_digest=report.summary["digests"]["root"],
        summary=carried_summary(vm, vcpus),
    )
