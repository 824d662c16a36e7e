"""Single bits, scans and counts.

Source: SDM vol. 2, pages of BT, BTS, BTR, BTC, BSF, BSR, POPCNT.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import Address, effective_address, load, memory_of, modify, modify_at, segment_address, store, width
from ..registers import FLAG_CF, FLAG_ZF, FLAGS_STATUS


def _bit_address(cpu: Cpu, insn: Decoded, write: bool) -> Address:
    """Linear address of the word that holds a bit: a register offset reaches beyond the operand, with its sign."""
    size = width(insn)
    bits, memory = 8 * size, memory_of(insn.operands[0])
    base, offset = effective_address(cpu, memory), load(cpu, insn, 1, size)
    sign, mask, shift = 1 << bits - 1, (1 << memory.address_bits) - 1, bits.bit_length() - 1

    def address() -> int:
        signed = (offset() ^ sign) - sign
        return base() + (signed >> shift) * size & mask

    return segment_address(cpu, address, memory.seg, size, write, insn.bits)


def _bit_test(cpu: Cpu, insn: Decoded, change: Callable[[int, int], int] | None) -> Action:
    """CF = the bit; then the operand is changed by its mask."""
    size = width(insn)
    state, bits, index = cpu.state, 8 * size, load(cpu, insn, 1, size)
    beyond = insn.operands[0].kind == "m" and insn.operands[1].kind == "r"
    if change is None:
        if beyond:
            address, read = _bit_address(cpu, insn, write=False), cpu.mmu.read[size]
            value: Callable[[], int] = lambda: read(address())  # noqa: E731 - chosen among two
        else:
            value = load(cpu, insn, 0)
        return lambda: set_flags(state, FLAG_CF, value() >> index() % bits & 1)
    get, put = modify_at(cpu, _bit_address(cpu, insn, write=True), size) if beyond else modify(cpu, insn, 0)

    def test_and_change() -> None:
        number = index() % bits
        old = get()
        put(change(old, 1 << number))
        set_flags(state, FLAG_CF, old >> number & 1)

    return test_and_change


@op("BT", syntax="BT r/m, r/imm8", form="rm,ri", flags_written="C", flags_undefined="OSAP")
def bt(cpu: Cpu, insn: Decoded) -> Action:
    """Test."""
    return _bit_test(cpu, insn, None)


@op("BTS", syntax="BTS r/m, r/imm8", form="rm,ri", flags_written="C", flags_undefined="OSAP")
def bts(cpu: Cpu, insn: Decoded) -> Action:
    """Test and set."""
    return _bit_test(cpu, insn, lambda value, mask: value | mask)


@op("BTR", syntax="BTR r/m, r/imm8", form="rm,ri", flags_written="C", flags_undefined="OSAP")
def btr(cpu: Cpu, insn: Decoded) -> Action:
    """Test and reset."""
    return _bit_test(cpu, insn, lambda value, mask: value & ~mask)


@op("BTC", syntax="BTC r/m, r/imm8", form="rm,ri", flags_written="C", flags_undefined="OSAP")
def btc(cpu: Cpu, insn: Decoded) -> Action:
    """Test and complement."""
    return _bit_test(cpu, insn, lambda value, mask: value ^ mask)


def _scan(cpu: Cpu, insn: Decoded, find: Callable[[int], int]) -> Action:
    """Index of a set bit; a zero source sets ZF and leaves the destination as it was (32-bit: upper half too)."""
    state, source, put = cpu.state, load(cpu, insn, 1), store(cpu, insn, 0)

    def scan() -> None:
        value = source()
        set_flags(state, FLAG_ZF, 0 if value else FLAG_ZF)
        if value:
            put(find(value))

    return scan


@op("BSF", syntax="BSF r, r/m", form="r,rm", flags_written="Z", flags_undefined="OSAPC")
def bsf(cpu: Cpu, insn: Decoded) -> Action:
    """Lowest set bit."""
    return _scan(cpu, insn, lambda value: (value & -value).bit_length() - 1)


@op("BSR", syntax="BSR r, r/m", form="r,rm", flags_written="Z", flags_undefined="OSAPC")
def bsr(cpu: Cpu, insn: Decoded) -> Action:
    """Highest set bit."""
    return _scan(cpu, insn, lambda value: value.bit_length() - 1)


@op("POPCNT", syntax="POPCNT r, r/m", form="r,rm", flags_written="OSZAPC")
def popcnt(cpu: Cpu, insn: Decoded) -> Action:
    """Number of set bits; ZF for none, the other flags zero."""
    state, source, put = cpu.state, load(cpu, insn, 1), store(cpu, insn, 0)

    def count() -> None:
        value = source()
        put(value.bit_count())
        set_flags(state, FLAGS_STATUS, 0 if value else FLAG_ZF)

    return count
