"""The types that a field of a `CStruct` may have, each with its C layout, its range and its JSON form.

Write `rip: U64`, `db: Annotated[tuple[U64, ...], CArray(4)]`, `regs: Annotated[bytes, CBytes(1024)]`,
`entries: Annotated[tuple[KvmMsrEntry, ...], CFlexArray(1024, count="nmsrs")]`.

JSON: 64-bit values are written as "0x…" strings, because a JavaScript number loses bits above 2^53; narrower ones as
numbers; bytes as hex strings. For integers both forms are read. Anything out of range is refused with the field's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidatorFunctionWrapHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

HEX_BYTES = re.compile(r"[0-9a-fA-F]*", re.ASCII)


def _bytes(value: Any) -> Any:
    """Turn a hex string into bytes and leave everything else to the strict bytes check."""
    if isinstance(value, str):
        if len(value) % 2 or not HEX_BYTES.fullmatch(value):
            raise PydanticCustomError("hex_bytes", "expected bytes as pairs of hex digits")
        return bytes.fromhex(value)
    return value


@dataclass(frozen=True, slots=True)
class CScalar:
    """An integer of C: `code` is its letter for `struct`, `ctype` its kernel name, `size` in bytes."""

    code: str
    ctype: str
    size: int

    @property
    def limits(self) -> tuple[int, int]:
        """Return the smallest and the largest value."""
        bits = 8 * self.size
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if self.signed else (0, (1 << bits) - 1)

    @property
    def signed(self) -> bool:
        """Return whether the type has negative values."""
        return self.ctype.startswith("s")

    @property
    def pattern(self) -> str:
        """Return the regular expression of the string form; no more digits than the type has."""
        digits = 2 * self.size
        if self.signed:
            return rf"^(-?0[xX][0-7]?[0-9a-fA-F]{{1,{digits - 1}}}|-0[xX]8{'0' * (digits - 1)})$"
        return rf"^0[xX][0-9a-fA-F]{{1,{digits}}}$"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return an int of the right range that also reads "0x…" and, if 64 bits wide, writes it to JSON."""
        low, high = self.limits
        form = re.compile(self.pattern)

        def integer(value: Any) -> Any:
            """Turn "0x…" into an int and leave everything else to the strict int check."""
            if isinstance(value, str):
                if not form.fullmatch(value):
                    raise PydanticCustomError("hex_integer", 'expected a number or a string like "0x1f"')
                return int(value, 16)
            return value

        wide = core_schema.plain_serializer_function_ser_schema(hex, when_used="json") if self.size == 8 else None
        return core_schema.no_info_before_validator_function(
            integer, core_schema.int_schema(ge=low, le=high, strict=True), serialization=wide
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return both forms that are read."""
        low, high = self.limits
        number = {"type": "integer", "minimum": low, "maximum": high}
        text = {"type": "string", "pattern": self.pattern, "examples": ["0x1f"]}
        return {"anyOf": [text, number] if self.size == 8 else [number, text]}


U8 = Annotated[int, CScalar("B", "u8", 1)]
U16 = Annotated[int, CScalar("H", "u16", 2)]
U32 = Annotated[int, CScalar("I", "u32", 4)]
U64 = Annotated[int, CScalar("Q", "u64", 8)]
S64 = Annotated[int, CScalar("q", "s64", 8)]


def _bytes_schema(minimum: int, maximum: int) -> CoreSchema:
    """Return bytes of a bounded length, hex in JSON."""
    return core_schema.no_info_before_validator_function(
        _bytes,
        core_schema.bytes_schema(min_length=minimum, max_length=maximum, strict=True),
        serialization=core_schema.plain_serializer_function_ser_schema(bytes.hex, when_used="json"),
    )


def _bytes_json(minimum: int, maximum: int, granule: int = 1) -> JsonSchemaValue:
    pattern = f"^([0-9a-fA-F]{{{2 * granule}}})*$"
    return {"type": "string", "pattern": pattern, "minLength": 2 * minimum, "maxLength": 2 * maximum}


@dataclass(frozen=True, slots=True)
class CBytes:
    """An opaque run of `size` bytes, carried as they are."""

    size: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return bytes of exactly this size."""
        return _bytes_schema(self.size, self.size)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the hex form."""
        return _bytes_json(self.size, self.size)


@dataclass(frozen=True, slots=True)
class CFlexBytes:
    """A flexible tail of bytes: at most `max_bytes`, a multiple of `granule`."""

    max_bytes: int
    granule: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return bytes of bounded length."""
        return core_schema.no_info_after_validator_function(self._whole, _bytes_schema(0, self.max_bytes))

    def _whole(self, value: bytes) -> bytes:
        if len(value) % self.granule:
            raise PydanticCustomError("granule", "length must be a multiple of {granule}", {"granule": self.granule})
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the hex form."""
        return _bytes_json(0, self.max_bytes, self.granule)


@dataclass(frozen=True, slots=True)
class CArray:
    """An array of exactly `length` elements; the element's type stands in the annotation's tuple."""

    length: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a tuple of this length."""
        return _sized(handler(source), self.length, self.length)


@dataclass(frozen=True, slots=True)
class CFlexArray:
    """A flexible array member of at most `max_entries`; the field named `count` holds the number of entries."""

    max_entries: int
    count: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a tuple of bounded length."""
        return _sized(handler(source), 0, self.max_entries)


def _sized(schema: CoreSchema, minimum: int, maximum: int) -> CoreSchema:
    """Bound the length of a tuple's schema."""
    bounded: Any = dict(schema)
    bounded.update(min_length=minimum, max_length=maximum)
    sized: CoreSchema = bounded
    return sized


@dataclass(frozen=True, slots=True)
class NotInC:
    """Marks a member that names bytes which the C struct has no name for, such as the unused part of a union."""


@dataclass(frozen=True, slots=True)
class CUnion:
    """A union of structs of one size; the sibling field named `by` says which: `arms` has its values, else `other`.

    The field's annotation is the union of all arms; `by` must stand before the field. `anonymous`: C has no name for
    the union itself, so that its arms' members are named as the struct's own.
    """

    by: str
    arms: tuple[tuple[int, type[BaseModel]], ...]
    other: type[BaseModel]
    anonymous: bool = False

    def arm(self, value: Any) -> type[BaseModel]:
        """Return the struct that a value of the discriminating field selects."""
        return next((arm for key, arm in self.arms if key == value), self.other)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the union's schema, validated as the arm that the sibling selects."""

        def chosen(value: Any, plain: ValidatorFunctionWrapHandler, info: core_schema.ValidationInfo) -> Any:
            """Validate as the selected arm, so that a problem names the field and not every arm in turn."""
            if self.by not in info.data:  # it has a problem of its own
                return plain(value)
            arm = self.arm(info.data[self.by])
            if isinstance(value, BaseModel) and not isinstance(value, arm):
                text = "{by} {value} goes with another form of this union"
                raise PydanticCustomError("union_arm", text, {"by": self.by, "value": info.data[self.by]})
            return arm.model_validate(value)

        return core_schema.with_info_wrap_validator_function(chosen, handler(source))
