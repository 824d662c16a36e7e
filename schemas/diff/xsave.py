"""The XSAVE area: x87 and SSE registers by name, further components by what CPUID leaf 0xD says of them.

Source: SDM vol. 1 13.4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..areas import XSAVE_PIECES, Piece
from ..names.bits import REGISTERS
from ..names.xsave import EXTENDED_OFFSET, XSAVE_NAMES
from ..paths import Parts
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.xsave import KvmXsave
from .change import Found
from .compare import compare_bytes, say_bits
from .words import byte_runs, shown

XSTATE_LEAF = 0xD
FIRST_EXTENDED = 2
"""Components 0 and 1, x87 and SSE, lie in the legacy region."""


LEGACY = tuple(piece for piece in XSAVE_PIECES if piece.name != "XSTATE_BV")
XSTATE_BV = next(piece for piece in XSAVE_PIECES if piece.name == "XSTATE_BV")


def compare_areas(found: Found, parts: Parts, old: tuple[Any, KvmXsave], new: tuple[Any, KvmXsave]) -> None:
    """Tell what differs; each side is given with its vCPU, whose CPUID says where components lie.

    Bytes of the extended region are told by component only where both sides put it at the same place.
    """
    before, after = old[1].region + old[1].extra, new[1].region + new[1].extra
    told = bytearray(before)
    pieces = [*LEGACY, *_components(old[0].cpuid2, new[0].cpuid2)]
    _components_in_use(found, parts, _number(before, XSTATE_BV), _number(after, XSTATE_BV))
    for piece in [*pieces, XSTATE_BV]:
        end = piece.offset + piece.size
        if end <= min(len(before), len(after)):
            told[piece.offset : end] = after[piece.offset : end]
            if piece is not XSTATE_BV and before[piece.offset : end] != after[piece.offset : end]:
                _piece(found, (*parts, piece.name), piece, before, after)
    size = len(old[1].region)
    compare_bytes(found, (*parts, "region"), bytes(told[:size]), after[:size])
    compare_bytes(found, (*parts, "extra"), bytes(told[size:]), after[size:])


def _number(area: bytes, piece: Piece) -> int:
    return int.from_bytes(area[piece.offset : piece.offset + piece.size], "little")


def _components_in_use(found: Found, parts: Parts, old: int, new: int) -> None:
    if old == new:
        return
    row = REGISTERS["xstate_bv"]
    texts = [
        f"{field.name} {'in use' if field.get(new) else 'initial again'}"
        for field in row.fields
        if field.get(old) != field.get(new)
    ]
    rest = (old ^ new) & ~row.named
    texts += [f"unnamed components {rest:#x} differ"] if rest else []
    found.say((*parts, XSTATE_BV.name), f"{', '.join(texts)} ({old:#x} -> {new:#x})", hex(old), hex(new))


def _piece(found: Found, place: Parts, piece: Piece, before: bytes, after: bytes) -> None:
    old, new = before[piece.offset : piece.offset + piece.size], after[piece.offset : piece.offset + piece.size]
    if piece.bits:
        say_bits(found, place, _number(before, piece), _number(after, piece), REGISTERS[piece.bits], piece.size)
    elif piece.size <= 8:
        values = _number(before, piece), _number(after, piece)
        found.say(place, f"{values[0]:#x} -> {values[1]:#x}", hex(values[0]), hex(values[1]))
    elif piece.size <= 16:  # a register, most significant byte first as manuals write it
        found.say(place, f"{old[::-1].hex()} -> {new[::-1].hex()}", old.hex(), new.hex())
    else:
        runs = list(byte_runs(old, new))
        first, length = runs[0]
        count = sum(length for _, length in runs)
        text = f"{count} of {piece.size} bytes differ, at +{first:#x}: "
        text += f"{shown(old[first : first + length])} -> {shown(new[first : first + length])}"
        found.say(place, text, old.hex(), new.hex())


def _components(old: KvmCpuid2, new: KvmCpuid2) -> Iterator[Piece]:
    """Yield the extended components that lie at the same place on both sides and overlap nothing before them."""
    end = EXTENDED_OFFSET
    placed = sorted(set(_placed(old)) & set(_placed(new)), key=lambda piece: piece.offset)
    for piece in placed:
        if piece.offset >= end:
            yield piece
            end = piece.offset + piece.size


def _placed(cpuid: KvmCpuid2) -> Iterator[Piece]:
    for entry in cpuid.entries:
        if entry.function == XSTATE_LEAF and FIRST_EXTENDED <= entry.index < 64 and entry.eax and not entry.ecx & 1:
            yield Piece(XSAVE_NAMES.get(entry.index, f"component{entry.index}"), entry.ebx, entry.eax)
