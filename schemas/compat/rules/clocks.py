"""Clocks: the TSC's frequency, what the guest was told of it, kvm_clock_data."""

from __future__ import annotations

from ...errors import Severity
from ...uapi.clock import ClockFlags
from ..cpuid_view import KVM_SIGNATURE
from ..row import Case, CompatRule, Mismatch, Mismatches, per_vcpu, unsaid

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

TOLERANCE_PPM = 250
"""KVM's default of tsc_tolerance_ppm. Source: Linux 6.12 arch/x86/kvm/x86.c."""

MSR_TSC = 0x10
_KVMCLOCK = 1 << 0 | 1 << 3
_LEAF_15_TOLERANCE_PPM = 1000


def _within(khz: int, reference: int, ppm: int) -> bool:
    return abs(khz - reference) * 1_000_000 <= reference * ppm


def _tsc(case: Case) -> Mismatches:
    """Out of the range: too slow cannot be had, too fast only as a clock that is pulled forward (CMP-401)."""
    host, own = case.host, _own_khz(case)
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.tsc_khz != 0, "tsc_khz"):
        khz = vcpu.tsc_khz
        ours, theirs = f"{khz} kHz", f"{host.tsc_khz_min} to {host.tsc_khz_max} kHz"
        if own and khz != own and _within(khz, own, _tolerance(case)):
            if host.tsc_tolerance_ppm is None and host.is_kvm and not host.tsc_scaling:
                yield unsaid(where, ours, f"how far from its own {own} kHz it lets a guest's TSC be")
                continue
            text = f"{khz} kHz; KVM lets it run at the host's {own}"
            yield Mismatch(where, text, ours, f"{own} kHz", _NOTE)
        elif khz < host.tsc_khz_min or (khz > host.tsc_khz_max and not _catches_up(case)):
            yield Mismatch(where, f"{khz} kHz, the host runs {theirs}", ours, theirs)
        elif not own and host.is_kvm:
            what = "the frequency of its own TSC, at which KVM lets a guest's run that is close to it"
            yield unsaid(where, ours, what, _NOTE)


def _own_khz(case: Case) -> int:
    """Return the frequency of the host's own TSC; without scaling there is only one. 0: the profile does not say."""
    host = case.host
    if host.tsc_khz is not None:
        return host.tsc_khz
    return host.tsc_khz_max if host.is_kvm and host.tsc_khz_min == host.tsc_khz_max else 0


def _tolerance(case: Case) -> int:
    return TOLERANCE_PPM if case.host.tsc_tolerance_ppm is None else case.host.tsc_tolerance_ppm


def _catches_up(case: Case) -> bool:
    return case.host.is_kvm and case.host.tsc_scaling is False


def _catch_up(case: Case) -> Mismatches:
    host = case.host
    for where, vcpu in per_vcpu(case.machine, lambda v: v.tsc_khz > host.tsc_khz_max and _catches_up(case), "tsc_khz"):
        if not _within(vcpu.tsc_khz, host.tsc_khz_max, _tolerance(case)):
            text = f"{vcpu.tsc_khz} kHz, the host runs {host.tsc_khz_max} and pulls the counter forward"
            yield Mismatch(where, text, f"{vcpu.tsc_khz} kHz", f"{host.tsc_khz_max} kHz")


def _unknown(case: Case) -> Mismatches:
    for where, _ in per_vcpu(case.machine, lambda vcpu: vcpu.tsc_khz == 0, "tsc_khz"):
        text = "the state does not say the frequency; the guest gets the host's"
        yield Mismatch(where, text, "0 kHz", f"{case.host.tsc_khz or case.host.tsc_khz_max} kHz")


def _told(case: Case) -> Mismatches:
    """What leaf 0x15 says against the frequency that the vCPU has; the host decides neither."""
    for where, guest, vcpu in case.guests:
        denominator, numerator = guest.value(0x15, 0, "eax"), guest.value(0x15, 0, "ebx")
        crystal_hz = guest.value(0x15, 0, "ecx")
        if not (denominator and numerator and crystal_hz and vcpu.tsc_khz):
            continue
        told = crystal_hz * numerator // denominator // 1000
        if case.machine.subject == "machine" and not _within(vcpu.tsc_khz, told, _LEAF_15_TOLERANCE_PPM):
            text = f"CPUID.15H says {told} kHz, the TSC runs at {vcpu.tsc_khz}"
            yield Mismatch(f"{where}.cpuid2", text, f"{told} kHz", f"{vcpu.tsc_khz} kHz")


