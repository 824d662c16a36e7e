"""Named runs inside the opaque parts of structs: registers of the local APIC page and of the XSAVE area.

Source: SDM vol. 3A table 11-1; SDM vol. 1 10.5.1 table 10-2, 13.4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .layout import CStruct
from .names.apic import APIC_REGISTERS
from .uapi.lapic import KvmLapicState
from .uapi.xsave import KvmXsave
from .views.xsave import FIXED_PARTS

__all__ = ["AREAS", "VECTOR_SETS", "VECTOR_SLOT_BYTES", "XSAVE_PIECES", "Piece"]


class Piece(NamedTuple):
    """A named run; `offset` and `size` in bytes, `bits` is the key of REGISTERS of a number with named bits."""

    name: str
    offset: int
    size: int
    bits: str | None = None


XSAVE_PIECES: tuple[Piece, ...] = tuple(
    Piece(part.name, part.offset, part.size, part.bits) for part in sorted(FIXED_PARTS, key=lambda part: part.offset)
)
"""The parts of the XSAVE area that lie at the same place on every processor, in the order of their offsets."""

APIC_PIECES: tuple[Piece, ...] = tuple(Piece(row.name, row.offset, 4, row.bits) for row in APIC_REGISTERS)

VECTOR_SETS: Mapping[str, int] = {row.name[:-1]: row.offset for row in APIC_REGISTERS if row.name.endswith("R0")}
"""ISR, TMR and IRR: the offset of the first of their `VECTOR_BANKS` registers."""

VECTOR_SLOT_BYTES = 16
"""A register of the page takes 4 bytes of a slot of 16."""

AREAS: Mapping[type[CStruct], tuple[str, Mapping[str, Piece]]] = {
    KvmLapicState: ("regs", {piece.name: piece for piece in APIC_PIECES}),
    KvmXsave: ("region", {piece.name: piece for piece in XSAVE_PIECES}),
}
"""Struct -> the field that holds the bytes, and the pieces in it by name."""
