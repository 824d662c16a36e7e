"""System instructions: descriptor table registers, machine status word, HLT, RSM, caches, undefined opcodes.

Source: SDM vol. 2, pages of the instructions named in each block.
"""

from ..control_registers import write_cr0
from ..cpu import Cpu
from ..decode import NO_REGISTER, Decoded, Memory, segment_of
from ..exceptions import NM, GuestFault, TripleFault, general_protection, undefined_opcode
from ..instruction import Action, op
from ..operands import effective_address, linear_address, load, memory_of, segment_address, store
from ..registers import CR0_EM, CR0_MP, CR0_TS, CR4_SMAP, CR4_UMIP, FLAG_AC, MASK16, MASK32, MP_HALTED, RAX, RCX
from ..smm.leave import leave_smm
from ..translate import canonical


def privileged(cpu: Cpu, action: Action) -> Action:
    """#GP(0) unless CPL is 0."""
    state = cpu.state

    def run() -> None:
        if state.cpl:
            raise general_protection()
        action()

    return run


def user_mode_prevented(cpu: Cpu, action: Action) -> Action:
    """#GP(0) above CPL 0 with CR4.UMIP."""
    state = cpu.state

    def run() -> None:
        if state.cpl and state.cr4 & CR4_UMIP:
            raise general_protection()
        action()

    return run


@op("SGDT", "SIDT", syntax="SGDT m; SIDT m", form="m")
def store_table(cpu: Cpu, insn: Decoded) -> Action:
    """Store limit and base: 32 bits of base, 64 in 64-bit mode, whatever the operand size."""
    table = cpu.state.gdtr if insn.mnemonic == "SGDT" else cpu.state.idtr
    base_bytes = 8 if insn.bits == 64 else 4
    memory = memory_of(insn.operands[0])
    address = segment_address(cpu, effective_address(cpu, memory), memory.seg, 2 + base_bytes, True, insn.bits)
    write_limit, write_base = cpu.mmu.write[2], cpu.mmu.write[base_bytes]

    def run() -> None:
        at = address()
        cpu.mmu.probe_write(at, 2 + base_bytes)
        write_limit(at, table.limit & MASK16)
        write_base(at + 2 & cpu.linear_mask, table.base & (1 << 8 * base_bytes) - 1)

    return user_mode_prevented(cpu, run)


@op("LGDT", "LIDT", syntax="LGDT m; LIDT m", form="m")
def load_table(cpu: Cpu, insn: Decoded) -> Action:
    """Load limit and base; a 16-bit operand size takes 24 bits of base."""
    table = cpu.state.gdtr if insn.mnemonic == "LGDT" else cpu.state.idtr
    base_bytes = 8 if insn.bits == 64 else 4
    mask = 0xFFFFFF if insn.operand_size == 2 else (1 << 8 * base_bytes) - 1
    memory = memory_of(insn.operands[0])
    address = segment_address(cpu, effective_address(cpu, memory), memory.seg, 2 + base_bytes, False, insn.bits)
    read_limit, read_base = cpu.mmu.read[2], cpu.mmu.read[base_bytes]

    def run() -> None:
        at = address()
        limit, base = read_limit(at), read_base(at + 2 & cpu.linear_mask) & mask
        if not canonical(base):
            raise general_protection()
        table.limit, table.base = limit, base

    return privileged(cpu, run)


@op("SMSW", syntax="SMSW r/m", form="rm")
def smsw(cpu: Cpu, insn: Decoded) -> Action:
    """Store CR0: 16 bits into memory, the operand size into a register."""
    state, target = cpu.state, insn.operands[0]
    size = target.size if target.kind == "r" else 2
    put, mask = store(cpu, insn, 0, size), (1 << 8 * size) - 1
    ones = cpu.model.quirks.status_ones
    return user_mode_prevented(cpu, lambda: put(state.cr0 & mask | ones))


@op("LMSW", syntax="LMSW r/m16", form="rm")
def lmsw(cpu: Cpu, insn: Decoded) -> Action:
    """Load PE, MP, EM and TS; PE cannot be cleared."""
    state, value = cpu.state, load(cpu, insn, 0, 2)

    def run() -> None:
        new = value() & 0xF
        write_cr0(cpu, state.cr0 & ~(CR0_MP | CR0_EM | CR0_TS) | new)

    return privileged(cpu, run)


@op("CLTS", syntax="CLTS")
def clts(cpu: Cpu, _insn: Decoded) -> Action:
    """Clear CR0.TS."""
    state = cpu.state

    def run() -> None:
        state.cr0 &= ~CR0_TS

    return privileged(cpu, run)


@op("HLT", syntax="HLT")
def hlt(cpu: Cpu, _insn: Decoded) -> Action:
    """Halt: the step completes, then the CPU waits for an event. An interrupt shadow ends with it."""
    state = cpu.state

    def run() -> None:
        state.mp_state = MP_HALTED
        cpu.attention = True

    return privileged(cpu, run)


