"""`CStruct`: a Pydantic model that is one C struct.

The annotations give the layout (`schemas.fields`); it is computed, checked against the declared `SIZE` and compiled to
one `struct.Struct` when the class is created. Padding has to be declared as a field: what a struct holds, junk in
reserved bytes included, survives `unpack` and `pack` unchanged. `unpack` does not validate: a value that came out of
`struct` is in range by construction. Whether the state is *legal* is for `schemas.invariants`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, model_validator

from .errors import FieldError, LayoutError, Problem
from .fields import S64, U8, U16, U32, U64, CArray, CBytes, CFlexArray, CFlexBytes, CUnion, NotInC
from .members import (
    Counter,
    FieldLayout,
    Member,
    PackedByte,
    Tail,
    declaration_error,
    layout_rows,
    member_of,
    misfits,
    pack_tail,
    tail_of,
    union_of,
)
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

_SLOTS = BaseModel.__dict__
_SET_FIELDS: Callable[[Any, Any], None] = _SLOTS["__dict__"].__set__
_SET_NAMES: Callable[[Any, Any], None] = _SLOTS["__pydantic_fields_set__"].__set__
_SET_EXTRA: Callable[[Any, Any], None] = _SLOTS["__pydantic_extra__"].__set__
_SET_PRIVATE: Callable[[Any, Any], None] = _SLOTS["__pydantic_private__"].__set__
"""The four slots of a model instance: set directly, because `model_construct` and `setattr` cost a multiple."""


class CStruct(Model):
    """Base of all structs: `C_NAME` is the tag in C (None: anonymous), `SIZE` its size without a flexible tail."""

    C_NAME: ClassVar[str | None] = None
    SIZE: ClassVar[int] = 0
    ALIGN: ClassVar[int] = 1

    if TYPE_CHECKING:
        # Set for each struct when its class is made. Pydantic would evaluate these annotations again for every one of
        # them, which costs a tenth of the import.
        _members: ClassVar[tuple[Member, ...]]
        _scalar_names: ClassVar[tuple[str, ...] | None]
        _getter: ClassVar[itemgetter[Any] | None]
        _values: ClassVar[int]
        _codec: ClassVar[struct.Struct]
        _tail: ClassVar[Tail | None]
        _names: ClassVar[set[str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Compile the layout and check it against `SIZE`.

        Raises:
            LayoutError: the members do not add up to `SIZE`, or leave a hole that nothing would carry.
        """
        super().__pydantic_init_subclass__(**kwargs)
        members: list[Member] = []
        offset = values = 0
        cls._tail = None
        for name, field in cls.model_fields.items():
            if cls._tail is not None:
                raise declaration_error(cls, name, "follows a flexible member")
            tail = tail_of(name, field)
            if tail is not None:
                cls._tail = tail
                continue
            union = next((mark for mark in field.metadata if isinstance(mark, CUnion)), None)
            if union is None:
                member = member_of(cls, name, field, values, offset)
            else:
                member = union_of(cls, name, union, members, values, offset)
            if offset % member.align:
                raise declaration_error(
                    cls, name, f"offset {offset} is not aligned to {member.align}: declare the padding"
                )
            members.append(member)
            offset += member.size
            values += member.values
        cls.ALIGN = max((m.align for m in members), default=1)
        if offset != cls.SIZE or offset % cls.ALIGN:
            raise declaration_error(cls, "SIZE", f"members take {offset} bytes, SIZE says {cls.SIZE}")
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
        return tuple(layout_rows(cls, "", 0))

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
        problem = cls.size_misfit(len(raw))
        counter = cls.counter(len(raw)) if problem is None else None
        if counter is None:
            return problem
        said = int.from_bytes(raw[counter.place], "little")
        if said == counter.entries:
            return None
        return Problem(where=f"{cls._title()}.{counter.name}", message=f"says {said}, but {counter.entries} are there")

    @classmethod
    def size_misfit(cls, length: int) -> Problem | None:
        """Return why no `raw` of so many bytes unpacks, or None if one may."""
        tail = cls._tail
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
        return None

    @classmethod
    def counter(cls, length: int) -> Counter | None:
        """Return the counter that a raw struct of so many bytes holds, None if it has none."""
        tail = cls._tail
        if tail is None or tail.counter is None:
            return None
        return Counter(tail.counter, tail.count_at, (length - cls.SIZE) // tail.element_bytes)

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
            return head + pack_tail(getattr(self, tail.name), tail.model)
        except struct.error as error:
            problems = list(misfits(self, self._title())) or [Problem(where=self._title(), message=str(error))]
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
    def _unpack_tail(cls, raw: bytes | bytearray | memoryview, tail: Tail) -> Self:
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
