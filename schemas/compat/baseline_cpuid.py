"""The CPUID table that every host of a fleet can hold: the relations of `cpuid_words`, applied to all at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

from ..uapi.cpuid2 import KVM_MAX_CPUID_ENTRIES, KvmCpuid2, KvmCpuidEntry2
from . import cpuid_words as words
from .cpuid_view import REGISTERS, CpuidView, Register
from .cpuid_words import Relation, Word
from .profile import HostProfile

ROWS: tuple[Word, ...] = tuple(
    word for group in vars(words).values() if isinstance(group, tuple) for word in group if isinstance(word, Word)
)
"""Every row of `cpuid_words`."""

_COMPARED_LINES = (0x4, 0x8000001D)
"""Descriptive leaves that are left out where their cache lines differ."""

_HEADERS = (0x0, 0x80000000, 0xC0000000)
"""Leaves whose EAX is the highest leaf: the least."""

_VENDOR_BITS_OF_DISPLAY = ((0xA, "eax", 24, 8),)
"""Numbers that no rule compares by itself, and of which the least holds for all."""

Bit = tuple[int, int, Register, int]

COMPONENT_FEATURES: tuple[tuple[int, tuple[Bit, ...]], ...] = (
    (0x4, (
        (1, 0, "ecx", 12), (1, 0, "ecx", 28), (1, 0, "ecx", 29), (7, 0, "ebx", 5), (7, 0, "ecx", 9), (7, 0, "ecx", 10),
        (7, 1, "eax", 0), (7, 1, "eax", 1), (7, 1, "eax", 2), (7, 1, "eax", 4), (7, 1, "eax", 23), (7, 1, "edx", 4),
        (7, 1, "edx", 5), (7, 1, "edx", 10), (0x80000001, 0, "ecx", 11), (0x80000001, 0, "ecx", 16),
    )),
    (0x18, ((7, 0, "ebx", 14),)),
    (0xE0, (
        *((7, 0, "ebx", bit) for bit in (16, 17, 21, 26, 27, 28, 30, 31)),
        *((7, 0, "ecx", bit) for bit in (1, 6, 11, 12, 14)),
        *((7, 0, "edx", bit) for bit in (2, 3, 8, 23)),
        (7, 1, "eax", 5), (7, 1, "edx", 19),
    )),
    (0x200, ((7, 0, "ecx", 3),)),
    (0x60000, ((7, 0, "edx", 22), (7, 0, "edx", 24), (7, 0, "edx", 25), (7, 1, "eax", 21), (7, 1, "edx", 8))),
)  # fmt: skip
"""Components that go together (YMM; MPX; AVX-512; protection keys; AMX), and the features that need them.

