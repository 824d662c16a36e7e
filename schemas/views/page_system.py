"""The page's MSRs, CPUID, nested state and clocks of a vCPU."""

from __future__ import annotations

from collections.abc import Iterator

from ..field_names import bits_of
from ..names.bits import REGISTERS
from ..names.cpuid import LEAVES
from ..names.msrs import MsrRow, msr_name, msr_row
from ..state import VcpuState
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.nested_state import (
    VMX_NO_ADDRESS,
    KvmNestedState,
    KvmVmxNestedStateHdr,
    KvmVmxNestedStateSmm,
    NestedFormat,
)
from .cpuid import cpu_model, features_of, printable
from .page_lapic import MSR_IA32_TSC, MSR_IA32_TSC_DEADLINE
from .resets import remarkable
from .rows import BLANK, Line, duration, hex32, hex64, size_text

_MSR_TSC_ADJUST = 0x3B
_NOTABLE = (
    "vmx", "svm", "x2apic", "tsc_deadline_timer", "invariant_tsc", "tsc_adjust", "pcid", "la57", "fsgsbase", "avx2",
    "avx512f",
    "amx_tile", "xsaves", "pku", "shstk", "ibt", "umip", "smep", "smap", "spec_ctrl", "arch_capabilities", "lm",
)  # fmt: skip
"""Features that decide where a guest can go, or how its state is shaped."""

_FEW = 32
"""So many features are all shown."""


def time_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the TSC's frequency, value and offsets."""
    khz = vcpu.tsc_khz.tsc_khz
    yield Line("tsc_khz", str(khz), f"{khz / 1e6:.6g} GHz", unusual=not khz)
    held = vcpu.msrs.values_by_index()
    tsc = held.get(MSR_IA32_TSC)
    if tsc is not None:
        since = f"{duration(tsc * 1_000_000 // khz)} since it was 0" if khz else ""
        yield Line("tsc", hex64(tsc), since)
    adjust = held.get(_MSR_TSC_ADJUST, 0)
    yield Line("tsc_adjust", hex64(adjust), "written by the guest", usual=not adjust)
    deadline = held.get(MSR_IA32_TSC_DEADLINE, 0)
    yield Line("tsc_deadline", hex64(deadline), "restored last", usual=not deadline)
    if vcpu.tsc_offset is not None:
        offset = vcpu.tsc_offset.tsc_offset
        yield Line("tsc_offset", f"{offset:#x}", "guest TSC minus host TSC", usual=not offset)


def msr_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the registers in the order of the list; the short page has those that are not at reset."""
    seen: set[int] = set()
    for entry in vcpu.msrs.entries:
        row = msr_row(entry.index)
        odd = entry.index in seen or entry.reserved != 0
        notes = [*_msr_notes(entry.data, row)]
        notes += ["listed twice"] * (entry.index in seen) + [f"reserved={entry.reserved:#x}"] * (entry.reserved != 0)
        seen.add(entry.index)
        usual = not remarkable(entry.index, entry.data, row)
        yield Line(msr_name(entry.index), hex64(entry.data), ", ".join(notes), unusual=odd or row is None, usual=usual)


def _msr_notes(data: int, row: MsrRow | None) -> Iterator[str]:
    if row is None:
        yield "no name"
    elif row.bits is not None:
        words = REGISTERS[row.bits].describe(data)
        if words != BLANK:
            yield words


def cpuid_lines(cpuid: KvmCpuid2) -> Iterator[Line]:
    """Yield which processor it is and what it can; `--all` adds each feature word and each leaf."""
    model = cpu_model(cpuid)
    yield Line("processor", "", str(model) if model else "no leaves 0 and 1", unusual=model is None)
    yield from _hypervisor_lines(cpuid)
    widths = cpuid.leaf(0x80000008)
    if widths is not None:
        text = f"{widths.eax & 0xFF} bits physical, {widths.eax >> 8 & 0xFF} bits linear"
        yield Line("addresses", hex32(widths.eax), text)
    words = features_of(cpuid)
    names = {name for word, value in words for name in word.features(value)}
    there = [name for name in _NOTABLE if name in names] if len(names) > _FEW else sorted(names)
    yield Line("features", str(len(names)), " ".join(there) + " and others" * (len(names) > len(there)))
    for word, value in words:
        yield Line(word.place.removeprefix("CPUID "), hex32(value), " ".join(word.features(value)), usual=True)
    for entry in cpuid.entries:
        raw = " ".join(hex32(value) for value in (entry.eax, entry.ebx, entry.ecx, entry.edx))
        yield Line(f"{entry.function:#x}.{entry.index}", raw, LEAVES.get(entry.function, ""), usual=True)


def _hypervisor_lines(cpuid: KvmCpuid2) -> Iterator[Line]:
    """Yield the signatures of the hypervisors that the guest sees, KVM's beside Hyper-V's if it has both."""
    for function in range(0x40000000, 0x40000200, 0x100):
        entry = cpuid.leaf(function)
        if entry is not None:
            raw = b"".join(value.to_bytes(4, "little") for value in (entry.ebx, entry.ecx, entry.edx))
            text = printable(raw.rstrip(b"\0").decode("ascii", "replace"))
            yield Line("hypervisor", f"{function:#x}", text)


def nested_lines(nested: KvmNestedState) -> Iterator[Line]:
    """Yield what nested state says beside the guest hypervisor's control blocks."""
    form = {0: "VMX", 1: "SVM"}.get(nested.format, f"unknown format {nested.format}")
    bits = bits_of(KvmNestedState, "flags")
    words = bits.describe(nested.flags) if bits else ""
    yield Line("format", str(nested.format), form, unusual=nested.format not in tuple(NestedFormat))
    yield Line("flags", f"{nested.flags:04x}", words, unusual=nested.guest_mode or "reserved" in words)
    real = type(nested).SIZE + len(nested.data)
    wrong = f", but {real} bytes are there" if nested.size != real else ""
    yield Line("size", str(nested.size), size_text(nested.size) + wrong, unusual=bool(wrong))
    if nested.vmx is not None:
        yield from _vmx_lines(nested.vmx)
    elif nested.svm is not None:
        yield Line("vmcb_pa", hex64(nested.svm.vmcb_pa), "VMCB that L1 runs L2 with" if nested.guest_mode else "")
        yield Line("gpat", hex64(nested.svm.gpat), "L2's PAT", usual=not nested.svm.gpat)
    yield Line("data", str(len(nested.data)), "control blocks as KVM cached them", usual=not nested.data)


def _vmx_lines(vmx: KvmVmxNestedStateHdr) -> Iterator[Line]:
    for name, value in (("vmxon_pa", vmx.vmxon_pa), ("vmcs12_pa", vmx.vmcs12_pa)):
        yield Line(name, hex64(value), "none" if value == VMX_NO_ADDRESS else "")
    smm, flags = bits_of(KvmVmxNestedStateSmm, "flags"), bits_of(KvmVmxNestedStateHdr, "flags")
    yield Line("smm.flags", f"{vmx.smm.flags:04x}", smm.describe(vmx.smm.flags) if smm else "",
               unusual=bool(vmx.smm.flags), usual=not vmx.smm.flags)  # fmt: skip
    yield Line("hdr.flags", hex32(vmx.flags), flags.describe(vmx.flags) if flags else "", usual=not vmx.flags)
    deadline = vmx.preemption_timer_deadline
    yield Line("preemption_timer_deadline", hex64(deadline), "in TSC units", usual=not deadline)
