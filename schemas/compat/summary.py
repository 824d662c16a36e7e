"""MachineSummary: what a machine needs of a host.

A migration offers it before any page moves, in one frame: what vCPUs share (CPUID without the vCPU's own ids, lists of
sections and MSRs) is said once and referred to by number, members that hold their default are left out, and every list
has a bound. 1,000 vCPUs take well under 1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_serializer, model_validator

from ..layout import U8, U32, U64
from ..model import Model
from ..state import MAX_VCPUS, MachineState, VcpuState
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.msrs import MSRS_MAX_ENTRIES, KvmMsrEntry
from ..uapi.vcpu_events import VcpuEventFlags
from ..versions import SCHEMA_VERSION
from .cpuid_view import CpuidView, without_identity
from .needs import CHECKED_MSRS, NestedNeeds, events_in_use, nested_needs, xsave_used_bytes
from .profile import HostProfile, MsrIndices, Names

MAX_POOL = MAX_VCPUS
"""Tables that vCPUs refer to: no more than there are vCPUs."""

Ref = Annotated[int, Field(ge=0, lt=MAX_POOL, strict=True)]
T = TypeVar("T")


class MsrValues(Model):
    """Values of the MSRs whose value decides, not only whether the host has them."""

    values: Annotated[tuple[tuple[U32, U64], ...], Field(max_length=128)] = ()

    def get(self, index: int) -> int | None:
        """Return the value of an MSR, or None if the state does not hold it."""
        return next((value for number, value in self.values if number == index), None)


class VcpuSummary(Model):
    """What one vCPU needs of a host. Fields named `…_id` number an entry of the machine's tables."""

    index: Annotated[int, Field(ge=0, lt=MAX_VCPUS, strict=True)]
    cpuid_id: Ref = 0
    sections_id: Ref = 0
    msrs_id: Ref = 0
    msr_values_id: Ref = 0
    msr_zero: Annotated[str, Field(max_length=MSRS_MAX_ENTRIES // 4, pattern="^[0-9a-f]*$")] = ""
    """Mask in hex of the MSRs that hold 0, the lowest bit for the first of the list."""
    apic_id: U32 = 0
    event_flags: U32 = 0
    events_in_use: U32 = 0
    """Those of the event flags whose fields hold something; the others can be left out."""
    smm: bool = False
    smi_pending: bool = False
    latched_init: bool = False
    shadow: U8 = 0
    """kvm_vcpu_events.interrupt.shadow."""
    shadow_in_smram: bool = False
    """The save area may hold a shadow put aside, of which the events do not tell."""
    error_code: U32 = 0
    """Error code of an exception that is injected or pending."""
    mp_state: U32 = 0
    cr4: U64 = 0
    cr3_high: U32 = 0
    """Bits 32 to 63 of CR3."""
    efer: U64 = 0
    apic_base: U64 = 0
    timer_mode: U8 = 0
    """Bits 17 and 18 of the APIC's timer entry: 0 one-shot, 1 periodic, 2 TSC deadline."""
    pdptrs_valid: bool = False
    xcr0: U64 = 0
    xstate_bv: U64 = 0
    xcomp_bv: U64 = 0
    xsave_bytes: U32 = 0
    xsave_used_bytes: U32 = 0
    """Where the last component that is not in its initial state ends."""
    mxcsr: U32 = 0
    tsc_khz: U32 = 0
    nested: NestedNeeds | None = None

    @model_serializer(mode="wrap")
    def _lean(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {name: value for name, value in handler(self).items() if getattr(self, name) != fields[name].default}


class SlotNeeds(Model):
    """How the guest's memory is laid out: numbers of slots, the highest address."""

    slots: U32 = 0
    """The most slots that an address space has."""
    highest_slot: U32 = 0
    address_spaces: U32 = 1
    readonly: bool = False
    end: U64 = 0
    """The first guest physical address behind all slots."""


class MachineSummary(Model):
    """What a machine needs of a host; a migration offers it before any page moves."""

    subject: Literal["machine", "host"] = "machine"
    """host: not a machine, but all that a host could give to one; its sizes are limits."""
    schema_version: U32 = SCHEMA_VERSION
    stream_version: U32 | None = None
    """None: not asked, the state is not going to be streamed."""
    backend: Annotated[str, Field(max_length=64)] | None = None
    """None: any backend will do."""
    ram_bytes: U64
    vcpu_limit: U32 = 0
    """Of a host: the number of vCPUs that it takes."""
    vm_sections: Names
    memory: SlotNeeds = SlotNeeds()
    clock_flags: U32 | None = None
    """kvm_clock_data.flags; None: there is no clock."""
    apic_bus_cycle_ns: U32 | None = None
    """None: the host's own."""
    cpuids: Annotated[tuple[KvmCpuid2, ...], Field(min_length=1, max_length=MAX_POOL)]
    section_lists: Annotated[tuple[Names, ...], Field(min_length=1, max_length=MAX_POOL)]
    msr_lists: Annotated[tuple[MsrIndices, ...], Field(min_length=1, max_length=MAX_POOL)]
    msr_values: Annotated[tuple[MsrValues, ...], Field(min_length=1, max_length=MAX_POOL)]
    vcpus: Annotated[tuple[VcpuSummary, ...], Field(min_length=1, max_length=MAX_VCPUS)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        pools = (
            ("cpuid_id", self.cpuids),
            ("sections_id", self.section_lists),
            ("msrs_id", self.msr_lists),
            ("msr_values_id", self.msr_values),
        )
        for vcpu in self.vcpus:
            for name, pool in pools:
                if getattr(vcpu, name) >= len(pool):
                    raise ValueError(f"vCPU {vcpu.index}: {name} {getattr(vcpu, name)}, the table has {len(pool)} rows")
        return self

    @classmethod
    def of(
        cls, state: MachineState, *, backend: str | None = None, stream_version: int | None = None
    ) -> MachineSummary:
        """Return the summary of a machine."""
        return _Builder().machine(state, backend, stream_version)

    @classmethod
    def of_vcpu(cls, vcpu: VcpuState) -> MachineSummary:
        """Return the summary of a machine of one vCPU and nothing else."""
        builder = _Builder()
        return cls(ram_bytes=0, vm_sections=(), vcpus=(builder.vcpu(vcpu),), **builder.pools())

    @classmethod
    def of_profile(cls, profile: HostProfile) -> MachineSummary:
        """Return the summary of a machine that uses all that a host offers."""
        from .largest import largest_machine

        return largest_machine(profile)


class _Pool(list[T]):
    """A table in which equal rows are one."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[Any, int] = {}

    def put(self, key: Any, value: T) -> int:
        place = self._places.setdefault(key, len(self))
        if place == len(self):
            self.append(value)
        return place


class _Builder:
    """Collects what vCPUs share."""

    def __init__(self) -> None:
        self.cpuids: _Pool[KvmCpuid2] = _Pool()
        self.section_lists: _Pool[tuple[str, ...]] = _Pool()
        self.msr_lists: _Pool[tuple[int, ...]] = _Pool()
        self.msr_values: _Pool[MsrValues] = _Pool()

    def pools(self) -> dict[str, Any]:
        names = ("cpuids", "section_lists", "msr_lists", "msr_values")
        return {name: tuple(getattr(self, name)) for name in names}

    def machine(self, state: MachineState, backend: str | None, stream_version: int | None) -> MachineSummary:
        slots = state.memory.slots
        per_space = {space: [s.slot for s in slots if s.as_id == space] for space in {s.as_id for s in slots}}
        vcpus = tuple(self.vcpu(vcpu) for vcpu in state.vcpus)
        return MachineSummary(
            stream_version=stream_version,
            backend=backend,
            ram_bytes=state.memory.ram_bytes,
            vm_sections=tuple(state.vm.to_sections()),
            memory=SlotNeeds(
                slots=max((len(found) for found in per_space.values()), default=0),
                highest_slot=max((s.slot for s in slots), default=0),
                address_spaces=max(per_space, default=0) + 1,
                readonly=any(s.flags & 2 for s in slots),
                end=max((s.end for s in slots), default=0),
            ),
            clock_flags=state.vm.clock.flags if state.vm.clock is not None else None,
            vcpus=vcpus,
            **self.pools(),
        )

    def vcpu(self, vcpu: VcpuState) -> VcpuSummary:
        held = vcpu.events.normalised()
        cpuid = without_identity(vcpu.cpuid2)
        entries = vcpu.msrs.entries
        indices = tuple(entry.index for entry in entries)
        sections = tuple(vcpu.to_sections())
        checked = tuple((index, value) for index, value in vcpu.msrs.values_by_index().items() if index in CHECKED_MSRS)
        exception = held.exception
        return VcpuSummary(
            index=vcpu.index,
            cpuid_id=self.cpuids.put(cpuid.pack(), cpuid),
            sections_id=self.section_lists.put(sections, sections),
            msrs_id=self.msr_lists.put(indices, indices),
            msr_values_id=self.msr_values.put(checked, MsrValues(values=checked)),
            msr_zero=_zero_mask(entries),
            apic_id=_apic_id(vcpu.cpuid2),
            event_flags=vcpu.events.flags,
            events_in_use=events_in_use(vcpu.events),
            smm=held.smi.smm != 0,
            smi_pending=held.smi.pending != 0,
            latched_init=held.smi.latched_init != 0,
            shadow=vcpu.events.interrupt.shadow.to_byte(),
            shadow_in_smram=held.smi.smm != 0 and not vcpu.events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW),
            error_code=exception.error_code
            if exception.has_error_code and (exception.injected or exception.pending)
            else 0,
            mp_state=vcpu.mp_state.mp_state,
            cr4=vcpu.sregs.cr4,
            cr3_high=vcpu.sregs.cr3 >> 32,
            efer=vcpu.sregs.efer,
            apic_base=vcpu.sregs.apic_base,
            timer_mode=vcpu.lapic.register(0x320) >> 17 & 3,
            pdptrs_valid=vcpu.sregs2 is not None and bool(vcpu.sregs2.flags & 1),
            xcr0=vcpu.xcrs.xcr0 or 0,
            xstate_bv=vcpu.xsave.xstate_bv,
            xcomp_bv=vcpu.xsave.xcomp_bv,
            xsave_bytes=len(vcpu.xsave.region) + len(vcpu.xsave.extra),
            xsave_used_bytes=xsave_used_bytes(vcpu),
            mxcsr=vcpu.xsave.mxcsr,
            tsc_khz=vcpu.tsc_khz.tsc_khz,
            nested=nested_needs(vcpu.nested_state),
        )


def _zero_mask(entries: tuple[KvmMsrEntry, ...]) -> str:
    mask = sum(1 << place for place, entry in enumerate(entries) if entry.data == 0)
    return f"{mask:x}" if mask else ""


def _apic_id(cpuid: KvmCpuid2) -> int:
    view = CpuidView(cpuid)
    return view.value(0xB, 0, "edx") or view.value(0x1, 0, "ebx", 24, 8)
