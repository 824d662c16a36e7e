"""String instructions. One iteration of a repeated one is one step: RIP stays until the last.

Source: SDM vol. 2, pages of REP/REPE/REPNE, MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import GuestFault
from ..flags import subtracter
from ..instruction import Action, op
from ..operands import Address, linear_address, memory_of, register_load, register_store
from ..registers import FLAG_DF, FLAG_ZF, MASK16, RAX, RCX, RDI, RDX, RSI
from .port_io import check_port

Advance = Callable[[], None]


def repeated(cpu: Cpu, insn: Decoded, once: Action, compares: bool) -> Action:
    """Wrap one iteration into the REP protocol; `compares` says that ZF ends REPE and REPNE."""
    if not insn.rep:
        return once
    state, gpr, mask, length = cpu.state, cpu.state.gpr, (1 << insn.address_bits) - 1, insn.length
    put_count = register_store(cpu, RCX, insn.address_bits // 8)
    ends_at = FLAG_ZF if insn.rep == "repne" else 0
    rip_mask = (1 << max(insn.bits, 32)) - 1

    counts_faults = cpu.model.quirks.strings_move_first

    def iterate() -> None:
        count = gpr[RCX] & mask
        if not count:
            return
        try:
            once()
        except GuestFault:
            if counts_faults:
                put_count(count - 1)
            raise
        put_count(count - 1)
        if count > 1 and not (compares and state.rflags & FLAG_ZF == ends_at):
            state.rip = state.rip - length & rip_mask
            cpu.repeating = True

    return iterate


def _advance(cpu: Cpu, insn: Decoded, number: int, size: int) -> Advance:
    """Move (E/R)SI or (E/R)DI by the direction flag."""
    state, gpr, bits = cpu.state, cpu.state.gpr, insn.address_bits
    mask = (1 << bits) - 1

    def advance() -> None:
        moved = gpr[number] + (-size if state.rflags & FLAG_DF else size) & mask
        gpr[number] = moved if bits != 16 else gpr[number] & ~MASK16 | moved

    return advance


def _address(cpu: Cpu, insn: Decoded, n: int, write: bool, *advances: Advance) -> Address:
    """Linear address of memory operand `n`; a 286 has moved the index registers `advances` when it faults."""
    address = linear_address(cpu, memory_of(insn.operands[n]), _size(insn), write, insn.bits)
    if not cpu.model.quirks.strings_move_first:
        return address

    def moving_address() -> int:
        try:
            return address()
        except GuestFault:
            for advance in advances:
                advance()
            raise

    return moving_address


def _sides(insn: Decoded) -> tuple[int, int]:
    """Operand numbers of the memory sides at DI and SI, -1 where there is none."""
    sides = {memory_of(operand).base: n for n, operand in enumerate(insn.operands) if operand.kind == "m"}
    return sides.get(RDI, -1), sides.get(RSI, -1)


def _size(insn: Decoded) -> int:
    """Bytes an iteration handles, by the mnemonic's last letter."""
    return {"B": 1, "W": 2, "D": 4, "Q": 8}[insn.mnemonic[-1]]


@op("MOVSB", "MOVSW", "MOVSD", "MOVSQ", syntax="MOVSB/W/D/Q", form="m,m")
def movs(cpu: Cpu, insn: Decoded) -> Action:
    """ES:[DI] = seg:[SI]."""
    size, (to, come_from) = _size(insn), _sides(insn)
    read, write = cpu.mmu.read[size], cpu.mmu.write[size]
    advance_source, advance_target = _advance(cpu, insn, RSI, size), _advance(cpu, insn, RDI, size)
    source = _address(cpu, insn, come_from, False, advance_source)
    target = _address(cpu, insn, to, True, advance_source, advance_target)

    def once() -> None:
        value = read(source())
        write(target(), value)
        advance_source()
        advance_target()

    return repeated(cpu, insn, once, compares=False)


