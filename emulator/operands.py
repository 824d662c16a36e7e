"""Operands as closures: addresses, reads, writes and read-modify-writes, specialised when an instruction is compiled.

A value handed to a store must fit the operand's size; a value read does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .decode import BASE_RIP, NO_REGISTER, Decoded, Memory, Operand
from .exceptions import stack_fault
from .registers import FS, MASK16, MASK32, MASK64, SS
from .translate import CANONICAL_HALF, NON_CANONICAL

if TYPE_CHECKING:
    from .cpu import Cpu

Load = Callable[[], int]
Store = Callable[[int], None]
Address = Callable[[], int]


def effective_address(cpu: "Cpu", memory: Memory) -> Address:
    """The offset within the segment."""
    gpr, state = cpu.state.gpr, cpu.state
    base, index, scale, displacement = memory.base, memory.index_register, memory.scale, memory.displacement
    mask = (1 << memory.address_bits) - 1
    if base == BASE_RIP:
        return lambda: state.rip + displacement & mask
    if memory.index_low_byte:
        return lambda: gpr[base] + (gpr[index] & 0xFF) & mask
    if index == NO_REGISTER:
        if base == NO_REGISTER:
            return lambda: displacement
        if displacement == 0:
            return lambda: gpr[base] & mask
        return lambda: gpr[base] + displacement & mask
    if base == NO_REGISTER:
        return lambda: gpr[index] * scale + displacement & mask
    return lambda: gpr[base] + gpr[index] * scale + displacement & mask


def linear_address(cpu: "Cpu", memory: Memory, size: int, write: bool, bits: int) -> Address:
    """The linear address of an access of `size` bytes, its segment checks done. Run, it raises #GP or #SS."""
    offset = effective_address(cpu, memory)
    return segment_address(cpu, offset, memory.seg, size, write, bits)


def segment_address(cpu: "Cpu", offset: Address, index: int, size: int, write: bool, bits: int) -> Address:
    """As `linear_address`, from an offset."""
    seg = cpu.state.segs[index]
    if bits == 64:
        if index >= FS:
            return lambda: offset() + seg.base & MASK64
        return _checked_stack(offset, size) if index == SS else offset
    last, overrun = size - 1, cpu.overrun

    def write_address() -> int:
        at = offset()
        if at + last > seg.write_end:
            return overrun(index, at, size, True)
        return at + seg.base & MASK32

    def read_address() -> int:
        at = offset()
        if at + last > seg.read_end:
            return overrun(index, at, size, False)
        return at + seg.base & MASK32

    return write_address if write else read_address


def checked_stack_offset(at: int, size: int) -> int:
    """A 64-bit stack address: a non-canonical one is #SS(0)."""
    if (at + CANONICAL_HALF) & NON_CANONICAL or (at + size - 1 + CANONICAL_HALF) & NON_CANONICAL:
        raise stack_fault()
    return at


def _checked_stack(offset: Address, size: int) -> Address:
    """64-bit addresses through SS; through other segments the access itself checks (#GP)."""
    return lambda: checked_stack_offset(offset(), size)


def register_load(cpu: "Cpu", number: int, size: int, high: int = 0) -> Load:
    """Read a general register of 1, 2, 4 or 8 bytes; `high` is AH, CH, DH, BH."""
    gpr = cpu.state.gpr
    if size == 8:
        return lambda: gpr[number]
    if high:
        return lambda: gpr[number] >> 8 & 0xFF
    mask = (1 << 8 * size) - 1
    return lambda: gpr[number] & mask


def register_store(cpu: "Cpu", number: int, size: int, high: int = 0) -> Store:
    """Write a general register; a 4-byte write clears the upper half. Source: SDM vol. 1 3.4.1.1."""
    gpr = cpu.state.gpr
    if size >= 4:

        def store(value: int) -> None:
            gpr[number] = value

        return store
    shift, keep = (8, ~0xFF00) if high else (0, ~0xFF if size == 1 else ~MASK16)

    def store_part(value: int) -> None:
        gpr[number] = gpr[number] & keep | value << shift

    return store_part


def width(insn: Decoded, n: int = 0) -> int:
    """Size of operand `n` in bytes."""
    return insn.operands[n].size


def load(cpu: "Cpu", insn: Decoded, n: int, size: int | None = None) -> Load:
    """Read operand `n`; immediates are cut to `size` (default: the first operand's)."""
    operand = insn.operands[n]
    if operand.kind == "i":
        value = operand.value & (1 << 8 * (size or width(insn))) - 1
        return lambda: value
    size = size or operand.size
    if operand.kind == "r":
        return register_load(cpu, operand.value, size, operand.extra)
    return memory_load(cpu, operand, insn.bits, size)


def memory_load(cpu: "Cpu", operand: Operand, bits: int, size: int) -> Load:
    """Read a memory operand."""
    address = linear_address(cpu, memory_of(operand), size, False, bits)
    read = cpu.mmu.read[size]
    return lambda: read(address())


def store(cpu: "Cpu", insn: Decoded, n: int, size: int | None = None) -> Store:
    """Write operand `n`."""
    operand = insn.operands[n]
    size = size or operand.size
    if operand.kind == "r":
        return register_store(cpu, operand.value, size, operand.extra)
    address = linear_address(cpu, memory_of(operand), size, True, insn.bits)
    write = cpu.mmu.write[size]

    def store_memory(value: int) -> None:
        write(address(), value)

    return store_memory


def modify(cpu: "Cpu", insn: Decoded, n: int, size: int | None = None) -> tuple[Load, Store]:
    """Read and later write operand `n`: the read already faults as the write would, the address is formed once."""
    operand = insn.operands[n]
    if operand.kind == "r":
        return load(cpu, insn, n, size), store(cpu, insn, n, size)
    size = size or operand.size
    return modify_at(cpu, linear_address(cpu, memory_of(operand), size, True, insn.bits), size)


def modify_at(cpu: "Cpu", address: Address, size: int) -> tuple[Load, Store]:
    """The same for a linear address."""
    read, write = cpu.mmu.modify[size], cpu.mmu.write[size]
    at = 0

    def load_memory() -> int:
        nonlocal at
        at = address()
        return read(at)

    def store_memory(value: int) -> None:
        write(at, value)

    return load_memory, store_memory


def memory_of(operand: Operand) -> Memory:
    """The memory part of an operand that has one."""
    if operand.memory is None:
        raise TypeError(f"operand {operand} is not in memory")
    return operand.memory
