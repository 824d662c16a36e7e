"""HostProfile: what a host can hold. MachineSummary: what a machine needs of a host.

Both travel in a migration's first messages, before any page, so every list has a bound.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..layout import U8, U32, U64
from ..shadow import SmmCarrier
from ..state import MAX_VCPUS, MachineState, VcpuState
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.msrs import MSRS_MAX_ENTRIES
from ..versions import SCHEMA_VERSION

Names = Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=64)]
Versions = Annotated[tuple[U32, ...], Field(max_length=32)]
MsrIndices = Annotated[tuple[U32, ...], Field(max_length=MSRS_MAX_ENTRIES)]


class HostProfile(BaseModel):
    """What one host can hold; `GET /v1/host` shows it and a peer answers with it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
    xcr0_mask: U64
    xsave_bytes: U32
    """Size of the XSAVE area (KVM_CAP_XSAVE2)."""
    tsc_khz_min: U32
    tsc_khz_max: U32
    """Frequencies that a guest's TSC can run at; both equal where there is no scaling."""


class VcpuSummary(BaseModel):
    """What one vCPU needs of a host."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    index: Annotated[int, Field(ge=0, lt=MAX_VCPUS, strict=True)]
    sections: Names
    event_flags: U32
    events_in_use: U32
    """Those of the event flags whose fields hold something; the others can be left out."""
    smm: bool
    shadow: U8
    """kvm_vcpu_events.interrupt.shadow."""
    msr_indices: MsrIndices
    cpuid: KvmCpuid2
    xcr0: U64
    xstate_bv: U64
    xsave_bytes: U32
    tsc_khz: U32

    @classmethod
    def of(cls, vcpu: VcpuState) -> VcpuSummary:
        """Return the summary of a vCPU."""
        held = vcpu.events.normalised()
        in_use = (
            (held.nmi.pending != 0) * 0x01
            | (held.sipi_vector != 0) * 0x02
            | (held.interrupt.shadow.current != 0) * 0x04
            | any(held.smi.pack()) * 0x08
            | (held.exception.pending != 0) * 0x10
            | (held.triple_fault.pending != 0) * 0x20
            | (held.interrupt.shadow.smm != 0) * 0x40
        )
        return cls(
            index=vcpu.index,
            sections=tuple(vcpu.to_sections()),
            event_flags=vcpu.events.flags,
            events_in_use=in_use,
            smm=held.smi.smm != 0,
            shadow=vcpu.events.interrupt.shadow.to_byte(),
            msr_indices=tuple(entry.index for entry in vcpu.msrs.entries),
            cpuid=vcpu.cpuid2,
            xcr0=vcpu.xcrs.xcr0 or 0,
            xstate_bv=vcpu.xsave.xstate_bv,
            xsave_bytes=len(vcpu.xsave.region) + len(vcpu.xsave.extra),
            tsc_khz=vcpu.tsc_khz.tsc_khz,
        )


class MachineSummary(BaseModel):
    """What a machine needs of a host; a migration offers it before any page moves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: U32 = SCHEMA_VERSION
    stream_version: U32 | None = None
    """None: not asked, the state is not going to be streamed."""
    backend: Annotated[str, Field(max_length=64)] | None = None
    """None: any backend will do."""
    ram_bytes: U64
    vm_sections: Names
    vcpus: Annotated[tuple[VcpuSummary, ...], Field(min_length=1, max_length=MAX_VCPUS)]

    @classmethod
    def of(
        cls, state: MachineState, *, backend: str | None = None, stream_version: int | None = None
    ) -> MachineSummary:
        """Return the summary of a machine."""
        return cls(
            stream_version=stream_version,
            backend=backend,
            ram_bytes=state.memory.ram_bytes,
            vm_sections=tuple(state.vm.to_sections()),
            vcpus=tuple(VcpuSummary.of(vcpu) for vcpu in state.vcpus),
        )
