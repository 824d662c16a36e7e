"""What a host with this emulator can hold."""

from collections.abc import Sequence

from schemas.compat.profile import HostProfile, LapicSupport, MemorySupport, NestedSupport
from schemas.memory import MAX_RAM_BYTES, MAX_SLOTS
from schemas.shadow import SmmCarrier
from schemas.uapi.vcpu_events import VcpuEventFlags
from schemas.versions import SUPPORTED_SCHEMA_VERSIONS

from ..cpu_model import MODELS, X86_64
from ..state import XSAVE_BYTES
from .save import cpuid_of
from .tables import HELD_VCPU_SECTIONS, HELD_VM_SECTIONS

BACKEND = "emulator"
"""This backend's name in a HostProfile."""


def host_profile(name: str = "", stream_versions: Sequence[int] = (1,)) -> HostProfile:
    """What the emulator can hold, with its fullest CPU model. `name` is the host's."""
    return HostProfile(
        name=name,
        vendor="emulated",
        backends=(BACKEND,),
        schema_versions=SUPPORTED_SCHEMA_VERSIONS,
        stream_versions=tuple(stream_versions),
        smm=True,
        smm_carriers=(SmmCarrier.EVENTS_NIBBLE, SmmCarrier.SMRAM),
        event_flags=int(sum(VcpuEventFlags)),
        vcpu_sections=HELD_VCPU_SECTIONS,
        vm_sections=HELD_VM_SECTIONS,
        max_vcpus=1,
        max_ram_bytes=MAX_RAM_BYTES,
        cpuid=cpuid_of(X86_64),
        msr_indices=tuple(sorted({index for model in MODELS.values() for index in model.msr_indices})),
        xcr0_mask=1,
        xsave_bytes=XSAVE_BYTES,
        tsc_khz_min=1,
        tsc_khz_max=2**32 - 1,
        tsc_scaling=True,
        clock_flags=0,  # a wall clock saved with kvm_clock_data is not looked at: time is virtual
        mxcsr_mask=2**32 - 1,  # the XSAVE area is kept, never interpreted
        nested=NestedSupport(),
        lapic=LapicSupport(),
        memory=MemorySupport(slots=MAX_SLOTS, address_spaces=2, readonly=True),
    )
