"""How structs differ: members by name and by the bytes that they take."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping

from .difference import Differences, differs, gone, kept
from .document import FieldExport, PackedPart, SchemaExport, StructExport, TailExport
from .shapes import Shapes

RESERVED = re.compile(r"(reserved|pad|padding|unused)\d*")
"""Names of members without a meaning yet. The kernel's habit."""

Fields = Mapping[str, FieldExport]
Span = tuple[int, int]
"""Offsets [start, end)."""


def struct_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the structs that both exports have differ."""
    were, are = Shapes(old), Shapes(new)
    for name, before, after in kept(old.structs, new.structs):
        subject = f"structs.{name}"
        if before.c_name != after.c_name:
            yield differs("c-name-changed", subject, before.c_name, after.c_name)
        if before.size != after.size:
            kind = "struct-grown" if after.size > before.size else "struct-shrunk"
            yield differs(kind, subject, f"{before.size} bytes", f"{after.size} bytes")
        yield from _members(subject, before, after)
        for field, was, is_ in kept(before.fields, after.fields):
            yield from _field(f"{subject}.{field}", field, (were, was), (are, is_))
        yield from _tail(subject, before.tail, after.tail)
    for name, parts, others in kept(old.packed, new.packed):
        yield from _packed(f"packed.{name}", parts, others)


def _members(subject: str, before: StructExport, after: StructExport) -> Differences:
    """Yield members that only one has: renamed, carved out of reserved bytes, given back to them, or plainly new."""
    lost, found = gone(before.fields, after.fields), gone(after.fields, before.fields)
    renamed = _renames(lost, found)
    for old_name, new_name in renamed.items():
        yield differs("field-renamed", f"{subject}.{old_name}", old_name, new_name)
    spare_before, spare_after = _reserved_bytes(before.fields), _reserved_bytes(after.fields)
    for name, row in found.items():
        if name in renamed.values():
            continue
        if RESERVED.fullmatch(name) and row.offset + row.size <= before.size:
            continue  # told by the member that it took the place of, or by the run that it is a rest of
        if _inside(row, spare_before):
            kind = "reserved-bytes-used" if row.optional else "reserved-bytes-used-and-demanded"
            yield differs(kind, f"{subject}.{name}", "reserved", _place(row))
        else:
            yield differs("field-added", f"{subject}.{name}", "none", _place(row))
    for name, row in lost.items():
        if name in renamed:
            continue
        if RESERVED.fullmatch(name):
            yield differs("reserved-bytes-resized", f"{subject}.{name}", _place(row), "none of this name")
        elif _inside(row, spare_after):
            yield differs("field-made-reserved", f"{subject}.{name}", _place(row), "reserved")
        else:
            yield differs("field-removed", f"{subject}.{name}", _place(row), "none")


def _renames(lost: Fields, found: Fields) -> dict[str, str]:
    """Return old name -> new name of members that take the same bytes in the same way."""
    by_place = {(row.offset, row.size, row.type, row.of): name for name, row in found.items()}
    pairs = {name: by_place.get((row.offset, row.size, row.type, row.of)) for name, row in lost.items()}
    return {
        old: new for old, new in pairs.items() if new and bool(RESERVED.fullmatch(old)) == bool(RESERVED.fullmatch(new))
    }


def _reserved_bytes(fields: Fields) -> list[Span]:
    """Return the runs of bytes without a meaning, ascending, neighbours joined."""
    spans: list[Span] = []
    for start, end in sorted(
        (row.offset, row.offset + row.size) for name, row in fields.items() if RESERVED.fullmatch(name)
    ):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _inside(row: FieldExport, spans: list[Span]) -> bool:
    """Return whether a member's bytes all lie in one of the runs."""
    at = bisect_right(spans, (row.offset, math.inf)) - 1
    return row.size > 0 and at >= 0 and row.offset + row.size <= spans[at][1]


def _place(row: FieldExport) -> str:
    return f"{row.type} at {row.offset}"


