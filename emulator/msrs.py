"""Model-specific registers: which exist, what may be written, where they live.

Source: SDM vol. 4; Linux 6.12 arch/x86/kvm/x86.c kvm_set_msr_common(), kvm_get_msr_common().
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .control_registers import write_efer
from .exceptions import general_protection
from .registers import (
    EFER_LMA,
    EFER_LME,
    FS,
    GS,
    MASK32,
    MASK64,
    MSR_APIC_BASE,
    MSR_CSTAR,
    MSR_EFER,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_SMBASE,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_EIP,
    MSR_SYSENTER_ESP,
    MSR_TSC,
    MSR_TSC_AUX,
    MSR_TSC_DEADLINE,
)
from .translate import canonical

if TYPE_CHECKING:
    from .cpu import Cpu

HOST_ONLY = frozenset({MSR_SMBASE})
"""Seen by a snapshot, not by the guest."""
_CANONICAL = frozenset({MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR, MSR_SYSENTER_ESP,
                        MSR_SYSENTER_EIP})  # fmt: skip
_32_BIT = frozenset({MSR_TSC_AUX, MSR_SYSENTER_CS, MSR_SFMASK})
_APIC_BASE_DEFINED_LOW = 0x900
_APIC_BASE_X2APIC, _APIC_BASE_ENABLE = 0x400, 0x800
X2APIC_MSRS = range(0x800, 0x900)
"""The local APIC's registers in x2APIC mode; they are not listed in a model, since they travel as kvm_lapic_state."""

_MODE = _APIC_BASE_X2APIC | _APIC_BASE_ENABLE
_BAD_MODE_CHANGES = ((_MODE, _APIC_BASE_ENABLE), (0, _MODE))

_READERS: dict[int, Callable[["Cpu"], int]] = {
    MSR_TSC: lambda cpu: cpu.read_tsc() + cpu.state.tsc_offset & MASK64,
    MSR_APIC_BASE: lambda cpu: cpu.state.apic_base,
    MSR_SMBASE: lambda cpu: cpu.state.smbase,
    MSR_EFER: lambda cpu: cpu.state.efer,
    MSR_FS_BASE: lambda cpu: cpu.state.segs[FS].base,
    MSR_GS_BASE: lambda cpu: cpu.state.segs[GS].base,
    MSR_TSC_DEADLINE: lambda cpu: cpu.bus.read_apic_msr(MSR_TSC_DEADLINE),
}


def _write_tsc(cpu: "Cpu", value: int) -> None:
    cpu.state.tsc_offset = value - cpu.read_tsc() & MASK64
    cpu.bus.tsc_changed()


def _write_apic_base(cpu: "Cpu", value: int) -> None:
    """Move the local APIC, switch it off or on, or into x2APIC mode, which only switching off leaves.

    Source: SDM vol. 3A 11.12.5; Linux 6.12 arch/x86/kvm/x86.c kvm_set_apic_base().
    """
    allowed = (1 << cpu.model.physical_bits) - 1 & ~0xFFF | _APIC_BASE_DEFINED_LOW
    if cpu.model.x2apic:
        allowed |= _APIC_BASE_X2APIC
    mode, old = value & _MODE, cpu.state.apic_base & _MODE
    if value & ~allowed or mode == _APIC_BASE_X2APIC or (old, mode) in _BAD_MODE_CHANGES:
        raise general_protection()
    cpu.state.apic_base = value
    cpu.bus.apic_base_changed(value)
    cpu.flush_tlb()


def _write_base(index: int) -> Callable[["Cpu", int], None]:
    def write(cpu: "Cpu", value: int) -> None:
        cpu.state.segs[index].base = value

    return write


_WRITERS: dict[int, Callable[["Cpu", int], None]] = {
    MSR_TSC: _write_tsc,
    MSR_APIC_BASE: _write_apic_base,
    MSR_EFER: write_efer,
    MSR_FS_BASE: _write_base(FS),
    MSR_GS_BASE: _write_base(GS),
    MSR_TSC_DEADLINE: lambda cpu, value: cpu.bus.write_apic_msr(MSR_TSC_DEADLINE, value),
}


def read_msr(cpu: "Cpu", index: int, host: bool = False) -> int:
    """RDMSR, or a snapshot's read with `host`.

    Raises:
        GuestFault: #GP(0): the model has no such MSR.
    """
    if index in X2APIC_MSRS and not host:
        return cpu.bus.read_apic_msr(index)
    if index not in cpu.model.msr_indices or (index in HOST_ONLY and not host):
        raise general_protection()
    reader = _READERS.get(index)
    return reader(cpu) if reader is not None else cpu.state.msrs.get(index, 0)


def write_msr(cpu: "Cpu", index: int, value: int, host: bool = False) -> None:
    """WRMSR, or a restore's write with `host`, which may set SMBASE and any legal EFER whatever the mode.

    Raises:
        GuestFault: #GP(0): no such MSR, or a value it cannot hold.
    """
    if index in X2APIC_MSRS and not host:
        cpu.bus.write_apic_msr(index, value)
        return
    if index not in cpu.model.msr_indices or (index in HOST_ONLY and not host):
        raise general_protection()
    if (index in _CANONICAL and not canonical(value)) or (index in _32_BIT and value >> 32):
        raise general_protection()
    if host and index == MSR_SMBASE:
        cpu.state.smbase = value & MASK32
    elif host and index == MSR_EFER:
        if value & ~cpu.model.efer_mask or (value & EFER_LMA and not value & EFER_LME):
            raise general_protection()
        cpu.state.efer = value
    elif index in _WRITERS:
        _WRITERS[index](cpu, value)
    else:
        cpu.state.msrs[index] = value
