"""SECTIONS: the one table of what a vCPU and a VM consist of.

Reader, writer, verifier, JSON forms, layout probe and property tests all follow from its rows. To add a struct, add a
file to this folder and a row here; a test fails on a file without a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

from ..kvm_numbers import KvmCap, KvmIoctl
from ..layout import CStruct
from .clock import KvmClockData
from .cpuid2 import KVM_MAX_CPUID_ENTRIES, KvmCpuid2
from .debugregs import KvmDebugregs
from .dirty_log import KvmClearDirtyLog, KvmDirtyGfn, KvmDirtyLog
from .fpu import KvmFpu
from .ioapic import KvmIrqchipIoapic
from .irqchip import KvmIrqchip
from .lapic import KvmLapicState
from .machine import MigsvcMachine
from .memory_slots import KvmUserspaceMemoryRegion
from .mp_state import KvmMpState
from .msrs import MSRS_MAX_ENTRIES, KvmMsrs
from .nested_state import NESTED_STATE_MAX_DATA_BYTES, KvmNestedState, KvmSvmNestedStateData, KvmVmxNestedStateData
from .pit2 import KvmPitState2
from .regs import KvmRegs
from .serial import MigsvcSerial
from .smi_port import MigsvcSmiPort
from .sregs import KvmSregs
from .sregs2 import KvmSregs2
from .tsc_khz import MigsvcTscKhz
from .tsc_offset import MigsvcTscOffset
from .vcpu_events import KvmVcpuEvents
from .xcrs import KvmXcrs
from .xsave import XSAVE_MAX_BYTES, KvmXsave

Scope = Literal["vcpu", "vm", "memory"]
"""Whose state a section is. "memory" travels in the CONFIG and page records of a stream, not in a map of sections."""


class Section(NamedTuple):
    """One row: a named piece of state, its struct, and how KVM reads and writes it.

    `capability` None: every kernel has it, or it is ours. `max_bytes` bounds what a reader accepts. `parts` are further
    structs of the same piece: what lies in its flexible body, or goes through a sibling ioctl.
    """

    name: str
    model: type[CStruct]
    scope: Scope
    required: bool
    get_ioctl: KvmIoctl | None
    set_ioctl: KvmIoctl | None
    capability: KvmCap | None
    since: str
    source: str
    max_bytes: int
    parts: tuple[type[CStruct], ...] = ()

    def size_fits(self, size_bytes: int) -> bool:
        """Return whether a raw section of this size may be of this struct, without decoding it."""
        return self.model.SIZE <= size_bytes <= self.max_bytes


def _kvm(
    name: str, model: type[CStruct], scope: Scope, capability: KvmCap | None, since: str, source: str, **other: Any
) -> Section:
    """Return a row of a kernel struct; the ioctls are KVM_GET_<ioctl> and KVM_SET_<ioctl>."""
    ioctl = other.get("ioctl", name.upper())
    getter, setter = KvmIoctl[f"KVM_GET_{ioctl}"], KvmIoctl[f"KVM_SET_{ioctl}"]
    required = other.get("required", scope == "vcpu")
    max_bytes, parts = other.get("max_bytes", model.SIZE), other.get("parts", ())
    return Section(name, model, scope, required, getter, setter, capability, since, source, max_bytes, parts)


def _ours(name: str, model: type[CStruct], source: str) -> Section:
    """Return a row of a device struct of ours."""
    return Section(name, model, "vm", False, None, None, None, "", source, model.SIZE)


_C = KvmCap

SECTIONS: tuple[Section, ...] = (
    _kvm("regs", KvmRegs, "vcpu", None, "2.6.20", "api.rst 4.11"),
    _kvm("sregs", KvmSregs, "vcpu", None, "2.6.20", "api.rst 4.13"),
    _kvm("sregs2", KvmSregs2, "vcpu", _C.KVM_CAP_SREGS2, "5.14", "api.rst 4.131", required=False),
    _kvm("events", KvmVcpuEvents, "vcpu", _C.KVM_CAP_VCPU_EVENTS, "2.6.33", "api.rst 4.31", ioctl="VCPU_EVENTS"),
    _kvm("mp_state", KvmMpState, "vcpu", _C.KVM_CAP_MP_STATE, "2.6.26", "api.rst 4.38"),
    _kvm("debugregs", KvmDebugregs, "vcpu", _C.KVM_CAP_DEBUGREGS, "2.6.34", "api.rst 4.33"),
    _kvm("xcrs", KvmXcrs, "vcpu", _C.KVM_CAP_XCRS, "2.6.36", "api.rst 4.44"),
    _kvm("xsave", KvmXsave, "vcpu", _C.KVM_CAP_XSAVE, "2.6.36", "api.rst 4.42", max_bytes=XSAVE_MAX_BYTES),
    _kvm("fpu", KvmFpu, "vcpu", None, "2.6.20", "api.rst 4.22", required=False),
    _kvm("msrs", KvmMsrs, "vcpu", None, "2.6.20", "api.rst 4.18", max_bytes=8 + 16 * MSRS_MAX_ENTRIES),
    _kvm("lapic", KvmLapicState, "vcpu", _C.KVM_CAP_IRQCHIP, "2.6.21", "api.rst 4.57"),
    _kvm(
        "cpuid2", KvmCpuid2, "vcpu", _C.KVM_CAP_EXT_CPUID, "2.6.26", "api.rst 4.20",
        max_bytes=8 + 40 * KVM_MAX_CPUID_ENTRIES,
    ),
    _kvm("tsc_khz", MigsvcTscKhz, "vcpu", _C.KVM_CAP_GET_TSC_KHZ, "2.6.39", "api.rst 4.56"),
    Section(
        "tsc_offset", MigsvcTscOffset, "vcpu", False, KvmIoctl.KVM_GET_DEVICE_ATTR, KvmIoctl.KVM_SET_DEVICE_ATTR,
        _C.KVM_CAP_VCPU_ATTRIBUTES, "5.16", "devices/vcpu.rst 4.1", MigsvcTscOffset.SIZE,
    ),
    _kvm(
        "nested_state", KvmNestedState, "vcpu", _C.KVM_CAP_NESTED_STATE, "4.19", "api.rst 4.114", required=False,
        max_bytes=KvmNestedState.SIZE + NESTED_STATE_MAX_DATA_BYTES,
        parts=(KvmVmxNestedStateData, KvmSvmNestedStateData),
    ),
    _kvm("clock", KvmClockData, "vm", _C.KVM_CAP_ADJUST_CLOCK, "2.6.33", "api.rst 4.29"),
    _kvm("pit2", KvmPitState2, "vm", _C.KVM_CAP_PIT_STATE2, "2.6.31", "api.rst 4.70"),
    _kvm("pic_master", KvmIrqchip, "vm", _C.KVM_CAP_IRQCHIP, "2.6.21", "api.rst 4.26", ioctl="IRQCHIP"),
    _kvm("pic_slave", KvmIrqchip, "vm", _C.KVM_CAP_IRQCHIP, "2.6.21", "api.rst 4.26", ioctl="IRQCHIP"),
    _kvm("ioapic", KvmIrqchipIoapic, "vm", _C.KVM_CAP_IRQCHIP, "2.6.21", "api.rst 4.26", ioctl="IRQCHIP"),
    _ours("serial", MigsvcSerial, "ours: 16550 serial port"),
    _ours("smi_port", MigsvcSmiPort, "ours: SMI command port and timer"),
    _ours("machine", MigsvcMachine, "ours: virtual time, debug exit"),
    Section(
        "memory_slots", KvmUserspaceMemoryRegion, "memory", True, None, KvmIoctl.KVM_SET_USER_MEMORY_REGION,
        _C.KVM_CAP_USER_MEMORY, "2.6.25", "api.rst 4.35", KvmUserspaceMemoryRegion.SIZE,
    ),
    Section(
        "dirty_log", KvmDirtyLog, "memory", False, KvmIoctl.KVM_GET_DIRTY_LOG, None,
        None, "2.6.20", "api.rst 4.8", KvmDirtyLog.SIZE, (KvmClearDirtyLog, KvmDirtyGfn),
    ),
)  # fmt: skip
"""Every section: of a vCPU, the VM, memory. The order is that of documents, not of saving (see `schemas.ordering`)."""

VCPU_SECTIONS: dict[str, Section] = {row.name: row for row in SECTIONS if row.scope == "vcpu"}
VM_SECTIONS: dict[str, Section] = {row.name: row for row in SECTIONS if row.scope == "vm"}


def structs() -> tuple[type[CStruct], ...]:
    """Return every struct that SECTIONS uses, nested ones and parts included, each once."""
    models = (model for row in SECTIONS for model in (row.model, *row.parts))
    return tuple(dict.fromkeys(found for model in models for found in with_nested(model)))


def with_nested(model: type[CStruct]) -> Iterator[type[CStruct]]:
    """Yield a struct and the structs inside it, a union's arms included."""
    yield model
    for field in model.model_fields.values():
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, CStruct):
                yield from with_nested(candidate)
