"""From any carrier to any other on whole states, with what is lost.

The shadow is found where the state has it, put where the target looks for it, and taken out of every other place of
the state. What is to be written to SMRAM is in the result: memory is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import Finding, Severity
from ..memory import AS_SMM, MemoryMap
from ..state import MachineState, VcpuState
from ..uapi.vcpu_events import SHADOW_MASKS, VcpuEventFlags
from .carriers import SmmCarrier
from .events import smm_shadow
from .losses import SMM_SHADOW_LOSSES, loss
from .places import (
    SVM_VENDORS,
    VMX_VENDORS,
    SmramAccess,
    clear_place,
    has_nested_flags,
    in_smm,
    int_shadow_gpa,
    put_place,
    read_place,
    says_no_vmx,
)

State = TypeVar("State", VcpuState, MachineState)

SHADOW_WORDS: Mapping[int, str] = {0: "none", 1: "mov_ss", 2: "sti", 3: "both"}
"""Words for a shadow (0-3)."""

_IN_STATE = (SmmCarrier.EVENTS_NIBBLE, SmmCarrier.NESTED_FLAGS, SmmCarrier.SMI_SUBSTRUCT)
_UNMARKED = (SmmCarrier.NESTED_FLAGS, SmmCarrier.SMI_SUBSTRUCT)
"""Carriers without a flag that says that they count: zero there may mean that nothing was put."""


class SmramWrite(NamedTuple):
    """Bytes to write before vCPU `vcpu` runs: `data` at `gpa` of address space `as_id`."""

    vcpu: int
    as_id: int
    gpa: int
    data: bytes

    def as_json(self) -> dict[str, Any]:
        """Return the write as JSON values, the data in hex."""
        return {"vcpu": self.vcpu, "as_id": self.as_id, "gpa": f"{self.gpa:#x}", "data": self.data.hex()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a conversion says of itself: `losses` are errors and warnings, `notes` tell what else was done.

    Each finding has a row in LOSSES.
    """

    smram_writes: tuple[SmramWrite, ...] = ()
    losses: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def loses_smm_shadow(self) -> bool:
        """Whether a shadow that was put aside does not arrive."""
        return any(f.rule in SMM_SHADOW_LOSSES and f.severity is Severity.ERROR for f in self.losses)

    def as_json(self) -> dict[str, Any]:
        """Return what is told as JSON values."""
        return {
            "smram_writes": [write.as_json() for write in self.smram_writes],
            "losses": [finding.model_dump(mode="json") for finding in self.losses],
            "notes": [finding.model_dump(mode="json") for finding in self.notes],
        }


@dataclass(frozen=True, slots=True)
class Conversion(Told, Generic[State]):
    """A converted state."""

    state: State


def carrier_shadow(state: VcpuState, carrier: SmmCarrier, memory: SmramAccess | None = None) -> int | None:
    """Return the shadow put aside (0-3) that a carrier holds; None where it says nothing.

    Outside SMM every carrier says 0. Carriers without a flag of their own (nested_flags, smi_substruct) say 0 both
    for "no shadow" and for "nobody wrote here".

    Raises:
        FieldError: the nibble of the events holds bits that no shadow has.
    """
    return read_place(state, carrier, memory).masks if in_smm(state.events) else 0


def best_carrier(carriers: Collection[SmmCarrier], event_flags: int, schema_version: int) -> SmmCarrier | None:
    """Return the carrier in which a host should get the shadow put aside, None if it has none.

    `event_flags` is the mask of kvm_vcpu_events.flags that it accepts. The nibble is best: it needs no memory, and
    neither it nor the section nested_state is in schema version 1.
    """
    flag = event_flags & VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW
    spoken = {
        SmmCarrier.EVENTS_NIBBLE: bool(flag) and schema_version > 1,
        SmmCarrier.SMRAM: True,
        SmmCarrier.SMI_SUBSTRUCT: schema_version > 1,
        SmmCarrier.NESTED_FLAGS: schema_version > 1,
    }
    return next((carrier for carrier, usable in spoken.items() if usable and carrier in carriers), None)


