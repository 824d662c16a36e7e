"""Random programs for both tiers: machine code, mostly valid, with branches, stack, strings and system instructions."""

DATA = 0xA000
EDGES = (0, 1, 5, 0x7F, 0x80, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
STATUS_AND_DF = 0xCD5


class Writer:
    """Writes instructions of one mode."""

    def __init__(self, rng, bits):
        self.rng = rng
        self.bits = bits
        self.operand = self.rex_w = 0

    def _disp32(self):
        return self.rng.randrange(DATA, DATA + 0x1000).to_bytes(4, "little")

    def modrm(self, reg=None, mem=None):
        """A ModR/M byte and what follows; memory operands mostly reach the data page."""
        rng = self.rng
        reg = rng.randrange(8) if reg is None else reg
        mem = rng.random() < 0.5 if mem is None else mem
        if not mem:
            return bytes([0xC0 | reg << 3 | rng.choice((0, 1, 2, 3, 5, 6, 7, 4 if rng.random() < 0.1 else 3))])
        if self.bits == 16:
            mod, rm = rng.randrange(3), rng.randrange(8)
            if mod == 0 and rm == 6:
                return bytes([reg << 3 | 6]) + self._disp32()[:2]
            return bytes([mod << 6 | reg << 3 | rm]) + rng.randbytes(mod)
        kind = rng.random()
        if kind < 0.2:
            return (bytes([reg << 3 | 4, 0x25]) if self.bits == 64 else bytes([reg << 3 | 5])) + self._disp32()
        if kind < 0.5:
            sib = rng.randrange(4) << 6 | rng.choice((4, 4, 0, 1, 2, 3)) << 3 | rng.choice((0, 1, 2, 3, 6, 7))
            return bytes([0x40 | reg << 3 | 4, sib, rng.randrange(256)])
        return bytes([0x40 | reg << 3 | rng.choice((0, 1, 2, 3, 6, 7)), rng.randrange(256)])

    def instruction(self):
        """One instruction with its prefixes."""
        rng = self.rng
        prefixes = b"\x66" if rng.random() < 0.25 else b""
        self.operand = 2 if (self.bits == 16) != bool(prefixes) else 4
        if rng.random() < 0.05:
            prefixes += b"\x67"
        if rng.random() < 0.06:
            prefixes += bytes([rng.choice((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))])
        rex = bytes([0x40 | rng.randrange(16)]) if self.bits == 64 and rng.random() < 0.6 else b""
        self.rex_w = bool(rex and rex[0] & 8)
        repeat, body = rng.choice(_FAMILIES)(self)
        return prefixes + repeat + rex + body


def _arithmetic(w):
    return b"", bytes([w.rng.randrange(8) << 3 | w.rng.randrange(4)]) + w.modrm()


def _immediate(w):
    opcode = w.rng.choice((0x80, 0x81, 0x83))
    return b"", bytes([opcode]) + w.modrm() + w.rng.randbytes(w.operand if opcode == 0x81 else 1)


def _accumulator(w):
    opcode = w.rng.choice((0x04, 0x05, 0x2C, 0x2D, 0x3C, 0x3D, 0x25, 0x0D, 0x35, 0xA8, 0xA9))
    return b"", bytes([opcode]) + w.rng.randbytes(w.operand if opcode & 1 else 1)


def _move(w):
    opcode = w.rng.choice((0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x86, 0x87, 0x84, 0x85, 0x63))
    reg = w.rng.randrange(6) if opcode == 0x8C else None
    return b"", bytes([opcode]) + w.modrm(reg, True if opcode == 0x8D else None)


def _move_immediate(w):
    if w.rng.random() < 0.5:
        opcode = w.rng.choice((0xC6, 0xC7))
        return b"", bytes([opcode]) + w.modrm(reg=0) + w.rng.randbytes(w.operand if opcode & 1 else 1)
    opcode = 0xB0 | w.rng.randrange(16)
    size = 1 if opcode < 0xB8 else 8 if w.rex_w else w.operand
    return b"", bytes([opcode]) + w.rng.randbytes(size)


def _shift(w):
    opcode = w.rng.choice((0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3))
    return b"", bytes([opcode]) + w.modrm() + (w.rng.randbytes(1) if opcode < 0xD0 else b"")


def _two_byte(w):
    choices = (0xB6, 0xB7, 0xBE, 0xBF, 0xAF, 0xBC, 0xBD, 0xA3, 0xAB, 0xB3, 0xBB, 0xA4, 0xA5, 0xAC, 0xAD)
    opcode = w.rng.choice((*choices, 0xC0, 0xC1, 0xB0, 0xB1))
    return b"", bytes([0x0F, opcode]) + w.modrm() + (w.rng.randbytes(1) if opcode in (0xA4, 0xAC) else b"")


def _bit(w):
    return b"", b"\x0f\xba" + w.modrm(reg=w.rng.choice((4, 5, 6, 7))) + w.rng.randbytes(1)


def _count(w):
    if w.bits != 64:
        return b"", bytes([0x40 | w.rng.randrange(16)])
    return b"", bytes([w.rng.choice((0xFE, 0xFF))]) + w.modrm(reg=w.rng.choice((0, 1)))


def _unary(w):
    return b"", bytes([w.rng.choice((0xF6, 0xF7))]) + w.modrm(reg=w.rng.choice((2, 3, 4, 5, 6, 7)))


def _stack(w):
    body = w.rng.choice((
        bytes([0x50 | w.rng.choice((0, 1, 2, 3, 4, 5, 6, 7))]), bytes([0x58 | w.rng.choice((0, 1, 2, 3, 5, 6, 7))]),
        b"\x6a" + w.rng.randbytes(1), b"\x68" + w.rng.randbytes(w.operand), b"\x9c", b"\xff" + w.modrm(reg=6),
        b"\x8f" + w.modrm(reg=0), b"\xc9",
    ))  # fmt: skip
    return b"", body


def _jump(w):
    rng = w.rng
    kind = rng.randrange(6)
    if kind < 3:
        return b"", bytes([0x70 | rng.randrange(16), rng.choice((2, 3, 4, 5, 6, 0xF0, 0xE0, 10))])
    if kind == 3:
        return b"", bytes([rng.choice((0xE0, 0xE1, 0xE2, 0xE3)), rng.choice((2, 3, 0xF8, 0xE4, 6))])
    if kind == 4:
        return b"", bytes([0xEB, rng.choice((1, 2, 3, 4, 5, 0x80))])
    near = rng.choice((1, 3, -0x40)).to_bytes(2 if w.operand == 2 and w.bits != 64 else 4, "little", signed=True)
    return b"", rng.choice((b"\xe8" + near, b"\xe8" + near, b"\xc3", b"\xc2\4\0"))


def _indirect(w):
    """A jump or call to the next instruction through the stack."""
    return b"", w.rng.choice((b"\xff" + w.modrm(reg=w.rng.choice((2, 4))), b"\xe8\0\0" + b"\0\0" * (w.operand == 4)))


def _conditional(w):
    return b"", bytes([0x0F, w.rng.choice((0x40, 0x90)) | w.rng.randrange(16)]) + w.modrm()


def _string(w):
    opcode = w.rng.choice((0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF))
    return w.rng.choice((b"", b"\xf2", b"\xf3", b"\xf3")), bytes([opcode])


def _multiply(w):
    opcode = w.rng.choice((0x69, 0x6B))
    return b"", bytes([opcode]) + w.modrm() + w.rng.randbytes(w.operand if opcode == 0x69 else 1)


def _other(w):
    simple = (b"\x98", b"\x99", b"\xf5", b"\xf8", b"\xf9", b"\xfc", b"\xfd", b"\x90", b"\x9e", b"\x9f", b"\x0f\xc8")
    rare = (b"\x0f\xcb", b"\xf3\x0f\xb8" + w.modrm(), b"\xfb", b"\x16", b"\x0f\xa2", b"\x9d", b"\xcc")
    return b"", w.rng.choice(simple if w.rng.random() < 0.8 else rare)


_FAMILIES = (
    *[_arithmetic] * 6, _immediate, _accumulator, _move, _move, _move_immediate, _shift, _shift, *[_two_byte] * 3, _bit,
    _count, _unary, _unary, _stack, _stack, *[_jump] * 3, _indirect, _conditional, _conditional, _string, _multiply,
    _other,
)  # fmt: skip


def program(rng, bits, size):
    """`size` bytes of code."""
    writer, out = Writer(rng, bits), bytearray()
    while len(out) < size:
        out += writer.instruction()
    return bytes(out[:size])


def set_registers(rng, state, bits):
    """General registers that often point to the data page, and any status flags."""
    mask = (1 << 64) - 1 if bits == 64 else 0xFFFFFFFF
    for number in range(16):
        value = rng.randrange(DATA, DATA + 0x1000) if rng.random() < 0.6 else rng.choice((*EDGES, rng.getrandbits(64)))
        state.gpr[number] = value & mask
    state.gpr[4] = rng.choice((0x8000, 0x8001, 0x9000, 0x7FFE))
    state.rflags = 2 | rng.getrandbits(12) & STATUS_AND_DF & (~0x400 if rng.random() < 0.8 else ~0)
