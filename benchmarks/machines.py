"""Guests at a known point, and streams with a known memory, for the benchmarks to work on."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import numpy

from emulator.guests import GUESTS
from emulator.machine import Machine
from migsvc.stream.machine import read_machine, write_machine
from migsvc.stream.records import Config, StreamHeader, VcpuSections, VmSections
from schemas.state import SCHEMA_VERSION

IDLE_FROM_BYTES = 4 << 20
"""The bundled ticker keeps to the memory below this with its default working set."""


def paused_ticker(steps: int) -> Machine:
    """Return a machine whose 64-bit ticking guest has done `steps` steps."""
    machine = Machine(GUESTS["ticker64"].config())
    machine.run(steps)
    return machine


def fill_idle_ram(source: Path, target: Path, seed: int = 1) -> None:
    """Copy a snapshot's stream and fill the memory that its guest leaves alone with random bytes."""
    parts: dict[type, object] = {}
    memory = bytearray()

    def allocate(config: Config) -> bytearray:
        memory.extend(bytes(config.memory.ram_bytes))
        return memory

    with source.open("rb", buffering=0) as file:
        vcpus = []
        for record in read_machine(lambda view: file.readinto(view) or 0, allocate):
            parts[type(record)] = record
            if isinstance(record, VcpuSections):
                vcpus.append(record.sections)
    config, vm = parts[Config], parts[VmSections]
    if not isinstance(config, Config) or not isinstance(vm, VmSections):
        raise TypeError("the stream has neither configuration nor VM state")
    ram = numpy.frombuffer(memory, dtype=numpy.uint8)
    end = config.memory.extents()[0].size_bytes
    ram[IDLE_FROM_BYTES:end] = numpy.random.default_rng(seed).integers(0, 256, end - IDLE_FROM_BYTES, dtype=numpy.uint8)
    header = StreamHeader(uuid.uuid4().bytes, time.time_ns(), SCHEMA_VERSION)
    with target.open("wb") as out:
        runs = [(0, len(memory) // 4096)]
        for piece in write_machine(header, config, memory, runs, vm.sections, vcpus):
            out.write(piece)
