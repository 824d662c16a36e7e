"""HostProfile: what a host can hold.

A file that can be kept, compared and used offline, and the answer of a peer in a migration's first messages, before any
page moves: every list has a bound. Fields with a default came later; None stands for "the profile does not say".
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from ..layout import U32, U64
from ..model import Model
from ..shadow import SmmCarrier
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.msrs import MSRS_MAX_ENTRIES, KvmMsrs

Names = Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=64)]
Versions = Annotated[tuple[U32, ...], Field(max_length=32)]
MsrIndices = Annotated[tuple[U32, ...], Field(max_length=MSRS_MAX_ENTRIES)]
Capabilities = Annotated[dict[Annotated[str, Field(max_length=64)], U32], Field(max_length=512)]

BACKEND_KVM = "kvm"
"""Name of a backend in which a kernel holds the state."""


class NestedSupport(Model):
    """What a host holds of a vCPU that runs a hypervisor itself."""

    vmx: bool = False
    svm: bool = False
    state_bytes: U32 = 0
    """Largest kvm_nested_state, header included (KVM_CAP_NESTED_STATE)."""
    evmcs: bool = False
    """Hyper-V's enlightened VMCS (KVM_CAP_HYPERV_ENLIGHTENED_VMCS)."""


class LapicSupport(Model):
    """The local APICs that a host gives to its guests."""

    in_kernel: bool = True
    """KVM_CREATE_IRQCHIP or KVM_CAP_SPLIT_IRQCHIP; False: the local APIC is not part of the vCPU."""
    x2apic_32bit_ids: bool = False
    """KVM_X2APIC_API_USE_32BIT_IDS of KVM_CAP_X2APIC_API."""
    tsc_deadline: bool = False
    """KVM_CAP_TSC_DEADLINE_TIMER."""
    bus_cycle_ns: U32 = 1
    """Period of the timer's input clock."""
    bus_cycle_settable: bool = False
    """KVM_CAP_X86_APIC_BUS_CYCLES_NS, Linux 6.11."""


class MemorySupport(Model):
    """How guest memory can be laid out."""

    slots: U32
    """Memory slots of one address space (KVM_CAP_NR_MEMSLOTS)."""
    address_spaces: U32
    """2: a vCPU in SMM sees memory of its own (KVM_CAP_MULTI_ADDRESS_SPACE)."""
    readonly: bool
    """KVM_CAP_READONLY_MEM."""


class HostProfile(Model):
    """What one host can hold; `GET /v1/host` shows it and a peer answers with it."""

    name: Annotated[str, Field(max_length=128)]
    vendor: Annotated[str, Field(max_length=64)]
    """CPUID vendor of the processor that runs guests; "emulated" where software does."""
    backends: Names
    schema_versions: Versions
    stream_versions: Versions
    smm: bool
    """Guests can enter System Management Mode."""
    smm_carriers: Annotated[tuple[SmmCarrier, ...], Field(max_length=8)]
    """How a shadow put aside by an SMI can reach a guest here."""
    event_flags: U32
    """Mask of kvm_vcpu_events.flags that the host accepts."""
    vcpu_sections: Names
    vm_sections: Names
    max_vcpus: U32
    max_ram_bytes: U64
    cpuid: KvmCpuid2
    """What KVM_GET_SUPPORTED_CPUID says, or the emulator's full model."""
    msr_indices: MsrIndices
    """What KVM_GET_MSR_INDEX_LIST says, or the MSRs of the emulator's models."""
    xcr0_mask: U64
    xsave_bytes: U32
    """Size of the XSAVE area (KVM_CAP_XSAVE2)."""
    tsc_khz_min: U32
    tsc_khz_max: U32
    """Frequencies that a guest's TSC can run at; both equal where there is no scaling."""

    kernel_release: Annotated[str, Field(max_length=128)] = ""
    """`uname -r` of a host with KVM; empty: no kernel holds the state, or the profile does not say."""
    kvm_capabilities: Capabilities | None = None
    """KVM_CHECK_EXTENSION by name, or by number where the name is not known here; those that are 0 are left out."""
    hyperv_cpuid: KvmCpuid2 | None = None
    """What KVM_GET_SUPPORTED_HV_CPUID says."""
    msrs_unlisted: MsrIndices | None = None
    """MSRs that KVM reads and writes although its list does not name them (EFER, MTRRs, …)."""
    feature_msrs: KvmMsrs | None = None
    """MSRs that say what a guest may be shown (KVM_GET_MSR_FEATURE_INDEX_LIST), with the host's values."""
    xcr0_guest_permitted: U64 | None = None
    """Components that a process may ask to use for guests (KVM_X86_XCOMP_GUEST_SUPP), AMX's tile data among them."""
    mxcsr_mask: U32 | None = None
    """MXCSR bits that a guest may set."""
    tsc_khz: U32 | None = None
    """Frequency of the host's own TSC; None also where time is virtual."""
    tsc_scaling: bool | None = None
    """KVM_CAP_TSC_CONTROL: the processor scales the TSC of guests."""
    tsc_tolerance_ppm: U32 | None = None
    """Deviation that KVM lets pass without scaling (its parameter tsc_tolerance_ppm)."""
    clock_flags: U32 | None = None
    """kvm_clock_data.flags that KVM_SET_CLOCK takes (KVM_CAP_ADJUST_CLOCK)."""
    nested: NestedSupport | None = None
    lapic: LapicSupport | None = None
    memory: MemorySupport | None = None
    max_vcpu_id: U32 | None = None
    """vCPU ids are below it (KVM_CAP_MAX_VCPU_ID)."""
    mce_capabilities: U64 | None = None
    """MCG_CAP bits that a guest may be shown (KVM_X86_GET_MCE_CAP_SUPPORTED)."""
    mce_banks: U32 | None = None
    """Machine-check banks of a vCPU (KVM_CAP_MCE)."""

    @property
    def is_kvm(self) -> bool:
        """Return whether a kernel holds the state."""
        return BACKEND_KVM in self.backends

    @property
    def kernel_version(self) -> tuple[int, int] | None:
        """Return (major, minor) of the kernel, or None if the profile does not say."""
        match = re.match(r"(\d{1,4})\.(\d{1,4})", self.kernel_release)
        return (int(match[1]), int(match[2])) if match else None

    def capability(self, name: str) -> int | None:
        """Return the value of a KVM capability, 0 where it is missing, None if the profile does not say."""
        return None if self.kvm_capabilities is None else self.kvm_capabilities.get(name, 0)

    def feature_msr(self, index: int) -> int | None:
        """Return the host's value of a feature MSR, or None if the profile does not say or the host has none."""
        return None if self.feature_msrs is None else self.feature_msrs.values_by_index().get(index)
