"""What all records have in common: operands, addresses, branch targets."""

from ..decode import BASE_RIP, NO_REGISTER, Decoded, Memory, Operand
from ..registers import MASK32, MASK64
from ..translate import canonical
from .handlers import NUMBERS
from .record import ZERO_REGISTER

Fields = dict[str, int]
"""Fields of a record by name; those left out are zero."""

LOG = {1: 0, 2: 1, 4: 2, 8: 3}
"""Size in bytes -> its logarithm."""


class CannotError(Exception):
    """The reference tier executes this instruction."""


def ones(size: int) -> int:
    """All bits of `size` bytes."""
    return (1 << 8 * size) - 1


def keep_mask(size: int, shift: int = 0) -> int:
    """Bits of a register that a write of `size` bytes leaves alone; a 4-byte write clears the upper half."""
    return 0 if size >= 4 else MASK64 & ~(ones(size) << shift)


class Encoder:
    """Describes one instruction at `rip`; `cs_limit` is the highest offset of the code segment."""

    def __init__(self, insn: Decoded, rip: int, cs_limit: int) -> None:
        self.insn = insn
        self.fields: Fields = {
            "base": ZERO_REGISTER, "index": ZERO_REGISTER, "s": ZERO_REGISTER,
            "s2": ZERO_REGISTER, "d": ZERO_REGISTER,
        }  # fmt: skip
        self.cs_limit = cs_limit
        self.next_rip = self.fields["behind"] = rip + insn.length & (MASK64 if insn.bits == 64 else MASK32)

    def set(self, handler: str, **fields: int) -> Fields:
        """Name the handler and add fields."""
        self.fields.update(fields, handler=NUMBERS[handler])
        return self.fields

    def access(self, memory: Memory, size: int) -> None:
        """Describe a memory operand of `size` bytes."""
        if size not in LOG or memory.index_low_byte:
            raise CannotError
        base, displacement = memory.base, memory.displacement
        if base == BASE_RIP:
            base, displacement = NO_REGISTER, self.next_rip + displacement
        mask = (1 << memory.address_bits) - 1
        self.fields.update(
            mem=1, size=size, lg=LOG[size], seg=memory.seg, amask=mask, disp=displacement & mask,
            base=ZERO_REGISTER if base == NO_REGISTER else base,
            index=ZERO_REGISTER if memory.index_register == NO_REGISTER else memory.index_register,
            scale=memory.scale.bit_length() - 1,
        )  # fmt: skip

    def target(self, operand: Operand) -> None:
        """Describe the operand that is written; its size rules the operation."""
        size = operand.size
        shift = 8 if operand.kind == "r" and operand.extra else 0
        self.fields.update(mask=ones(size), sg=8 * size - 1, keep=keep_mask(size, shift), dsh=shift, size=size)
        if operand.kind == "r":
            self.fields["d"] = operand.value
        elif operand.kind == "m" and operand.memory is not None:
            self.access(operand.memory, size)
        else:
            raise CannotError

    def source(self, operand: Operand, size: int) -> None:
        """Describe the operand that is read, `size` bytes of it."""
        self.fields["smask"] = ones(size)
        self.fields["sbit"] = 1 << 8 * size - 1
        if operand.kind == "r":
            self.fields.update(s=operand.value, ssh=8 if operand.extra else 0)
        elif operand.kind == "i":
            self.fields["imm"] = operand.value & ones(size)
        elif operand.kind == "m" and operand.memory is not None:
            self.access(operand.memory, size)
        else:
            raise CannotError

    def branch_target(self, size: int) -> int:
        """The target of a relative branch; one that faults is left to the reference tier."""
        target = self.next_rip + self.insn.operands[0].value & ones(size)
        if not canonical(target) if self.insn.bits == 64 else target > self.cs_limit:
            raise CannotError
        self.fields["direct"] = 1
        return target
