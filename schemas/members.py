"""The members of a C struct: how a field's annotation becomes an offset, letters for `struct`, and values.

`schemas.layout` builds `CStruct` of these; nobody else needs them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import starmap
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self, get_args, get_origin

from pydantic.fields import FieldInfo

from .errors import LayoutError, Problem
from .fields import CArray, CBytes, CFlexArray, CFlexBytes, CScalar, CUnion, NotInC
from .model import Model

if TYPE_CHECKING:
    from .layout import CStruct

FIELDS_OF = attrgetter("__dict__")


class FieldLayout(NamedTuple):
    """One row of a struct's layout; `size` is that of the whole member in bytes, 0 for a flexible tail."""

    name: str
    offset: int
    size: int
    ctype: str
    in_c: bool = True


class Counter(NamedTuple):
    """The field that counts the elements of a flexible tail: its name, its bytes, and the number they must hold."""

    name: str
    place: slice
    entries: int


class PackedByte(Model):
    """A structured value that occupies one byte of a struct; every value of the byte has a form of its own."""

    @classmethod
    def from_byte(cls, value: int) -> Self:
        """Return the structured form of a byte."""
        raise NotImplementedError

    def to_byte(self) -> int:
        """Return the byte."""
        raise NotImplementedError


class Member(NamedTuple):
    """How one field is coded: `first` and `values` are its place and number among the values that `struct` handles."""

    name: str
    first: int
    values: int
    offset: int
    size: int
    align: int
    code: str
    ctype: str
    model: type[CStruct] | None = None
    packed: type[PackedByte] | None = None
    length: int | None = None
    in_c: bool = True
    union: CUnion | None = None
    chosen_at: int = 0
    """Place of the value that selects the union's arm, among the struct's values."""

    def build(self, flat: tuple[Any, ...], base: int) -> Any:
        """Return the field's value out of the flat tuple of values, where the struct's own begin at `base`."""
        at = base + self.first
        if self.union is not None:
            arm: Any = self.union.arm(flat[base + self.chosen_at])
            return arm.unpack(flat[at])
        if self.length is not None:
            if self.model is None:
                return flat[at : at + self.values]
            step = self.values // self.length
            if self.model._getter is not None:
                return self.model._make_many([flat[k : k + step] for k in range(at, at + self.values, step)])
            return tuple(self.model._build(flat, at + k * step) for k in range(self.length))
        if self.model is not None:
            return self.model._build(flat, at)
        return self.packed.from_byte(flat[at]) if self.packed else flat[at]

    def flatten(self, value: Any, out: list[Any]) -> None:
        """Append the field's values to the flat list."""
        if self.length is not None:
            if self.model is None:
                out.extend(value)
            elif self.model._getter is not None:
                for values in map(self.model._getter, map(FIELDS_OF, value)):
                    out.extend(values)
            else:
                for element in value:
                    element._flatten(out)
        elif self.model is not None:
            value._flatten(out)
        elif self.union is not None:
            out.append(value.pack())
        else:
            out.append(value.to_byte() if self.packed else value)


class Tail(NamedTuple):
    """The flexible array member at the end of a struct; `count_at` is where its counter lies in the struct."""

    name: str
    element_bytes: int
    max_entries: int
    model: type[CStruct] | None
    counter: str | None
    count_at: slice = slice(0, 0)


