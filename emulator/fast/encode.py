"""From a decoded instruction to a record of the fast tier, or the verdict that the reference tier does it."""

from typing import Any

from ..decode import BASE_RIP, NO_REGISTER, Decoded, Memory, Operand
from ..registers import FS, MASK32, MASK64, RCX
from ..translate import canonical
from .record import ZERO_REGISTER
from .templates import CONDITIONS, NUMBERS

Fields = dict[str, int]
"""Fields of a record by name; those left out are zero."""

_LOG = {1: 0, 2: 1, 4: 2, 8: 3}
_CONDITION = {name: number for number, name in enumerate(CONDITIONS)}
_ARITHMETIC = frozenset({"ADD", "ADC", "SUB", "SBB", "AND", "OR", "XOR", "CMP", "TEST", "MOV"})
_TARGET_FORMS = frozenset({"INC", "DEC", "NEG", "NOT"})
_SHIFTS = frozenset({"SHL", "SAL", "SHR", "SAR", "ROL", "ROR"})
_STRINGS = {"MOVS": (0, 1), "STOS": (0,), "LODS": (1,), "SCAS": (1,), "CMPS": (0, 1)}
_PLAIN = frozenset({"NOP", "CLC", "STC", "CMC", "CLD", "STD"})


class _CannotError(Exception):
    """The reference tier executes this instruction."""


def ones(size: int) -> int:
    """All bits of `size` bytes."""
    return (1 << 8 * size) - 1


def _keep(size: int, shift: int = 0) -> int:
    """Bits of a register that a write of `size` bytes leaves alone; a 4-byte write clears the upper half."""
    return 0 if size >= 4 else MASK64 & ~(ones(size) << shift)


class Encoder:
    """Encodes the instructions of one mode; `rip` is that of the instruction, `limit` the highest offset of the code."""

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
        if size not in _LOG or memory.index_low_byte:
            raise _CannotError
        base, displacement = memory.base, memory.displacement
        if base == BASE_RIP:
            base, displacement = NO_REGISTER, self.next_rip + displacement
        mask = (1 << memory.address_bits) - 1
        self.fields.update(
            mem=1, size=size, lg=_LOG[size], seg=memory.seg, amask=mask, disp=displacement & mask,
            base=ZERO_REGISTER if base == NO_REGISTER else base,
            index=ZERO_REGISTER if memory.index_register == NO_REGISTER else memory.index_register,
            scale=memory.scale.bit_length() - 1,
        )  # fmt: skip

    def target(self, operand: Operand) -> None:
        """Describe the operand that is written; its size rules the operation."""
        size = operand.size
        shift = 8 if operand.kind == "r" and operand.extra else 0
        self.fields.update(mask=ones(size), sg=8 * size - 1, keep=_keep(size, shift), dsh=shift, size=size)
        if operand.kind == "r":
            self.fields["d"] = operand.value
        elif operand.kind == "m" and operand.memory is not None:
            self.access(operand.memory, size)
        else:
            raise _CannotError

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
            raise _CannotError

    def branch_target(self, size: int) -> int:
        """The target of a relative branch; one that faults is left to the reference tier."""
        target = self.next_rip + self.insn.operands[0].value & ones(size)
        if not canonical(target) if self.insn.bits == 64 else target > self.cs_limit:
            raise _CannotError
        self.fields["direct"] = 1
        return target


def encode(insn: Decoded, rip: int, cs_limit: int) -> Fields | None:
    """Return the record's fields, or None where the reference tier executes the instruction."""
    try:
        return _encode(Encoder(insn, rip, cs_limit))
    except _CannotError:
        return None


def _encode(e: Encoder) -> Fields:
    insn = e.insn
    name, operands = insn.mnemonic, insn.operands
    if name in _ARITHMETIC and len(operands) == 2:
        return _two_operands(e, name)
    if name in _TARGET_FORMS:
        e.target(operands[0])
        return e.set(name)
    if name in _SHIFTS:
        e.target(operands[0])
        count = operands[1]
        cmask = 0x3F if operands[0].size == 8 else 0x1F
        if count.kind == "i":
            return e.set("SHL" if name == "SAL" else name, imm=count.value & cmask, smask=cmask)
        return e.set("SHL" if name == "SAL" else name, s=RCX, smask=cmask)
    if name in _PLAIN:
        return e.set(name)
    if name[:-1] in _STRINGS and name[-1] in "BWDQ":
        return _string(e, name[:-1])
    for family in (_branch, _move, _multiply_or_bits):
        found = family(e, name)
        if found is not None:
            return found
    raise _CannotError


def _two_operands(e: Encoder, name: str) -> Fields:
    left, right = e.insn.operands
    size = left.size
    if left.kind == "m":
        e.source(right, size)
        e.target(left)
        return e.set(f"{name}_MX")
    e.target(left)
    e.source(right, size)
    if right.kind == "m":
        if name == "TEST":
            raise _CannotError
        return e.set(f"{name}_RM")
    return e.set(f"{name}_RX")


def _near_size(insn: Decoded) -> int:
    return 8 if insn.bits == 64 else insn.operand_size or insn.bits // 8


