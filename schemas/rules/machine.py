"""Rules across vCPUs and memory: INV-120, INV-121, INV-180 to INV-189. Their checks take the facts of a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from ..errors import Severity
from ..memory import AS_NORMAL, AS_SMM, KVM_MEM_READONLY
from ..uapi.clock import ClockFlags
from .facts import APIC_BASE_BSP, APIC_BASE_EN, APIC_BASE_EXTD, CR0_PG, MSR_SMBASE, MachineFacts, VcpuFacts
from .row import At, Check, Details, Invariant

MSR_KVM_SYSTEM_TIME_NEW = 0x4B564D01
SMRAM_AREA_OFFSET, SMRAM_AREA_BYTES = 0xFE00, 512
SMBASE_DEFAULT = 0x30000
_ADDRESS_BITS = (1 << 52) - 1


def _indices(m: MachineFacts) -> Details:
    held = [vcpu.index for vcpu in m.vcpus]
    if held != list(range(len(held))):
        yield f"indices {held[:8]}"


def _smm_memory(m: MachineFacts) -> Details:
    there = any(slot.as_id == AS_SMM for slot in m.memory.slots)
    for vcpu in m.vcpus:
        if vcpu.in_smm and not there:
            yield f"vCPU {vcpu.index} is in SMM"


def _save_area(m: MachineFacts) -> Details:
    if not any(slot.as_id == AS_SMM for slot in m.memory.slots):
        return
    for vcpu in m.vcpus:
        first = vcpu.msr.get(MSR_SMBASE, SMBASE_DEFAULT) + SMRAM_AREA_OFFSET & 0xFFFF_FFFF
        ends = (first, first + SMRAM_AREA_BYTES - 1)
        if vcpu.in_smm and None in [m.memory.translate(AS_SMM, gpa) for gpa in ends]:
            yield f"vCPU {vcpu.index}: {first:#x} of address space {AS_SMM}"


def _bootstrap(m: MachineFacts) -> Details:
    held = [vcpu.index for vcpu in m.vcpus if vcpu.sregs.apic_base & APIC_BASE_BSP]
    if len(held) != 1:
        yield f"bootstrap processors: {held[:8]}"


def _differing(m: MachineFacts, values: list[Hashable]) -> str | None:
    """Return which vCPUs hold which value, or None if all hold the same."""
    if len(set(values)) < 2:
        return None
    return ", ".join(f"vCPU {vcpu.index}: {value}" for vcpu, value in list(zip(m.vcpus, values, strict=True))[:4])


def _apic_id(v: VcpuFacts) -> int:
    held = v.lapic.register(0x20)
    extended = v.sregs.apic_base & (APIC_BASE_EXTD | APIC_BASE_EN) == APIC_BASE_EXTD | APIC_BASE_EN
    return held if extended and held < 1 << 24 else held >> 24


def _apic_ids(m: MachineFacts) -> Details:
    for number, times in Counter(_apic_id(vcpu) for vcpu in m.vcpus).items():
        if times > 1:
            yield f"APIC ID {number} is there {times} times"


def _frequencies(m: MachineFacts) -> Details:
    if text := _differing(m, [vcpu.tsc_khz.tsc_khz for vcpu in m.vcpus]):
        yield text


def _offsets(m: MachineFacts) -> Details:
    held: list[Hashable] = [vcpu.tsc_offset.tsc_offset if vcpu.tsc_offset else None for vcpu in m.vcpus]
    if text := _differing(m, held):
        yield text


def _vendors(m: MachineFacts) -> Details:
    if text := _differing(m, [vcpu.vendor for vcpu in m.vcpus]):
        yield text


def _nested_formats(m: MachineFacts) -> Details:
    formats = {vcpu.nested_state.format for vcpu in m.vcpus if vcpu.nested_state is not None}
    if len(formats) > 1:
        yield f"formats {sorted(formats)}"


def _physical_width(m: MachineFacts) -> Details:
    widths = [vcpu.physical_bits for vcpu in m.vcpus if vcpu.features_known]
    for number, slot in enumerate(m.memory.slots):
        if widths and slot.end - 1 >> min(widths):
            yield At(f"memory.slots.{number}", f"ends at {slot.end:#x}, MAXPHYADDR {min(widths)}")


def _smram_readonly(m: MachineFacts) -> Details:
    for vcpu in m.vcpus:
        first = vcpu.msr.get(MSR_SMBASE, SMBASE_DEFAULT) + SMRAM_AREA_OFFSET & 0xFFFF_FFFF
        for number, slot in enumerate(m.memory.slots):
            if slot.as_id == AS_SMM and slot.flags & KVM_MEM_READONLY and slot.gpa <= first < slot.end:
                yield At(f"memory.slots.{number}", f"vCPU {vcpu.index}: save area at {first:#x}")


def _page_tables(m: MachineFacts) -> Details:
    for number, vcpu in enumerate(m.vcpus):
        if not vcpu.sregs.cr0 & CR0_PG:
            continue
        table = vcpu.sregs.cr3 & _ADDRESS_BITS & ~0xFFF
        if m.memory.translate(AS_SMM if vcpu.in_smm else AS_NORMAL, table) is None:
            yield At(f"vcpus.{number}.sregs.cr3", f"vCPU {vcpu.index}: cr3 {vcpu.sregs.cr3:#x}")


def _kvmclock(m: MachineFacts) -> Details:
    for vcpu in m.vcpus:
        if m.vm.clock is None and vcpu.msr.get(MSR_KVM_SYSTEM_TIME_NEW, 0) & 1:
            yield f"vCPU {vcpu.index} uses kvmclock"


def _offset_clock(m: MachineFacts) -> Details:
    wanted = ClockFlags.KVM_CLOCK_REALTIME | ClockFlags.KVM_CLOCK_HOST_TSC
    held = 0 if m.vm.clock is None else m.vm.clock.flags
    for vcpu in m.vcpus:
        if vcpu.tsc_offset is not None and held & wanted != wanted:
            yield f"vCPU {vcpu.index} has a TSC offset, vm.clock.flags {held:#x}"


def _rule(number: int, severity: Severity, where: str, text: str, hint: str, source: str, check: Check) -> Invariant:
    return Invariant(f"INV-{number}", severity, where, text, hint, source, check, scope="machine")


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

MACHINE_RULES: tuple[Invariant, ...] = (
    _rule(120, _E, "vcpus", "vCPUs are numbered from 0 without a gap", "number them so", "ours", _indices),
    _rule(
        121, _E, "memory.slots", "a vCPU in SMM needs slots in address space 1", "add them",
        "Linux 6.12: KVM_RUN fails with EIO on the first access", _smm_memory,
    ),
    _rule(
        180, _W, "memory.slots", "the save area of a vCPU in SMM is in a slot of address space 1", "map it, or RSM "
        "shuts the vCPU down", "Linux 6.12 smm.c emulator_leave_smm", _save_area,
    ),
    _rule(
        181, _W, "vcpus", "one vCPU is the bootstrap processor", "set apic_base bit 8 of one", "SDM vol. 3A 9.4.1",
        _bootstrap,
    ),
    _rule(182, _W, "vcpus", "APIC IDs are unique", "number them", "SDM vol. 3A 11.4.6", _apic_ids),
    _rule(
        183, _W, "vcpus", "all vCPUs have one TSC frequency", "set one", "Linux 6.12 x86.c: an unstable TSC",
        _frequencies,
    ),
    _rule(
        184, _N, "vcpus", "all vCPUs have one TSC offset", "set one, unless the guest wrote its TSCs apart",
        "Linux 6.12 x86.c kvm_synchronize_tsc", _offsets,
    ),
    _rule(185, _W, "vcpus", "all vCPUs tell one vendor", "give them one CPUID", "SDM vol. 2A CPUID", _vendors),
    _rule(
        186, _E, "vcpus", "all vCPUs have one format of nested state", "no host takes both", "Linux 6.12: EINVAL",
        _nested_formats,
    ),
    _rule(
        187, _W, "memory.slots", "memory lies within MAXPHYADDR", "move it, or widen CPUID 0x80000008",
        "SDM vol. 3A 4.1.4: no guest address reaches it", _physical_width,
    ),
    _rule(
        188, _W, "memory.slots", "SMRAM can be written", "clear KVM_MEM_READONLY",
        "Linux 6.12 smm.c enter_smm: an SMI kills the VM", _smram_readonly,
    ),
    _rule(
        189, _W, "vcpus", "the page tables are in memory", "the next access would shut the vCPU down",
        "Linux 6.12 mmu.c mmu_check_root", _page_tables,
    ),
    _rule(
        190, _W, "vm.clock", "a guest of kvmclock needs the clock", "save it, or the guest's time jumps",
        "api.rst 4.29, 4.30", _kvmclock,
    ),
    _rule(
        191, _W, "vm.clock", "a TSC offset needs the clock's realtime and host TSC", "save the clock with it",
        "Linux 6.12 Documentation/virt/kvm/devices/vcpu.rst 4.1", _offset_clock,
    ),
)  # fmt: skip
