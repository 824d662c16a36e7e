"""Stream files as whole machines: read with every check of FORMAT.md, and written again with right digests."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.session import CliError
from migsvc.stream import (
    PAGE_BYTES,
    Config,
    StreamError,
    StreamFlag,
    StreamHeader,
    VcpuSections,
    VmSections,
    read_machine,
    write_machine,
)
from migsvc.transport.pages import BLOCK_PAGES, Pages, all_pages, select
from schemas.errors import SchemaError
from schemas.memory import MemoryMap
from schemas.state import MachineState

MAX_MIGRATION_RAM_BYTES = 1 << 30
"""Largest RAM of a stream without flag SNAPSHOT: its ZERO records may touch every page, whatever the file's size."""


class GuestMemory:
    """The RAM of a machine that was read from a file: private to this process, pages exist once they are written.

    `ram` is the backing of `ram_bytes` octets, as `MemoryMap.translate` counts them.
    """

    def __init__(self, memory_map: MemoryMap) -> None:
        """Reserve the backing; nothing is allocated yet."""
        self.memory_map = memory_map
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._backing = mmap.mmap(-1, memory_map.ram_bytes, flags=flags)
        self.ram = memoryview(self._backing)

    def read(self, as_id: int, gpa: int, size: int) -> bytes:
        """Return `size` bytes of address space `as_id` from `gpa` on.

        Raises:
            LookupError: a byte of them belongs to no memory slot.
        """
        return b"".join(bytes(self.ram[at : at + length]) for at, length in self._spans(as_id, gpa, size))

    def write(self, as_id: int, gpa: int, data: bytes) -> None:
        """Put bytes at `gpa` of address space `as_id`.

        Raises:
            LookupError: a byte of them belongs to no memory slot; nothing is written.
        """
        done = 0
        for at, length in list(self._spans(as_id, gpa, len(data))):
            self.ram[at : at + length] = data[done : done + length]
            done += length

    def _spans(self, as_id: int, gpa: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield (backing offset, length) of a run, cut where pages end: two neighbours may lie apart in the backing."""
        end = gpa + size
        while gpa < end:
            offset = self.memory_map.translate(as_id, gpa)
            if offset is None:
                raise LookupError(f"no memory slot of address space {as_id} holds {gpa:#x}")
            length = min(end, (gpa | (mmap.PAGESIZE - 1)) + 1) - gpa
            yield offset, length
            gpa += length


def differing_pages(old: GuestMemory, new: GuestMemory) -> Pages:
    """Return the pages, of those that some slot shows, that hold something else; both have the same memory map."""
    pages = all_pages(old.memory_map)
    rows = [np.frombuffer(memory.ram, np.uint64).reshape(-1, PAGE_BYTES // 8) for memory in (old, new)]
    found = [
        block[(rows[0][block] != rows[1][block]).any(axis=1)]
        for block in np.array_split(pages, max(1, pages.size // BLOCK_PAGES))
    ]
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class StreamMachine:
    """A machine out of a stream file: its file header, CONFIG, state and memory."""

    header: StreamHeader
    config: Config
    state: MachineState
    memory: GuestMemory


def read_stream(file: BinaryIO, origin: str) -> StreamMachine:
    """Return the machine of a stream file, every checksum and digest compared.

    Memory is taken only for pages that the file holds, so no more than the file's own size.

    Raises:
        CliError: INTEGRITY, the file breaks a rule of FORMAT.md, or its sections are no machine.
    """
    header: StreamHeader | None = None
    config: Config | None = None
    memory: GuestMemory | None = None
    vm: dict[str, bytes] = {}
    vcpus: list[dict[str, bytes]] = []

    def allocate(found: Config) -> memoryview:
        nonlocal memory
        if not (header and header.flags & StreamFlag.SNAPSHOT) and found.memory.ram_bytes > MAX_MIGRATION_RAM_BYTES:
            text = f"{origin}: {found.memory.ram_bytes >> 20} MiB of RAM in a stream that is no snapshot"
            raise CliError(text, ExitCode.REFUSED, hint=f"at most {MAX_MIGRATION_RAM_BYTES >> 20} MiB are read")
        memory = GuestMemory(found.memory)
        return memory.ram

    try:
        for record in read_machine(_readinto(file), allocate):
            if isinstance(record, StreamHeader):
                header = record
            elif isinstance(record, Config):
                config = record
            elif isinstance(record, VmSections):
                vm = dict(record.sections)
            elif isinstance(record, VcpuSections):
                vcpus.append(dict(record.sections))
        if header is None or config is None or memory is None:
            raise CliError(f"{origin}: the stream has no CONFIG", ExitCode.INTEGRITY)
        return StreamMachine(header, config, MachineState.from_sections(config.memory, vm, vcpus), memory)
    except StreamError as error:
        raise CliError(
            f"{origin} is no sound stream: {error.detail}", ExitCode.INTEGRITY, hint=error.hint,
            findings=[error.to_finding()],
        ) from error  # fmt: skip
    except SchemaError as error:
        found = [problem.model_dump(mode="json") for problem in error.problems]
        raise CliError(f"{origin} holds no machine", ExitCode.INTEGRITY, findings=found) from error


def _readinto(file: BinaryIO) -> Callable[[memoryview], int]:
    """Return what `read_machine` wants, for files and for pipes (which have no `readinto` everywhere)."""

    def fill(view: memoryview) -> int:
        data = file.read(len(view))
        view[: len(data)] = data
        return len(data)

    found: Callable[[memoryview], int] | None = getattr(file, "readinto", None)
    return found or fill


def stream_octets(machine: StreamMachine) -> Iterator[bytes]:
    """Yield the machine as a stream file: pages that hold only zeros are left out, digests are computed anew."""
    sections = machine.state.to_sections()
    config = replace(machine.config, vcpus=len(sections.vcpus), memory=machine.state.memory)
    runs = select(machine.memory.ram, all_pages(config.memory)).data
    return write_machine(machine.header, config, machine.memory.ram, runs, sections.vm, sections.vcpus)
