"""The comparison of two structs of one kind, field by field; `SPECIAL` has the structs that are more than fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from ..field_names import bits_of, words_of
from ..fields import CScalar
from ..layout import CStruct, PackedByte
from ..paths import Parts
from .change import Found
from .words import bit_changes, byte_runs, json_form, number, scalar_of, shown

Special = Callable[[Found, Parts, Any, Any], None]
SPECIAL: dict[type[CStruct], Special] = {}
"""Struct -> its own comparison; filled by the modules of this package."""


def special(model: type[CStruct]) -> Callable[[Special], Special]:
    """Register a function as the comparison of a struct."""

    def register(function: Special) -> Special:
        SPECIAL[model] = function
        return function

    return register


def compare(found: Found, parts: Parts, old: Any, new: Any) -> None:
    """Tell every difference of two structs of one class."""
    function = SPECIAL.get(type(old))
    if function is not None:
        function(found, parts, old, new)
    else:
        compare_fields(found, parts, old, new)


def compare_fields(found: Found, parts: Parts, old: Any, new: Any, fields: Sequence[str] | None = None) -> None:
    """Tell the differences of the fields of two structs; of all fields unless they are named."""
    owner: type[BaseModel] = type(old)
    for field in fields if fields is not None else owner.model_fields:
        before, after = getattr(old, field), getattr(new, field)
        if before == after:
            continue
        place = (*parts, field)
        if isinstance(before, CStruct) and type(before) is not type(after):  # a union seen in two ways
            compare_bytes(found, place, before.pack(), after.pack())
        elif isinstance(before, CStruct | PackedByte):
            compare(found, place, before, after)
        elif isinstance(before, bytes):
            compare_bytes(found, place, before, after)
        elif isinstance(before, tuple):
            compare_tuples(found, place, before, after, owner, field)
        else:
            mark = scalar_of(owner, field)
            compare_scalars(found, place, before, after, owner, field, mark.size if mark else 1)


def compare_tuples(found: Found, parts: Parts, old: Any, new: Any, owner: type[BaseModel], field: str) -> None:
    """Tell the differences of two arrays, element by element; what one has more is added or removed."""
    for n, (before, after) in enumerate(zip(old, new, strict=False)):
        if before == after:
            continue
        if isinstance(before, CStruct):
            compare(found, (*parts, n), before, after)
        else:
            compare_scalars(found, (*parts, n), before, after, owner, field, element_size(owner, field))
    shared = min(len(old), len(new))
    for n, gone in enumerate(old[shared:], shared):
        found.removed((*parts, n), f"removed {_short(gone)}", _json(gone))
    for n, come in enumerate(new[shared:], shared):
        found.added((*parts, n), f"added {_short(come)}", _json(come))


def element_size(owner: Any, field: str) -> int:
    """Return the bytes of an element of an array of integers."""
    annotation = owner.model_fields[field].annotation
    marks = getattr(annotation.__args__[0], "__metadata__", ())
    return next((mark.size for mark in marks if isinstance(mark, CScalar)), 8)


def compare_scalars(
    found: Found, parts: Parts, old: int, new: int, owner: type[BaseModel], field: str, size_bytes: int
) -> None:
    """Tell the difference of two integers of a field, by its bits or words if they have names."""
    words, row = words_of(owner, field), bits_of(owner, field)
    if row is not None:
        say_bits(found, parts, old, new, row, size_bytes)
    elif words:
        text = f"{words.get(old, old)} -> {words.get(new, new)}"
        found.say(parts, text, json_form(old, size_bytes), json_form(new, size_bytes))
    else:
        text = f"{number(old, size_bytes, field)} -> {number(new, size_bytes, field)}"
        found.say(parts, text, json_form(old, size_bytes), json_form(new, size_bytes))


def say_bits(found: Found, parts: Parts, old: int, new: int, row: Any, size_bytes: int) -> None:
    """Tell the difference of two registers by their bits."""
    texts = bit_changes(old, new, row, lambda name: found.covered((*parts, name)))
    if texts:
        text = f"{', '.join(texts)} ({old:#x} -> {new:#x})"
        found.say(parts, text, json_form(old, size_bytes), json_form(new, size_bytes))


def compare_bytes(found: Found, parts: Parts, old: bytes, new: bytes, base: int = 0) -> None:
    """Tell the runs of bytes that differ, and a difference of length; `base` is the offset of the first byte."""
    shared = min(len(old), len(new))
    for offset, length in byte_runs(old[:shared], new[:shared]):
        before, after = old[offset : offset + length], new[offset : offset + length]
        text = f"{length} byte{'s' if length > 1 else ''}: {shown(before)} -> {shown(after)}"
        found.say((*parts, base + offset), text, before.hex(), after.hex())
    if len(old) != len(new):
        found.say(parts, f"{len(old)} -> {len(new)} bytes", len(old), len(new))


def _short(value: Any) -> str:
    if isinstance(value, CStruct):
        held = ((name, getattr(value, name)) for name in type(value).model_fields)
        return " ".join(f"{name}={v:#x}" for name, v in held if isinstance(v, int) and v)
    return str(value)


def _json(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, CStruct) else value