@op("RSM", syntax="RSM", flags_written="OSZAPCDITNLXR")
def rsm(cpu: Cpu, _insn: Decoded) -> Action:
    """Leave SMM; #UD outside it. An image that cannot be loaded is a triple fault."""
    state = cpu.state

    def run() -> None:
        if not state.smm:
            raise undefined_opcode()
        cpu.attention = True
        cpu.trap_inhibited = True
        try:
            leave_smm(cpu)
        except TripleFault:
            state.triple_fault = True

    return run


@op("INVLPG", syntax="INVLPG m", form="m")
def invlpg(cpu: Cpu, insn: Decoded) -> Action:
    """Forget a translation; here all of them, which the architecture allows."""
    effective_address(cpu, memory_of(insn.operands[0]))
    return privileged(cpu, cpu.flush_tlb)


_MWAIT_EXTENSIONS = 1
"""ECX bit 0: a masked interrupt ends the wait. Source: SDM vol. 2B MWAIT."""


def _no_effect() -> None:
    """There are no caches."""


@op("WBINVD", "INVD", syntax="WBINVD; INVD")
def wbinvd(cpu: Cpu, _insn: Decoded) -> Action:
    """Caches are not modelled."""
    return privileged(cpu, _no_effect)


@op("CLFLUSH", syntax="CLFLUSH m8", form="m")
def clflush(cpu: Cpu, insn: Decoded) -> Action:
    """Caches are not modelled; the address is checked as a byte read."""
    address, read = linear_address(cpu, memory_of(insn.operands[0]), 1, False, insn.bits), cpu.mmu.read[1]

    def run() -> None:
        read(address())

    return run


@op("MONITOR", syntax="MONITOR")
def monitor(cpu: Cpu, insn: Decoded) -> Action:
    """Arm a monitor: the address is checked as a byte read. #UD above CPL 0, #GP(0) for extensions in ECX."""
    state, gpr, read = cpu.state, cpu.state.gpr, cpu.mmu.read[1]
    memory = Memory(segment_of(insn), RAX, NO_REGISTER, 1, 0, insn.address_bits)
    address = linear_address(cpu, memory, 1, False, insn.bits)

    def run() -> None:
        if state.cpl:
            raise undefined_opcode()
        if gpr[RCX] & (MASK32 if insn.bits != 64 else -1):
            raise general_protection()
        read(address())

    return run


@op("MWAIT", syntax="MWAIT")
def mwait(cpu: Cpu, _insn: Decoded) -> Action:
    """A wait that ends at once, which the architecture allows and KVM does. #GP(0) for unknown extensions."""
    state, gpr = cpu.state, cpu.state.gpr

    def run() -> None:
        if state.cpl:
            raise undefined_opcode()
        if gpr[RCX] & MASK32 & ~_MWAIT_EXTENSIONS:
            raise general_protection()

    return run


@op("STAC", "CLAC", syntax="STAC; CLAC", flags_written="X")
def stac(cpu: Cpu, insn: Decoded) -> Action:
    """Set or clear EFLAGS.AC at CPL 0."""
    state, value = cpu.state, FLAG_AC if insn.mnemonic == "STAC" else 0

    def run() -> None:
        if state.cpl or not cpu.model.cr4_mask & CR4_SMAP:
            raise undefined_opcode()
        state.rflags = state.rflags & ~FLAG_AC | value
        cpu.flags_changed()

    return run


@op("RDPMC", syntax="RDPMC")
def rdpmc(_cpu: Cpu, _insn: Decoded) -> Action:
    """#GP(0): no model has performance counters (CPUID leaf 0Ah), so that no index is valid."""

    def run() -> None:
        raise general_protection()

    return run


@op("ESC", syntax="ESC 6, r/m", form="rm")
def escape(cpu: Cpu, insn: Decoded) -> Action:
    """A coprocessor instruction of an 8086 or 286 without a coprocessor: the operand is read, nothing else."""
    state, operand = cpu.state, load(cpu, insn, 0)

    def run() -> None:
        if state.cr0 & (CR0_EM | CR0_TS):
            raise GuestFault(NM)
        operand()

    return run


@op("UD0", "UD1", syntax="UD0 r, r/m; UD1 r, r/m", form="r,rm")
@op("UD2", syntax="UD2")
def ud(_cpu: Cpu, _insn: Decoded) -> Action:
    """#UD."""

    def run() -> None:
        raise undefined_opcode()

    return run


@op("WAIT", syntax="WAIT")
def wait(cpu: Cpu, _insn: Decoded) -> Action:
    """#NM with CR0.MP and TS; otherwise there is no coprocessor to wait for."""
    state = cpu.state

    def run() -> None:
        if state.cr0 & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS:
            raise GuestFault(NM)

    return run
