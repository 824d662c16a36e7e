"""What the views are made of: numbers and bytes with a JSON form, and pages of bytes cut into named parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from ..errors import FieldError, Problem
from ..fields import CFlexBytes
from ..names.bits import REGISTERS, RESERVED

_HEX = re.compile(r"-?0[xX][0-9a-fA-F]{1,32}", re.ASCII)
_JSON_SAFE = 1 << 53
_MAX_BYTES = 64 * 1024


def number_of(value: Any) -> Any:
    """Return the number that "0x…" stands for, and anything else as it is."""
    return int(value, 16) if isinstance(value, str) and _HEX.fullmatch(value) else value


def json_number(value: int) -> int | str:
    """Return the number as JSON has it: "0x…" from 2^53 on, where JavaScript would lose bits."""
    return value if -_JSON_SAFE < value < _JSON_SAFE else hex(value)


Number = Annotated[
    int,
    BeforeValidator(number_of),
    PlainSerializer(json_number, return_type=int | str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?0[xX][0-9a-fA-F]{1,32}$"}]}),
]
"""An integer of any width; JSON has it as a number, or as "0x…" from 2^53 on."""

Bits = dict[str, Number]
"""A register decoded: field name -> number, and "reserved" for the bits without a name."""

Hex = Annotated[bytes, CFlexBytes(_MAX_BYTES, 1)]
"""Bytes, in JSON as hex."""

Gaps = dict[int, Hex]
"""Offset -> bytes that no part names; those that are all zero are left out."""


class Part(NamedTuple):
    """A named run of bytes of a page; `bits` is the key of REGISTERS that decodes it as a little-endian number."""

    name: str
    offset: int
    size: int
    bits: str | None = None


def holes(parts: Iterable[Part], size: int) -> list[tuple[int, int]]:
    """Return start and end of each run of bytes that no part covers."""
    found, at = [], 0
    for part in sorted(parts, key=lambda part: part.offset):
        if part.offset > at:
            found.append((at, part.offset))
        at = max(at, part.offset + part.size)
    return [*found, (at, size)] if at < size else found


def split_gaps(raw: bytes, parts: Iterable[Part]) -> Gaps:
    """Return what the page holds where no part is."""
    return {start: raw[start:end] for start, end in holes(parts, len(raw)) if any(raw[start:end])}


def join(size: int, pieces: Mapping[int, bytes], gaps: Mapping[int, bytes], where: str) -> bytes:
    """Return the page of `size` bytes that has these pieces and gaps at their offsets, and zeroes elsewhere.

    Raises:
        FieldError: one of them does not fit into the page.
    """
    page = bytearray(size)
    for offset, body in (*gaps.items(), *pieces.items()):
        if offset < 0 or offset + len(body) > size:
            text = f"{len(body)} bytes at {offset:#x} do not fit {size}"
            raise FieldError([Problem(where=where, message=text)])
        page[offset : offset + len(body)] = body
    return bytes(page)


def decode_number(raw: bytes, bits: str | None) -> int | Bits:
    """Return little-endian bytes as a number, or as named fields if the bits have names."""
    value = int.from_bytes(raw, "little")
    return value if bits is None else REGISTERS[bits].decode(value)


def encode_number(value: int | Mapping[str, int], part: Part) -> bytes:
    """Return the bytes of a decoded part.

    Raises:
        FieldError: the number does not fit the part, or a field has no such name.
    """
    number = value if isinstance(value, int) else encode_bits(value, part.bits)
    if not 0 <= number < 1 << 8 * part.size:
        raise FieldError([Problem(where=part.name, message=f"{number:#x} does not fit {part.size} bytes")])
    return number.to_bytes(part.size, "little")


def encode_bits(value: Mapping[str, int], bits: str | None) -> int:
    """Return the number that these fields make.

    Raises:
        FieldError: the register has no named bits, or not these.
    """
    if bits is None:
        raise FieldError([Problem(where=", ".join(value)[:64], message="these bits have no names")])
    return REGISTERS[bits].encode(value)


def only_reserved(value: int | Mapping[str, int]) -> int:
    """Return the bits of a decoded register that have no name, in place."""
    return 0 if isinstance(value, int) else value.get(RESERVED, 0)
