"""Handlers of arithmetic, logic, shifts, multiplication and bits."""

from .templates import (
    ARITHMETIC,
    EAGER,
    LAZY,
    LEFT,
    MODIFY,
    PUT,
    READ_RM,
    RIGHT,
    SOURCE,
    STORE,
    TARGET_READ,
    TARGET_WRITE,
    Handler,
    indent,
)


def arithmetic() -> list[Handler]:
    """Three forms an operation: register and register or immediate, register and memory, memory and the rest."""
    found = []
    for name, lines in ARITHMETIC.items():
        found.append(Handler(f"{name}_RX", LEFT + RIGHT + lines + PUT))
        found.append(Handler(f"{name}_RM", READ_RM + LEFT + lines + PUT))
        found.append(Handler(f"{name}_MX", MODIFY + RIGHT + lines + STORE))
    for name, like in (("CMP", "SUB"), ("TEST", "AND")):
        found.append(Handler(f"{name}_RX", LEFT + RIGHT + ARITHMETIC[like]))
        found.append(Handler(f"{name}_MX", READ_RM + "a = b\n" + RIGHT + ARITHMETIC[like]))
    found.append(Handler("CMP_RM", READ_RM + LEFT + ARITHMETIC["SUB"]))
    return found


UNARY = {
    "INC": "res = (a + U1) & o.mask\naux = a ^ res\nov = ~a & res\n" + LAZY,
    "DEC": "res = (a - U1) & o.mask\naux = a ^ res\nov = a & ~res\n" + LAZY,
    "NEG": "res = (U0 - a) & o.mask\ncf = U1 if a != U0 else U0\naux = a ^ res\nov = a & res\n" + LAZY,
    "NOT": "res = ~a & o.mask\n",
}
SHIFTS = {
    "SHL": "res = (a << n) & o.mask if n < U64 else U0\n"
    "cf = (a >> (o.sg + U1 - n)) & U1 if n <= o.sg + U1 else U0\nov = res ^ (cf << o.sg)\n",
    "SHR": "res = a >> n\ncf = (a >> (n - U1)) & U1\nov = a if n == U1 else U0\n",
    "SAR": "w = a | ~o.mask if (a >> o.sg) & U1 else a\nres = sar(w, n) & o.mask\ncf = sar(w, n - U1) & U1\nov = U0\n",
}
ROTATES = {
    "ROL": "n = n & o.sg\nres = ((a << n) | (a >> (o.sg + U1 - n) if n != U0 else U0)) & o.mask\n"
    "cf = res & U1\nw = ((res >> o.sg) ^ res) & U1\n",
    "ROR": "n = n & o.sg\nres = ((a >> n) | (a << (o.sg + U1 - n) if n != U0 else U0)) & o.mask\n"
    "cf = (res >> o.sg) & U1\nw = ((res >> o.sg) ^ (res >> (o.sg - U1))) & U1\n",
}


def shifting() -> list[Handler]:
    """Operations with one operand, shifts and rotates."""
    found = [Handler(name, TARGET_READ + lines + TARGET_WRITE) for name, lines in UNARY.items() if name != "NOT"]
    # NOT writes no flag: `res` belongs to the flags and is kept.
    found.append(Handler("NOT", "keep_res = res\n" + TARGET_READ + UNARY["NOT"] + TARGET_WRITE + "res = keep_res"))
    count = "n = (r[o.s] + o.imm) & o.smask\n"
    for name, lines in SHIFTS.items():
        body = lines + "aux = U0\n" + LAZY + TARGET_WRITE
        found.append(Handler(name, TARGET_READ + count + "if n != U0:\n" + indent(body)))
    for name, lines in ROTATES.items():
        body = EAGER + lines + "ef = (ef & ~OF) | (OF if w != U0 else U0)\n" + TARGET_WRITE
        found.append(Handler(name, TARGET_READ + count + "if n != U0:\n" + indent(body)))
    return found


def multiplying() -> list[Handler]:
    """Products and unsigned quotients."""
    carry = "cf = U1 if lost else U0\nef = (ef & ~OF) | (OF if lost else U0)\n"
    low = "r[0] = (r[0] & o.keep) | {}\n"
    high = "r[2] = (r[2] & o.keep) | {}\n"
    return [
        Handler(
            "IMUL",  # two and three operands; `o.s2` is the left one, or zero where an immediate stands
            (
                SOURCE + EAGER + "a = ((r[o.s2] + o.imm2) & o.mask ^ o.sbit) - o.sbit\nb = (b ^ o.sbit) - o.sbit\n"
                "v = a * b\nlost = (mulhi_signed(a, b) != sar(v, U63)) or (((v & o.mask) ^ o.sbit) - o.sbit != v)\n"
                "r[o.d] = (r[o.d] & o.keep) | (v & o.mask)\n" + carry
            ),
        ),
        Handler(
            "MUL",
            (
                SOURCE + "a = r[0] & o.mask\nif o.size == 8:\n    v = a * b\n    w = mulhi(a, b)\n"
                "else:\n    v = a * b\n    w = v >> (o.sg + U1)\n    v = v & o.mask\n"
                "lost = w != U0\n" + EAGER + "if o.size == 1:\n    r[0] = (r[0] & KEEP16) | v | (w << U8)\n"
                "else:\n" + indent(low.format("v") + high.format("w")) + carry
            ),
        ),
        Handler(
            "DIV",
            (
                SOURCE + "if o.size == 1:\n    a = r[0] & U0xFFFF\nelif o.size == 8:\n    a = r[0]\n"
                "    if r[2] != U0:\n        OUT(REFERENCE)\n"
                "else:\n    a = ((r[2] & o.mask) << (o.sg + U1)) | (r[0] & o.mask)\n"
                "if b == U0:\n    OUT(REFERENCE)\nv = a // b\nif v > o.mask:\n    OUT(REFERENCE)\nw = a - v * b\n"
                "if o.size == 1:\n    r[0] = (r[0] & KEEP16) | v | (w << U8)\nelse:\n"
                + indent(low.format("v") + high.format("w"))
            ),
        ),
    ]


def bits() -> list[Handler]:
    """Counts of bits, and single bits."""
    zero = "ef = (ef & ~ZF) | (ZF if b == U0 else U0)\n"
    place = "if b != U0:\n    r[o.d] = (r[o.d] & o.keep) | {}(b)"
    return [
        Handler(
            "POPCNT",
            (
                SOURCE + "r[o.d] = (r[o.d] & o.keep) | popcount(b)\ncf = U0\naux = U0\nov = U0\nkind = U0\n"
                "ef = (ef & ~STATUS) | (ZF if b == U0 else U0)"
            ),
        ),
        Handler("BSF", SOURCE + EAGER + zero + place.format("lowest")),
        Handler("BSR", SOURCE + EAGER + zero + place.format("highest")),
        Handler(
            "BT",
            (
                SOURCE.replace("o.s]", "o.d]").replace("o.ssh", "o.dsh").replace("+ o.imm", "+ U0")
                + "n = (r[o.s2] + o.imm2) & o.sg\ncf = (b >> n) & U1"
            ),
        ),
        Handler(
            "BTX",
            (
                "keep_res = res\n" + TARGET_READ + "n = (r[o.s2] + o.imm2) & o.sg\ncf = (a >> n) & U1\n"
                "res = a | (U1 << n) if o.cc == 0 else (a & ~(U1 << n) if o.cc == 1 else a ^ (U1 << n))\n"
                + TARGET_WRITE
                + "res = keep_res"
            ),
        ),
    ]
