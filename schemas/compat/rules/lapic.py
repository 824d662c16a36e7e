"""Local APICs: timer modes, x2APIC ids, and the numbers of vCPUs."""

from __future__ import annotations

from ...errors import Severity
from ..row import Case, CompatRule, Mismatch, Mismatches, per_vcpu, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

_X2APIC_ENABLED = 1 << 10
_DEADLINE = 2
_XAPIC_IDS = 0x100


def _needs_lapic(case: Case) -> Mismatches:
    lapic = case.host.lapic
    if not case.host.is_kvm or (lapic is not None and lapic.in_kernel):
        return
    for where, vcpu in per_vcpu(case.machine, lambda v: v.mp_state in (1, 2, 3, 4, 9) or v.latched_init, "mp_state"):
        ours = f"state {vcpu.mp_state}{', INIT latched' * vcpu.latched_init}"
        if lapic is None:
            yield unsaid(where, ours, "whether its local APICs are in the kernel")
        else:
            yield Mismatch(where, f"{ours}: the host has no local APIC in the kernel", ours, "no local APIC")


def _has_deadline(case: Case) -> bool | None:
    """Return whether the host has the deadline timer; None: its profile does not say.

    Linux before 6.14 says it by the capability and not in KVM_GET_SUPPORTED_CPUID.
    """
    if case.cpu.bit(1, 0, "ecx", 24):
        return True
    if case.host.lapic is not None:
        return case.host.lapic.tsc_deadline
    return None if case.host.is_kvm else False


def _deadline_shown(case: Case) -> Mismatches:
    there = _has_deadline(case)
    for where, guest, _ in case.guests:
        if guest.bit(1, 0, "ecx", 24) and not there:
            if there is None:
                yield unsaid(f"{where}.cpuid2", "tsc_deadline_timer", "whether its APICs have the TSC deadline")
            else:
                yield Mismatch(f"{where}.cpuid2", "the host lacks it", "tsc_deadline_timer", "none")


def _deadline_used(case: Case) -> Mismatches:
    there = _has_deadline(case)
    for where, _ in per_vcpu(case.machine, lambda vcpu: vcpu.timer_mode == _DEADLINE, "lapic"):
        if there is None:
            yield unsaid(where, "TSC deadline", "whether its APICs have the TSC deadline")
        elif not there:
            yield Mismatch(where, "the timer is in TSC-deadline mode", "TSC deadline", "none")


def _x2apic(case: Case) -> Mismatches:
    if case.cpu.bit(1, 0, "ecx", 21):
        return
    for where, vcpu in per_vcpu(case.machine, lambda v: bool(v.apic_base & _X2APIC_ENABLED), "sregs.apic_base"):
        yield Mismatch(where, "the APIC is in x2APIC mode", f"{vcpu.apic_base:#x}", "no x2APIC")


def _wide_ids(case: Case) -> Mismatches:
    lapic = case.host.lapic
    if case.machine.subject == "host":
        return
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.apic_id >= _XAPIC_IDS, "lapic"):
        if lapic is None:
            yield unsaid(where, f"{vcpu.apic_id:#x}", "whether APIC ids may have 32 bits")
        elif not lapic.x2apic_32bit_ids:
            yield Mismatch(where, f"APIC id {vcpu.apic_id:#x}, the host holds 8 bits", f"{vcpu.apic_id:#x}", "8 bits")


def _vcpu_id(case: Case) -> Mismatches:
    """The limit on ids is never below that on vCPUs, which every profile says."""
    known = case.host.max_vcpu_id
    if known is None and not case.host.is_kvm:
        return
    limit = case.host.max_vcpus if known is None else known
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: max(vcpu.apic_id, vcpu.index) >= limit, "index"):
        ours = max(vcpu.apic_id, vcpu.index)
        if known is None:
            yield unsaid(where, f"{ours:#x}", "which vCPU ids it takes")
        elif case.machine.subject == "host":
            text = f"machines with vCPU ids from {limit:#x} on do not fit"
            yield Mismatch(where, text, f"{ours:#x}", f"{limit:#x}", _WARNING)
        else:
            yield Mismatch(where, f"id {ours:#x}, the host takes ids below {limit:#x}", f"{ours:#x}", f"{limit:#x}")


def _bus_clock(case: Case) -> Mismatches:
    ours, lapic = case.machine.apic_bus_cycle_ns, case.host.lapic
    if ours is None:
        return
    if lapic is None:
        yield unsaid("vm.apic_bus_cycle_ns", str(ours), "the clock of its APIC timers")
    elif ours != lapic.bus_cycle_ns and not lapic.bus_cycle_settable:
        text = f"{ours} ns, the host's is {lapic.bus_cycle_ns} ns"
        yield Mismatch("vm.apic_bus_cycle_ns", text, f"{ours} ns", f"{lapic.bus_cycle_ns} ns")


LAPIC_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-801", _ERROR, "local APIC in the kernel", "KVM_SET_MP_STATE fails with EINVAL, or a latched INIT is lost",
        "choose a host that creates the interrupt controller in the kernel", "Linux 6.12 api.rst 4.39 KVM_SET_MP_STATE",
        _needs_lapic,
    ),
    CompatRule(
        "CMP-802", _ERROR, "TSC-deadline timer shown to the guest", "the guest sets deadlines that never come",
        "create the VM without tsc_deadline_timer, or choose a host with KVM_CAP_TSC_DEADLINE_TIMER",
        "Linux 6.12 api.rst 4.46 KVM_GET_SUPPORTED_CPUID", _deadline_shown,
    ),
    CompatRule(
        "CMP-803", _ERROR, "TSC-deadline timer in use", "the deadline that is set never comes",
        "choose a host with KVM_CAP_TSC_DEADLINE_TIMER", "Linux 6.12 arch/x86/kvm/lapic.c", _deadline_used,
    ),
    CompatRule(
        "CMP-804", _ERROR, "x2APIC mode", "KVM_SET_SREGS fails with EINVAL", "choose a host with x2APIC",
        "Linux 6.12 arch/x86/kvm/x86.c kvm_set_apic_base", _x2apic,
    ),
    CompatRule(
        "CMP-805", _ERROR, "APIC id", "interrupts reach the wrong vCPU", "choose a host with KVM_CAP_X2APIC_API",
        "Linux 6.12 api.rst 7.5 KVM_CAP_X2APIC_API; arch/x86/kvm/lapic.c kvm_apic_state_fixup", _wide_ids,
    ),
    CompatRule(
        "CMP-806", _ERROR, "vCPU id", "KVM_CREATE_VCPU fails with EINVAL",
        "choose a host with a larger KVM_CAP_MAX_VCPU_ID, or a denser topology",
        "Linux 6.12 api.rst 4.7 KVM_CREATE_VCPU",
        _vcpu_id,
    ),
    CompatRule(
        "CMP-807", _ERROR, "clock of the APIC timer", "the guest's timers run at another rate",
        "choose a host with KVM_CAP_X86_APIC_BUS_CYCLES_NS (Linux 6.11)",
        "Linux 6.12 api.rst 7.36 KVM_CAP_X86_APIC_BUS_CYCLES_NS", _bus_clock,
    ),
)  # fmt: skip