Source: SDM vol. 1 13.3, 14.3, 15.2; Linux 6.12 arch/x86/kernel/fpu/xstate.c xsave_cpuid_features.
"""


def common_cpuid(profiles: Sequence[HostProfile]) -> KvmCpuid2:
    """Return the largest table of which every host supports every entry."""
    views = [CpuidView(profile.cpuid) for profile in profiles]
    kept = _common_components(profiles, views)
    entries = []
    for entry in profiles[0].cpuid.entries:
        others = [view.entry(entry.function, entry.index) for view in views]
        held = [other for other in others if other is not None]
        if len(held) == len(views) and _keeps(entry, views, kept):
            entries.append(_combined(entry, held))
    entries = _without_features(_sized(entries, kept), kept)[:KVM_MAX_CPUID_ENTRIES]
    return KvmCpuid2(nent=len(entries), entries=tuple(entries))


def _keeps(entry: KvmCpuidEntry2, views: list[CpuidView], kept: int) -> bool:
    """Return whether a leaf that all have stays."""
    if entry.function == 0xD and entry.index >= 2:
        return bool(kept >> entry.index & 1)
    if entry.function in _COMPARED_LINES:
        return len({view.value(entry.function, entry.index, "ebx", 0, 12) for view in views}) == 1
    return True


def _combined(entry: KvmCpuidEntry2, held: list[KvmCpuidEntry2]) -> KvmCpuidEntry2:
    if entry.function in words.DESCRIPTIVE or (entry.function == 0xD and entry.index >= 2):
        if entry.function in _HEADERS:
            return entry.model_copy(update={"eax": min(other.eax for other in held)})
        return entry
    changes: dict[str, int] = {}
    for register in REGISTERS:
        values = [getattr(other, register) for other in held]
        changes[register] = _register(entry, register, values)
    return entry.model_copy(update=changes)


def _register(entry: KvmCpuidEntry2, register: Register, values: list[int]) -> int:
    common = values[0] if entry.function == 1 and register in ("eax", "ebx") else reduce(and_, values)
    rows = [(word.low, word.width, word.relation) for word in ROWS
            if (word.function, word.subleaf, word.register) == (entry.function, entry.index, register)
            and word.relation is not Relation.SUBSET]  # fmt: skip
    rows += [(low, width, Relation.NOT_GREATER) for function, name, low, width in _VENDOR_BITS_OF_DISPLAY
             if (function, name) == (entry.function, register)]  # fmt: skip
    if (entry.function, register) == (0xA, "ebx"):  # events that are missing
        return reduce(or_, values)
    for low, width, relation in rows:
        mask = ((1 << width) - 1) << low
        fields = [value & mask for value in values]
        if relation is Relation.NOT_GREATER:
            chosen = min(fields)
        else:
            chosen = fields[0] if len(set(fields)) == 1 else 0
        common = common & ~mask | chosen
    return common


def _common_components(profiles: Sequence[HostProfile], views: list[CpuidView]) -> int:
    """Return the mask of components, of XCR0 and of IA32_XSS, that all hosts have with one size and place."""
    kept = reduce(
        and_,
        (view.xcr0_mask & profile.xcr0_mask | view.xss_mask for view, profile in zip(views, profiles, strict=True)),
    )
    tables = [view.components for view in views]
    for number in range(2, 63):
        if kept >> number & 1:
            rows = {table.get(number) for table in tables}
            dynamic = any(row is not None and row[2] & 4 for row in rows)
            refused = dynamic and any(
                profile.xcr0_guest_permitted is not None and not profile.xcr0_guest_permitted >> number & 1
                for profile in profiles
            )
            if len(rows) != 1 or None in rows or refused:
                kept &= ~(1 << number)
    for group, _ in COMPONENT_FEATURES:
        if kept & group != group:
            kept &= ~group
    return kept if kept & 4 else kept & ~0xE0  # AVX-512 needs YMM


def _sized(entries: list[KvmCpuidEntry2], kept: int) -> list[KvmCpuidEntry2]:
    """Set what leaf 0xD says of all components together: masks and sizes."""
    places = [(e.eax, e.ebx) for e in entries if e.function == 0xD and e.index >= 2 and not e.ecx & 1]
    size = max((offset + length for length, offset in places), default=576)
    changed = []
    for entry in entries:
        if entry.function == 0xD and entry.index == 0:
            low, high = entry.eax & kept, entry.edx & kept >> 32
            entry = entry.model_copy(update={"eax": low, "edx": high, "ebx": size, "ecx": size})
        elif entry.function == 0xD and entry.index == 1:
            entry = entry.model_copy(update={"ebx": 0, "ecx": entry.ecx & kept, "edx": entry.edx & kept >> 32})
        changed.append(entry)
    return changed


def _without_features(entries: list[KvmCpuidEntry2], kept: int) -> list[KvmCpuidEntry2]:
    """Clear the features whose components are gone."""
    masks: dict[tuple[int, int], dict[str, int]] = {}
    for group, features in COMPONENT_FEATURES:
        if kept & group != group:
            for function, subleaf, register, bit in features:
                registers = masks.setdefault((function, subleaf), {})
                registers[register] = registers.get(register, 0) | 1 << bit
    return [
        entry.model_copy(update={r: getattr(entry, r) & ~m for r, m in masks[entry.function, entry.index].items()})
        if (entry.function, entry.index) in masks
        else entry
        for entry in entries
    ]
