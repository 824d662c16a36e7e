"""Guest memory as KVM sees it: slots of guest physical addresses over one backing of RAM.

Addresses are guest physical (`gpa`), in an address space: 0 is the normal one, 1 is what a vCPU in SMM sees.
Two slots may show the same backing bytes (KVM: two slots with one userspace address); the bytes exist and travel once.
Source: Linux 6.12 Documentation/virt/kvm/api.rst 4.35 KVM_SET_USER_MEMORY_REGION, KVM_CAP_MULTI_ADDRESS_SPACE.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from .layout import U64
from .model import Model
from .uapi.memory_slots import MemoryRegionFlags

PAGE_BYTES = 4096
MAX_RAM_BYTES = 64 << 30
"""64 GiB: page tables of the engine (one byte and one digest per page or chunk) stay below 100 MB."""
MAX_SLOTS = 512
"""KVM takes 32764; a VM has a handful. The bound keeps checks of hostile input cheap."""
GPA_LIMIT = 1 << 52
"""The architecture's largest physical address. Source: SDM vol. 3A 4.1.4."""

AS_NORMAL, AS_SMM = 0, 1

KVM_MEM_LOG_DIRTY_PAGES = int(MemoryRegionFlags.KVM_MEM_LOG_DIRTY_PAGES)
KVM_MEM_READONLY = int(MemoryRegionFlags.KVM_MEM_READONLY)


class Extent(NamedTuple):
    """A run of backing bytes and the one address that stands for it."""

    as_id: int
    gpa: int
    backing_offset_bytes: int
    size_bytes: int


class MemorySlot(Model):
    """One slot: `size_bytes` of address space `as_id` from `gpa` on, shown from `backing_offset_bytes` of the RAM."""

    as_id: Annotated[int, Field(ge=0, le=1, strict=True)]
    slot: Annotated[int, Field(ge=0, le=0x7FFF, strict=True)]
    gpa: U64
    size_bytes: U64
    flags: Annotated[int, Field(ge=0, le=KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY, strict=True)] = 0
    backing_offset_bytes: U64

    @property
    def end(self) -> int:
        """Return the first gpa behind the slot."""
        return self.gpa + self.size_bytes


class MemoryMap(Model):
    """All slots of a VM and the size of the RAM behind them; checked as a whole when it is made."""

    slots: Annotated[tuple[MemorySlot, ...], Field(max_length=MAX_SLOTS)]
    ram_bytes: U64

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = _ram_problems(self.ram_bytes)
        for slot in self.slots:
            problems += _slot_problems(slot, self.ram_bytes)
        problems += _pair_problems(self.slots)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def translate(self, as_id: int, gpa: int) -> int | None:
        """Return the backing offset of the byte at `gpa`, or None where no slot is."""
        starts, slots = self._index.get(as_id, ([], []))
        at = bisect_right(starts, gpa) - 1
        if at < 0 or gpa >= slots[at].end:
            return None
        return slots[at].backing_offset_bytes + gpa - slots[at].gpa

    def extents(self) -> tuple[Extent, ...]:
        """Return pieces that cover every backing byte that a slot shows exactly once, in order of (as_id, gpa).

        Of several addresses of a byte the lowest as_id, then the lowest gpa stands for it. Backing bytes that no slot
        shows are in no piece: no guest can see them, so they are not part of the state.
        """
        return self._extents

    @cached_property
    def _index(self) -> dict[int, tuple[list[int], list[MemorySlot]]]:
        found: dict[int, tuple[list[int], list[MemorySlot]]] = {}
        for slot in sorted(self.slots, key=lambda s: s.gpa):
            starts, slots = found.setdefault(slot.as_id, ([], []))
            starts.append(slot.gpa)
            slots.append(slot)
        return found

    @cached_property
    def _extents(self) -> tuple[Extent, ...]:
        taken: list[tuple[int, int]] = []
        pieces: list[Extent] = []
        for slot in sorted(self.slots, key=lambda s: (s.as_id, s.gpa)):
            first = slot.backing_offset_bytes
            for start, end in _gaps(taken, first, first + slot.size_bytes):
                pieces.append(Extent(slot.as_id, slot.gpa + start - first, start, end - start))
                taken.append((start, end))
            taken.sort()
        return tuple(pieces)


def _gaps(taken: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of [start, end) that no interval of `taken` (sorted, disjoint) covers."""
    gaps = []
    for low, high in taken:
        if high <= start:
            continue
        if low >= end:
            break
        if low > start:
            gaps.append((start, low))
        start = max(start, high)
    if start < end:
        gaps.append((start, end))
    return gaps


def _ram_problems(ram_bytes: int) -> list[str]:
    if ram_bytes % PAGE_BYTES or not PAGE_BYTES <= ram_bytes <= MAX_RAM_BYTES:
        return [f"ram_bytes {ram_bytes:#x} must be a multiple of {PAGE_BYTES} up to {MAX_RAM_BYTES:#x}"]
    return []


def _slot_problems(slot: MemorySlot, ram_bytes: int) -> list[str]:
    """Return what is wrong with one slot by itself."""
    name = f"slot {slot.slot} of address space {slot.as_id}"
    problems = [
        f"{name}: {field} {value:#x} is not a multiple of {PAGE_BYTES}"
        for field in ("gpa", "size_bytes", "backing_offset_bytes")
        if (value := getattr(slot, field)) % PAGE_BYTES
    ]
    if slot.size_bytes == 0:
        problems.append(f"{name}: size_bytes is 0")
    if slot.end > GPA_LIMIT:
        problems.append(f"{name}: ends at {slot.end:#x}, above the 52 bits of a physical address")
    if slot.backing_offset_bytes + slot.size_bytes > ram_bytes:
        problems.append(f"{name}: its backing ends behind ram_bytes {ram_bytes:#x}")
    return problems


def _pair_problems(slots: tuple[MemorySlot, ...]) -> list[str]:
    """Return what is wrong between slots: numbers used twice, overlapping addresses."""
    problems = []
    if len({(s.as_id, s.slot) for s in slots}) != len(slots):
        problems.append("a slot number is used twice in one address space")
    ordered = sorted(slots, key=lambda s: (s.as_id, s.gpa))
    problems += [
        f"slots {a.slot} and {b.slot} of address space {a.as_id} overlap at {b.gpa:#x}"
        for a, b in pairwise(ordered)
        if a.as_id == b.as_id and a.end > b.gpa
    ]
    return problems