def tail_of(name: str, field: FieldInfo) -> Tail | None:
    """Return the flexible member that the annotation declares, if it does."""
    for mark in field.metadata:
        if isinstance(mark, CFlexBytes):
            return Tail(name, mark.granule, mark.max_bytes // mark.granule, None, None)
        if isinstance(mark, CFlexArray):
            element = get_args(field.annotation)[0]
            return Tail(name, element.SIZE, mark.max_entries, element, mark.count)
    return None


def member_of(cls: type[CStruct], name: str, field: FieldInfo, first: int, offset: int) -> Member:
    """Return the member that an annotation declares."""
    in_c = not any(isinstance(mark, NotInC) for mark in field.metadata)
    annotation: Any = field.annotation
    for mark in field.metadata:
        if isinstance(mark, CScalar):
            return Member(name, first, 1, offset, mark.size, mark.size, mark.code, mark.ctype, in_c=in_c)
        if isinstance(mark, CBytes):
            return Member(name, first, 1, offset, mark.size, 1, f"{mark.size}s", f"u8[{mark.size}]", in_c=in_c)
        if isinstance(mark, CArray):
            element, n = get_args(annotation)[0], mark.length
            if get_origin(element) is Annotated:
                s = next(m for m in get_args(element) if isinstance(m, CScalar))
                return Member(
                    name, first, n, offset, n * s.size, s.size, f"{n}{s.code}", f"{s.ctype}[{n}]", length=n, in_c=in_c
                )
            code, count = _code(element) * n, element._values * n
            ctype = f"{element.C_NAME or 'struct'}[{n}]"
            return Member(
                name, first, count, offset, n * element.SIZE, element.ALIGN, code, ctype, element, length=n, in_c=in_c
            )
    if isinstance(annotation, type) and issubclass(annotation, PackedByte):
        return Member(name, first, 1, offset, 1, 1, "B", "u8", packed=annotation, in_c=in_c)
    if hasattr(annotation, "_codec"):  # a CStruct, which this module cannot import
        ctype = annotation.C_NAME or "struct"
        count, code = annotation._values, _code(annotation)
        return Member(name, first, count, offset, annotation.SIZE, annotation.ALIGN, code, ctype, annotation, in_c=in_c)
    raise declaration_error(cls, name, f"{annotation!r} is no C type")


def union_of(cls: type[CStruct], name: str, union: CUnion, before: list[Member], first: int, offset: int) -> Member:
    """Return the member that a union is: its bytes, and where the value stands that selects the arm."""
    by = next((m for m in before if m.name == union.by), None)
    if by is None:
        raise declaration_error(cls, name, f"{union.by} is not before it")
    arms = _arms(union)
    sizes = {arm.SIZE for arm in arms}
    if len(sizes) != 1:
        raise declaration_error(cls, name, f"its arms have different sizes: {sorted(sizes)}")
    size, align = sizes.pop(), max(arm.ALIGN for arm in arms)
    return Member(
        name, first, 1, offset, size, align, f"{size}s", "union",
        in_c=not union.anonymous, union=union, chosen_at=by.first,
    )  # fmt: skip


def _arms(union: CUnion) -> tuple[type[CStruct], ...]:
    """Return the arms, each once."""
    return tuple(dict.fromkeys((*(arm for _, arm in union.arms), union.other)))  # type: ignore[arg-type]


def _code(model: type[CStruct]) -> str:
    return model._codec.format.removeprefix("<")


def layout_rows(cls: type[CStruct], prefix: str, base: int) -> Iterator[FieldLayout]:
    """Yield a row per member with its dotted name, the members of nested structs behind it."""
    for m in cls._members:
        yield FieldLayout(prefix + m.name, base + m.offset, m.size, m.ctype, m.in_c)
        if m.model is not None and m.length is None:
            yield from layout_rows(m.model, f"{prefix}{m.name}.", base + m.offset)
        if m.union is not None:
            inner = prefix if m.union.anonymous else f"{prefix}{m.name}."
            for arm in _arms(m.union):
                yield from layout_rows(arm, inner, base + m.offset)
    if cls._tail is not None:
        element = "u8" if cls._tail.model is None else cls._tail.model._title()
        yield FieldLayout(prefix + cls._tail.name, base + cls.SIZE, 0, f"{element}[]")


def pack_tail(entries: Any, model: type[CStruct] | None) -> bytes:
    """Return the bytes of a flexible tail.

    Raises:
        struct.error: a value does not fit.
    """
    if model is None:
        return bytes(entries)
    if model._getter is not None:
        return b"".join(starmap(model._codec.pack, map(model._getter, map(FIELDS_OF, entries))))
    return b"".join([entry.pack() for entry in entries])


def misfits(value: CStruct, where: str) -> Iterator[Problem]:
    """Yield a problem per scalar that does not fit its place."""
    for m in value._members:
        held = getattr(value, m.name)
        if m.model is not None:
            for element in held if m.length is not None else (held,):
                yield from misfits(element, f"{where}.{m.name}")
            continue
        out: list[Any] = []
        try:
            m.flatten(held, out)
            struct.pack("<" + m.code, *out)
        except (struct.error, TypeError, AttributeError) as error:
            yield Problem(where=f"{where}.{m.name}", message=f"{held!r} does not fit {m.ctype}: {error}")


def declaration_error(cls: type[CStruct], name: str, message: str) -> LayoutError:
    """Return the error that says that a class does not declare a C struct."""
    return LayoutError([Problem(where=f"{cls.__name__}.{name}", message=message)])
