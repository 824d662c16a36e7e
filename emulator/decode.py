"""Decoding: instruction bytes to a plain record. The only user of iced_x86.

The record is independent of where the instruction lies: branch targets and RIP-relative addresses are displacements
from the next instruction, so that a decoded page serves every linear address that maps it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from iced_x86 import (
    CpuidFeature,
    Decoder,
    DecoderError,
    DecoderOptions,
    Instruction,
    MemorySizeExt,
    Mnemonic,
    OpKind,
    Register,
)

from .registers import DS, ES, RDI, RSI, SEGMENT_NAMES

MAX_BYTES = 15
"""Longest instruction. Source: SDM vol. 2A 2.3.11."""

BASE_RIP = -2
"""`Memory.base` of a RIP-relative operand; NO_REGISTER where there is none."""
NO_REGISTER = -1


class Memory(NamedTuple):
    """Effective address: base + index * scale + displacement, modulo the address size (`address_bits`).

    `index_low_byte` is XLAT's: the index is AL, not a whole register.
    """

    seg: int
    base: int
    index_register: int
    scale: int
    displacement: int
    address_bits: int
    index_low_byte: bool = False


class Operand(NamedTuple):
    """One operand.

    `kind`: r register, m memory, p far pointer in memory, i immediate, b branch displacement, f far pointer,
    s segment register, c control register, d debug register, x any other register. `size` is in bytes. `value` is
    the register number, the immediate (sign-extended to 64 bits), the displacement or the far offset; `extra` is a far
    pointer's selector, or 1 for AH, CH, DH and BH.
    """

    kind: str
    size: int
    value: int = 0
    extra: int = 0
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """One instruction. `operand_size` is in bytes, 0 where the encoding has none; `bits` is the code size."""

    mnemonic: str
    length: int
    bits: int
    operands: tuple[Operand, ...]
    operand_size: int
    address_bits: int
    rep: str
    lock: bool
    features: frozenset[str]
    code: bytes


class TruncatedInstruction(Exception):  # noqa: N818 - a named condition
    """The bytes end inside the instruction."""


class InvalidInstruction(Exception):  # noqa: N818 - a named condition
    """No processor has this encoding."""


_MNEMONICS: dict[int, str] = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}
_FEATURES: dict[int, str] = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
_SEGMENTS = {getattr(Register, name.upper()): number for number, name in enumerate(SEGMENT_NAMES)}


def _register_table() -> dict[int, Operand]:
    """Register operands by iced's number."""
    table = {number: Operand("s", 2, index) for number, index in _SEGMENTS.items()}
    for first, size, count in ((Register.AX, 2, 16), (Register.EAX, 4, 16), (Register.RAX, 8, 16)):
        table.update({first + n: Operand("r", size, n) for n in range(count)})
    table.update({Register.AL + n: Operand("r", 1, n) for n in range(4)})
    table.update({Register.AH + n: Operand("r", 1, n, extra=1) for n in range(4)})
    table.update({Register.SPL + n: Operand("r", 1, 4 + n) for n in range(12)})
    table.update({Register.CR0 + n: Operand("c", 8, n) for n in range(16)})
    table.update({Register.DR0 + n: Operand("d", 8, n) for n in range(16)})
    return table


_REGISTERS = _register_table()
_STRING_KINDS: dict[int, tuple[int, int]] = {
    OpKind.MEMORY_SEG_SI: (RSI, 16),
    OpKind.MEMORY_SEG_ESI: (RSI, 32),
    OpKind.MEMORY_SEG_RSI: (RSI, 64),
    OpKind.MEMORY_SEG_DI: (RDI, 16),
    OpKind.MEMORY_SEG_EDI: (RDI, 32),
    OpKind.MEMORY_SEG_RDI: (RDI, 64),
    OpKind.MEMORY_ESDI: (RDI, 16),
    OpKind.MEMORY_ESEDI: (RDI, 32),
    OpKind.MEMORY_ESRDI: (RDI, 64),
}
_ES_STRING_KINDS = frozenset({OpKind.MEMORY_ESDI, OpKind.MEMORY_ESEDI, OpKind.MEMORY_ESRDI})
_BRANCH_KINDS = frozenset({OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64})
_FAR_KINDS = {OpKind.FAR_BRANCH16: 2, OpKind.FAR_BRANCH32: 4}
_IMMEDIATE_SIZES = {
    OpKind.IMMEDIATE8: 1, OpKind.IMMEDIATE8_2ND: 1, OpKind.IMMEDIATE16: 2, OpKind.IMMEDIATE32: 4,
    OpKind.IMMEDIATE64: 8, OpKind.IMMEDIATE8TO16: 2, OpKind.IMMEDIATE8TO32: 4, OpKind.IMMEDIATE8TO64: 8,
    OpKind.IMMEDIATE32TO64: 8,
}  # fmt: skip
_ADDRESS_MASKS = {16: 0xFFFF, 32: 0xFFFFFFFF, 64: 0xFFFFFFFFFFFFFFFF}


