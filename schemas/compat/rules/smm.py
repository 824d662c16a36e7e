"""System Management Mode: whether a host has it, and how a shadow put aside gets there."""

from __future__ import annotations

from ...errors import Severity
from ...shadow import SmmCarrier
from ...uapi.vcpu_events import VcpuEventFlags
from ..row import Case, CompatRule, Mismatch, Mismatches, per_vcpu

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

_SHADOW_FLAG = VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW
_SMBASE, _SMBASE_RESET = 0x9E, 0x30000


def _in_smm(case: Case) -> Mismatches:
    for where, _ in per_vcpu(case.machine, lambda vcpu: vcpu.smm and not case.host.smm, "events.smi.smm"):
        yield Mismatch(where, "the vCPU is in SMM and the host has no SMM", "in SMM", "no SMM")


def _smi_pending(case: Case) -> Mismatches:
    for where, vcpu in per_vcpu(
        case.machine, lambda vcpu: vcpu.smi_pending and not case.host.smm, "events.smi.pending"
    ):
        if not vcpu.smm:
            yield Mismatch(where, "an SMI waits and the host has no SMM", "1", "no SMM")


def _carries(case: Case, carrier: SmmCarrier) -> bool:
    if carrier is SmmCarrier.EVENTS_NIBBLE:
        return carrier in case.host.smm_carriers and bool(case.host.event_flags & _SHADOW_FLAG)
    return carrier in case.host.smm_carriers


def _smm_shadow(case: Case) -> Mismatches:
    """The shadow put aside travels in the events if the host reads it there, else elsewhere, else not at all."""
    if _carries(case, SmmCarrier.EVENTS_NIBBLE):
        return
    others = [carrier for carrier in SmmCarrier if _carries(case, carrier)]
    for vcpu in case.machine.vcpus:
        where, value = f"vcpus.{vcpu.index}.events.interrupt.shadow", f"{vcpu.shadow:#04x}"
        theirs = ", ".join(others) or "no carrier"
        if not vcpu.events_in_use & _SHADOW_FLAG:
            if vcpu.event_flags & _SHADOW_FLAG:
                text = "flag 0x40 is left out, no shadow is put aside"
                yield Mismatch(f"vcpus.{vcpu.index}.events.flags", text, f"{vcpu.event_flags:#x}", theirs, _NOTE)
        elif others:
            place = "the SMRAM save area" if SmmCarrier.SMRAM in others else others[0]
            yield Mismatch(where, f"upper bits of {value} travel in {place}", value, theirs, _NOTE)
        else:
            text = f"upper bits of {value} have no carrier on the host: RSM would lose the shadow"
            yield Mismatch(where, text, value, theirs)


def _unsaid_shadow(case: Case) -> Mismatches:
    """In SMM without flag 0x40 the save area may hold a shadow, of which a host without a carrier knows nothing.

    A source that offers a machine has read the save area and told what it found.
    """
    offered = case.machine.subject == "machine" and case.machine.stream_version is not None
    if case.host.smm_carriers or not case.host.smm or offered:
        return
    for where, vcpu in per_vcpu(case.machine, lambda v: v.shadow_in_smram, "events.interrupt.shadow"):
        text = "in SMM, and the events do not say whether a shadow is put aside; the host does not read the save area"
        yield Mismatch(where, text, f"{vcpu.shadow:#04x}", "no carrier")


def _needs_smm(case: Case) -> Mismatches:
    if case.host.smm or any(vcpu.smm for vcpu in case.machine.vcpus):
        return
    if case.machine.memory.address_spaces > 1:
        yield Mismatch("memory.slots", "memory that only SMM sees is lost", "2 address spaces", "no SMM")
    for where, values, _ in case.msr_values:
        if values.get(_SMBASE, _SMBASE_RESET) != _SMBASE_RESET:
            text = f"firmware has moved SMBASE to {values[_SMBASE]:#x}; its SMIs will not be taken"
            yield Mismatch(where, text, f"{values[_SMBASE]:#x}", "no SMM")


def _old_map(case: Case) -> Mismatches:
    found = (
        Mismatch(where, "the 32-bit save area is read with 16 registers", "32-bit map", case.host.kernel_release)
        for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.smm, "events.smi.smm")
        if not case.cpuid_of(vcpu).bit(0x80000001, 0, "edx", 29)
    )
    return case.before_linux(6, 2, found)


SMM_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-009", _ERROR, "System Management Mode",
        "KVM_SET_VCPU_EVENTS fails with EINVAL after half of it took effect",
        "migrate after RSM, or choose a host with KVM_CAP_X86_SMM",
        "Linux 6.12 kvm_vcpu_ioctl_x86_set_vcpu_events: EINVAL without CONFIG_KVM_SMM", _in_smm,
    ),
    CompatRule(
        "CMP-010", _ERROR, "interrupt shadow put aside by an SMI",
        "an interrupt comes right after RSM, between STI or MOV SS and the instruction that it protects",
        "migrate after RSM, or choose a host with Linux 6.2",
        "Linux 6.2 commit fb28875fd7da", _smm_shadow,
    ),
    CompatRule(
        "CMP-601", _ERROR, "pending SMI", "KVM_SET_VCPU_EVENTS fails with EINVAL after half of it took effect",
        "migrate after the SMI has been handled, or choose a host with KVM_CAP_X86_SMM",
        "Linux 6.12 kvm_vcpu_ioctl_x86_set_vcpu_events: EINVAL without CONFIG_KVM_SMM", _smi_pending,
    ),
    CompatRule(
        "CMP-602", _WARNING, "shadow that may be put aside", "a shadow in the save area would be lost at RSM",
        "migrate after RSM, or read the byte int_shadow of the save area (`migsvc state convert`)",
        "Linux 6.2 commit fb28875fd7da", _unsaid_shadow,
    ),
    CompatRule(
        "CMP-603", _WARNING, "firmware in SMM",
        "later SMIs are not taken: what the firmware does there does not happen",
        "choose a host with KVM_CAP_X86_SMM", "Linux 6.12 api.rst KVM_CAP_X86_SMM, KVM_CAP_MULTI_ADDRESS_SPACE",
        _needs_smm,
    ),
    CompatRule(
        "CMP-604", _WARNING, "SMRAM map of a 32-bit guest", "RSM loads registers from behind the save area",
        "migrate after RSM, or choose a host with Linux 6.2", "Linux 6.2 arch/x86/kvm/smm.c rsm_load_state_32",
        _old_map,
    ),
)  # fmt: skip
