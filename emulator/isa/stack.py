"""The stack: PUSH, POP and their kin.

Source: SDM vol. 2, pages of PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import GuestFault
from ..flags import set_flags
from ..instruction import Action, op
from ..operands import linear_address, load, memory_of, register_store
from ..registers import (
    CR0_PE,
    CS,
    FLAG_AC,
    FLAG_DF,
    FLAG_ID,
    FLAG_IF,
    FLAG_IOPL,
    FLAG_NT,
    FLAG_RF,
    FLAG_TF,
    FLAG_VM,
    FLAGS_STATUS,
    MASK16,
    MASK64,
    RBP,
    RSP,
    SHADOW_MOV_SS,
    SS,
)
from ..segments import load_data_segment
from ..translate import CANONICAL_HALF, NON_CANONICAL
from ..v86 import checked_flags, popf_flags, pushed_flags

FLAGS_ALWAYS = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID
"""What POPF and IRET write at any privilege."""


def writable_flags(cpu: Cpu, size: int) -> int:
    """Flags that POPF may write: IF with CPL <= IOPL, IOPL at CPL 0, the low half for a 2-byte operand."""
    state = cpu.state
    mask = FLAGS_ALWAYS
    if state.cpl <= state.rflags >> 12 & 3:
        mask |= FLAG_IF
    if state.cpl == 0:
        mask |= FLAG_IOPL
    exist = cpu.model.flags if state.cr0 & CR0_PE else cpu.model.real_flags
    return mask & exist & (MASK16 if size == 2 else MASK64)


@op("PUSH", syntax="PUSH r/m/imm", form="rmi")
def push(cpu: Cpu, insn: Decoded) -> Action:
    """Push; PUSH SP pushes the old value (an 8086 the new one)."""
    size = insn.operand_size
    if cpu.model.quirks.push_sp_lowered and insn.operands[0].kind == "r" and insn.operands[0].value == RSP:
        return lambda: cpu.push(cpu.state.gpr[RSP] - 2 & MASK16, 2)
    value = load(cpu, insn, 0, size)
    if size == 8 and insn.bits == 64:
        gpr, write, slow = cpu.state.gpr, cpu.mmu.write[8], cpu.push

        def push_64() -> None:
            sp = gpr[RSP] - 8 & MASK64
            if (sp + CANONICAL_HALF) & NON_CANONICAL:
                slow(value(), 8)
            write(sp, value())
            gpr[RSP] = sp

        return push_64
    return lambda: cpu.push(value(), size)


@op("PUSH", syntax="PUSH Sreg", form="s")
def push_segment(cpu: Cpu, insn: Decoded) -> Action:
    """Push a selector; with a 4-byte operand only two bytes are written, as recent processors and KVM do."""
    size, seg = insn.operand_size, cpu.state.segs[insn.operands[0].value]
    if size != 4:
        return lambda: cpu.push(seg.selector, size)
    gpr = cpu.state.gpr

    def push_selector() -> None:
        sp = gpr[RSP] - 4 & cpu.stack_mask
        cpu.mmu.write[2](cpu.stack_address(sp, 2, True), seg.selector)
        cpu.set_stack_pointer(sp)

    return push_selector


@op("POP", syntax="POP r", form="r")
def pop(cpu: Cpu, insn: Decoded) -> Action:
    """Pop; POP SP leaves what was popped."""
    size = insn.operand_size
    put = register_store(cpu, insn.operands[0].value, size)
    return lambda: put(cpu.pop(size))


@op("POP", syntax="POP m", form="m")
def pop_memory(cpu: Cpu, insn: Decoded) -> Action:
    """Pop to memory; an address with (E/R)SP in it uses the value after the pop."""
    size, gpr = insn.operand_size, cpu.state.gpr
    address = linear_address(cpu, memory_of(insn.operands[0]), size, True, insn.bits)
    write = cpu.mmu.write[size]

    def pop_to_memory() -> None:
        before = gpr[RSP]
        value = cpu.pop(size)
        after = gpr[RSP]
        try:
            write(address(), value)
        except BaseException:
            gpr[RSP] = before
            raise
        gpr[RSP] = after

    return pop_to_memory


@op("POP", syntax="POP Sreg", form="s")
def pop_segment(cpu: Cpu, insn: Decoded) -> Action:
    """Load a segment register from the stack; POP SS sets the MOV SS shadow."""
    size, index, gpr = insn.operand_size, insn.operands[0].value, cpu.state.gpr

    def pop_selector() -> None:
        sp = gpr[RSP] & cpu.stack_mask
        selector = cpu.mmu.read[2](cpu.stack_address(sp, 2, False))
        mask = cpu.stack_mask
        load_data_segment(cpu, index, selector)
        gpr[RSP] = sp + size & mask if mask != MASK16 else gpr[RSP] & ~MASK16 | sp + size & MASK16
        if index == SS:
            cpu.set_shadow(SHADOW_MOV_SS)
        elif index == CS:
            cpu.update_mode()  # an 8086's POP CS

    return pop_selector


@op("PUSHA", "PUSHAD", syntax="PUSHA; PUSHAD")
def pusha(cpu: Cpu, insn: Decoded) -> Action:
    """Push eight registers, SP as it was before."""
    size, gpr = insn.operand_size, cpu.state.gpr
    ones = (1 << 8 * size) - 1

    def push_all() -> None:
        before = gpr[RSP]
        try:
            for number in range(8):
                cpu.push((before if number == RSP else gpr[number]) & ones, size)
        except BaseException:
            gpr[RSP] = before
            raise

    return push_all


@op("POPA", "POPAD", syntax="POPA; POPAD")
def popa(cpu: Cpu, insn: Decoded) -> Action:
    """Pop eight registers, discarding SP's."""
    size, gpr = insn.operand_size, cpu.state.gpr
    puts = [register_store(cpu, number, size) for number in range(8)]

    def pop_all() -> None:
        before = gpr[RSP]
        try:
            values = [cpu.pop(size) for _ in range(8)]
        except BaseException:
            gpr[RSP] = before
            raise
        for number, value in zip(range(7, -1, -1), values, strict=True):
            if number != RSP:
                puts[number](value)

    return pop_all


