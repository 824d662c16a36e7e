"""Status flags: arithmetic of one width that also writes RFLAGS, and the sixteen conditions.

Each factory takes the state and a width in bits and returns a function on masked operands. What a flag becomes where
the manual leaves it undefined is said at each factory; tests compare only defined ones.

Source: SDM vol. 1 3.4.3.1 Status Flags, appendix A (which instruction writes what).
"""

from collections.abc import Callable

from .registers import FLAG_CF, FLAG_OF, FLAG_PF, FLAG_SF, FLAG_ZF, FLAGS_DEFINED, FLAGS_STATUS
from .state import CpuState

Binary = Callable[[int, int], int]
Unary = Callable[[int], int]

KEEP = FLAGS_DEFINED & ~FLAGS_STATUS | 2
"""Flags that arithmetic leaves alone."""
KEEP_CF = KEEP | FLAG_CF
"""The same for INC and DEC."""

PARITY = bytes(FLAG_PF if bin(n).count("1") % 2 == 0 else 0 for n in range(256))
"""PF by the low byte of a result."""


def adder(state: CpuState, bits: int) -> Binary:
    """ADD: a + b."""
    mask, carry_at, sign_at, overflow_at = (1 << bits) - 1, bits, bits - 8, bits - 12

    def add(a: int, b: int) -> int:
        total = a + b
        result = total & mask
        over = (a ^ total) & (b ^ total)
        state.rflags = (
            state.rflags & KEEP
            | total >> carry_at
            | PARITY[result & 0xFF]
            | (a ^ b ^ total) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | ((over >> overflow_at) if overflow_at >= 0 else over << 4) & 0x800
        )
        return result

    return add


def add_with_carry(state: CpuState, bits: int) -> Binary:
    """ADC: a + b + CF."""
    mask, sign_at, overflow_at = (1 << bits) - 1, bits - 8, bits - 12

    def adc(a: int, b: int) -> int:
        total = a + b + (state.rflags & 1)
        result = total & mask
        over = (a ^ total) & (b ^ total)
        state.rflags = (
            state.rflags & KEEP
            | total >> bits
            | PARITY[result & 0xFF]
            | (a ^ b ^ total) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | ((over >> overflow_at) if overflow_at >= 0 else over << 4) & 0x800
        )
        return result

    return adc


def subtracter(state: CpuState, bits: int) -> Binary:
    """SUB and CMP: a - b."""
    mask, sign_at, overflow_at = (1 << bits) - 1, bits - 8, bits - 12

    def sub(a: int, b: int) -> int:
        result = a - b & mask
        over = (a ^ b) & (a ^ result)
        state.rflags = (
            state.rflags & KEEP
            | (a < b)
            | PARITY[result & 0xFF]
            | (a ^ b ^ result) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | ((over >> overflow_at) if overflow_at >= 0 else over << 4) & 0x800
        )
        return result

    return sub


def subtract_with_borrow(state: CpuState, bits: int) -> Binary:
    """SBB: a - b - CF."""
    mask, sign_at, overflow_at = (1 << bits) - 1, bits - 8, bits - 12

    def sbb(a: int, b: int) -> int:
        borrow = state.rflags & 1
        result = a - b - borrow & mask
        over = (a ^ b) & (a ^ result)
        state.rflags = (
            state.rflags & KEEP
            | (a < b + borrow)
            | PARITY[result & 0xFF]
            | (a ^ b ^ result) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | ((over >> overflow_at) if overflow_at >= 0 else over << 4) & 0x800
        )
        return result

    return sbb


def logic(state: CpuState, bits: int) -> Unary:
    """Flags of AND, OR, XOR and TEST by their result: CF and OF zero, AF (undefined) zero."""
    sign_at = bits - 8

    def written(result: int) -> int:
        state.rflags = (
            state.rflags & KEEP | PARITY[result & 0xFF] | (0 if result else FLAG_ZF) | result >> sign_at & 0x80
        )
        return result

    return written


def incrementer(state: CpuState, bits: int) -> Unary:
    """INC: CF stays."""
    mask, sign_at, smallest = (1 << bits) - 1, bits - 8, 1 << bits - 1

    def inc(a: int) -> int:
        result = a + 1 & mask
        state.rflags = (
            state.rflags & KEEP_CF
            | PARITY[result & 0xFF]
            | (a ^ result) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | (FLAG_OF if result == smallest else 0)
        )
        return result

    return inc


def decrementer(state: CpuState, bits: int) -> Unary:
    """DEC: CF stays."""
    mask, sign_at, smallest = (1 << bits) - 1, bits - 8, 1 << bits - 1

    def dec(a: int) -> int:
        result = a - 1 & mask
        state.rflags = (
            state.rflags & KEEP_CF
            | PARITY[result & 0xFF]
            | (a ^ result) & 0x10
            | (0 if result else FLAG_ZF)
            | result >> sign_at & 0x80
            | (FLAG_OF if a == smallest else 0)
        )
        return result

    return dec


def szp(result: int, bits: int) -> int:
    """SF, ZF and PF of a result."""
    return PARITY[result & 0xFF] | (0 if result else FLAG_ZF) | (FLAG_SF if result >> bits - 1 & 1 else 0)


def set_flags(state: CpuState, written: int, value: int) -> None:
    """Replace the flags of mask `written` by `value`."""
    state.rflags = state.rflags & ~written | value & written


SINGLE_BIT_CONDITIONS: dict[str, tuple[int, bool]] = {
    "O": (FLAG_OF, True),
    "NO": (FLAG_OF, False),
    "B": (FLAG_CF, True),
    "AE": (FLAG_CF, False),
    "E": (FLAG_ZF, True),
    "NE": (FLAG_ZF, False),
    "BE": (FLAG_CF | FLAG_ZF, True),
    "A": (FLAG_CF | FLAG_ZF, False),
    "S": (FLAG_SF, True),
    "NS": (FLAG_SF, False),
    "P": (FLAG_PF, True),
    "NP": (FLAG_PF, False),
}
"""Conditions that ask whether any flag of a mask is set (True) or none is (False)."""


def condition(state: CpuState, name: str) -> Callable[[], bool]:
    """Predicate of a condition by its suffix (as in Jcc). Source: SDM vol. 2 appendix B table B-10."""
    if name in SINGLE_BIT_CONDITIONS:
        mask, wanted = SINGLE_BIT_CONDITIONS[name]
        return (lambda: state.rflags & mask != 0) if wanted else (lambda: state.rflags & mask == 0)
    predicates: dict[str, Callable[[], bool]] = {
        # SF is bit 7 and OF bit 11: shifted by 4 they compare in place.
        "L": lambda: (state.rflags ^ state.rflags >> 4) & FLAG_SF != 0,
        "GE": lambda: (state.rflags ^ state.rflags >> 4) & FLAG_SF == 0,
        "LE": lambda: (state.rflags ^ state.rflags >> 4) & FLAG_SF != 0 or state.rflags & FLAG_ZF != 0,
        "G": lambda: (state.rflags ^ state.rflags >> 4) & FLAG_SF == 0 and state.rflags & FLAG_ZF == 0,
    }
    return predicates[name]


CONDITION_NAMES = (*SINGLE_BIT_CONDITIONS, "L", "GE", "LE", "G")
