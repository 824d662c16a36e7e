"""`CStruct`: a Pydantic model that is one C struct.

The annotations give the layout (`schemas.fields`); it is computed, checked against the declared `SIZE` and compiled to
one `struct.Struct` when the class is created. Padding has to be declared as a field: what a struct holds, junk in
reserved bytes included, survives `unpack` and `pack` unchanged. `unpack` does not validate: a value that came out of
`struct` is in range by construction. Whether the state is *legal* is for `schemas.invariants`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat, starmap
from operator import attrgetter, itemgetter
from typing import Annotated, Any, ClassVar, NamedTuple, Self, get_args, get_origin

from pydantic import BaseModel, model_validator
from pydantic.fields import FieldInfo

from .errors import FieldError, LayoutError, Problem
from .fields import S64, U8, U16, U32, U64, CArray, CBytes, CFlexArray, CFlexBytes, CScalar, CUnion, NotInC
from .model import Model

__all__ = [
    "S64",
    "U8",
    "U16",
    "U32",
    "U64",
    "CArray",
    "CBytes",
    "CFlexArray",
    "CFlexBytes",
    "CStruct",
    "CUnion",
    "FieldLayout",
    "NotInC",
    "PackedByte",
]


class FieldLayout(NamedTuple):
    """One row of a struct's layout; `size` is that of the whole member in bytes, 0 for a flexible tail."""

    name: str
    offset: int
    size: int
    ctype: str
    in_c: bool = True


class PackedByte(Model):
    """A structured value that occupies one byte of a struct; every value of the byte has a form of its own."""

    @classmethod
    def from_byte(cls, value: int) -> Self:
        """Return the structured form of a byte."""
        raise NotImplementedError

    def to_byte(self) -> int:
        """Return the byte."""
        raise NotImplementedError


class _Member(NamedTuple):
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
                for values in map(self.model._getter, map(_FIELDS, value)):
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


_FIELDS = attrgetter("__dict__")
_SLOTS = BaseModel.__dict__
_SET_FIELDS: Callable[[Any, Any], None] = _SLOTS["__dict__"].__set__
_SET_NAMES: Callable[[Any, Any], None] = _SLOTS["__pydantic_fields_set__"].__set__
_SET_EXTRA: Callable[[Any, Any], None] = _SLOTS["__pydantic_extra__"].__set__
_SET_PRIVATE: Callable[[Any, Any], None] = _SLOTS["__pydantic_private__"].__set__
"""The four slots of a model instance: set directly, because `model_construct` and `setattr` cost a multiple."""


class _Tail(NamedTuple):
    """The flexible array member at the end of a struct; `count_at` is where its counter lies in the struct."""

    name: str
    element_bytes: int
    max_entries: int
    model: type[CStruct] | None
    counter: str | None
    count_at: slice = slice(0, 0)