def convert_carrier(
    state: State,
    target: SmmCarrier | None,
    memory: SmramAccess | None = None,
    *,
    source: SmmCarrier | None = None,
    vendor: str | None = None,
) -> Conversion[State]:
    """Return the state with the shadow put aside in another carrier, and what that loses.

    `target` None is a host without a carrier (Linux before 6.2). `memory` is the guest's RAM, where it is at hand;
    without it SMRAM is written unseen and not read. `source` names the carrier that counts; by default the first that
    says something: the events with their flag, a nonzero nested_flags or smi_substruct, SMRAM. `vendor` is the CPUID
    vendor of the target's processor: VMX and SVM hold shadows differently.

    Raises:
        FieldError: the nibble of the events holds bits that no shadow has.
    """
    if isinstance(state, VcpuState):
        work = _VcpuWork(state, target, memory, None, vendor, f"vcpus.{state.index}.")
        converted = work.convert(source)
        losses, notes = _sorted(work.findings)
        return Conversion(converted, smram_writes=tuple(work.writes), losses=losses, notes=notes)
    writes: list[SmramWrite] = []
    findings: list[Finding] = []
    vcpus = []
    for vcpu in state.vcpus:
        work = _VcpuWork(vcpu, target, memory, state.memory, vendor, f"vcpus.{vcpu.index}.")
        vcpus.append(work.convert(source))
        writes += work.writes
        findings += work.findings
    losses, notes = _sorted(findings)
    converted = state.model_copy(update={"vcpus": vcpus})
    return Conversion(converted, smram_writes=tuple(writes), losses=losses, notes=notes)


