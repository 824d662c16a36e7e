"""The smallest host that holds a machine: what every host of that machine has, and no more."""

from __future__ import annotations

from functools import reduce
from operator import or_

from ..shadow import SmmCarrier
from ..uapi.msrs import KvmMsrs
from ..uapi.nested_state import NestedFormat
from .cpuid_view import CpuidView
from .profile import HostProfile, LapicSupport, MemorySupport, NestedSupport
from .rules.xsave import DEFAULT_MXCSR_MASK
from .summary import MachineSummary, VcpuSummary

_SHADOW_FLAG = 0x40


def smallest_host(machine: MachineSummary) -> HostProfile:
    """Return the least that a host needs to hold a machine exactly; its CPUID is that of the first vCPU."""
    vcpus, memory = machine.vcpus, machine.memory
    cpuid = machine.cpuids[vcpus[0].cpuid_id]
    khz = {vcpu.tsc_khz for vcpu in vcpus}
    smm = memory.address_spaces > 1 or any(vcpu.smm or vcpu.smi_pending for vcpu in vcpus)
    told = any((vcpu.events_in_use | vcpu.event_flags) & _SHADOW_FLAG for vcpu in vcpus)
    values = dict(pair for row in machine.msr_values for pair in row.values)
    return HostProfile(
        name="a host that holds it",
        vendor=cpuid.vendor or "",
        backends=() if machine.backend is None else (machine.backend,),
        schema_versions=(machine.schema_version,),
        stream_versions=() if machine.stream_version is None else (machine.stream_version,),
        smm=smm,
        smm_carriers=tuple(SmmCarrier) if told else (),
        event_flags=reduce(or_, (vcpu.event_flags for vcpu in vcpus)),
        vcpu_sections=tuple(dict.fromkeys(name for names in machine.section_lists for name in names)),
        vm_sections=machine.vm_sections,
        max_vcpus=len(vcpus),
        max_ram_bytes=machine.ram_bytes,
        cpuid=cpuid,
        msr_indices=tuple(dict.fromkeys(index for row in machine.msr_lists for index in row)),
        xcr0_mask=reduce(or_, (vcpu.xcr0 | vcpu.xstate_bv for vcpu in vcpus)) | CpuidView(cpuid).xcr0_mask,
        xsave_bytes=max(vcpu.xsave_bytes for vcpu in vcpus),
        tsc_khz_min=min(khz),
        tsc_khz_max=max(khz),
        feature_msrs=KvmMsrs.of(values),
        mxcsr_mask=reduce(or_, (vcpu.mxcsr for vcpu in vcpus)) | DEFAULT_MXCSR_MASK,
        clock_flags=machine.clock_flags,
        nested=_nested(vcpus),
        lapic=LapicSupport(
            x2apic_32bit_ids=any(vcpu.apic_id > 0xFF for vcpu in vcpus),
            tsc_deadline=any(vcpu.timer_mode == 2 for vcpu in vcpus),
            bus_cycle_ns=machine.apic_bus_cycle_ns or 1,
        ),
        memory=MemorySupport(
            slots=max(memory.slots, memory.highest_slot + 1),
            address_spaces=memory.address_spaces,
            readonly=memory.readonly,
        ),
        max_vcpu_id=max(max(vcpu.apic_id, vcpu.index) for vcpu in vcpus) + 1,
    )


def _nested(vcpus: tuple[VcpuSummary, ...]) -> NestedSupport:
    held = [vcpu.nested for vcpu in vcpus if vcpu.nested is not None and vcpu.nested.active]
    svm = NestedFormat.KVM_STATE_NESTED_FORMAT_SVM
    return NestedSupport(
        vmx=any(nested.format != svm for nested in held),
        svm=any(nested.format == svm for nested in held),
        state_bytes=max((nested.state_bytes for nested in held), default=0),
        evmcs=any(nested.flags & 4 for nested in held),
    )
