"""Handlers of instructions that are less frequent, but occur in loops of real programs."""

from .templates import (
    ARITHMETIC,
    EA,
    EAGER,
    LAZY,
    RIGHT,
    SOURCE,
    TARGET_READ,
    TARGET_WRITE,
    Handler,
    at,
    indent,
    stack_at,
)

COUNT = "n = (r[o.s] + o.imm) & o.smask\n"
ALL_FLAGS = "v = (flags_of(kind, ef, res, aux, ov, sg) & ~CF) | cf\n"
SIGNED = "b = (b ^ o.sbit) - o.sbit\n"
PUT_PAIR = """
if o.size == 1:
    r[0] = (r[0] & KEEP16) | v | (w << U8)
else:
    r[0] = (r[0] & o.keep) | v
    r[2] = (r[2] & o.keep) | w
"""
"""Write `v` to the accumulator and `w` to its upper half (AH with bytes, else rDX)."""


def rare() -> list[Handler]:
    """Exchanges, double shifts, rotates through carry, signed products and quotients, flags, bit strings."""
    return [
        *_exchanges(),
        Handler("SHLD", _double_shift("(a << n) | (b >> (o.sg + U1 - n))", "o.sg + U1 - n")),
        Handler("SHRD", _double_shift("(a >> n) | (b << (o.sg + U1 - n))", "n - U1")),
        Handler("RCL", _through_carry("w = (res >> o.sg) & U1\nres = ((res << U1) | cf) & o.mask\n", "cf")),
        Handler("RCR", _through_carry("w = res & U1\nres = (res >> U1) | (cf << o.sg)\n", "(res >> (o.sg - U1))")),
        Handler("IMUL_PAIR", _signed_product()),
        Handler("IDIV", _signed_division()),
        Handler("LAHF", ALL_FLAGS + "r[0] = (r[0] & ~U0xFF00) | (((v & SZAPC) | U2) << U8)"),
        Handler("SAHF", EAGER + "v = r[0] >> U8\nef = (ef & ~SZAP) | (v & SZAP)\ncf = v & U1"),
        Handler("PUSHF", _push_flags()),
        Handler("POP_M", _pop_to_memory()),
        Handler("BT_MR", _bit_address("r") + "cf = (a >> n) & U1"),
        Handler("BTX_MR", _bit_address("w") + _changed_bit() + "store(ram, off, o.lg, v)"),
    ]


def _exchanges() -> list[Handler]:
    add = TARGET_READ + RIGHT + ARITHMETIC["ADD"] + "r[o.s] = (r[o.s] & o.keep2) | (a << o.ssh)\n" + TARGET_WRITE
    compare = TARGET_READ + RIGHT + "v = b\nb = a\na = r[0] & o.mask\n" + ARITHMETIC["SUB"]
    put = """
if res != U0:
    r[0] = (r[0] & o.keep2) | b
elif o.mem:
    store(ram, off, o.lg, v)
else:
    r[o.d] = (r[o.d] & o.keep) | (v << o.dsh)
"""
    return [Handler("XADD", add), Handler("CMPXCHG", compare + put)]


def _double_shift(result: str, carry_at: str) -> str:
    """A 16-bit shift by more than 16 is undefined and left to the reference tier."""
    shifted = f"res = ({result}) & o.mask\ncf = (a >> ({carry_at})) & U1\nov = res ^ a\naux = U0\n" + LAZY
    guard = "if n > o.sg + U1:\n    OUT(REFERENCE)\n"
    return COUNT + guard + TARGET_READ + "b = r[o.s2] & o.mask\nif n != U0:\n" + indent(shifted + TARGET_WRITE)


def _through_carry(turn: str, other: str) -> str:
    """One turn at a time; OF is the XOR of the sign and `other`."""
    turned = (
        EAGER
        + "res = a\nfor _ in range(np.int64(n)):\n"
        + indent(turn + "cf = w")
        + f"ef = (ef & ~OF) | (OF if (((res >> o.sg) ^ {other}) & U1) != U0 else U0)\n"
        + TARGET_WRITE
    )
    return TARGET_READ + COUNT + "n = n % (o.sg + U2)\nif n != U0:\n" + indent(turned)


def _signed_product() -> str:
    return (
        SOURCE
        + EAGER
        + SIGNED
        + """
a = ((r[0] & o.mask) ^ o.sbit) - o.sbit
v = a * b
if o.size == 8:
    w = mulhi_signed(a, b)
    lost = w != sar(v, U63)
else:
    w = (v >> (o.sg + U1)) & o.mask
    lost = ((v & o.mask) ^ o.sbit) - o.sbit != v
    v = v & o.mask
cf = U1 if lost else U0
ef = (ef & ~OF) | (OF if lost else U0)
"""
        + PUT_PAIR
    )


def _signed_division() -> str:
    """By magnitudes; a 128-bit dividend only if it is the sign extension of 64 bits."""
    return (
        SOURCE
        + """
if o.size == 8:
    a = r[0]
    if r[2] != sar(a, U63):
        OUT(REFERENCE)
elif o.size == 4:
    a = ((r[2] & o.mask) << U32) | (r[0] & o.mask)
elif o.size == 2:
    a = sar(((r[2] & o.mask) << U48) | ((r[0] & o.mask) << U32), U32)
else:
    a = sar(r[0] << U48, U48)
if b == U0:
    OUT(REFERENCE)
"""
        + SIGNED
        + """
c = U0 - b if b >> U63 else b
w = U0 - a if a >> U63 else a
v = w // c
w = w - v * c
n = (a ^ b) >> U63
if v > o.sbit or (v == o.sbit and n == U0):
    OUT(REFERENCE)
v = (U0 - v if n else v) & o.mask
w = (U0 - w if a >> U63 else w) & o.mask
"""
        + PUT_PAIR
    )


def _push_flags() -> str:
    """In virtual-8086 mode it may fault."""
    return (
        "if ef & VM:\n    OUT(REFERENCE)\n"
        + stack_at("r[4] - o.size", "w")
        + ALL_FLAGS
        + "store(ram, off, o.lg, v & o.mask)\nr[4] = (r[4] & skeep) | sp"
    )


def _pop_to_memory() -> str:
    return (
        stack_at("r[4]", "r")
        + "b = load(ram, off, o.lg)\n"
        + at("w")
        + "store(ram, off, o.lg, b)\nr[4] = (r[4] & skeep) | ((r[4] + o.size) & smask)"
    )


def _bit_address(table: str) -> str:
    """The bit number reaches beyond the operand: it moves the address by whole operands."""
    moved = "n = r[o.s2] & o.mask\nw = sar((n ^ o.sbit) - o.sbit, o.lg + U3) << o.lg\n"
    access = at(table).replace(EA, EA + "\nea = (ea + w) & o.amask")
    return moved + access + "a = load(ram, off, o.lg)\nn = n & o.sg\n"


def _changed_bit() -> str:
    return "cf = (a >> n) & U1\nv = a | (U1 << n) if o.cc == 0 else (a & ~(U1 << n) if o.cc == 1 else a ^ (U1 << n))\n"
