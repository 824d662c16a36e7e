"""Multiplication and division.

The flags that a multiplication leaves undefined (SF ZF AF PF), and all of a division, stay as they were.

Source: SDM vol. 2, pages of MUL, IMUL, DIV, IDIV.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import DE, GuestFault
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import Load, Store, load, register_load, register_store, store, width
from ..registers import FLAG_CF, FLAG_OF, RAX, RDX

_CARRY = FLAG_CF | FLAG_OF


def _halves(cpu: Cpu, size: int) -> tuple[tuple[Load, Store], tuple[Load, Store]]:
    """Low and high half of the double-width accumulator: AL and AH, or (E/R)AX and (E/R)DX."""
    low = register_load(cpu, RAX, size), register_store(cpu, RAX, size)
    if size == 1:
        return low, (register_load(cpu, RAX, 1, 1), register_store(cpu, RAX, 1, 1))
    return low, (register_load(cpu, RDX, size), register_store(cpu, RDX, size))


def _one_operand(cpu: Cpu, insn: Decoded, signed: bool) -> Action:
    """Double-width product of the accumulator; CF and OF say whether the upper half matters."""
    size = width(insn)
    state, bits = cpu.state, 8 * size
    ones, sign = (1 << bits) - 1, 1 << bits - 1
    factor = load(cpu, insn, 0)
    (low, put_low), (_, put_high) = _halves(cpu, size)

    def multiply() -> None:
        a, b = low(), factor()
        if signed:
            product = ((a ^ sign) - sign) * ((b ^ sign) - sign)
            fits = -sign <= product < sign
        else:
            product = a * b
            fits = product <= ones
        put_low(product & ones)
        put_high(product >> bits & ones)
        set_flags(state, _CARRY, 0 if fits else _CARRY)

    return multiply


@op("MUL", syntax="MUL r/m", form="rm", flags_written="OC", flags_undefined="SZAP")
def mul(cpu: Cpu, insn: Decoded) -> Action:
    """Unsigned product."""
    return _one_operand(cpu, insn, signed=False)


@op("IMUL", syntax="IMUL r/m", form="rm", flags_written="OC", flags_undefined="SZAP")
def imul_accumulator(cpu: Cpu, insn: Decoded) -> Action:
    """Signed product, double width."""
    return _one_operand(cpu, insn, signed=True)


def _truncated(cpu: Cpu, insn: Decoded, left: int, right: int) -> Action:
    """Signed product cut to the operand size; CF and OF say whether bits were lost."""
    size = width(insn)
    state, ones, sign = cpu.state, (1 << 8 * size) - 1, 1 << 8 * size - 1
    a, b, put = load(cpu, insn, left), load(cpu, insn, right, size), store(cpu, insn, 0)

    def multiply() -> None:
        product = ((a() ^ sign) - sign) * ((b() ^ sign) - sign)
        put(product & ones)
        set_flags(state, _CARRY, 0 if -sign <= product < sign else _CARRY)

    return multiply


@op("IMUL", syntax="IMUL r, r/m", form="r,rm", flags_written="OC", flags_undefined="SZAP")
def imul_two(cpu: Cpu, insn: Decoded) -> Action:
    """Destination times source."""
    return _truncated(cpu, insn, 0, 1)


@op("IMUL", syntax="IMUL r, r/m, imm", form="r,rm,i", flags_written="OC", flags_undefined="SZAP")
def imul_three(cpu: Cpu, insn: Decoded) -> Action:
    """Source times immediate."""
    return _truncated(cpu, insn, 1, 2)


def _divide(cpu: Cpu, insn: Decoded, signed: bool) -> Action:
    """Quotient and remainder, rounded towards zero; #DE where the quotient does not fit or the divisor is zero."""
    size = width(insn)
    bits = 8 * size
    ones, sign = (1 << bits) - 1, 1 << bits - 1
    divisor_of = load(cpu, insn, 0)
    (low, put_low), (high, put_high) = _halves(cpu, size)

    def divide_error() -> GuestFault:
        fault = GuestFault(DE)
        fault.keeps_rip = cpu.model.quirks.divide_error_behind
        return fault

    def divide() -> None:
        divisor, dividend = divisor_of(), high() << bits | low()
        if not divisor:
            raise divide_error()
        if signed:
            wide_sign = 1 << 2 * bits - 1
            dividend, divisor = (dividend ^ wide_sign) - wide_sign, (divisor ^ sign) - sign
            quotient = abs(dividend) // abs(divisor)
            quotient = quotient if (dividend < 0) == (divisor < 0) else -quotient
            fits = -sign <= quotient < sign
        else:
            quotient = dividend // divisor
            fits = quotient <= ones
        if not fits:
            raise divide_error()
        put_low(quotient & ones)
        put_high(dividend - quotient * divisor & ones)

    return divide


@op("DIV", syntax="DIV r/m", form="rm", flags_undefined="OSZAPC")
def div(cpu: Cpu, insn: Decoded) -> Action:
    """Unsigned division."""
    return _divide(cpu, insn, signed=False)


@op("IDIV", syntax="IDIV r/m", form="rm", flags_undefined="OSZAPC")
def idiv(cpu: Cpu, insn: Decoded) -> Action:
    """Signed division."""
    return _divide(cpu, insn, signed=True)
