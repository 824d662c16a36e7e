"""In-process migration: save, write a stream, verify it, read it, restore in a fresh machine."""

import io
from typing import NamedTuple

import numpy as np
import pytest

from emulator.bridge import load_sections, memory_map, save_sections
from emulator.config import PAGE_BYTES
from emulator.guests import GUESTS
from emulator.machine import Machine
from migsvc.stream import Config, StreamHeader, VcpuSections, VmSections, read_machine, write_machine
from migsvc.stream.verify import verify_stream
from schemas.state import SCHEMA_VERSION

HEADER = StreamHeader(stream_id=bytes(16), created_unix_ns=0, schema_version=SCHEMA_VERSION)


class Outcome(NamedTuple):
    """A machine at a boundary: every section, all of memory, the console from its first byte ever."""

    vm: dict[str, bytes]
    vcpus: list[dict[str, bytes]]
    ram: bytes
    console: bytes


class MigratedMachine:
    """A machine with the console output that it produced on earlier hosts."""

    def __init__(self, machine, console=b""):
        self.machine = machine
        self._console = console

    def run(self, steps):
        return self.machine.run(steps)

    @property
    def console(self):
        return self._console + self.machine.console_bytes()

    def outcome(self):
        vm, vcpus = save_sections(self.machine)
        return Outcome(vm, vcpus, bytes(self.machine.memory.ram), self.console)

    def migrate(self, verify=True):
        """The same machine on "another host"; this one is left as it was."""
        stream = self.stream()
        if verify:
            report = verify_stream(io.BytesIO(stream).read)
            assert report.clean, report.violations
        made = []
        sections = {}

        def allocate(config):
            assert config.memory == memory_map(self.machine.memory)
            made.append(bytearray(config.memory.ram_bytes))
            return made[0]

        for record in read_machine(io.BytesIO(stream).readinto, allocate):
            if isinstance(record, VmSections):
                sections["vm"] = record.sections
            elif isinstance(record, VcpuSections):
                sections[record.index] = record.sections
        twin = Machine(self.machine.config, ram=made[0], load_images=False)
        load_sections(twin, sections["vm"], [sections[0]])
        return MigratedMachine(twin, self.console)

    def stream(self):
        memory = self.machine.memory
        vm, vcpus = save_sections(self.machine)
        config = Config("id", "name", "emulator", None, 1, "a", SCHEMA_VERSION, memory_map(memory), 1)
        return b"".join(write_machine(HEADER, config, memory.ram, runs_of(memory.ram), vm, vcpus))


def runs_of(ram):
    """(first page, page count) of the pages that hold anything."""
    used = np.frombuffer(ram, dtype=np.uint64).reshape(-1, PAGE_BYTES // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(used.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end - first)) for first, end in edges.reshape(-1, 2)]


@pytest.fixture(scope="session")
def start_guest():
    """Start a bundled guest: start_guest(name, ram_bytes=..., **params) -> MigratedMachine."""

    def start(name, ram_bytes=None, **params):
        return MigratedMachine(Machine(GUESTS[name].config(params, ram_bytes)))

    return start


@pytest.fixture(scope="session")
def start_machine():
    """Start a machine from a config: start_machine(config) -> MigratedMachine."""
    return lambda config: MigratedMachine(Machine(config))
