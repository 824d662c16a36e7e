"""A legal vCPU and a legal machine, from which the tests make illegal ones."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from schemas.layout import CStruct
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineState, VcpuState, VmState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrs


def change(model: BaseModel, path: str, value: Any) -> Any:
    """Return a copy with one field replaced, without validation; a number in the dotted path indexes a tuple."""
    head, _, rest = path.partition(".")
    if head.isdigit():
        raise ValueError("a path begins with a field")
    old = getattr(model, head)
    if not rest:
        return model.model_copy(update={head: value})
    key, _, deeper = rest.partition(".")
    if key.isdigit():
        items = list(old)
        items[int(key)] = change(items[int(key)], deeper, value) if deeper else value
        return model.model_copy(update={head: type(old)(items)})
    return model.model_copy(update={head: change(old, rest, value)})


@pytest.fixture
def changed() -> Callable[..., Any]:
    """Return a function: (model, {dotted path: value}) -> model."""

    def apply(model: BaseModel, changes: dict[str, Any]) -> Any:
        for path, value in changes.items():
            model = change(model, path, value)
        return model

    return apply


def zeroed(model: type[CStruct]) -> CStruct:
    return model.zero()


@pytest.fixture
def legal_vcpu() -> VcpuState:
    """A vCPU in real mode at the reset vector, running."""
    fields: dict[str, Any] = {name: zeroed(row.model) for name, row in VCPU_SECTIONS.items() if row.required}
    vcpu = VcpuState(index=0, **fields)
    vcpu = change(vcpu, "regs.rflags", 2)
    vcpu = change(vcpu, "regs.rip", 0xFFF0)
    vcpu = change(vcpu, "sregs.cr0", 0x60000010)
    vcpu = change(vcpu, "sregs.apic_base", 0xFEE00900)
    for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"):
        vcpu = change(vcpu, f"sregs.{name}.limit", 0xFFFF)
        vcpu = change(vcpu, f"sregs.{name}.present", 1)
    vcpu = change(vcpu, "events.flags", 0x7D)
    vcpu = change(vcpu, "debugregs.dr6", 0xFFFF0FF0)
    vcpu = change(vcpu, "debugregs.dr7", 0x400)
    vcpu = change(vcpu, "xcrs.nr_xcrs", 1)
    vcpu = change(vcpu, "xcrs.xcrs.0.value", 7)
    vcpu = change(vcpu, "tsc_khz.tsc_khz", 1_000_000)
    leaf = KvmCpuidEntry2(
        function=0, index=0, flags=0, eax=0, ebx=0x68747541, ecx=0x444D4163, edx=0x69746E65
    )  # "AuthenticAMD"
    vcpu = change(vcpu, "cpuid2", KvmCpuid2(nent=1, entries=(leaf,)))
    return change(vcpu, "msrs", KvmMsrs.of({0x9E: 0x30000, 0x1B: 0xFEE00900, 0xC0000080: 0}))


@pytest.fixture
def legal_machine(legal_vcpu: VcpuState) -> MachineState:
    """One vCPU, every device, 1 MiB of RAM in both address spaces."""
    slots = tuple(MemorySlot(as_id=i, slot=0, gpa=0, size_bytes=1 << 20, backing_offset_bytes=0) for i in (0, 1))
    vm = VmState(**{name: zeroed(row.model) for name, row in VM_SECTIONS.items()})  # type: ignore[arg-type]
    vm = change(vm, "pic_slave.chip_id", 1)
    vm = change(vm, "ioapic.chip_id", 2)
    return MachineState(memory=MemoryMap(slots=slots, ram_bytes=1 << 20), vm=vm, vcpus=[legal_vcpu])