def _sorted(findings: list[Finding]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return losses and notes apart."""
    losses = tuple(finding for finding in findings if finding.severity is not Severity.NOTE)
    return losses, tuple(finding for finding in findings if finding.severity is Severity.NOTE)


class _VcpuWork:
    """One vCPU on its way from one carrier to another."""

    def __init__(
        self,
        vcpu: VcpuState,
        target: SmmCarrier | None,
        memory: SmramAccess | None,
        memory_map: MemoryMap | None,
        vendor: str | None,
        where: str,
    ) -> None:
        self._vcpu = vcpu
        self._target = target
        self._memory = memory
        self._map = memory_map
        self._vendor = vendor
        self._events = f"{where}events.interrupt.shadow"
        self._reserved = f"{where}events.reserved"
        self._nested = f"{where}nested_state"
        self._smbase = f"{where}msrs"
        self.writes: list[SmramWrite] = []
        self.findings: list[Finding] = []

    def convert(self, wanted: SmmCarrier | None) -> VcpuState:
        vcpu = self._vcpu
        self._of_vendor(vcpu.events.interrupt.shadow.current & SHADOW_MASKS)
        if not in_smm(vcpu.events):
            return self._outside(vcpu)
        vcpu = self._only_counting(vcpu)
        source = wanted or self._source()
        found = None if source is None else read_place(vcpu, source, self._memory).masks
        junk = SmmCarrier.SMI_SUBSTRUCT if wanted is not SmmCarrier.SMI_SUBSTRUCT and wanted is not None else None
        gone = (c for c in _IN_STATE if c not in (self._target, junk))
        for carrier in gone:
            vcpu = clear_place(vcpu, carrier)
        if source is SmmCarrier.NESTED_FLAGS is not self._target and says_no_vmx(vcpu):
            self._say("LOSS-014", self._nested, "it is left out")
            vcpu = vcpu.model_copy(update={"nested_state": None})
        if found is None:
            dropped = 0 if self._target is SmmCarrier.EVENTS_NIBBLE else smm_shadow(self._vcpu.events)
            if wanted and dropped:
                text = f"{wanted} is to count and says nothing, the events say {SHADOW_WORDS[dropped]}"
                self._say("LOSS-007", self._events, text, Severity.ERROR)
            else:
                self._say("LOSS-007", self._events)
            return vcpu
        self._compare(source, found, told=wanted is not None)
        self._of_vendor(found)
        vcpu, arrived = self._put(vcpu, found)
        if arrived and source is not self._target:
            self._say("LOSS-012", self._events, f"{SHADOW_WORDS[found]}, from {source} to {self._target}")
        return vcpu

    def _outside(self, vcpu: VcpuState) -> VcpuState:
        """Nothing was put aside; the events must not say that something was, except in their own form."""
        if vcpu.events.interrupt.shadow.smm:
            self._say("LOSS-010", self._events, f"{vcpu.events.interrupt.shadow.to_byte():#04x}")
        elif self._target is SmmCarrier.EVENTS_NIBBLE:
            return vcpu
        return clear_place(vcpu, SmmCarrier.EVENTS_NIBBLE)

    def _only_counting(self, vcpu: VcpuState) -> VcpuState:
        """Return the vCPU without a nibble that lacks its flag."""
        byte = vcpu.events.interrupt.shadow
        if not byte.smm or vcpu.events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW):
            return vcpu
        self._say("LOSS-010", self._events, f"{byte.to_byte():#04x}")
        return clear_place(vcpu, SmmCarrier.EVENTS_NIBBLE)

    def _source(self) -> SmmCarrier | None:
        """Return the first carrier that says something."""
        vcpu, memory = self._vcpu, self._memory
        if read_place(vcpu, SmmCarrier.EVENTS_NIBBLE, None).masks is not None:
            return SmmCarrier.EVENTS_NIBBLE
        for carrier in _UNMARKED:
            if read_place(vcpu, carrier, None).masks:
                return carrier
        return SmmCarrier.SMRAM if read_place(vcpu, SmmCarrier.SMRAM, memory).masks is not None else None

    def _compare(self, source: SmmCarrier | None, found: int, *, told: bool) -> None:
        """Tell where another carrier says something else, unless the caller told which counts.

        Zero without a flag may mean that nobody wrote there. Nested state is told of always, for no host takes the
        bits and they are cleared; the byte behind `triple_fault` may be junk, and stays if another one is to count.
        """
        for carrier in SmmCarrier:
            other = read_place(self._vcpu, carrier, self._memory)
            said = other.masks if other.masks or carrier is SmmCarrier.EVENTS_NIBBLE else None
            heard = not told or carrier is SmmCarrier.NESTED_FLAGS
            if heard and carrier is not source and said is not None and said != found:
                text = f"{source} says {SHADOW_WORDS[found]} and counts, {carrier} says {SHADOW_WORDS[said]}"
                self._say("LOSS-008", self._events, text)
            if carrier is SmmCarrier.SMRAM and other.junk:
                self._say("LOSS-009", self._events, f"{other.junk:#04x}")

    def _put(self, vcpu: VcpuState, masks: int) -> tuple[VcpuState, bool]:
        """Return the vCPU with the shadow in the target's place, and whether it is there."""
        if self._target is None:
            if masks:
                self._say("LOSS-001", self._events, SHADOW_WORDS[masks])
                if read_place(vcpu, SmmCarrier.SMRAM, self._memory).masks:
                    self._say("LOSS-013", self._events)
            return vcpu, False
        if self._target is SmmCarrier.SMRAM:
            return vcpu, self._put_smram(masks)
        if self._target is SmmCarrier.NESTED_FLAGS and not has_nested_flags(vcpu):
            self._say("LOSS-004", self._nested, f"shadow {SHADOW_WORDS[masks]}", None if masks else Severity.NOTE)
            return vcpu, False
        if self._target is SmmCarrier.NESTED_FLAGS and vcpu.nested_state is None:
            self._say("LOSS-014", self._nested, "it is added")
        if self._target is SmmCarrier.SMI_SUBSTRUCT and (junk := vcpu.events.reserved[0] & ~SHADOW_MASKS):
            self._say("LOSS-015", self._reserved, f"{junk:#04x}")
        return put_place(vcpu, self._target, masks), True

    def _put_smram(self, masks: int) -> bool:
        gpa = int_shadow_gpa(self._vcpu)
        lesser = None if masks else Severity.NOTE
        if gpa is None:
            self._say("LOSS-002", self._smbase, f"shadow {SHADOW_WORDS[masks]}", lesser)
            return False
        held = self._held(gpa)
        if held is None:
            self._say("LOSS-003", self._smbase, f"{gpa:#x}, shadow {SHADOW_WORDS[masks]}", lesser)
            return False
        if self._memory is None:
            self._say("LOSS-011", self._events, f"{masks} to {gpa:#x} of address space {AS_SMM}")
        if self._memory is None or held & SHADOW_MASKS != masks:
            byte = held & ~SHADOW_MASKS | masks
            self.writes.append(SmramWrite(self._vcpu.index, AS_SMM, gpa, bytes([byte])))
        return True

    def _held(self, gpa: int) -> int | None:
        """Return the byte in memory, 0 where memory is not at hand, None where no slot is."""
        if self._memory is None:
            mapped = self._map is None or self._map.translate(AS_SMM, gpa) is not None
            return 0 if mapped else None
        try:
            return self._memory.read(AS_SMM, gpa, 1)[0]
        except LookupError:
            return None

    def _of_vendor(self, masks: int) -> None:
        """Tell what the target's processor cannot hold of a shadow."""
        if self._vendor in VMX_VENDORS and masks == SHADOW_MASKS:
            self._say("LOSS-005", self._events)
        if self._vendor in SVM_VENDORS and masks in (1, 2):
            self._say("LOSS-006", self._events, SHADOW_WORDS[masks])

    def _say(self, rule: str, where: str, detail: str = "", severity: Severity | None = None) -> None:
        self.findings.append(loss(rule, where, detail, severity))
