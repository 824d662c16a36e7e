"""The structs once more as msgspec types, for comparison: what a typed codec in C makes of the decoded form."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import msgspec

from schemas.fields import CScalar
from schemas.layout import CStruct, PackedByte
from schemas.state import VcpuState
from schemas.uapi import VCPU_SECTIONS


def struct_type(model: type[CStruct]) -> type[msgspec.Struct]:
    """Return a msgspec struct with the fields of a C struct, ranges included as far as msgspec has them."""
    fields = [(name, _type(field.annotation, field.metadata)) for name, field in model.model_fields.items()]
    return msgspec.defstruct(model.__name__, fields, frozen=True, forbid_unknown_fields=True)


def _type(annotation: Any, marks: list[Any]) -> Any:
    for mark in marks:
        if isinstance(mark, CScalar):
            low, high = mark.limits
            # msgspec's own integers end at 64 bits; its bounds must fit i64.
            return (
                Annotated[int, msgspec.Meta(ge=low, le=high)] if high < 1 << 63 else Annotated[int, msgspec.Meta(ge=0)]
            )
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        if get_origin(element) is Annotated:
            base, *inner = get_args(element)
            return tuple[_type(base, inner), ...]
        return tuple[_type(element, []), ...]
    if isinstance(annotation, type) and issubclass(annotation, CStruct):
        return struct_type(annotation)
    if isinstance(annotation, type) and issubclass(annotation, PackedByte):
        return dict[str, int]
    return annotation


def vcpu_type(vcpu: VcpuState) -> type[msgspec.Struct]:
    """Return the msgspec type of a vCPU with the sections that this one has."""
    fields = [(name, struct_type(row.model)) for name, row in VCPU_SECTIONS.items() if getattr(vcpu, name) is not None]
    return msgspec.defstruct("Vcpu", fields, frozen=True, forbid_unknown_fields=True)
