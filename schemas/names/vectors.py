"""Exception vectors: mnemonic, name, class and whether they push an error code."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class VectorClass(StrEnum):
    """Where the saved instruction pointer points: at the instruction, behind it, or nowhere that helps."""

    FAULT = "fault"
    TRAP = "trap"
    FAULT_OR_TRAP = "fault or trap"
    ABORT = "abort"
    INTERRUPT = "interrupt"


class Vector(NamedTuple):
    """One vector.

    `error_code` is the key of REGISTERS that decodes what it pushes; "zero"; "code" for a plain number; None for none.
    """

    number: int
    mnemonic: str
    text: str
    vector_class: VectorClass
    error_code: str | None = None


_F = VectorClass.FAULT

VECTORS: tuple[Vector, ...] = (
    Vector(0, "#DE", "divide error", _F),
    Vector(1, "#DB", "debug", VectorClass.FAULT_OR_TRAP),
    Vector(2, "NMI", "non-maskable interrupt", VectorClass.INTERRUPT),
    Vector(3, "#BP", "breakpoint", VectorClass.TRAP),
    Vector(4, "#OF", "overflow", VectorClass.TRAP),
    Vector(5, "#BR", "bound range exceeded", _F),
    Vector(6, "#UD", "invalid opcode", _F),
    Vector(7, "#NM", "device not available", _F),
    Vector(8, "#DF", "double fault", VectorClass.ABORT, "zero"),
    Vector(9, "OLD_MF", "coprocessor segment overrun", _F),
    Vector(10, "#TS", "invalid TSS", _F, "selector_error"),
    Vector(11, "#NP", "segment not present", _F, "selector_error"),
    Vector(12, "#SS", "stack fault", _F, "selector_error"),
    Vector(13, "#GP", "general protection", _F, "selector_error"),
    Vector(14, "#PF", "page fault", _F, "page_fault_error"),
    Vector(16, "#MF", "x87 floating point", _F),
    Vector(17, "#AC", "alignment check", _F, "zero"),
    Vector(18, "#MC", "machine check", VectorClass.ABORT),
    Vector(19, "#XM", "SIMD floating point", _F),
    Vector(20, "#VE", "virtualization", _F),
    Vector(21, "#CP", "control protection", _F, "control_protection_error"),
    Vector(28, "#HV", "hypervisor injection", VectorClass.INTERRUPT),
    Vector(29, "#VC", "VMM communication", _F, "code"),
    Vector(30, "#SX", "security", _F, "code"),
)
"""Source: SDM vol. 3A table 6-1; APM vol. 2 table 8-1; Linux 6.12 arch/x86/include/asm/trapnr.h."""

_BY_NUMBER = {row.number: row for row in VECTORS}


def vector(number: int) -> Vector | None:
    """Return the exception of this vector, or None if it has no meaning of its own."""
    return _BY_NUMBER.get(number)


def vector_name(number: int) -> str:
    """Return "#PF", or "vector 0x33" for a vector without a name."""
    row = _BY_NUMBER.get(number)
    return row.mnemonic if row else f"vector {number:#x}"
