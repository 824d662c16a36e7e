"""The view of any struct: the same fields, those with named bits as name -> number.

Which field has which bits stands in `schemas.field_names`.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar, get_args

from pydantic import ValidationError

from ..errors import FieldError, Problem, problems_of
from ..field_names import bits_of
from ..layout import CStruct, CUnion, PackedByte
from ..names.bits import RegisterBits
from .parts import number_of

Decoded: TypeAlias = "int | bytes | dict[str, Decoded] | list[Decoded]"
"""A field of a view: a number, bytes, named bits or a struct, an array."""

S = TypeVar("S", bound=CStruct)


def decode_struct(struct: CStruct) -> dict[str, Decoded]:
    """Return the struct with its fields by name, registers as named bits."""
    return {name: _decode(getattr(struct, name), bits_of(type(struct), name)) for name in type(struct).model_fields}


def encode_struct(view: dict[str, Any], model: type[S]) -> S:
    """Return the struct that a view shows; the inverse of `decode_struct`.

    Raises:
        FieldError: a name is unknown, a number does not fit, or bits are given where there are none.
    """
    try:
        return model.model_validate(_plain(view, model))
    except ValidationError as error:
        raise FieldError(problems_of(error)) from error


def _decode(value: Any, bits: RegisterBits | None) -> Decoded:
    if isinstance(value, CStruct):
        return decode_struct(value)
    if isinstance(value, tuple):
        return [_decode(element, bits) for element in value]
    if isinstance(value, PackedByte):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if bits is not None and isinstance(value, int):
        return dict(bits.decode(value))
    number: int | bytes = value
    return number


def _plain(view: Any, model: type[CStruct]) -> Any:
    """Return what the model validates: bits as one number again. What does not belong is left for it to refuse."""
    if not isinstance(view, dict):
        return view
    plain: dict[str, Any] = {}
    for name, value in view.items():
        bits = bits_of(model, name)
        nested = _struct_of(model, name, view)
        if nested is not None:
            plain[name] = [_plain(v, nested) for v in value] if isinstance(value, list) else _plain(value, nested)
        elif isinstance(value, list):
            plain[name] = [_number(element, bits) for element in value]
        else:
            plain[name] = _number(value, bits)
    return plain


def _number(value: Any, bits: RegisterBits | None) -> Any:
    if bits is None or not isinstance(value, dict):
        return value
    return bits.encode({name: _whole(number, f"{bits.name}.{name}") for name, number in value.items()})


def _whole(value: Any, where: str) -> int:
    """Return the number of a field, which JSON may have as "0x…"."""
    number = number_of(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise FieldError([Problem(where=where[:64], message=f"{type(value).__name__} instead of a number")])
    return number


def _struct_of(model: type[CStruct], name: str, view: dict[str, Any]) -> type[CStruct] | None:
    """Return the struct that a field holds (or holds an array of), None for a number or bytes."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    union = next((mark for mark in field.metadata if isinstance(mark, CUnion)), None)
    candidates = (union.arm(view.get(union.by)),) if union else (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, CStruct)), None)
