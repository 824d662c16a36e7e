"""Exchanges, locked or not: one vCPU runs at a time, so every access is atomic.

Source: SDM vol. 2, pages of XCHG, XADD, CMPXCHG, CMPXCHG8B/CMPXCHG16B.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection
from ..flags import adder, set_flags, subtracter
from ..instruction import Action, op
from ..operands import linear_address, load, memory_of, modify, register_load, register_store, store, width
from ..registers import FLAG_ZF, MASK32, MASK64, RAX, RBX, RCX, RDX


@op("XCHG", syntax="XCHG r/m, r", form="rm,rm")
def xchg(cpu: Cpu, insn: Decoded) -> Action:
    """Swap; the memory side is read with the rights of a write."""
    memory_side = 1 if insn.operands[1].kind == "m" else 0
    get, put = modify(cpu, insn, memory_side)
    other_get, other_put = load(cpu, insn, 1 - memory_side), store(cpu, insn, 1 - memory_side)

    def swap() -> None:
        mine, other = get(), other_get()
        put(other)
        other_put(mine)

    return swap


@op("XADD", syntax="XADD r/m, r", form="rm,r", flags_written="OSZAPC")
def xadd(cpu: Cpu, insn: Decoded) -> Action:
    """Source = destination, destination = their sum."""
    compute = adder(cpu.state, 8 * width(insn))
    (get, put), source, put_source = modify(cpu, insn, 0), load(cpu, insn, 1), store(cpu, insn, 1)

    def exchange_and_add() -> None:
        old = get()
        total = compute(old, source())
        put_source(old)
        put(total)

    return exchange_and_add


@op("CMPXCHG", syntax="CMPXCHG r/m, r", form="rm,r", flags_written="OSZAPC")
def cmpxchg(cpu: Cpu, insn: Decoded) -> Action:
    """If the accumulator equals the destination, store the source, else load the accumulator.

    A destination in memory is written in any case, so that its rights are always checked; a register is not (its upper
    half survives a failed 32-bit comparison, as processors do).
    """
    size = width(insn)
    compare = subtracter(cpu.state, 8 * size)
    (get, put), source = modify(cpu, insn, 0), load(cpu, insn, 1)
    accumulator, put_accumulator = register_load(cpu, RAX, size), register_store(cpu, RAX, size)
    in_memory = insn.operands[0].kind == "m"

    def compare_and_exchange() -> None:
        old = get()
        if compare(accumulator(), old) == 0:
            put(source())
        else:
            if in_memory:
                put(old)
            put_accumulator(old)

    return compare_and_exchange


def _wide(cpu: Cpu, insn: Decoded, size: int) -> Action:
    """CMPXCHG8B and 16B: `size` bytes a half."""
    state, gpr = cpu.state, cpu.state.gpr
    ones = MASK32 if size == 4 else MASK64
    address = linear_address(cpu, memory_of(insn.operands[0]), 2 * size, True, insn.bits)
    read, write = cpu.mmu.modify[size], cpu.mmu.write[size]

    def compare_and_exchange() -> None:
        at = address()
        if size == 8 and at & 15:
            raise general_protection()
        cpu.mmu.probe_write(at, 2 * size)
        low, high = read(at), read(at + size)
        equal = low == gpr[RAX] & ones and high == gpr[RDX] & ones
        new_low, new_high = (gpr[RBX] & ones, gpr[RCX] & ones) if equal else (low, high)
        write(at, new_low)
        write(at + size, new_high)
        if not equal:
            gpr[RAX], gpr[RDX] = low, high
        set_flags(state, FLAG_ZF, FLAG_ZF if equal else 0)

    return compare_and_exchange


@op("CMPXCHG8B", syntax="CMPXCHG8B m64", form="m", flags_written="Z")
def cmpxchg8b(cpu: Cpu, insn: Decoded) -> Action:
    """Compare EDX:EAX, store ECX:EBX."""
    return _wide(cpu, insn, 4)


@op("CMPXCHG16B", syntax="CMPXCHG16B m128", form="m", flags_written="Z")
def cmpxchg16b(cpu: Cpu, insn: Decoded) -> Action:
    """Compare RDX:RAX, store RCX:RBX; #GP(0) unless aligned to 16."""
    return _wide(cpu, insn, 8)
