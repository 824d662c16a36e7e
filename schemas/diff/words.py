"""How a change reads: bits set and cleared, numbers in the base that suits them, runs of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from ..fields import CScalar
from ..names.bits import RESERVED, BitField, RegisterBits

DECIMAL = ("_khz", "_ns", "_bytes", "_instructions", "_time", "nent", "nmsrs", "nr_xcrs")
"""Ends of the names of fields that hold a quantity."""

SHOWN_BYTES = 16
"""Bytes of a run that are shown; a longer one is cut."""


@lru_cache(maxsize=1024)
def scalar_of(owner: type[BaseModel], field: str) -> CScalar | None:
    """Return the C type of a field, None if it is no integer."""
    return next((mark for mark in owner.model_fields[field].metadata if isinstance(mark, CScalar)), None)


def number(value: int, size_bytes: int, field: str = "") -> str:
    """Return a number as people read it: quantities and single bytes in decimal, the rest in hex."""
    return str(value) if size_bytes == 1 or field.endswith(DECIMAL) else hex(value)


def json_form(value: int, size_bytes: int) -> int | str:
    """Return a number as it stands in JSON documents: 64-bit ones as "0x…"."""
    return hex(value) if size_bytes == 8 else value


def bit_changes(old: int, new: int, row: RegisterBits, covered: Callable[[str], bool]) -> list[str]:
    """Return what happened to the bits of a register: "IF cleared", "IOPL 0 -> 3", "reserved 0x8000 set".

    `covered` tells whether a field of this name is to be left out.
    """
    return [
        text
        for field in row.fields
        if field.get(old) != field.get(new) and not covered(field.name)
        for text in (_field_change(field, field.get(old), field.get(new)),)
    ] + [text for text in _reserved_changes(old & ~row.named, new & ~row.named) if not covered(RESERVED)]


def _field_change(field: BitField, old: int, new: int) -> str:
    if field.width == 1 and field.values is None:
        return f"{field.name} {'set' if new else 'cleared'}"
    return f"{field.name} {field.word(old)} -> {field.word(new)}"


def _reserved_changes(old: int, new: int) -> Iterator[str]:
    for mask, word in ((new & ~old, "set"), (old & ~new, "cleared")):
        if mask:
            yield f"{RESERVED} {mask:#x} {word}"


def byte_runs(old: bytes, new: bytes) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of runs that differ in two strings of one length; gaps below 4 bytes do not end a run."""
    start = end = -1
    for at in _differing(old, new):
        if start >= 0 and at - end >= 4:
            yield start, end - start
            start = -1
        start, end = (at if start < 0 else start), at + 1
    if start >= 0:
        yield start, end - start


def _differing(old: bytes, new: bytes) -> Iterator[int]:
    """Yield the offsets at which two strings of one length differ; equal blocks are passed over at once."""
    for base in range(0, len(old), 64):
        a, b = old[base : base + 64], new[base : base + 64]
        if a != b:
            yield from (base + k for k in range(len(a)) if a[k] != b[k])


def shown(raw: bytes) -> str:
    """Return bytes in hex, cut if they are many."""
    return raw[:SHOWN_BYTES].hex() + ("…" if len(raw) > SHOWN_BYTES else "")


def listed(words: Iterable[Any], limit: int = 24) -> str:
    """Return words in a line, cut if they are many."""
    found = list(map(str, words))
    rest = f" and {len(found) - limit} more" if len(found) > limit else ""
    return " ".join(found[:limit]) + rest
