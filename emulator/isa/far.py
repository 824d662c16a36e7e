"""Far transfers and software interrupts.

Source: SDM vol. 2, pages of JMP, CALL, RET, IRET, INT n/INTO/INT3/INT1, BOUND.
"""

from collections.abc import Callable

from .. import interrupts, v86
from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import BP, BR, DB, OF, GuestFault
from ..far_transfers import far_return, iret, transfer
from ..instruction import Action, op
from ..interrupts import Source
from ..operands import effective_address, load, memory_of, segment_address, width
from ..registers import FLAG_OF, MASK16
from .stack import writable_flags


@op("JMP", "CALL", syntax="JMP ptr16:16/32; CALL ptr16:16/32", form="f")
def far_direct(cpu: Cpu, insn: Decoded) -> Action:
    """To the pointer in the instruction."""
    target, size, call = insn.operands[0], insn.operand_size, insn.mnemonic == "CALL"
    return lambda: transfer(cpu, target.extra, target.value, size, call)


@op("JMP", "CALL", syntax="JMP m16:16/32/64; CALL m16:16/32/64", form="p")
def far_indirect(cpu: Cpu, insn: Decoded) -> Action:
    """To the pointer in memory."""
    size, call = insn.operand_size, insn.mnemonic == "CALL"
    pointer = far_pointer(cpu, insn, 0, size)

    def run() -> None:
        selector, offset = pointer()
        transfer(cpu, selector, offset, size, call)

    return run


def far_pointer(cpu: Cpu, insn: Decoded, n: int, size: int) -> Callable[[], tuple[int, int]]:
    """Read selector and offset from the memory operand `n`."""
    memory = memory_of(insn.operands[n])
    address = segment_address(cpu, effective_address(cpu, memory), memory.seg, size + 2, False, insn.bits)
    read_offset, read_selector = cpu.mmu.read[size], cpu.mmu.read[2]

    def pointer() -> tuple[int, int]:
        at = address()
        offset = read_offset(at)
        return read_selector(at + size & cpu.linear_mask), offset

    return pointer


@op("RETF", syntax="RETF", form="")
def retf(cpu: Cpu, insn: Decoded) -> Action:
    """Return far."""
    size = insn.operand_size
    return lambda: far_return(cpu, size, 0)


@op("RETF", syntax="RETF imm16", form="i")
def retf_release(cpu: Cpu, insn: Decoded) -> Action:
    """Return far and release parameters."""
    size, release = insn.operand_size, insn.operands[0].value & MASK16
    return lambda: far_return(cpu, size, release)


@op("IRET", "IRETD", "IRETQ", syntax="IRET; IRETD; IRETQ", flags_written="OSZAPCDITNLXR")
def iret_(cpu: Cpu, insn: Decoded) -> Action:
    """Return from an interrupt; unmasks NMIs."""
    size = insn.operand_size
    return lambda: iret(cpu, size, writable_flags(cpu, size))


def _software(cpu: Cpu, vector: int) -> None:
    """Deliver a software interrupt; single-step does not trap after it. Source: SDM vol. 3B 18.3.1.4."""
    cpu.trap_inhibited = True
    interrupts.deliver(cpu, vector, None, Source.SOFTWARE)


@op("INT", syntax="INT imm8", form="i", flags_written="ITN")
def int_(cpu: Cpu, insn: Decoded) -> Action:
    """Software interrupt; in protected mode the gate's DPL decides, in virtual-8086 mode IOPL or a bit map."""
    vector = insn.operands[0].value & 0xFF

    def run() -> None:
        if cpu.v86 and v86.software_interrupt(cpu, vector):
            cpu.trap_inhibited = True
        else:
            _software(cpu, vector)

    return run


@op("INT3", syntax="INT3", flags_written="ITN")
def int3(cpu: Cpu, _insn: Decoded) -> Action:
    """Breakpoint."""
    return lambda: _software(cpu, BP)


@op("INTO", syntax="INTO", flags_written="ITN")
def into(cpu: Cpu, _insn: Decoded) -> Action:
    """Overflow trap if OF."""
    state = cpu.state

    def run() -> None:
        if state.rflags & FLAG_OF:
            _software(cpu, OF)

    return run


@op("INT1", syntax="INT1 (ICEBP)", flags_written="ITN")
def int1(cpu: Cpu, _insn: Decoded) -> Action:
    """#DB as a trap, with neither a DPL check nor DR6 bits."""

    def run() -> None:
        cpu.trap_inhibited = True
        interrupts.deliver(cpu, DB, None, Source.EVENT)

    return run


@op("BOUND", syntax="BOUND r16/32, m", form="r,m")
def bound(cpu: Cpu, insn: Decoded) -> Action:
    """#BR unless lower <= index <= upper, signed."""
    size = width(insn)
    memory, index, sign = memory_of(insn.operands[1]), load(cpu, insn, 0), 1 << 8 * size - 1
    address = segment_address(cpu, effective_address(cpu, memory), memory.seg, 2 * size, False, insn.bits)
    read = cpu.mmu.read[size]

    def check() -> None:
        at = address()
        lower, upper = read(at), read(at + size & cpu.linear_mask)
        value = index() ^ sign
        if not lower ^ sign <= value <= upper ^ sign:
            raise GuestFault(BR)

    return check