@op("CMPSB", "CMPSW", "CMPSD", "CMPSQ", syntax="CMPSB/W/D/Q", form="m,m", flags_written="OSZAPC")
def cmps(cpu: Cpu, insn: Decoded) -> Action:
    """Compare seg:[SI] with ES:[DI]."""
    size, (to, come_from) = _size(insn), _sides(insn)
    read, compute = cpu.mmu.read[size], subtracter(cpu.state, 8 * size)
    advance_source, advance_target = _advance(cpu, insn, RSI, size), _advance(cpu, insn, RDI, size)
    right = _address(cpu, insn, to, False, advance_target)
    left = _address(cpu, insn, come_from, False, advance_source, advance_target)

    def once() -> None:
        compute(read(left()), read(right()))
        advance_source()
        advance_target()

    return repeated(cpu, insn, once, compares=True)


@op("SCASB", "SCASW", "SCASD", "SCASQ", syntax="SCASB/W/D/Q", form="r,m", flags_written="OSZAPC")
def scas(cpu: Cpu, insn: Decoded) -> Action:
    """Compare the accumulator with ES:[DI]."""
    size = _size(insn)
    read, compute, accumulator = cpu.mmu.read[size], subtracter(cpu.state, 8 * size), register_load(cpu, RAX, size)
    advance = _advance(cpu, insn, RDI, size)
    address = _address(cpu, insn, 1, False, advance)

    def once() -> None:
        compute(accumulator(), read(address()))
        advance()

    return repeated(cpu, insn, once, compares=True)


@op("LODSB", "LODSW", "LODSD", "LODSQ", syntax="LODSB/W/D/Q", form="r,m")
def lods(cpu: Cpu, insn: Decoded) -> Action:
    """Accumulator = seg:[SI]."""
    size = _size(insn)
    read, put, advance = cpu.mmu.read[size], register_store(cpu, RAX, size), _advance(cpu, insn, RSI, size)
    address = _address(cpu, insn, 1, False, advance)

    def once() -> None:
        put(read(address()))
        advance()

    return repeated(cpu, insn, once, compares=False)


@op("STOSB", "STOSW", "STOSD", "STOSQ", syntax="STOSB/W/D/Q", form="m,r")
def stos(cpu: Cpu, insn: Decoded) -> Action:
    """ES:[DI] = accumulator."""
    size = _size(insn)
    write, value, advance = cpu.mmu.write[size], register_load(cpu, RAX, size), _advance(cpu, insn, RDI, size)
    address = _address(cpu, insn, 0, True, advance)

    def once() -> None:
        write(address(), value())
        advance()

    return repeated(cpu, insn, once, compares=False)


@op("INSB", "INSW", "INSD", syntax="INSB/W/D", form="m,r")
def ins(cpu: Cpu, insn: Decoded) -> Action:
    """ES:[DI] = port DX; the memory is checked before the port is read."""
    size = _size(insn)
    write, advance, port_of = cpu.mmu.write[size], _advance(cpu, insn, RDI, size), register_load(cpu, RDX, 2)
    address = _address(cpu, insn, 0, True, advance)

    def once() -> None:
        port = port_of()
        check_port(cpu, port, size)
        at = address()
        cpu.mmu.probe_write(at, size)
        write(at, cpu.bus.port_read(port, size))
        advance()

    return repeated(cpu, insn, once, compares=False)


@op("OUTSB", "OUTSW", "OUTSD", syntax="OUTSB/W/D", form="r,m")
def outs(cpu: Cpu, insn: Decoded) -> Action:
    """Port DX = seg:[SI]."""
    size = _size(insn)
    read, advance, port_of = cpu.mmu.read[size], _advance(cpu, insn, RSI, size), register_load(cpu, RDX, 2)
    address = _address(cpu, insn, 1, False, advance)

    def once() -> None:
        port = port_of()
        check_port(cpu, port, size)
        cpu.bus.port_write(port, size, read(address()))
        advance()

    return repeated(cpu, insn, once, compares=False)