def _branch(e: Encoder, name: str) -> Fields | None:
    insn, operands = e.insn, e.insn.operands
    size = _near_size(insn)
    stack = {"size": size, "lg": _LOG.get(size, 0), "mask": ones(size)}
    if name in ("JMP", "CALL"):
        if operands[0].kind == "b":
            return e.set(name, **stack, imm=e.branch_target(size))
        e.source(operands[0], size)
        return e.set(f"{name}_X", **stack)
    if name == "RET":
        return e.set("RET", **stack, imm=operands[0].value & 0xFFFF if operands else 0)
    counter = {"amask": (1 << insn.address_bits) - 1, "keep": _keep(insn.address_bits // 8)}
    if name in ("LOOP", "LOOPE", "LOOPNE"):
        return e.set("LOOP", imm=e.branch_target(size), cc=("LOOP", "LOOPE", "LOOPNE").index(name), **counter)
    if name in ("JCXZ", "JECXZ", "JRCXZ"):
        return e.set("JCXZ", imm=e.branch_target(size), **counter)
    if name[0] == "J" and name[1:] in _CONDITION:
        return e.set(name, imm=e.branch_target(size))
    return None


def _move(e: Encoder, name: str) -> Fields | None:
    insn, operands = e.insn, e.insn.operands
    if name in ("MOVZX", "MOVSX", "MOVSXD"):
        e.target(operands[0])
        e.source(operands[1], operands[1].size)
        if name == "MOVZX" and operands[1].size > operands[0].size:
            raise _CannotError
        return e.set("MOVZX" if name == "MOVZX" else "MOVSX")
    if name == "LEA" and operands[1].memory is not None:
        e.target(operands[0])
        e.access(operands[1].memory, 1)
        return e.set("LEA", mem=0)
    if name == "PUSH" and operands[0].kind in ("r", "m", "i"):
        size = insn.operand_size
        e.source(operands[0], size)
        return e.set("PUSH", size=size, lg=_LOG[size])
    if name == "POP" and operands[0].kind == "r":
        size = insn.operand_size
        return e.set("POP", d=operands[0].value, keep=_keep(size), size=size, lg=_LOG[size])
    if name == "LEAVE":
        size = insn.operand_size
        return e.set("LEAVE", keep=_keep(size), size=size, lg=_LOG[size])
    if name.startswith("CMOV") and name[4:] in _CONDITION:
        e.target(operands[0])
        e.source(operands[1], operands[0].size)
        return e.set("CMOV", cc=_CONDITION[name[4:]])
    if name.startswith("SET") and name[3:] in _CONDITION:
        e.target(operands[0])
        return e.set("SETCC", cc=_CONDITION[name[3:]])
    if name == "XCHG":
        to, other = operands if operands[1].kind == "r" else operands[::-1]
        e.source(other, to.size)
        e.target(to)
        return e.set("XCHG", keep2=_keep(to.size, 8 if other.extra else 0))
    if name in ("CBW", "CWDE", "CDQE"):
        size = {"CBW": 2, "CWDE": 4, "CDQE": 8}[name]
        half = size // 2
        return e.set("CBW", mask=ones(size), keep=_keep(size), smask=ones(half), sbit=1 << 8 * half - 1)
    if name in ("CWD", "CDQ", "CQO"):
        size = {"CWD": 2, "CDQ": 4, "CQO": 8}[name]
        return e.set("CWD", mask=ones(size), keep=_keep(size), sg=8 * size - 1)
    if name == "BSWAP" and operands[0].size != 2:
        e.target(operands[0])
        return e.set("BSWAP")
    return None


def _multiply_or_bits(e: Encoder, name: str) -> Fields | None:
    operands = e.insn.operands
    size = operands[0].size if operands else 0
    if name == "IMUL" and len(operands) > 1:
        e.target(operands[0])
        e.source(operands[1], size)
        if len(operands) == 3:
            return e.set("IMUL", imm2=operands[2].value & ones(size))
        return e.set("IMUL", s2=operands[0].value)
    if name in ("MUL", "DIV"):
        e.source(operands[0], size)
        return e.set(name, mask=ones(size), sg=8 * size - 1, keep=_keep(size), size=size)
    if name in ("POPCNT", "BSF", "BSR"):
        e.target(operands[0])
        e.source(operands[1], size)
        return e.set(name)
    if name in ("BT", "BTS", "BTR", "BTC"):
        if operands[0].kind == "m" and operands[1].kind != "i":
            raise _CannotError  # the offset reaches beyond the operand
        e.target(operands[0])
        e.fields["smask"] = ones(size)
        index: dict[str, Any] = {"imm2": operands[1].value & 0xFF} if operands[1].kind == "i" else {"s2": operands[1].value}
        return e.set("BT", **index) if name == "BT" else e.set("BTX", cc=("BTS", "BTR", "BTC").index(name), **index)
    return None


def _string(e: Encoder, name: str) -> Fields:
    insn = e.insn
    size = {"B": 1, "W": 2, "D": 4, "Q": 8}[insn.mnemonic[-1]]
    sides = [operand.memory for operand in insn.operands if operand.memory is not None]
    sources = [memory for memory in sides if memory.base == 6]
    seg = sources[0].seg if sources else 0
    if insn.bits == 64 and seg < FS:
        seg = 3
    return e.set(
        name, size=size, lg=_LOG[size], seg=seg, mask=ones(size), keep=_keep(size), sg=8 * size - 1,
        amask=(1 << insn.address_bits) - 1, keep2=_keep(insn.address_bits // 8),
        cc=("", "repe", "repne").index(insn.rep),
    )  # fmt: skip
