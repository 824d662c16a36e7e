"""From a decoded instruction to a record of the fast tier, or the verdict that the reference tier does it."""

from collections.abc import Callable, Iterable

from ..decode import Decoded
from ..registers import FS, MASK32, RCX, RSI, RSP
from .control import CONDITIONS
from .encoder import LOG, CannotError, Encoder, Fields, keep_mask, ones
from .record import SELECTORS

Form = Callable[[Encoder, str], Fields]
"""Encodes an instruction of the given mnemonic."""

_CONDITION = {name: number for number, name in enumerate(CONDITIONS)}
_LOOPS = ("LOOP", "LOOPE", "LOOPNE")
_BIT_CHANGES = ("BTS", "BTR", "BTC")
_WIDENED = {"CBW": 2, "CWDE": 4, "CDQE": 8, "CWD": 2, "CDQ": 4, "CQO": 8}


def encode(insn: Decoded, rip: int, cs_limit: int) -> Fields | None:
    """Return the record's fields, or None where the reference tier executes the instruction."""
    form = _FORMS.get(insn.mnemonic)
    if form is None:
        return None
    try:
        return form(Encoder(insn, rip, cs_limit), insn.mnemonic)
    except CannotError:
        return None


def _two_operands(e: Encoder, name: str) -> Fields:
    left, right = e.insn.operands
    size = left.size
    if left.kind == "s":
        raise CannotError
    if right.kind == "s":
        return _selector(e)
    if left.kind == "m":
        e.source(right, size)
        e.target(left)
        return e.set(f"{name}_MX")
    e.target(left)
    e.source(right, size)
    if right.kind == "m":
        if name == "TEST":
            raise CannotError
        return e.set(f"{name}_RM")
    return e.set(f"{name}_RX")


def _selector(e: Encoder) -> Fields:
    """MOV r/m, Sreg: the selectors stand behind the registers."""
    to, seg = e.insn.operands
    e.target(to)
    e.fields["s"] = SELECTORS + seg.value
    if to.kind == "r":
        return e.set("MOV_RX")
    return e.set("MOV_MX", mask=0xFFFF, size=2, lg=1)


def _one_operand(e: Encoder, name: str) -> Fields:
    e.target(e.insn.operands[0])
    return e.set(name)


def _plain(e: Encoder, name: str) -> Fields:
    return e.set("NOP" if name in ("PAUSE", "RESERVEDNOP") else name)


def _count(e: Encoder, number: int) -> Fields:
    """The count of a shift: an immediate or CL."""
    count = e.insn.operands[number]
    mask = 0x3F if e.insn.operands[0].size == 8 else 0x1F
    return {"smask": mask, "imm": count.value & mask} if count.kind == "i" else {"smask": mask, "s": RCX}


def _shift(e: Encoder, name: str) -> Fields:
    e.target(e.insn.operands[0])
    return e.set("SHL" if name == "SAL" else name, **_count(e, 1))


def _double_shift(e: Encoder, name: str) -> Fields:
    e.target(e.insn.operands[0])
    return e.set(name, s2=e.insn.operands[1].value, **_count(e, 2))


def _near_size(insn: Decoded) -> int:
    return 8 if insn.bits == 64 else insn.operand_size or insn.bits // 8


def _near(e: Encoder, name: str) -> Fields:
    """JMP and CALL."""
    size = _near_size(e.insn)
    operand = e.insn.operands[0]
    stack = {"size": size, "lg": LOG[size], "mask": ones(size)}
    if operand.kind == "b":
        return e.set(name, **stack, imm=e.branch_target(size))
    e.source(operand, size)
    return e.set(f"{name}_X", **stack)


def _return(e: Encoder, name: str) -> Fields:
    size, operands = _near_size(e.insn), e.insn.operands
    released = operands[0].value & 0xFFFF if operands else 0
    return e.set(name, size=size, lg=LOG[size], mask=ones(size), imm=released)


