"""What processors before the 386 do differently: the opcode maps of 8086 and 286, and offsets that wrap.

Source: Intel 8086 Family User's Manual; iAPX 286 Programmer's Reference Manual appendix C; tests captured from an
80286 (SingleStepTests).
"""

from dataclasses import replace

from .decode import MAX_BYTES, Decoded, InvalidInstruction, Operand, TruncatedInstruction, decode
from .registers import CS
from .translate import Mmu

WRAPPED = 1 << 56
"""Marks an address of the form base and 16-bit offset, whose bytes wrap within the segment."""
_BASE_SHIFT = 24

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\xf2\xf3")
_LOCKS = {"8086": frozenset(b"\xf0\xf1"), "286": frozenset(b"\xf0")}
"""LOCK may stand before anything."""
_ALIASES_8086 = {
    **{0x60 + n: 0x70 + n for n in range(16)},
    0xC0: 0xC2, 0xC1: 0xC3, 0xC8: 0xCA, 0xC9: 0xCB,
}  # fmt: skip
"""Opcodes that an 8086 takes for others."""
_LATER_PREFIXES = frozenset(b"\x64\x65\x66\x67")
_MAX_BYTES_286 = 10
_LOADALL = (b"\x0f\x04", b"\x0f\x05")
"""What a 286 has and nobody documented: decoded, not built."""


class Decoder:
    """Decodes for one opcode map ("8086" or "286"), in 16-bit code."""

    def __init__(self, opcode_map: str) -> None:
        self._map = opcode_map
        self._locks = _LOCKS[opcode_map]

    def __call__(self, code: bytes, bits: int) -> Decoded:
        """Decode the first instruction.

        Raises:
            TruncatedInstruction: more bytes are needed, or it is longer than the processor takes.
            InvalidInstruction: the encoding does not exist.
        """
        prefixes = bytearray()
        at = 0
        while at < len(code) and (code[at] in _PREFIXES or code[at] in self._locks):
            if code[at] not in self._locks:
                prefixes.append(code[at])
            at += 1
        if at == len(code):
            raise TruncatedInstruction
        dropped = at - len(prefixes)
        insn = self._opcode(bytes(prefixes), code[at:], bits)
        insn = replace(insn, length=insn.length + dropped, code=code[: insn.length + dropped])
        if self._map == "286" and insn.length > _MAX_BYTES_286:
            raise TruncatedInstruction
        return insn

    def _opcode(self, prefixes: bytes, rest: bytes, bits: int) -> Decoded:
        opcode = rest[0]
        if opcode >> 3 == 0xD8 >> 3:
            return _escape(prefixes, rest, bits)
        if self._map == "286":
            if opcode in _LATER_PREFIXES:
                raise InvalidInstruction
            if rest[:2] in _LOADALL:
                return replace(decode(b"\x0f\x06", bits), mnemonic="LOADALL")
            insn = decode((prefixes + rest)[:MAX_BYTES], bits)
            if any(operand.kind == "s" and operand.value > 3 for operand in insn.operands):
                raise InvalidInstruction
            return insn
        return _decode_8086(prefixes, rest, bits)


def _escape(prefixes: bytes, rest: bytes, bits: int) -> Decoded:
    """A coprocessor's instruction as the processor sees it: an operand that it reads for the coprocessor."""
    insn = decode(prefixes + b"\x8b" + rest[1:], bits)
    return replace(insn, mnemonic="ESC", operands=insn.operands[1:])


def _decode_8086(prefixes: bytes, rest: bytes, bits: int) -> Decoded:
    opcode = rest[0]
    if opcode == 0x0F:
        insn = decode(prefixes + b"\x07", bits)
        return replace(insn, operands=(Operand("s", 2, CS),))
    if opcode in (0x8C, 0x8E, 0x8F, 0xC6, 0xC7, 0xFF, 0xD0, 0xD1, 0xD2, 0xD3):
        if len(rest) < 2:
            raise TruncatedInstruction
        return _group_8086(prefixes, rest, bits)
    try:
        return decode(prefixes + bytes([_ALIASES_8086.get(opcode, opcode)]) + rest[1:], bits)
    except InvalidInstruction:
        return _unknown(prefixes, rest, bits)


def _group_8086(prefixes: bytes, rest: bytes, bits: int) -> Decoded:
    """Opcodes whose ModRM register field an 8086 decodes in part."""
    opcode, modrm = rest[0], rest[1]
    field = modrm >> 3 & 7
    if opcode in (0x8C, 0x8E):
        chosen = field & 3
        insn = decode(
            prefixes + bytes([opcode, modrm & ~0x38 | (0 if opcode == 0x8E else chosen << 3)]) + rest[2:], bits
        )
        n = 0 if opcode == 0x8E else 1
        operands = tuple(Operand("s", 2, chosen) if m == n else operand for m, operand in enumerate(insn.operands))
        return replace(insn, operands=operands)
    if opcode in (0x8F, 0xC6, 0xC7):
        field = 0
    elif opcode == 0xFF and field == 7:
        field = 6
    elif opcode != 0xFF and field == 6:
        return _unknown(prefixes, rest, bits)
    return decode(prefixes + bytes([opcode, modrm & ~0x38 | field << 3]) + rest[2:], bits)


def _unknown(prefixes: bytes, rest: bytes, bits: int) -> Decoded:
    """An encoding that does something on an 8086 which is not built."""
    insn = decode(prefixes + b"\x8b" + rest[1:], bits)
    return replace(insn, mnemonic=f"{rest[0]:02X} /{rest[1] >> 3 & 7}", operands=())


def wrapped_address(base: int, offset: int) -> int:
    """The address of an access that wraps at the end of its segment."""
    return WRAPPED | base << _BASE_SHIFT | offset


class WrappingMmu(Mmu):
    """Memory of a processor without segment limits: bytes beyond offset FFFFh are those at 0."""

    def _bytes(self, linear: int, size: int) -> list[int]:
        base, offset = (linear ^ WRAPPED) >> _BASE_SHIFT, linear & (1 << _BASE_SHIFT) - 1
        return [base + (offset + n & 0xFFFF) for n in range(size)]

    def read_slow(self, linear: int, size: int, user: int | None = None) -> int:
        """As `Mmu.read_slow`."""
        if not linear & WRAPPED:
            return super().read_slow(linear, size, user)
        parts = (Mmu.read_slow(self, at, 1, user) << 8 * n for n, at in enumerate(self._bytes(linear, size)))
        return sum(parts)

    def modify_slow(self, linear: int, size: int) -> int:
        """As `Mmu.modify_slow`."""
        return self.read_slow(linear, size) if linear & WRAPPED else super().modify_slow(linear, size)

    def write_slow(self, linear: int, size: int, value: int, user: int | None = None) -> None:
        """As `Mmu.write_slow`."""
        if not linear & WRAPPED:
            super().write_slow(linear, size, value, user)
            return
        for n, at in enumerate(self._bytes(linear, size)):
            super().write_slow(at, 1, value >> 8 * n & 0xFF, user)

    def probe_write(self, linear: int, size: int, user: int | None = None) -> None:
        """Nothing here faults."""