def _counter(case: Case) -> Mismatches:
    """Neither the counter nor its offset: the guest's TSC would begin anew."""
    if case.machine.subject == "host":
        return
    for where, vcpu in per_vcpu(case.machine, lambda _: True, "msrs"):
        if MSR_TSC not in case.machine.msr_lists[vcpu.msrs_id] and "tsc_offset" not in case.sections_of(vcpu):
            yield Mismatch(where, "the state holds neither MSR 0x10 nor a TSC offset", "none", "")


def _clock_flags(case: Case) -> Mismatches:
    ours, theirs = case.machine.clock_flags, case.host.clock_flags
    if ours is None:
        return
    if theirs is None:
        if ours:
            severity = _WARNING if ours & ClockFlags.KVM_CLOCK_REALTIME else _NOTE
            yield unsaid("vm.clock.flags", f"{ours:#x}", "which flags of the clock it takes", severity)
        return
    lost = ours & ~theirs
    if lost & ClockFlags.KVM_CLOCK_REALTIME:
        text = "the host does not take the wall clock; the guest's clock does not count the time of the move"
        yield Mismatch("vm.clock.flags", text, f"{ours:#x}", f"{theirs:#x}")
    elif lost:
        text = f"{lost:#x} is left out, it only says how the clock was read"
        yield Mismatch("vm.clock.flags", text, f"{ours:#x}", f"{theirs:#x}", _NOTE)


def _kvmclock(case: Case) -> Mismatches:
    if case.machine.subject == "host" or case.machine.clock_flags is not None:
        return
    for where, guest, _ in case.guests:
        base = guest.hypervisor(KVM_SIGNATURE)
        if base is not None and guest.value(base + 1, 0, "eax") & _KVMCLOCK:
            yield Mismatch(f"{where}.cpuid2", "the guest was shown kvmclock, the state has no clock", "kvmclock", "")


TIME_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-016", _ERROR, "TSC frequency", "KVM_SET_TSC_KHZ fails, or the guest's clocks run at another rate",
        "choose a host with TSC scaling, or of this frequency", "Linux 6.12 arch/x86/kvm/x86.c kvm_set_tsc_khz", _tsc,
    ),
    CompatRule(
        "CMP-401", _WARNING, "TSC faster than the host's", "the counter stands between entries and then leaps",
        "choose a host with TSC scaling", "Linux 6.12 arch/x86/kvm/x86.c set_tsc_khz: always_catchup", _catch_up,
    ),
    CompatRule(
        "CMP-402", _WARNING, "unknown TSC frequency", "the guest's clocks may run at another rate",
        "save the state with KVM_GET_TSC_KHZ", "Linux 6.12 api.rst 4.55 KVM_SET_TSC_KHZ", _unknown,
    ),
    CompatRule(
        "CMP-403", _WARNING, "frequency shown in leaf 0x15", "a guest that believes the leaf measures time wrongly",
        "create the VM with a leaf 0x15 that fits its TSC", "SDM vol. 2A CPUID leaf 15H", _told,
    ),
    CompatRule(
        "CMP-404", _WARNING, "TSC", "the guest's counter begins anew and its deadlines do not come",
        "save MSR 0x10 or the attribute KVM_VCPU_TSC_OFFSET", "Linux 6.12 Documentation/virt/kvm/devices/vcpu.rst 4.1",
        _counter,
    ),
    CompatRule(
        "CMP-405", _WARNING, "flags of the clock", "the guest's clock is late by the time of the move",
        "choose a host with Linux 5.16, or set the guest's clock afterwards", "Linux 6.12 api.rst 4.30 KVM_SET_CLOCK",
        _clock_flags,
    ),
    CompatRule(
        "CMP-406", _WARNING, "kvmclock", "the guest's clock begins anew", "save KVM_GET_CLOCK with the state",
        "Linux 6.12 api.rst 4.29 KVM_GET_CLOCK", _kvmclock,
    ),
)  # fmt: skip