def _counted(e: Encoder, name: str) -> Fields:
    """LOOP and JCXZ."""
    e.fields.update(amask=(1 << e.insn.address_bits) - 1, keep=keep_mask(e.insn.address_bits // 8))
    target = e.branch_target(_near_size(e.insn))
    if name in _LOOPS:
        return e.set("LOOP", imm=target, cc=_LOOPS.index(name))
    return e.set("JCXZ", imm=target)


def _conditional(e: Encoder, name: str) -> Fields:
    return e.set(name, imm=e.branch_target(_near_size(e.insn)))


def _conditional_move(e: Encoder, name: str) -> Fields:
    to, other = e.insn.operands
    e.target(to)
    e.source(other, to.size)
    return e.set("CMOV", cc=_CONDITION[name.removeprefix("CMOV")])


def _set_byte(e: Encoder, name: str) -> Fields:
    e.target(e.insn.operands[0])
    return e.set("SETCC", cc=_CONDITION[name.removeprefix("SET")])


def _extend(e: Encoder, name: str) -> Fields:
    to, other = e.insn.operands
    e.target(to)
    e.source(other, other.size)
    if other.size > to.size:
        raise CannotError
    return e.set("MOVZX" if name == "MOVZX" else "MOVSX")


def _load_address(e: Encoder, name: str) -> Fields:
    to, operand = e.insn.operands
    if operand.memory is None:
        raise CannotError
    e.target(to)
    e.access(operand.memory, 1)
    return e.set(name, mem=0)


def _stack_access(e: Encoder) -> None:
    size = e.insn.operand_size
    e.fields.update(size=size, lg=LOG[size], keep=keep_mask(size))


def _push(e: Encoder, name: str) -> Fields:
    e.source(e.insn.operands[0], e.insn.operand_size)
    _stack_access(e)
    return e.set(name)


def _push_flags(e: Encoder, _name: str) -> Fields:
    _stack_access(e)
    return e.set("PUSHF", mask=ones(e.insn.operand_size) & MASK32)


def _pop(e: Encoder, name: str) -> Fields:
    """POP m with an address by rSP uses its new value: the reference tier does that."""
    operand = e.insn.operands[0]
    if operand.kind == "s" or (operand.memory is not None and operand.memory.base == RSP):
        raise CannotError
    e.target(operand)
    if operand.kind == "m":
        return e.set("POP_M")
    _stack_access(e)
    return e.set(name)


def _leave(e: Encoder, name: str) -> Fields:
    _stack_access(e)
    return e.set(name)


def _exchange(e: Encoder, name: str) -> Fields:
    """XCHG and XADD: both operands are written."""
    to, other = e.insn.operands if e.insn.operands[1].kind == "r" else e.insn.operands[::-1]
    e.source(other, to.size)
    e.target(to)
    return e.set(name, keep2=keep_mask(to.size, 8 if other.extra else 0))


def _compare_exchange(e: Encoder, name: str) -> Fields:
    to, other = e.insn.operands
    e.source(other, to.size)
    e.target(to)
    return e.set(name, keep2=keep_mask(to.size))


def _widen(e: Encoder, name: str) -> Fields:
    """CBW and kin in the accumulator; CWD and kin into rDX."""
    size = _WIDENED[name]
    e.fields.update(mask=ones(size), keep=keep_mask(size), sg=8 * size - 1)
    if name in ("CWD", "CDQ", "CQO"):
        return e.set("CWD")
    half = size // 2
    return e.set("CBW", smask=ones(half), sbit=1 << 8 * half - 1)


def _swap_bytes(e: Encoder, name: str) -> Fields:
    if e.insn.operands[0].size == 2:
        raise CannotError
    return _one_operand(e, name)


def _pair(e: Encoder, name: str) -> Fields:
    """Products and quotients in rDX:rAX."""
    operand = e.insn.operands[0]
    size = operand.size
    e.source(operand, size)
    return e.set(name, mask=ones(size), sg=8 * size - 1, keep=keep_mask(size), size=size)


def _signed_product(e: Encoder, _name: str) -> Fields:
    operands = e.insn.operands
    if len(operands) == 1:
        return _pair(e, "IMUL_PAIR")
    e.target(operands[0])
    e.source(operands[1], operands[0].size)
    if len(operands) == 3:
        return e.set("IMUL", imm2=operands[2].value & ones(operands[0].size))
    return e.set("IMUL", s2=operands[0].value)


def _scan(e: Encoder, name: str) -> Fields:
    to, other = e.insn.operands
    e.target(to)
    e.source(other, to.size)
    return e.set(name)


def _bit(e: Encoder, name: str) -> Fields:
    to, index = e.insn.operands
    e.target(to)
    e.fields["smask"] = ones(to.size)
    e.fields["sbit"] = 1 << 8 * to.size - 1
    if index.kind == "i":
        e.fields["imm2"] = index.value & 0xFF
    else:
        e.fields["s2"] = index.value
    where = "_MR" if to.kind == "m" and index.kind != "i" else ""
    if name == "BT":
        return e.set(f"BT{where}")
    return e.set(f"BTX{where}", cc=_BIT_CHANGES.index(name))


def _string(e: Encoder, name: str) -> Fields:
    insn = e.insn
    size = {"B": 1, "W": 2, "D": 4, "Q": 8}[name[-1]]
    sides = [operand.memory for operand in insn.operands if operand.memory is not None]
    seg = next((memory.seg for memory in sides if memory.base == RSI), 0)
    if insn.bits == 64 and seg < FS:
        seg = 3
    return e.set(
        name[:-1], size=size, lg=LOG[size], seg=seg, mask=ones(size), keep=keep_mask(size), sg=8 * size - 1,
        amask=(1 << insn.address_bits) - 1, keep2=keep_mask(insn.address_bits // 8),
        cc=("", "repe", "repne").index(insn.rep),
    )  # fmt: skip


def _table() -> dict[str, Form]:
    rows: tuple[tuple[Iterable[str], Form], ...] = (
        (("ADD", "ADC", "SUB", "SBB", "AND", "OR", "XOR", "CMP", "TEST", "MOV"), _two_operands),
        (("INC", "DEC", "NEG", "NOT"), _one_operand),
        (("SHL", "SAL", "SHR", "SAR", "ROL", "ROR", "RCL", "RCR"), _shift),
        (("SHLD", "SHRD"), _double_shift),
        (("NOP", "PAUSE", "RESERVEDNOP", "CLC", "STC", "CMC", "CLD", "STD", "LAHF", "SAHF"), _plain),
        ([name + suffix for name in ("MOVS", "STOS", "LODS", "SCAS", "CMPS") for suffix in "BWDQ"], _string),
        (("JMP", "CALL"), _near),
        (("RET",), _return),
        ((*_LOOPS, "JCXZ", "JECXZ", "JRCXZ"), _counted),
        ([f"J{name}" for name in CONDITIONS], _conditional),
        ([f"CMOV{name}" for name in CONDITIONS], _conditional_move),
        ([f"SET{name}" for name in CONDITIONS], _set_byte),
        (("MOVZX", "MOVSX", "MOVSXD"), _extend),
        (("LEA",), _load_address),
        (("PUSH",), _push),
        (("PUSHF", "PUSHFD", "PUSHFQ"), _push_flags),
        (("POP",), _pop),
        (("LEAVE",), _leave),
        (("XCHG", "XADD"), _exchange),
        (("CMPXCHG",), _compare_exchange),
        (_WIDENED, _widen),
        (("BSWAP",), _swap_bytes),
        (("MUL", "DIV", "IDIV"), _pair),
        (("IMUL",), _signed_product),
        (("POPCNT", "BSF", "BSR"), _scan),
        (("BT", *_BIT_CHANGES), _bit),
    )
    return {name: form for names, form in rows for name in names}


_FORMS = _table()