def _field(
    subject: str, name: str, before: tuple[Shapes, FieldExport], after: tuple[Shapes, FieldExport]
) -> Differences:
    """Yield how a member that both have differs."""
    (old, was), (new, is_) = before, after
    if RESERVED.fullmatch(name) and (was.offset, was.size) != (is_.offset, is_.size):
        yield differs("reserved-bytes-resized", subject, _place(was), _place(is_))
        return
    if was.offset != is_.offset:
        yield differs("field-moved", subject, f"offset {was.offset}", f"offset {is_.offset}")
    if was.length != is_.length and was.length is not None and is_.length is not None:
        yield differs("array-length-changed", subject, was.length, is_.length)
    elif was.size != is_.size:
        if was.of is None or was.of != is_.of:  # else the nested struct tells
            kind = "field-widened" if is_.size > was.size else "field-narrowed"
            yield differs(kind, subject, was.type, is_.type)
    else:
        yield from _type(subject, old, was, new, is_)
    if was.optional != is_.optional:
        yield differs("field-made-optional" if is_.optional else "field-made-required", subject)
    if was.in_c != is_.in_c:
        yield differs("field-name-in-c-changed", subject, was.in_c, is_.in_c)


def _type(subject: str, old: Shapes, was: FieldExport, new: Shapes, is_: FieldExport) -> Differences:
    """Yield how the type of a member of unchanged size differs."""
    if (was.by, was.arms) != (is_.by, is_.arms) and was.arms and is_.arms:
        if old.behind(was) != new.behind(is_):
            yield differs("union-arms-changed", subject, was.arms, is_.arms)
        else:
            yield differs("nested-struct-renamed", subject, was.arms, is_.arms)
    elif was.of != is_.of or bool(was.arms) != bool(is_.arms):
        same = was.of and is_.of and old.behind(was) == new.behind(is_)
        yield differs("nested-struct-renamed" if same else "field-type-changed", subject, was.type, is_.type)
    elif was.type != is_.type and was.of is None:
        signs = {was.type[:1], is_.type[:1]} == {"u", "s"} and was.type[1:] == is_.type[1:]
        yield differs("field-sign-changed" if signs else "field-type-changed", subject, was.type, is_.type)


def _tail(subject: str, was: TailExport | None, is_: TailExport | None) -> Differences:
    """Yield how the flexible members differ."""
    if was == is_:
        return
    if was is None or is_ is None:
        kind = "tail-added" if was is None else "tail-removed"
        yield differs(kind, subject, was.name if was else "none", is_.name if is_ else "none")
        return
    if was.name != is_.name:
        yield differs("tail-renamed", f"{subject}.{was.name}", was.name, is_.name)
    where = f"{subject}.{is_.name}"
    if (was.of is None) != (is_.of is None) or (is_.of is not None and was.element_bytes != is_.element_bytes):
        yield differs("tail-element-changed", where, was.type, is_.type)
        return
    if was.counter != is_.counter:
        yield differs("tail-counter-changed", where, was.counter, is_.counter)
    if was.element_bytes != is_.element_bytes:
        refined = was.element_bytes % max(is_.element_bytes, 1) == 0
        kind = "tail-granule-refined" if refined else "tail-granule-coarsened"
        yield differs(kind, where, f"{was.element_bytes} bytes", f"{is_.element_bytes} bytes")
    longest, longer = was.max_entries * was.element_bytes, is_.max_entries * is_.element_bytes
    if longest != longer:
        kind = "tail-limit-raised" if longer > longest else "tail-limit-lowered"
        yield differs(kind, where, f"{longest} bytes", f"{longer} bytes")


def _packed(subject: str, parts: Mapping[str, PackedPart], others: Mapping[str, PackedPart]) -> Differences:
    """Yield how the named bits of a byte differ."""
    lost, found = gone(parts, others), gone(others, parts)
    by_mask = {bits.mask: name for name, bits in found.items()}
    renamed = {name: by_mask[bits.mask] for name, bits in lost.items() if bits.mask in by_mask}
    for name, other in renamed.items():
        yield differs("bits-renamed", f"{subject}.{name}", name, other)
    for name, bits in lost.items():
        if name not in renamed:
            yield differs("bits-unnamed", f"{subject}.{name}", f"{bits.mask:#x}", "none")
    for name, bits in found.items():
        if name not in renamed.values():
            yield differs("bits-named", f"{subject}.{name}", "none", f"{bits.mask:#x}")
    for name, was, is_ in kept(parts, others):
        if was.mask != is_.mask:
            yield differs("bits-moved", f"{subject}.{name}", f"{was.mask:#x}", f"{is_.mask:#x}")
        if was.max != is_.max:
            kind = "bits-range-widened" if is_.max > was.max else "bits-range-narrowed"
            yield differs(kind, f"{subject}.{name}", f"at most {was.max}", f"at most {is_.max}")
