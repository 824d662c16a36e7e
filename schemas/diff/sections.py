"""The structs of a vCPU that are more than fields: segments, MSRs, CPUID, XCRs, the local APIC, XSAVE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..names.bits import REGISTERS
from ..names.msrs import msr_name, msr_row
from ..names.segments import segment_type
from ..paths import Parts
from ..uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from ..uapi.msrs import KvmMsrEntry, KvmMsrs
from ..uapi.sregs import KvmSegment
from ..uapi.xcrs import KvmXcrs
from .change import Found
from .compare import compare_fields, compare_tuples, say_bits, special
from .cpuid import feature_changes


@special(KvmSegment)
def segments(found: Found, parts: Parts, old: KvmSegment, new: KvmSegment) -> None:
    """Tell the type of a segment in words, the rest field by field."""
    rest = [name for name in KvmSegment.model_fields if name != "type"]
    if old.type != new.type:
        before, after = segment_type(old.s, old.type), segment_type(new.s, new.type)
        found.say((*parts, "type"), f"{before} -> {after} ({old.type:#x} -> {new.type:#x})", old.type, new.type)
    compare_fields(found, parts, old, new, rest)


@special(KvmMsrs)
def msrs(found: Found, parts: Parts, old: KvmMsrs, new: KvmMsrs) -> None:
    """Tell the MSRs by name; entry by entry where a list is not a plain one."""
    if not (_is_plain(old.entries) and _is_plain(new.entries)):
        compare_fields(found, parts, old, new)
        return
    compare_fields(found, parts, old, new, ("pad",))
    before, after = old.values_by_index(), new.values_by_index()
    for number in _merged(list(before), list(after)):
        name = msr_name(number)
        place = (*parts, number if name.startswith("0x") else name)
        if number not in after:
            found.removed(place, f"removed, was {before[number]:#x}", hex(before[number]))
        elif number not in before:
            found.added(place, f"added as {after[number]:#x}", hex(after[number]))
        elif before[number] != after[number]:
            _msr_value(found, place, number, before[number], after[number])
    _order(found, (*parts, "entries"), list(before), list(after), msr_name)


def _is_plain(entries: Sequence[KvmMsrEntry]) -> bool:
    return len({entry.index for entry in entries}) == len(entries) and not any(entry.reserved for entry in entries)


def _msr_value(found: Found, place: Parts, number: int, old: int, new: int) -> None:
    row = msr_row(number)
    if row is not None and row.bits is not None:
        say_bits(found, place, old, new, REGISTERS[row.bits], 8)
    else:
        found.say(place, f"{old:#x} -> {new:#x}", hex(old), hex(new))


def _merged(old: list[Any], new: list[Any]) -> Iterator[Any]:
    """Yield the keys of both lists, each once: those of the old one in its order, then the others in theirs."""
    yield from old
    known = set(old)
    yield from (key for key in new if key not in known)


def _order(found: Found, parts: Parts, old: list[Any], new: list[Any], name: Any) -> None:
    """Tell that what both lists hold stands in another order."""
    shared = set(old) & set(new)
    before, after = [key for key in old if key in shared], [key for key in new if key in shared]
    if before != after:
        first = next(n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        text = f"the order differs from {name(before[first])} on, where {name(after[first])} stands now"
        found.say(parts, text)


@special(KvmCpuid2)
def cpuid(found: Found, parts: Parts, old: KvmCpuid2, new: KvmCpuid2) -> None:
    """Tell features gained and lost, leaf by leaf; entry by entry where a leaf is in the list twice."""
    before = {(e.function, e.index): e for e in old.entries}
    after = {(e.function, e.index): e for e in new.entries}
    if len(before) != old.nent or len(after) != new.nent:
        compare_fields(found, parts, old, new)
        return
    compare_fields(found, parts, old, new, ("padding",))
    for key in _merged(list(before), list(after)):
        place = (*parts, *key)
        if key not in after:
            found.removed(place, f"removed, was {_leaf(before[key])}", before[key].model_dump(mode="json"))
        elif key not in before:
            found.added(place, f"added: {_leaf(after[key])}", after[key].model_dump(mode="json"))
        elif before[key] != after[key]:
            _cpuid_entry(found, place, before[key], after[key])
    _order(found, (*parts, "entries"), list(before), list(after), lambda key: f"leaf {key[0]:#x}.{key[1]:#x}")


def _leaf(entry: KvmCpuidEntry2) -> str:
    return " ".join(f"{name}={getattr(entry, name):#x}" for name in ("eax", "ebx", "ecx", "edx"))


def _cpuid_entry(found: Found, place: Parts, old: KvmCpuidEntry2, new: KvmCpuidEntry2) -> None:
    registers = ("eax", "ebx", "ecx", "edx")
    compare_fields(found, place, old, new, ("flags", "padding"))
    for register in registers:
        before, after = getattr(old, register), getattr(new, register)
        if before != after:
            words = feature_changes(old.function, old.index, register, before, after)
            values = f"{before:#x} -> {after:#x}"
            found.say((*place, register), f"{words} ({values})" if words else values, before, after)


@special(KvmXcrs)
def xcrs(found: Found, parts: Parts, old: KvmXcrs, new: KvmXcrs) -> None:
    """Tell the registers by number; field by field where the lists do not name the same ones."""
    numbers = [entry.xcr for entry in old.xcrs]
    used = min(old.nr_xcrs, len(old.xcrs))
    row = REGISTERS.get("xcr0")
    named = numbers == [entry.xcr for entry in new.xcrs] and numbers[:used].count(0) == 1 and old.nr_xcrs == new.nr_xcrs
    if not named or row is None:
        compare_fields(found, parts, old, new)
        return
    at = numbers.index(0)
    if old.xcrs[at].value != new.xcrs[at].value:
        say_bits(found, (*parts, "xcr0"), old.xcrs[at].value, new.xcrs[at].value, row, 8)
    without = old.xcrs[at].model_copy(update={"value": new.xcrs[at].value})
    rest = (*old.xcrs[:at], without, *old.xcrs[at + 1 :])
    compare_tuples(found, (*parts, "xcrs"), rest, new.xcrs, KvmXcrs, "xcrs")
    compare_fields(found, parts, old, new, ("nr_xcrs", "flags", "padding"))