def _memory(insn: Instruction, bits: int) -> Memory:
    """An explicit memory operand (ModRM, moffs or XLAT)."""
    seg = _SEGMENTS[insn.memory_segment]
    if insn.memory_base in (Register.RIP, Register.EIP):
        width = 64 if insn.memory_base == Register.RIP else 32
        displacement = insn.memory_displacement - insn.len & _ADDRESS_MASKS[width]
        return Memory(seg, BASE_RIP, NO_REGISTER, 1, displacement, width)
    base = _REGISTERS.get(insn.memory_base)
    low_byte = insn.memory_index == Register.AL
    index = _REGISTERS.get(insn.memory_index)
    if base is not None:
        width = base.size * 8
    elif index is not None:
        width = index.size * 8
    else:
        width = {2: 16, 4: 32, 8: 64}.get(insn.memory_displ_size, bits)
    return Memory(
        seg,
        NO_REGISTER if base is None else base.value,
        NO_REGISTER if index is None else index.value,
        insn.memory_index_scale,
        insn.memory_displacement & _ADDRESS_MASKS[width],
        width,
        low_byte,
    )


def _operand(insn: Instruction, n: int, bits: int) -> Operand:
    """Convert operand number `n`."""
    kind = insn.op_kind(n)
    if kind == OpKind.REGISTER:
        register = insn.op_register(n)
        return _REGISTERS.get(register, Operand("x", 0, register))
    if kind == OpKind.MEMORY:
        far = insn.is_jmp_far_indirect or insn.is_call_far_indirect
        return Operand("p" if far else "m", MemorySizeExt.size(insn.memory_size), memory=_memory(insn, bits))
    if kind in _IMMEDIATE_SIZES:
        return Operand("i", _IMMEDIATE_SIZES[kind], insn.immediate(n))
    if kind in _BRANCH_KINDS:
        return Operand("b", 0, insn.near_branch_target - insn.len)
    if kind in _FAR_KINDS:
        offset = insn.far_branch16 if kind == OpKind.FAR_BRANCH16 else insn.far_branch32
        return Operand("f", _FAR_KINDS[kind], offset, insn.far_branch_selector)
    register_number, width = _STRING_KINDS[kind]
    seg = ES if kind in _ES_STRING_KINDS else _SEGMENTS.get(insn.memory_segment, DS)
    size = MemorySizeExt.size(insn.memory_size)
    return Operand("m", size, memory=Memory(seg, register_number, NO_REGISTER, 1, 0, width))


_OPTIONS = (
    DecoderOptions.NO_MPFX_0FBC
    | DecoderOptions.NO_MPFX_0FBD
    | DecoderOptions.NO_WBNOINVD
    | DecoderOptions.FORCE_RESERVED_NOP
)
"""No model has BMI1, LZCNT or WBNOINVD: the older instructions under the prefix are executed instead. Likewise what
later processors put among the hint opcodes 0F 0D and 0F 18 to 0F 1F is a NOP."""


def decode(code: bytes, bits: int) -> Decoded:
    """Decode the first instruction of `code` (at most 15 bytes) as `bits`-bit code.

    Raises:
        TruncatedInstruction: more bytes are needed.
        InvalidInstruction: the encoding does not exist.
    """
    decoder = Decoder(bits, code, _OPTIONS)
    insn = decoder.decode()
    if decoder.last_error == DecoderError.NO_MORE_BYTES:
        raise TruncatedInstruction
    if decoder.last_error != DecoderError.NONE:
        if insn.len == MAX_BYTES and _too_long(code, bits):
            raise TruncatedInstruction
        raise InvalidInstruction
    form = insn.op_code()
    operands = tuple(_operand(insn, n, bits) for n in range(insn.op_count))
    memories = [operand.memory for operand in operands if operand.memory is not None]
    if memories:
        address_bits = memories[0].address_bits
    else:
        address_bits = form.address_size or _prefixed_address_bits(code[: insn.len], bits)
    rep = "repe" if insn.has_repe_prefix else "repne" if insn.has_repne_prefix else ""
    return Decoded(
        mnemonic=_MNEMONICS[insn.mnemonic],
        length=insn.len,
        bits=bits,
        operands=operands,
        operand_size=form.operand_size // 8,
        address_bits=address_bits,
        rep=rep,
        lock=insn.has_lock_prefix,
        features=frozenset(_FEATURES[number] for number in insn.cpuid_features()),
        code=code[: insn.len],
    )


def _too_long(code: bytes, bits: int) -> bool:
    """Whether 15 bytes that do not decode are the beginning of a longer instruction.

    The decoder calls both that and a wrong encoding invalid; without its first prefix the former lacks bytes.
    """
    decoder = Decoder(bits, code[1:], _OPTIONS)
    decoder.decode()
    return decoder.last_error != DecoderError.INVALID_INSTRUCTION


_SEGMENT_PREFIXES = {0x26: ES, 0x2E: 1, 0x36: 2, 0x3E: DS, 0x64: 4, 0x65: 5}


def segment_of(insn: Decoded, default: int = DS) -> int:
    """Segment register of an instruction with an implied memory operand: the last override, FS or GS in 64-bit code."""
    for byte in insn.code:
        if byte not in _PREFIXES and byte & 0xF0 != 0x40:
            break
        index = _SEGMENT_PREFIXES.get(byte)
        if index is not None and (insn.bits != 64 or index > DS):
            default = index
    return default


_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")


def _prefixed_address_bits(code: bytes, bits: int) -> int:
    """Address size of an instruction without a memory operand (LOOP, JCXZ count by it)."""
    for byte in code:
        if byte == 0x67:
            return {16: 32, 32: 16, 64: 32}[bits]
        if byte not in _PREFIXES:
            break
    return bits
