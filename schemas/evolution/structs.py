"""Structs, packed bytes and named numbers as they stand in an export."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import Enum, IntFlag
from typing import Any, get_args

from pydantic.fields import FieldInfo

from .. import kvm_numbers
from ..fields import CArray, CFlexArray, CFlexBytes, CUnion
from ..layout import CStruct, FieldLayout, PackedByte
from .document import EnumExport, FieldExport, PackedPart, StructExport, TailExport

PackedExport = dict[str, PackedPart]


def struct_export(model: type[CStruct]) -> StructExport:
    """Return a struct with its own members; nested structs are entries of their own."""
    rows = {row.name: row for row in model.layout() if "." not in row.name}
    fields, tail = {}, None
    for name, info in model.model_fields.items():
        flexible = _tail(name, info, rows[name])
        if flexible is None:
            fields[name] = _field(info, rows[name])
        else:
            tail = flexible
    return StructExport(c_name=model.C_NAME, size=model.SIZE, align=model.ALIGN, fields=fields, tail=tail)


def _tail(name: str, info: FieldInfo, row: FieldLayout) -> TailExport | None:
    for mark in info.metadata:
        if isinstance(mark, CFlexBytes):
            most = mark.max_bytes // mark.granule
            return TailExport(name=name, type=row.ctype, element_bytes=mark.granule, max_entries=most)
        if isinstance(mark, CFlexArray):
            element = get_args(info.annotation)[0]
            return TailExport(
                name=name,
                type=row.ctype,
                of=element.__name__,
                element_bytes=element.SIZE,
                max_entries=mark.max_entries,
                counter=mark.count,
            )
    return None


def _field(info: FieldInfo, row: FieldLayout) -> FieldExport:
    union = next((mark for mark in info.metadata if isinstance(mark, CUnion)), None)
    array = next((mark for mark in info.metadata if isinstance(mark, CArray)), None)
    behind: Any = info.annotation if array is None else get_args(info.annotation)[0]
    return FieldExport(
        offset=row.offset,
        size=row.size,
        type=row.ctype,
        of=behind.__name__ if union is None and _is_model(behind) else None,
        by=None if union is None else union.by,
        arms={} if union is None else _arms(union),
        length=None if array is None else array.length,
        optional=not info.is_required(),
        in_c=row.in_c,
    )


def _arms(union: CUnion) -> dict[str, str]:
    named = {str(int(value)): arm.__name__ for value, arm in union.arms}
    return {**named, "other": union.other.__name__}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, CStruct | PackedByte)


def packed_models(models: Iterable[type[CStruct]]) -> Iterator[type[PackedByte]]:
    """Yield the packed bytes that the structs use, each once."""
    seen: set[type[PackedByte]] = set()
    for model in models:
        for info in model.model_fields.values():
            found = info.annotation
            if isinstance(found, type) and issubclass(found, PackedByte) and found not in seen:
                seen.add(found)
                yield found


def packed_export(model: type[PackedByte]) -> PackedExport:
    """Return the parts of a packed byte: the bits that change a part, and the largest value that it takes."""
    forms = [model.from_byte(byte).model_dump() for byte in range(256)]
    return {
        name: PackedPart(
            mask=sum(1 << bit for bit in range(8) if forms[1 << bit][name] != forms[0][name]),
            max=max(form[name] for form in forms),
        )
        for name in forms[0]
    }


def enum_exports(models: Iterable[type[CStruct]]) -> dict[str, EnumExport]:
    """Return the named numbers that stand beside the structs, and those that only KVM is told."""
    found: dict[str, EnumExport] = {}
    for module in dict.fromkeys(model.__module__ for model in models):
        for enum in _enums_of(module):
            role = "flags" if issubclass(enum, IntFlag) else "value"
            found[enum.__name__] = EnumExport.model_validate({"role": role, "members": _members(enum)})
    for enum in _enums_of(kvm_numbers.__name__):
        found[enum.__name__] = EnumExport(role="interface", members=_members(enum))
    return found


def _enums_of(module: str) -> Iterator[type[Enum]]:
    for value in vars(sys.modules[module]).values():
        if isinstance(value, type) and issubclass(value, Enum) and value.__module__ == module:
            yield value


def _members(enum: type[Enum]) -> dict[str, int | str]:
    return {
        name: member.value if isinstance(member.value, str) else int(member.value)
        for name, member in enum.__members__.items()
    }
