"""Shifts and rotates.

A count of zero after masking changes no flag. OF is defined for a count of one; for others it is computed the same way
from the last step. AF is undefined after shifts and is cleared.

Source: SDM vol. 2, pages of SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import set_flags, szp
from ..instruction import Action, op
from ..operands import load, modify, width
from ..registers import FLAG_CF, FLAG_OF, FLAGS_STATUS

Shift = Callable[[int, int, int], tuple[int, int, int]]
"""(value, count, bits) to (result, CF, OF)."""


def _shift_action(cpu: Cpu, insn: Decoded, compute: Shift, all_flags: bool) -> Action:
    """Destination = compute(destination, count)."""
    size = width(insn)
    state, bits, mask = cpu.state, 8 * size, 0x3F if size == 8 else cpu.model.quirks.shift_mask
    count_of, (get, put) = load(cpu, insn, 1, 1), modify(cpu, insn, 0)
    written = FLAGS_STATUS if all_flags else FLAG_CF | FLAG_OF

    def shift() -> None:
        count = count_of() & mask
        value = get()
        if not count:
            put(value)
            return
        result, carry, overflow = compute(value, count, bits)
        put(result)
        flags = (FLAG_CF if carry else 0) | (FLAG_OF if overflow else 0)
        set_flags(state, written, flags | (szp(result, bits) if all_flags else 0))

    return shift


def _shl(value: int, count: int, bits: int) -> tuple[int, int, int]:
    wide = value << count
    carry = wide >> bits & 1
    return wide & (1 << bits) - 1, carry, (wide >> bits - 1 & 1) ^ carry


def _shr(value: int, count: int, bits: int) -> tuple[int, int, int]:
    # One step leaves OF = the old sign; further steps see a cleared sign.
    return value >> count, value >> count - 1 & 1, value >> bits - 1 & 1 if count == 1 else 0


def _sar(value: int, count: int, bits: int) -> tuple[int, int, int]:
    sign = 1 << bits - 1
    signed = (value ^ sign) - sign
    return signed >> count & (1 << bits) - 1, signed >> count - 1 & 1, 0


def _rol(value: int, count: int, bits: int) -> tuple[int, int, int]:
    count %= bits
    result = (value << count | value >> bits - count) & (1 << bits) - 1
    return result, result & 1, (result >> bits - 1 ^ result) & 1


def _ror(value: int, count: int, bits: int) -> tuple[int, int, int]:
    count %= bits
    result = (value >> count | value << bits - count) & (1 << bits) - 1
    return result, result >> bits - 1, (result >> bits - 1 ^ result >> bits - 2) & 1


@op("SHL", "SAL", syntax="SHL r/m, imm8/CL", form="rm,ri", flags_written="OSZPC", flags_undefined="OA")
def shl(cpu: Cpu, insn: Decoded) -> Action:
    """Shift left."""
    return _shift_action(cpu, insn, _shl, all_flags=True)


@op("SHR", syntax="SHR r/m, imm8/CL", form="rm,ri", flags_written="OSZPC", flags_undefined="OA")
def shr(cpu: Cpu, insn: Decoded) -> Action:
    """Shift right, zeros in."""
    return _shift_action(cpu, insn, _shr, all_flags=True)


@op("SAR", syntax="SAR r/m, imm8/CL", form="rm,ri", flags_written="OSZPC", flags_undefined="OA")
def sar(cpu: Cpu, insn: Decoded) -> Action:
    """Shift right, the sign in."""
    return _shift_action(cpu, insn, _sar, all_flags=True)


@op("ROL", syntax="ROL r/m, imm8/CL", form="rm,ri", flags_written="OC", flags_undefined="O")
def rol(cpu: Cpu, insn: Decoded) -> Action:
    """Rotate left."""
    return _shift_action(cpu, insn, _rol, all_flags=False)


@op("ROR", syntax="ROR r/m, imm8/CL", form="rm,ri", flags_written="OC", flags_undefined="O")
def ror(cpu: Cpu, insn: Decoded) -> Action:
    """Rotate right."""
    return _shift_action(cpu, insn, _ror, all_flags=False)


def _through_carry(cpu: Cpu, insn: Decoded, left: bool) -> Action:
    """Rotate a ring of bits + 1 places, CF on top. A count of a whole turn changes nothing, OF included."""
    size = width(insn)
    state, bits, mask = cpu.state, 8 * size, 0x3F if size == 8 else cpu.model.quirks.shift_mask
    count_of, (get, put) = load(cpu, insn, 1, 1), modify(cpu, insn, 0)
    ring, top = (1 << bits + 1) - 1, 1 << bits - 1

    def rotate() -> None:
        count = (count_of() & mask) % (bits + 1)
        value = get()
        if not count:
            put(value)
            return
        whole = value | (state.rflags & 1) << bits
        turns = count if left else bits + 1 - count
        whole = (whole << turns | whole >> bits + 1 - turns) & ring
        result, carry = whole & ring >> 1, whole >> bits
        put(result)
        sign = bool(result & top)
        overflow = sign != bool(carry) if left else sign != bool(result & top >> 1)
        set_flags(state, FLAG_CF | FLAG_OF, carry | (FLAG_OF if overflow else 0))

    return rotate


@op("RCL", syntax="RCL r/m, imm8/CL", form="rm,ri", flags_written="OC", flags_undefined="O")
def rcl(cpu: Cpu, insn: Decoded) -> Action:
    """Rotate left through CF."""
    return _through_carry(cpu, insn, left=True)


@op("RCR", syntax="RCR r/m, imm8/CL", form="rm,ri", flags_written="OC", flags_undefined="O")
def rcr(cpu: Cpu, insn: Decoded) -> Action:
    """Rotate right through CF."""
    return _through_carry(cpu, insn, left=False)


def _double(cpu: Cpu, insn: Decoded, left: bool) -> Action:
    """Shift bits of a second register in.

    With a 16-bit operand and a count above 16 (undefined) the destination follows the source into the result.
    """
    size = width(insn)
    state, bits, mask = cpu.state, 8 * size, 0x3F if size == 8 else cpu.model.quirks.shift_mask
    source, count_of, (get, put) = load(cpu, insn, 1), load(cpu, insn, 2, 1), modify(cpu, insn, 0)
    ones, top = (1 << bits) - 1, 1 << bits - 1

    def shift() -> None:
        count = count_of() & mask
        value, other = get(), source()
        if not count:
            put(value)
            return
        if left:
            wide = (value << 2 * bits | other << bits | value) << count
            result, carry = wide >> 2 * bits & ones, wide >> 3 * bits & 1
        else:
            wide = value << 2 * bits | other << bits | value
            result, carry = wide >> count & ones, wide >> count - 1 & 1
        put(result)
        overflow = FLAG_OF if (result ^ value) & top else 0
        set_flags(state, FLAGS_STATUS, carry | overflow | szp(result, bits))

    return shift


@op("SHLD", syntax="SHLD r/m, r, imm8/CL", form="rm,r,ri", flags_written="OSZPC", flags_undefined="OA")
def shld(cpu: Cpu, insn: Decoded) -> Action:
    """Shift left, the source's high bits in."""
    return _double(cpu, insn, left=True)


@op("SHRD", syntax="SHRD r/m, r, imm8/CL", form="rm,r,ri", flags_written="OSZPC", flags_undefined="OA")
def shrd(cpu: Cpu, insn: Decoded) -> Action:
    """Shift right, the source's low bits in."""
    return _double(cpu, insn, left=False)
