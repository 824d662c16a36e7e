"""Decimal adjustment, outside 64-bit mode.

Undefined flags: AAA and AAS leave OF SF ZF PF alone, AAM and AAD clear OF AF CF, DAA and DAS leave OF alone.

Source: SDM vol. 2A, pages of AAA, AAD, AAM, AAS, DAA, DAS.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import DE, GuestFault
from ..flags import set_flags, szp
from ..instruction import Action, op
from ..operands import register_load, register_store
from ..registers import FLAG_AF, FLAG_CF, FLAG_OF, FLAGS_STATUS, RAX


def _packed(cpu: Cpu, sign: int) -> Action:
    """DAA (sign 1) or DAS (sign -1)."""
    state, get, put = cpu.state, register_load(cpu, RAX, 1), register_store(cpu, RAX, 1)

    def adjust() -> None:
        old = value = get()
        flags = state.rflags
        carry = flags & FLAG_CF
        half = bool(old & 15 > 9 or flags & FLAG_AF)
        new_carry = 0
        if half:
            value += 6 * sign
            new_carry = int(carry or not 0 <= value <= 0xFF)
        if old > 0x99 or carry:
            value += 0x60 * sign
            new_carry = 1
        value &= 0xFF
        put(value)
        set_flags(state, FLAGS_STATUS & ~FLAG_OF, new_carry | (FLAG_AF if half else 0) | szp(value, 8))

    return adjust


@op("DAA", syntax="DAA", flags_written="SZAPC", flags_undefined="O")
def daa(cpu: Cpu, _insn: Decoded) -> Action:
    """Adjust AL after an addition of packed digits."""
    return _packed(cpu, 1)


@op("DAS", syntax="DAS", flags_written="SZAPC", flags_undefined="O")
def das(cpu: Cpu, _insn: Decoded) -> Action:
    """Adjust AL after a subtraction of packed digits."""
    return _packed(cpu, -1)


def _unpacked(cpu: Cpu, sign: int) -> Action:
    """AAA (sign 1) or AAS (sign -1)."""
    state, get, put = cpu.state, register_load(cpu, RAX, 2), register_store(cpu, RAX, 2)

    def adjust() -> None:
        value = get()
        over = value & 15 > 9 or state.rflags & FLAG_AF
        if over:
            # AX as a whole is adjusted, so that a carry of AL + 6 reaches AH.
            value = value + 0x106 * sign & 0xFFFF
        put(value & 0xFF0F)
        set_flags(state, FLAG_AF | FLAG_CF, FLAG_AF | FLAG_CF if over else 0)

    return adjust


@op("AAA", syntax="AAA", flags_written="AC", flags_undefined="OSZP")
def aaa(cpu: Cpu, _insn: Decoded) -> Action:
    """Adjust AX after an addition of unpacked digits."""
    return _unpacked(cpu, 1)


@op("AAS", syntax="AAS", flags_written="AC", flags_undefined="OSZP")
def aas(cpu: Cpu, _insn: Decoded) -> Action:
    """Adjust AX after a subtraction of unpacked digits."""
    return _unpacked(cpu, -1)


@op("AAM", syntax="AAM imm8", form="i", flags_written="SZP", flags_undefined="OAC")
def aam(cpu: Cpu, insn: Decoded) -> Action:
    """AH, AL = AL divided by the base; #DE for base zero."""
    state, get, put = cpu.state, register_load(cpu, RAX, 1), register_store(cpu, RAX, 2)
    base = insn.operands[0].value & 0xFF

    def adjust() -> None:
        if not base:
            raise GuestFault(DE)
        quotient, remainder = divmod(get(), base)
        put(quotient << 8 | remainder)
        set_flags(state, FLAGS_STATUS, szp(remainder, 8))

    return adjust


@op("AAD", syntax="AAD imm8", form="i", flags_written="SZP", flags_undefined="OAC")
def aad(cpu: Cpu, insn: Decoded) -> Action:
    """AL = AH * base + AL, AH = 0."""
    state, get, put = cpu.state, register_load(cpu, RAX, 2), register_store(cpu, RAX, 2)
    base = insn.operands[0].value & 0xFF

    def adjust() -> None:
        value = get()
        result = (value >> 8) * base + value & 0xFF
        put(result)
        set_flags(state, FLAGS_STATUS, szp(result, 8))

    return adjust


@op("SALC", syntax="SALC")
def salc(cpu: Cpu, _insn: Decoded) -> Action:
    """AL = CF ? FFh : 0. Source: undocumented by Intel for long, APM vol. 3 opcode map (D6)."""
    state, put = cpu.state, register_store(cpu, RAX, 1)
    return lambda: put(0xFF if state.rflags & FLAG_CF else 0)