class CStruct(Model):
    """Base of all structs: `C_NAME` is the tag in C (None: anonymous), `SIZE` its size without a flexible tail."""

    C_NAME: ClassVar[str | None] = None
    SIZE: ClassVar[int] = 0
    ALIGN: ClassVar[int] = 1

    _members: ClassVar[tuple[_Member, ...]] = ()
    _scalar_names: ClassVar[tuple[str, ...] | None] = None
    _getter: ClassVar[Callable[[dict[str, Any]], tuple[Any, ...]] | None] = None
    _values: ClassVar[int] = 0
    _codec: ClassVar[struct.Struct] = struct.Struct("<")
    _tail: ClassVar[_Tail | None] = None
    _names: ClassVar[set[str]] = set()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Compile the layout and check it against `SIZE`.

        Raises:
            LayoutError: the members do not add up to `SIZE`, or leave a hole that nothing would carry.
        """
        super().__pydantic_init_subclass__(**kwargs)
        members: list[_Member] = []
        offset = values = 0
        cls._tail = None
        for name, field in cls.model_fields.items():
            if cls._tail is not None:
                raise _declaration(cls, name, "follows a flexible member")
            tail = _tail_of(name, field)
            if tail is not None:
                cls._tail = tail
                continue
            union = next((mark for mark in field.metadata if isinstance(mark, CUnion)), None)
            if union is None:
                member = _member_of(cls, name, field, values, offset)
            else:
                member = _union_of(cls, name, union, members, values, offset)
            if offset % member.align:
                raise _declaration(cls, name, f"offset {offset} is not aligned to {member.align}: declare the padding")
            members.append(member)
            offset += member.size
            values += member.values
        cls.ALIGN = max((m.align for m in members), default=1)
        if offset != cls.SIZE or offset % cls.ALIGN:
            raise _declaration(cls, "SIZE", f"members take {offset} bytes, SIZE says {cls.SIZE}")
        cls._members = tuple(members)
        cls._values = values
        cls._codec = struct.Struct("<" + "".join(m.code for m in members))
        plain = all(m.model is None and m.packed is None and m.length is None and m.union is None for m in members)
        cls._scalar_names = tuple(m.name for m in members) if plain else None
        # A getter of one name returns no tuple, and then there is nothing to gain.
        cls._getter = itemgetter(*cls._scalar_names) if cls._scalar_names and len(cls._scalar_names) > 1 else None
        if cls._tail is not None:
            place = next((slice(m.offset, m.offset + m.size) for m in members if m.name == cls._tail.counter), slice(0))
            cls._tail = cls._tail._replace(count_at=place)
        cls._names = set(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _fill_count(cls, data: Any) -> Any:
        """Let JSON leave out the count of a flexible array: its length says it."""
        tail = cls._tail
        if tail is None or tail.counter is None or not isinstance(data, dict) or tail.counter in data:
            return data
        entries = data.get(tail.name)
        return {**data, tail.counter: len(entries)} if isinstance(entries, list | tuple) else data

    @model_validator(mode="after")
    def _count_agrees(self) -> Self:
        tail = self._tail
        if tail is not None and tail.counter is not None:
            said, there = getattr(self, tail.counter), len(getattr(self, tail.name))
            if said != there:
                raise ValueError(f"{tail.counter} says {said}, but {tail.name} has {there}")
        return self

    @classmethod
    def layout(cls) -> tuple[FieldLayout, ...]:
        """Return a row per member with its dotted name; members of nested structs follow the struct."""
        return tuple(_rows(cls, "", 0))

    @classmethod
    def zero(cls) -> Self:
        """Return the struct with every byte zero and no entries."""
        return cls.unpack(bytes(cls.SIZE))

    @classmethod
    def unpack(cls, raw: bytes | bytearray | memoryview) -> Self:
        """Return the struct held by `raw`, every bit of it.

        Raises:
            LayoutError: `raw` has the wrong length, or a count contradicts it.
        """
        problem = cls.misfit(raw)
        if problem is not None:
            raise LayoutError([problem])
        tail = cls._tail
        return cls._build(cls._codec.unpack(raw), 0) if tail is None else cls._unpack_tail(raw, tail)

    @classmethod
    def misfit(cls, raw: bytes | bytearray | memoryview) -> Problem | None:
        """Return why `unpack` refuses `raw`, or None if it does not. Builds nothing: half a microsecond."""
        tail, length = cls._tail, len(raw)
        if tail is None:
            if length == cls.SIZE:
                return None
            return Problem(where=cls._title(), message=f"{length} bytes, expected {cls.SIZE}")
        entries, rest = divmod(length - cls.SIZE, tail.element_bytes)
        if entries < 0 or rest:
            text = f"{length} bytes, expected {cls.SIZE} and a multiple of {tail.element_bytes}"
            return Problem(where=cls._title(), message=text)
        if entries > tail.max_entries:
            text = f"{entries} elements, at most {tail.max_entries}"
            return Problem(where=f"{cls._title()}.{tail.name}", message=text)
        said = int.from_bytes(raw[tail.count_at], "little")
        if tail.counter is not None and said != entries:
            text = f"says {said}, but {entries} are there"
            return Problem(where=f"{cls._title()}.{tail.counter}", message=text)
        return None

    def pack(self) -> bytes:
        """Return the struct's bytes.

        Raises:
            FieldError: a value does not fit (possible only for a model built without validation).
        """
        out: list[Any] = []
        self._flatten(out)
        try:
            head = self._codec.pack(*out)
            tail = self._tail
            if tail is None:
                return head
            return head + _pack_tail(getattr(self, tail.name), tail.model)
        except struct.error as error:
            problems = list(_misfits(self, self._title())) or [Problem(where=self._title(), message=str(error))]
            raise FieldError(problems) from error

    @classmethod
    def _title(cls) -> str:
        return cls.C_NAME or cls.__name__

    @classmethod
    def _build(cls, values: tuple[Any, ...], base: int) -> Self:
        """Return an instance from flat values without validation: `struct` has bounded them already."""
        names = cls._scalar_names
        if names is not None:
            return cls._make(dict(zip(names, values[base : base + cls._values], strict=True)))
        return cls._make({m.name: m.build(values, base) for m in cls._members})

    @classmethod
    def _make(cls, fields: dict[str, Any]) -> Self:
        """Return an instance with these fields; what `model_construct` does, without its per-field work."""
        made = cls.__new__(cls)
        _SET_FIELDS(made, fields)
        _SET_NAMES(made, cls._names)
        _SET_EXTRA(made, None)
        _SET_PRIVATE(made, None)
        return made

    @classmethod
    def _make_many(cls, rows: Iterable[tuple[Any, ...]]) -> tuple[Self, ...]:
        """Return an instance of a struct of scalars for each row of values; the loops run in C, 240 entries count."""
        fields = list(map(dict, map(zip, repeat(cls._scalar_names), rows)))  # type: ignore[arg-type]
        made = tuple(map(cls.__new__, repeat(cls, len(fields))))
        deque(map(_SET_FIELDS, made, fields), 0)
        for setter, value in ((_SET_NAMES, cls._names), (_SET_EXTRA, None), (_SET_PRIVATE, None)):
            deque(map(setter, made, repeat(value)), 0)
        return made

    def _flatten(self, out: list[Any]) -> None:
        fields = self.__dict__
        if self._getter is not None:
            out.extend(self._getter(fields))
            return
        if self._scalar_names is not None:
            out.extend([fields[name] for name in self._scalar_names])
            return
        for member in self._members:
            member.flatten(fields[member.name], out)

    @classmethod
    def _unpack_tail(cls, raw: bytes | bytearray | memoryview, tail: _Tail) -> Self:
        head = cls._codec.unpack_from(raw)
        fields = {m.name: m.build(head, 0) for m in cls._members}
        body = bytes(raw[cls.SIZE :])
        model = tail.model
        if model is None:
            fields[tail.name] = body
        elif model._getter is not None:
            fields[tail.name] = model._make_many(model._codec.iter_unpack(body))
        else:
            fields[tail.name] = tuple(model._build(values, 0) for values in model._codec.iter_unpack(body))
        return cls._make(fields)


def _pack_tail(entries: Any, model: type[CStruct] | None) -> bytes:
    """Return the bytes of a flexible tail.

    Raises:
        struct.error: a value does not fit.
    """
    if model is None:
        return bytes(entries)
    if model._getter is not None:
        return b"".join(starmap(model._codec.pack, map(model._getter, map(_FIELDS, entries))))
    return b"".join([entry.pack() for entry in entries])


def _declaration(cls: type[CStruct], name: str, message: str) -> LayoutError:
    return LayoutError([Problem(where=f"{cls.__name__}.{name}", message=message)])


def _tail_of(name: str, field: FieldInfo) -> _Tail | None:
    """Return the flexible member that the annotation declares, if it does."""
    for mark in field.metadata:
        if isinstance(mark, CFlexBytes):
            return _Tail(name, mark.granule, mark.max_bytes // mark.granule, None, None)
        if isinstance(mark, CFlexArray):
            element = get_args(field.annotation)[0]
            return _Tail(name, element.SIZE, mark.max_entries, element, mark.count)
    return None


def _member_of(cls: type[CStruct], name: str, field: FieldInfo, first: int, offset: int) -> _Member:
    """Return the member that an annotation declares."""
    in_c = not any(isinstance(mark, NotInC) for mark in field.metadata)
    annotation: Any = field.annotation
    for mark in field.metadata:
        if isinstance(mark, CScalar):
            return _Member(name, first, 1, offset, mark.size, mark.size, mark.code, mark.ctype, in_c=in_c)
        if isinstance(mark, CBytes):
            return _Member(name, first, 1, offset, mark.size, 1, f"{mark.size}s", f"u8[{mark.size}]", in_c=in_c)
        if isinstance(mark, CArray):
            element, n = get_args(annotation)[0], mark.length
            if get_origin(element) is Annotated:
                s = next(m for m in get_args(element) if isinstance(m, CScalar))
                return _Member(
                    name, first, n, offset, n * s.size, s.size, f"{n}{s.code}", f"{s.ctype}[{n}]", length=n, in_c=in_c
                )
            code, count = _code(element) * n, element._values * n
            ctype = f"{element.C_NAME or 'struct'}[{n}]"
            return _Member(
                name, first, count, offset, n * element.SIZE, element.ALIGN, code, ctype, element, length=n, in_c=in_c
            )
    if isinstance(annotation, type) and issubclass(annotation, PackedByte):
        return _Member(name, first, 1, offset, 1, 1, "B", "u8", packed=annotation, in_c=in_c)
    if isinstance(annotation, type) and issubclass(annotation, CStruct):
        ctype = annotation.C_NAME or "struct"
        count, code = annotation._values, _code(annotation)
        return _Member(
            name, first, count, offset, annotation.SIZE, annotation.ALIGN, code, ctype, annotation, in_c=in_c
        )
    raise _declaration(cls, name, f"{annotation!r} is no C type")


def _union_of(cls: type[CStruct], name: str, union: CUnion, before: list[_Member], first: int, offset: int) -> _Member:
    """Return the member that a union is: its bytes, and where the value stands that selects the arm."""
    by = next((m for m in before if m.name == union.by), None)
    if by is None:
        raise _declaration(cls, name, f"{union.by} is not before it")
    arms = _arms(union)
    sizes = {arm.SIZE for arm in arms}
    if len(sizes) != 1:
        raise _declaration(cls, name, f"its arms have different sizes: {sorted(sizes)}")
    size, align = sizes.pop(), max(arm.ALIGN for arm in arms)
    return _Member(name, first, 1, offset, size, align, f"{size}s", "union", union=union, chosen_at=by.first)


def _arms(union: CUnion) -> tuple[type[CStruct], ...]:
    """Return the arms, each once."""
    return tuple(dict.fromkeys((*(arm for _, arm in union.arms), union.other)))  # type: ignore[arg-type]


def _code(model: type[CStruct]) -> str:
    return model._codec.format.removeprefix("<")


def _rows(cls: type[CStruct], prefix: str, base: int) -> Iterator[FieldLayout]:
    for m in cls._members:
        yield FieldLayout(prefix + m.name, base + m.offset, m.size, m.ctype, m.in_c)
        if m.model is not None and m.length is None:
            yield from _rows(m.model, f"{prefix}{m.name}.", base + m.offset)
        for arm in () if m.union is None else _arms(m.union):
            yield from _rows(arm, f"{prefix}{m.name}.", base + m.offset)
    if cls._tail is not None:
        element = "u8" if cls._tail.model is None else cls._tail.model._title()
        yield FieldLayout(prefix + cls._tail.name, base + cls.SIZE, 0, f"{element}[]")


def _misfits(value: CStruct, where: str) -> Iterator[Problem]:
    """Yield a problem per scalar that does not fit its place."""
    for m in value._members:
        held = getattr(value, m.name)
        if m.model is not None:
            for element in held if m.length is not None else (held,):
                yield from _misfits(element, f"{where}.{m.name}")
            continue
        out: list[Any] = []
        try:
            m.flatten(held, out)
            struct.pack("<" + m.code, *out)
        except (struct.error, TypeError, AttributeError) as error:
            yield Problem(where=f"{where}.{m.name}", message=f"{held!r} does not fit {m.ctype}: {error}")
