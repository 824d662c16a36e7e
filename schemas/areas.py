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

__all__ = ["AREAS", "VECTOR_SETS", "VECTOR_SLOT_BYTES", "XSAVE_PIECES", "Piece"]


class Piece(NamedTuple):
    """A named run; `offset` and `size` in bytes, `bits` is the key of REGISTERS of a number with named bits."""

    name: str
    offset: int
    size: int
    bits: str | None = None


XSAVE_PIECES: tuple[Piece, ...] = (
    Piece("FCW", 0, 2, "fcw"),
    Piece("FSW", 2, 2, "fsw"),
    Piece("FTW", 4, 1),
    Piece("FOP", 6, 2),
    Piece("FIP", 8, 8),
    Piece("FDP", 16, 8),
    Piece("MXCSR", 24, 4, "mxcsr"),
    Piece("MXCSR_MASK", 28, 4),
    *(Piece(f"ST{n}", 32 + 16 * n, 10) for n in range(8)),
    *(Piece(f"XMM{n}", 160 + 16 * n, 16) for n in range(16)),
    Piece("XSTATE_BV", 512, 8, "xstate_bv"),
    Piece("XCOMP_BV", 520, 8),
)

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
