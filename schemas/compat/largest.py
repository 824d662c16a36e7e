"""A host as the subject of a check: the machine that uses all that the host offers."""

from __future__ import annotations

from ..shadow import SmmCarrier
from ..uapi.mp_state import MpState
from ..uapi.nested_state import NestedFlags, NestedFormat
from .cpuid_view import without_identity
from .needs import CHECKED_MSRS, NestedNeeds
from .profile import HostProfile
from .summary import MachineSummary, MsrValues, SlotNeeds, VcpuSummary

_TSC_DEADLINE_MODE = 2
_MCG_CAP, _MCG_BANKS = 0x179, 0xFF


def largest_machine(profile: HostProfile) -> MachineSummary:
    """Return a machine of one vCPU that shows its guest every feature of a host and uses every piece of its state.

    Sizes (RAM, vCPUs, ids) are limits, not needs: a rule says for which machines a smaller host is too small.
    """
    cpuid = without_identity(profile.cpuid)
    feature_msrs = profile.feature_msrs.values_by_index() if profile.feature_msrs is not None else {}
    values = {i: v for i, v in feature_msrs.items() if i in CHECKED_MSRS} | _machine_checks(profile)
    memory = profile.memory
    return MachineSummary(
        subject="host",
        schema_version=max(profile.schema_versions, default=0),
        stream_version=max(profile.stream_versions, default=None),
        ram_bytes=profile.max_ram_bytes,
        vcpu_limit=profile.max_vcpus,
        vm_sections=profile.vm_sections,
        memory=SlotNeeds()
        if memory is None
        else SlotNeeds(
            slots=memory.slots,
            highest_slot=max(memory.slots - 1, 0),
            address_spaces=memory.address_spaces,
            readonly=memory.readonly,
        ),
        clock_flags=profile.clock_flags,
        cpuids=(cpuid,),
        section_lists=(profile.vcpu_sections,),
        msr_lists=(profile.msr_indices,),
        msr_values=(MsrValues(values=tuple(values.items())),),
        vcpus=(_vcpu(profile),),
    )


def _machine_checks(profile: HostProfile) -> dict[int, int]:
    """MCG_CAP with all banks and capabilities that a guest may be shown."""
    banks, shown = profile.mce_banks or 0, profile.mce_capabilities or 0
    return {_MCG_CAP: shown & ~_MCG_BANKS | banks & _MCG_BANKS} if banks or shown else {}


def _vcpu(profile: HostProfile) -> VcpuSummary:
    nibble = SmmCarrier.EVENTS_NIBBLE in profile.smm_carriers
    lapic = profile.lapic
    return VcpuSummary(
        index=0,
        apic_id=max((profile.max_vcpu_id or 1) - 1, 0),
        event_flags=profile.event_flags,
        events_in_use=profile.event_flags if nibble else profile.event_flags & ~0x40,
        smm=profile.smm,
        smi_pending=profile.smm,
        shadow=0x20 if nibble else 0,
        shadow_in_smram=not nibble and SmmCarrier.SMRAM in profile.smm_carriers,
        mp_state=MpState.KVM_MP_STATE_HALTED if lapic is not None and lapic.in_kernel else 0,
        timer_mode=_TSC_DEADLINE_MODE if lapic is not None and lapic.tsc_deadline else 0,
        xcr0=profile.xcr0_mask,
        xstate_bv=profile.xcr0_mask,
        xsave_bytes=profile.xsave_bytes,
        xsave_used_bytes=profile.xsave_bytes,
        mxcsr=profile.mxcsr_mask or 0,
        tsc_khz=profile.tsc_khz or profile.tsc_khz_max,
        nested=_nested(profile),
    )


def _nested(profile: HostProfile) -> NestedNeeds | None:
    nested = profile.nested
    if nested is None or not (nested.vmx or nested.svm):
        return None
    form = NestedFormat.KVM_STATE_NESTED_FORMAT_VMX if nested.vmx else NestedFormat.KVM_STATE_NESTED_FORMAT_SVM
    flags = NestedFlags.KVM_STATE_NESTED_EVMCS if nested.evmcs else 0
    return NestedNeeds(format=form, flags=flags, state_bytes=nested.state_bytes, active=True)
