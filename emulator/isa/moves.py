"""Moves and conversions.

Source: SDM vol. 2, pages of the instructions named in each block.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import CONDITION_NAMES, condition
from ..instruction import Action, op
from ..operands import effective_address, load, memory_of, register_load, register_store, store, width
from ..registers import MASK16, MASK32, MASK64, RAX, RDX


@op("MOV", syntax="MOV r/m, r/m/imm", form="rm,rmi")
def mov(cpu: Cpu, insn: Decoded) -> Action:
    """Copy the source; no flags."""
    gpr = cpu.state.gpr
    value = load(cpu, insn, 1, width(insn))
    target = insn.operands[0]
    if target.kind == "r" and target.size >= 4:
        number = target.value
        if insn.operands[1].kind == "i":
            constant = value()

            def constant_to_register() -> None:
                gpr[number] = constant

            return constant_to_register

        def to_register() -> None:
            gpr[number] = value()

        return to_register
    put = store(cpu, insn, 0)
    return lambda: put(value())


def _extended(cpu: Cpu, insn: Decoded, signed: bool) -> Action:
    """Register = extended source."""
    size, source_size = width(insn), width(insn, 1)
    value, put = load(cpu, insn, 1, source_size), store(cpu, insn, 0)
    if not signed:
        mask = (1 << 8 * min(size, source_size)) - 1
        return lambda: put(value() & mask)
    sign, mask = 1 << 8 * source_size - 1, (1 << 8 * size) - 1
    return lambda: put((value() ^ sign) - sign & mask)


@op("MOVZX", syntax="MOVZX r, r/m", form="r,rm")
def movzx(cpu: Cpu, insn: Decoded) -> Action:
    """Zero extension."""
    return _extended(cpu, insn, signed=False)


@op("MOVSX", "MOVSXD", syntax="MOVSX r, r/m; MOVSXD r, r/m", form="r,rm")
def movsx(cpu: Cpu, insn: Decoded) -> Action:
    """Sign extension; MOVSXD without REX.W moves 16 or 32 bits as they are."""
    return _extended(cpu, insn, signed=True)


@op("MOVBE", syntax="MOVBE r, m; MOVBE m, r", form="rm,rm")
def movbe(cpu: Cpu, insn: Decoded) -> Action:
    """Copy with the bytes reversed."""
    size = width(insn)
    value, put = load(cpu, insn, 1), store(cpu, insn, 0)
    return lambda: put(int.from_bytes(value().to_bytes(size, "little"), "big"))


@op("LEA", syntax="LEA r, m", form="r,m")
def lea(cpu: Cpu, insn: Decoded) -> Action:
    """The effective address, without the segment."""
    address = effective_address(cpu, memory_of(insn.operands[1]))
    put, mask = store(cpu, insn, 0), (1 << 8 * width(insn)) - 1
    return lambda: put(address() & mask)


@op("BSWAP", syntax="BSWAP r32/r64", form="r")
def bswap(cpu: Cpu, insn: Decoded) -> Action:
    """Reverse the bytes; a 16-bit operand (undefined) becomes zero, as processors do."""
    size = width(insn)
    value, put = load(cpu, insn, 0), store(cpu, insn, 0)
    if size == 2:
        return lambda: put(0)
    return lambda: put(int.from_bytes(value().to_bytes(size, "little"), "big"))


def _conditional_move(name: str) -> None:
    @op(f"CMOV{name}", syntax=f"CMOV{name} r, r/m", form="r,rm")
    def cmov(cpu: Cpu, insn: Decoded) -> Action:
        """The source is read whatever the condition; a 32-bit target loses its upper half in any case."""
        value, old, put = load(cpu, insn, 1), load(cpu, insn, 0), store(cpu, insn, 0)
        holds = condition(cpu.state, name)

        def move() -> None:
            new = value()
            put(new if holds() else old())

        return move


def _conditional_set(name: str) -> None:
    @op(f"SET{name}", syntax=f"SET{name} r/m8", form="rm")
    def setcc(cpu: Cpu, insn: Decoded) -> Action:
        """One or zero by the condition."""
        put, holds = store(cpu, insn, 0), condition(cpu.state, name)
        return lambda: put(1 if holds() else 0)


for _name in CONDITION_NAMES:
    _conditional_move(_name)
    _conditional_set(_name)


@op("CBW", "CWDE", "CDQE", syntax="CBW; CWDE; CDQE")
def cbw(cpu: Cpu, insn: Decoded) -> Action:
    """Sign-extend the accumulator's lower half into all of it."""
    size = {"CBW": 2, "CWDE": 4, "CDQE": 8}[insn.mnemonic]
    value, put = register_load(cpu, RAX, size // 2), register_store(cpu, RAX, size)
    sign, mask = 1 << 4 * size - 1, (1 << 8 * size) - 1
    return lambda: put((value() ^ sign) - sign & mask)


@op("CWD", "CDQ", "CQO", syntax="CWD; CDQ; CQO")
def cwd(cpu: Cpu, insn: Decoded) -> Action:
    """Fill DX, EDX or RDX with the accumulator's sign."""
    size, ones = {"CWD": (2, MASK16), "CDQ": (4, MASK32), "CQO": (8, MASK64)}[insn.mnemonic]
    value, put, sign = register_load(cpu, RAX, size), register_store(cpu, RDX, size), 1 << 8 * size - 1
    return lambda: put(ones if value() & sign else 0)


@op("XLATB", syntax="XLATB", form="m")
def xlatb(cpu: Cpu, insn: Decoded) -> Action:
    """AL = byte at seg:[(E/R)BX + AL]."""
    value, put = load(cpu, insn, 0, 1), register_store(cpu, RAX, 1)
    return lambda: put(value())


def _nothing() -> None:
    """No operation."""


def _hint(_cpu: Cpu, _insn: Decoded) -> Action:
    """A memory operand is not accessed."""
    return _nothing


for _form in ("", "rm", "rm,r"):
    op("NOP", "PAUSE", "RESERVEDNOP", syntax="NOP; PAUSE; NOP r/m", form=_form)(_hint)