@op("PUSHF", "PUSHFD", "PUSHFQ", syntax="PUSHF; PUSHFD; PUSHFQ")
def pushf(cpu: Cpu, insn: Decoded) -> Action:
    """Push the flags; VM and RF read as zero."""
    size = insn.operand_size
    mask, ones = (1 << 8 * size) - 1 & ~(FLAG_VM | FLAG_RF), cpu.model.quirks.pushed_ones
    return lambda: cpu.push(pushed_flags(cpu, size) & mask | ones, size)


@op("POPF", "POPFD", "POPFQ", syntax="POPF; POPFD; POPFQ", flags_written="OSZAPCDITNLXR")
def popf(cpu: Cpu, insn: Decoded) -> Action:
    """Pop the flags that the privilege level may write; no interrupt shadow."""
    state, size = cpu.state, insn.operand_size

    def pop_flags() -> None:
        if cpu.v86:
            written, before = popf_flags(cpu, size), state.gpr[RSP]
            value = cpu.pop(size)
            try:
                value = checked_flags(cpu, value)
            except GuestFault:
                state.gpr[RSP] = before
                raise
        else:
            written, value = writable_flags(cpu, size), cpu.pop(size)
        set_flags(state, written | FLAG_RF, value & ~FLAG_RF)
        cpu.flags_changed()

    return pop_flags


@op("LEAVE", syntax="LEAVE")
def leave(cpu: Cpu, insn: Decoded) -> Action:
    """SP = BP, then pop BP."""
    size, gpr = insn.operand_size, cpu.state.gpr
    put = register_store(cpu, RBP, size)

    def run() -> None:
        sp = gpr[RBP] & cpu.stack_mask
        value = cpu.mmu.read[size](cpu.stack_address(sp, size, False))
        cpu.set_stack_pointer(sp + size)
        put(value)

    return run


@op("ENTER", syntax="ENTER imm16, imm8", form="i,i")
def enter(cpu: Cpu, insn: Decoded) -> Action:
    """Make a frame of a nesting level; the new stack top must be writable."""
    size, gpr = insn.operand_size, cpu.state.gpr
    room, level = insn.operands[0].value & MASK16, insn.operands[1].value & 0x1F
    ones, put = (1 << 8 * size) - 1, register_store(cpu, RBP, size)

    def make_frame() -> None:
        sp, bp = gpr[RSP], gpr[RBP]
        try:
            cpu.push(bp & ones, size)
            frame = gpr[RSP]
            at = bp
            for _ in range(level - 1):
                at = at - size & cpu.stack_mask
                cpu.push(cpu.mmu.read[size](cpu.stack_address(at, size, False)), size)
            if level:
                cpu.push(frame & ones, size)
            cpu.set_stack_pointer(gpr[RSP] - room)
            top = gpr[RSP] & cpu.stack_mask
            cpu.mmu.probe_write(cpu.stack_address(top, size, True), size)
        except BaseException:
            gpr[RSP] = sp
            raise
        put(frame & ones)

    return make_frame
