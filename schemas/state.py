"""VcpuState, VmState, MachineState: everything that a snapshot or a migration carries, by section name.

Two forms: sections (name -> raw struct), which travel, and models, which are built when somebody looks or checks.
`from_sections(to_sections())` is the identity on every bit.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field

from .errors import Problem, SchemaError
from .members import Counter
from .memory import MemoryMap
from .model import Model
from .uapi import VCPU_SECTIONS, VM_SECTIONS, Section
from .uapi.clock import KvmClockData
from .uapi.cpuid2 import KvmCpuid2
from .uapi.debugregs import KvmDebugregs
from .uapi.fpu import KvmFpu
from .uapi.ioapic import KvmIrqchipIoapic
from .uapi.irqchip import KvmIrqchip
from .uapi.lapic import KvmLapicState
from .uapi.machine import MigsvcMachine
from .uapi.mp_state import KvmMpState
from .uapi.msrs import KvmMsrs
from .uapi.nested_state import KvmNestedState
from .uapi.pit2 import KvmPitState2
from .uapi.regs import KvmRegs
from .uapi.serial import MigsvcSerial
from .uapi.smi_port import MigsvcSmiPort
from .uapi.sregs import KvmSregs
from .uapi.sregs2 import KvmSregs2
from .uapi.tsc_khz import MigsvcTscKhz
from .uapi.tsc_offset import MigsvcTscOffset
from .uapi.vcpu_events import KvmVcpuEvents
from .uapi.xcrs import KvmXcrs
from .uapi.xsave import KvmXsave
from .versions import SCHEMA_VERSION

__all__ = [
    "MAX_VCPUS",
    "SCHEMA_VERSION",
    "MachineSections",
    "MachineState",
    "Sections",
    "VcpuState",
    "VmState",
    "section_problems",
    "sections_digest",
]

MAX_VCPUS = 1024
"""KVM_MAX_VCPUS of Linux 6.12 on most configurations."""

Sections = dict[str, bytes]


class VcpuState(Model):
    """One vCPU; every field but `index` is a section of scope "vcpu"."""

    index: Annotated[int, Field(ge=0, lt=MAX_VCPUS, strict=True)] = 0
    regs: KvmRegs
    sregs: KvmSregs
    sregs2: KvmSregs2 | None = None
    events: KvmVcpuEvents
    mp_state: KvmMpState
    debugregs: KvmDebugregs
    xcrs: KvmXcrs
    xsave: KvmXsave
    fpu: KvmFpu | None = None
    msrs: KvmMsrs
    lapic: KvmLapicState
    cpuid2: KvmCpuid2
    tsc_khz: MigsvcTscKhz
    tsc_offset: MigsvcTscOffset | None = None
    nested_state: KvmNestedState | None = None

    def to_sections(self) -> Sections:
        """Return the raw structs by name, in the order of SECTIONS; `index` is not a section."""
        return _to_sections(self, VCPU_SECTIONS)

    @classmethod
    def from_sections(cls, sections: Mapping[str, bytes], *, index: int = 0) -> VcpuState:
        """Return the vCPU that the raw structs hold.

        Raises:
            SchemaError: a name is unknown, a required section is missing, a size is wrong; all problems are listed.
        """
        return cls.model_construct(index=index, **_from_sections(sections, VCPU_SECTIONS, f"vcpus.{index}."))


class VmState(Model):
    """What the vCPUs share: clock and devices; a VM has the ones that it has."""

    clock: KvmClockData | None = None
    pit2: KvmPitState2 | None = None
    pic_master: KvmIrqchip | None = None
    pic_slave: KvmIrqchip | None = None
    ioapic: KvmIrqchipIoapic | None = None
    serial: MigsvcSerial | None = None
    smi_port: MigsvcSmiPort | None = None
    machine: MigsvcMachine | None = None

    def to_sections(self) -> Sections:
        """Return the raw structs by name, in the order of SECTIONS."""
        return _to_sections(self, VM_SECTIONS)

    @classmethod
    def from_sections(cls, sections: Mapping[str, bytes]) -> VmState:
        """Return the state that the raw structs hold.

        Raises:
            SchemaError: a name is unknown or a size is wrong; all problems are listed.
        """
        return cls.model_construct(**_from_sections(sections, VM_SECTIONS, "vm."))


class MachineSections(NamedTuple):
    """The raw form of a machine without its memory."""

    vm: Sections
    vcpus: list[Sections]


class MachineState(Model):
    """A whole machine except the contents of its memory."""

    memory: MemoryMap
    vm: VmState
    vcpus: Annotated[list[VcpuState], Field(min_length=1, max_length=MAX_VCPUS)]

    def to_sections(self) -> MachineSections:
        """Return the raw structs of the VM and of each vCPU in order."""
        return MachineSections(self.vm.to_sections(), [vcpu.to_sections() for vcpu in self.vcpus])

    @classmethod
    def from_sections(
        cls, memory: MemoryMap, vm: Mapping[str, bytes], vcpus: Sequence[Mapping[str, bytes]]
    ) -> MachineState:
        """Return the machine that the raw structs hold.

        Raises:
            SchemaError: anything is wrong anywhere; the problems of the VM and of every vCPU are listed together.
        """
        problems = section_problems(vm, "vm")
        for index, sections in enumerate(vcpus):
            problems += section_problems(sections, "vcpu", index)
        if not 1 <= len(vcpus) <= MAX_VCPUS:
            problems.append(Problem(where="vcpus", message=f"{len(vcpus)} vCPUs, expected 1 to {MAX_VCPUS}"))
        if problems:
            raise SchemaError(problems)
        return cls.model_construct(
            memory=memory,
            vm=VmState.from_sections(vm),
            vcpus=[VcpuState.from_sections(sections, index=index) for index, sections in enumerate(vcpus)],
        )


def sections_digest(sections: Mapping[str, bytes]) -> bytes:
    """Return SHA-256 over the sections in order of their names: u32 name length, name, u64 body length, body."""
    digest = hashlib.sha256()
    for name in sorted(sections):
        encoded, body = name.encode(), sections[name]
        digest.update(struct.pack("<I", len(encoded)) + encoded + struct.pack("<Q", len(body)))
        digest.update(body)
    return digest.digest()


def section_problems(sections: Mapping[str, Any], scope: str, index: int = 0) -> list[Problem]:
    """Return what is wrong with raw sections: names, types, sizes, counts. `scope` is "vcpu" or "vm".

    A reader calls this on what came off the wire before anything is built.
    """
    if _fit(sections, scope):
        return []
    rows, where = (VCPU_SECTIONS, f"vcpus.{index}.") if scope == "vcpu" else (VM_SECTIONS, "vm.")
    return _misfits(sections, rows, where)


def _to_sections(state: BaseModel, rows: Mapping[str, Section]) -> Sections:
    held = ((name, getattr(state, name)) for name in rows)
    return {name: value.pack() for name, value in held if value is not None}


def _from_sections(sections: Mapping[str, Any], rows: Mapping[str, Section], where: str) -> dict[str, Any]:
    problems = _misfits(sections, rows, where)
    if problems:
        raise SchemaError(problems)
    return {name: row.model.unpack(sections[name]) for name, row in rows.items() if name in sections}


_ROWS = {"vcpu": VCPU_SECTIONS, "vm": VM_SECTIONS}
_REQUIRED = {scope: frozenset(name for name, row in rows.items() if row.required) for scope, rows in _ROWS.items()}
_BYTES = {bytes}


@lru_cache(maxsize=64)
def _counters(scope: str, names: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[tuple[str, Counter], ...] | None:
    """Return the counters in sections of these names and sizes, None if these do not fit. A VM's vCPUs are all alike.

    Raises:
        KeyError: a name is unknown; so hostile names are not kept in the cache.
    """
    models = [(name, _ROWS[scope][name].model, size) for name, size in zip(names, sizes, strict=True)]
    if not _REQUIRED[scope].issubset(names) or any(model.size_misfit(size) for _, model, size in models):
        return None
    found = ((name, model.counter(size)) for name, model, size in models)
    return tuple((name, counter) for name, counter in found if counter is not None)


def _fit(sections: Mapping[str, Any], scope: str) -> bool:
    """Return whether nothing is wrong: a microsecond a vCPU, because every migration and snapshot asks."""
    bodies = sections.values()
    if set(map(type, bodies)) != _BYTES:
        return False
    try:
        counters = _counters(scope, tuple(sections), tuple(map(len, bodies)))
    except KeyError:
        return False
    for name, (_, at, entries) in counters or ():
        if int.from_bytes(sections[name][at], "little") != entries:
            return False
    return counters is not None


def _misfits(sections: Mapping[str, Any], rows: Mapping[str, Section], where: str) -> list[Problem]:
    """Return a problem for each section that is unknown, missing or would not unpack; builds nothing."""
    problems = [
        Problem(where=where + str(name)[:64], message="unknown section", hint=f"known: {', '.join(rows)}")
        for name in sections
        if name not in rows
    ]
    for name, row in rows.items():
        raw = sections.get(name)
        if name not in sections:
            if row.required:
                problems.append(Problem(where=where + name, message="required section is missing"))
        elif not isinstance(raw, bytes | bytearray | memoryview):
            problems.append(Problem(where=where + name, message=f"{type(raw).__name__} instead of bytes"))
        else:
            problem = row.model.misfit(raw)
            if problem is not None:
                problems.append(Problem(where=where + name, message=str(problem)))
    return problems
