"""From one schema version to another, up and down, with what is lost.

What travels is converted as it travels: raw sections, of which only those that differ are built anew. Where no loss is
reported, down after up and up after down give back the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import Finding, Severity
from ..shadow import Conversion, SmmCarrier, SmramAccess, SmramWrite, carrier_shadow, convert_carrier, in_smm
from ..shadow.conversion import Told
from ..shadow.losses import loss
from ..state import MachineSections, Sections, VcpuState
from ..uapi.vcpu_events import KvmVcpuEvents, VcpuEventFlags
from .drops import DROP_OF
from .rows import foreign_sections, version_row

_SHADOW_FLAG = VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW


@dataclass(frozen=True, slots=True)
class Converted(Told):
    """Sections of version `version`."""

    sections: MachineSections
    version: int

    def as_json(self) -> dict[str, Any]:
        """Return everything but the sections as JSON values."""
        return {"schema_version": self.version, **Told.as_json(self)}


class _Report:
    """What the steps of one conversion say."""

    def __init__(self) -> None:
        self.writes: list[SmramWrite] = []
        self.findings: list[Finding] = []

    def say(self, rule: str, where: str, detail: str = "") -> None:
        self.findings.append(loss(rule, where, detail))

    def took(self, done: Conversion[VcpuState]) -> VcpuState:
        self.writes += done.smram_writes
        self.findings += (*done.losses, *done.notes)
        return done.state

    def close(self, sections: MachineSections, version: int) -> Converted:
        losses = tuple(finding for finding in self.findings if finding.severity is not Severity.NOTE)
        notes = tuple(finding for finding in self.findings if finding.severity is Severity.NOTE)
        return Converted(sections, version, smram_writes=tuple(self.writes), losses=losses, notes=notes)


class _Context(NamedTuple):
    memory: SmramAccess | None
    carrier: SmmCarrier | None
    vendor: str | None
    report: _Report


def convert_version(
    sections: MachineSections,
    *,
    source: int,
    target: int,
    memory: SmramAccess | None = None,
    carrier: SmmCarrier | None = SmmCarrier.SMRAM,
    vendor: str | None = None,
) -> Converted:
    """Return the sections in version `target`; the same sections if both versions are one.

    `memory` is guest RAM where it is at hand: on the way up the shadow put aside is read from it, on the way down it
    goes there. `carrier` is what the target keeps it in if its version has no nibble, None if it keeps it nowhere;
    `vendor` is the CPUID vendor of its processor. The sections must be decodable (`schemas.state.section_problems`).

    Raises:
        ValueError: there is no such version.
        SchemaError: the sections are no machine, or the nibble holds bits that no shadow has.
    """
    version_row(source), version_row(target)
    report = _Report()
    context = _Context(memory, carrier, vendor, report)
    while source != target:
        lower, upper = (source, source + 1) if source < target else (source - 1, source)
        step = _STEPS[lower, upper]
        sections = (step.up if source < target else step.down)(sections, context)
        source = upper if source < target else lower
    return report.close(sections, target)


def to_carrier(
    sections: MachineSections,
    version: int,
    carrier: SmmCarrier | None,
    memory: SmramAccess | None = None,
    vendor: str | None = None,
) -> Converted:
    """Return the sections in the same version with the shadow put aside in `carrier`; see `convert_carrier`.

    Raises:
        SchemaError: as `convert_version`.
    """
    report = _Report()
    context = _Context(memory, carrier, vendor, report)
    vcpus = [_recarried(dict(raw), index, context) for index, raw in enumerate(sections.vcpus)]
    return report.close(MachineSections(dict(sections.vm), vcpus), version)


def up(sections: MachineSections, memory: SmramAccess | None = None) -> Converted:
    """Return sections of version 1 in version 2; see `convert_version`."""
    return convert_version(sections, source=1, target=2, memory=memory)


def down(
    sections: MachineSections, memory: SmramAccess | None = None, carrier: SmmCarrier | None = SmmCarrier.SMRAM
) -> Converted:
    """Return sections of version 2 in version 1; see `convert_version`."""
    return convert_version(sections, source=2, target=1, memory=memory, carrier=carrier)


# 1 <-> 2


def _up_to_2(sections: MachineSections, context: _Context) -> MachineSections:
    vcpus = [_vcpu_up_to_2(dict(raw), index, context) for index, raw in enumerate(sections.vcpus)]
    return MachineSections(dict(sections.vm), vcpus)


def _vcpu_up_to_2(raw: Sections, index: int, context: _Context) -> Sections:
    where = f"vcpus.{index}.events.interrupt.shadow"
    events = KvmVcpuEvents.unpack(raw["events"])
    byte = events.interrupt.shadow
    if events.has(_SHADOW_FLAG):
        context.report.say("LOSS-025", where, f"{byte.to_byte():#04x}")
        return raw
    if byte.smm:
        context.report.say("LOSS-024", where, f"{byte.to_byte():#04x}")
        cleared = events.interrupt.model_copy(update={"shadow": type(byte)(current=byte.current)})
        raw["events"] = events.model_copy(update={"interrupt": cleared}).pack()
    if context.memory is not None and in_smm(events):
        vcpu = VcpuState.from_sections(raw, index=index)
        done = convert_carrier(vcpu, SmmCarrier.EVENTS_NIBBLE, context.memory, source=SmmCarrier.SMRAM)
        raw["events"] = context.report.took(done).events.pack()
    return raw


def _down_to_1(sections: MachineSections, context: _Context) -> MachineSections:
    vm = _without(sections.vm, "vm", "vm.", context.report)
    vcpus = [_vcpu_down_to_1(dict(raw), index, context) for index, raw in enumerate(sections.vcpus)]
    return MachineSections(vm, vcpus)


def _vcpu_down_to_1(raw: Sections, index: int, context: _Context) -> Sections:
    return _without(_recarried(raw, index, context), "vcpu", f"vcpus.{index}.", context.report)


def _recarried(raw: Sections, index: int, context: _Context) -> Sections:
    """Return a vCPU's sections with the shadow put aside in the context's carrier; most have none and stay."""
    events = KvmVcpuEvents.unpack(raw["events"])
    shadow = events.interrupt.shadow
    elsewhere = in_smm(events) and (context.memory is not None or "nested_state" in raw)
    if events.has(_SHADOW_FLAG) or shadow.smm or elsewhere or (shadow.current and context.vendor is not None):
        vcpu = VcpuState.from_sections(raw, index=index)
        source = _held_in(vcpu)
        done = convert_carrier(vcpu, context.carrier, context.memory, source=source, vendor=context.vendor)
        changed = context.report.took(done).to_sections()
        raw |= {name: body for name, body in changed.items() if name in ("events", "nested_state")}
        if "nested_state" not in changed:
            raw.pop("nested_state", None)
    return raw


def _held_in(vcpu: VcpuState) -> SmmCarrier:
    """Return the carrier that counts. Junk in `reserved` is legal and no host speaks smi_substruct: it never does."""
    if vcpu.events.has(_SHADOW_FLAG):
        return SmmCarrier.EVENTS_NIBBLE
    return SmmCarrier.NESTED_FLAGS if carrier_shadow(vcpu, SmmCarrier.NESTED_FLAGS) else SmmCarrier.SMRAM


def _without(raw: Mapping[str, bytes], scope: str, where: str, report: _Report) -> Sections:
    """Return the sections that version 1 has; say of each other one what is lost with it."""
    gone = foreign_sections(set(raw), scope, 1)
    for name in gone:
        rule, detail = DROP_OF[name].judge(raw)
        report.say(rule, where + name, detail)
    return {name: body for name, body in raw.items() if name not in gone}


class _Step(NamedTuple):
    up: Callable[[MachineSections, _Context], MachineSections]
    down: Callable[[MachineSections, _Context], MachineSections]


_STEPS: Mapping[tuple[int, int], _Step] = {(1, 2): _Step(_up_to_2, _down_to_1)}
"""(version, the next one) -> both ways; a test looks for a step between any two neighbours."""


def highest_common(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Return the highest version that both lists have, None if there is none."""
    return max(set(ours) & set(theirs), default=None)
