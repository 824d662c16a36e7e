"""What differs between two states, by meaning: RFLAGS.IF cleared, CR4.PAE set, MSR_LSTAR changed.

`diff_states` is empty if and only if the two are the same bit by bit (apart from what is ignored); its order is that of
SECTIONS, vCPU by vCPU, then the VM, then the memory map. `json_patch` says the same as RFC 6902 for programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from ..memory import MemoryMap, MemorySlot
from ..model import Model
from ..paths import Parts
from ..state import MachineState, VcpuState, VmState
from ..uapi import VCPU_SECTIONS, VM_SECTIONS
from . import lapic, sections, xsave
from .change import Change, ChangeKind, Found
from .compare import compare, compare_bytes, compare_fields, compare_scalars
from .ignore import CLASS_NAMES, CLASSES, Ignore
from .patch import json_patch

__all__ = ["CLASSES", "CLASS_NAMES", "Change", "ChangeKind", "Ignore", "StateDiff", "diff_states", "json_patch"]

SPECIALS = (lapic, sections, xsave)
"""The modules that register comparisons of their own with `compare.special`."""

S = TypeVar("S", VcpuState, MachineState)

MIRRORED = "sregs"
"""The section whose fields sregs2 repeats."""


class StateDiff(Model):
    """The differences of two states; `ignored` counts places that differ and were to be ignored."""

    changes: tuple[Change, ...]
    ignored: int = 0

    @cached_property
    def equal(self) -> bool:
        """Whether nothing differs but what was ignored."""
        return not self.changes


def diff_states(old: S, new: S, *, ignore: Iterable[str] = ()) -> StateDiff:
    """Return what differs from `old` to `new`, in the order of SECTIONS.

    `ignore` holds patterns of paths and names of classes (see `schemas.diff.ignore`).

    Raises:
        FieldError: something in `ignore` is no pattern.
    """
    found = Found(Ignore(ignore))
    if isinstance(old, VcpuState):
        _vcpu(found, (), old, new)
        if old.index != new.index:
            found.say(("index",), f"vCPU {old.index} -> vCPU {new.index}", old.index, new.index)
    else:
        _vcpus(found, old.vcpus, new.vcpus)
        _sections(found, ("vm",), old.vm, new.vm, VM_SECTIONS)
        _memory(found, old.memory, new.memory)
    return StateDiff(changes=tuple(found.changes), ignored=found.ignored)


def _vcpus(found: Found, old: Sequence[VcpuState], new: Sequence[VcpuState]) -> None:
    for index, (before, after) in enumerate(zip(old, new, strict=False)):
        _vcpu(found, ("vcpus", index), before, after)
        if before.index != after.index:
            found.say(("vcpus", index, "index"), f"{before.index} -> {after.index}", before.index, after.index)
    shared = min(len(old), len(new))
    for index, gone in enumerate(old[shared:], shared):
        found.removed(("vcpus", index), f"vCPU removed, was at rip {gone.regs.rip:#x}")
    for index, come in enumerate(new[shared:], shared):
        found.added(("vcpus", index), f"vCPU added, at rip {come.regs.rip:#x}")


def _vcpu(found: Found, parts: Parts, old: VcpuState, new: VcpuState) -> None:
    _sections(found, parts, old, new, VCPU_SECTIONS)


def _sections(
    found: Found, parts: Parts, old: VcpuState | VmState, new: VcpuState | VmState, names: Iterable[str]
) -> None:
    for name in names:
        before, after, place = getattr(old, name), getattr(new, name), (*parts, name)
        if before is None and after is None:
            continue
        if before is None:
            found.added(place, f"section added, {len(after.pack())} bytes", after.model_dump(mode="json"))
        elif after is None:
            found.removed(place, f"section removed, {len(before.pack())} bytes", before.model_dump(mode="json"))
        else:
            _section(found, place, name, (old, before), (new, after))


def _section(found: Found, place: Parts, name: str, old: tuple[Any, Any], new: tuple[Any, Any]) -> None:
    """Tell the differences of one section; each side is given with the state that it is of."""
    raw = old[1].pack(), new[1].pack()
    if raw[0] == raw[1]:
        return
    told = len(found.changes) + found.ignored
    if name == "xsave":
        xsave.compare_areas(found, place, old, new)
    elif name == "sregs2":
        _sregs2(found, place, old, new)
    else:
        compare(found, place, old[1], new[1])
    if told == len(found.changes) + found.ignored and name != "sregs2":
        compare_bytes(found, place, *raw)  # what differs has no name


def _sregs2(found: Found, place: Parts, old: tuple[Any, Any], new: tuple[Any, Any]) -> None:
    """Tell the fields of sregs2 whose change sregs has not told: sregs2 repeats it."""
    repeated = [
        field
        for field in type(old[1]).model_fields
        if found.ignore.covers((*place[:-1], MIRRORED, field))
        or (getattr(old[1], field), getattr(new[1], field)) != _in_sregs(old[0], new[0], field)
    ]
    compare_fields(found, place, old[1], new[1], repeated)


def _in_sregs(old: VcpuState, new: VcpuState, field: str) -> tuple[object, object] | None:
    before, after = getattr(old, MIRRORED), getattr(new, MIRRORED)
    return (getattr(before, field), getattr(after, field)) if hasattr(before, field) else None


def _memory(found: Found, old: MemoryMap, new: MemoryMap) -> None:
    if old.ram_bytes != new.ram_bytes:
        text = f"{old.ram_bytes >> 10} KiB -> {new.ram_bytes >> 10} KiB"
        found.say(("memory", "ram_bytes"), text, hex(old.ram_bytes), hex(new.ram_bytes))
    before = {(slot.as_id, slot.slot): (n, slot) for n, slot in enumerate(old.slots)}
    after = {(slot.as_id, slot.slot): (n, slot) for n, slot in enumerate(new.slots)}
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            place, slot = before[key]
            found.removed(("memory", "slots", place), f"removed: {_slot(slot)}", slot.model_dump(mode="json"))
        elif key not in before:
            place, slot = after[key]
            found.added(("memory", "slots", place), f"added: {_slot(slot)}", slot.model_dump(mode="json"))
        elif before[key][1] != after[key][1]:
            _slot_fields(found, ("memory", "slots", before[key][0]), before[key][1], after[key][1])
    if [key for key in before if key in after] != [key for key in after if key in before]:
        found.say(("memory", "slots"), "the slots stand in another order")


def _slot(slot: MemorySlot) -> str:
    return f"slot {slot.slot} of address space {slot.as_id}, {slot.size_bytes >> 10} KiB at {slot.gpa:#x}"


def _slot_fields(found: Found, parts: Parts, old: MemorySlot, new: MemorySlot) -> None:
    for field in MemorySlot.model_fields:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            compare_scalars(found, (*parts, field), before, after, MemorySlot, field, 8)
