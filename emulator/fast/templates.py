"""The handlers of the fast tier, as source text: one row an instruction form, from which the interpreter is generated.

Names in the text: `o` is the operation's record, `r` the registers (index 16 is always zero), `res aux ov sg kind cf ef`
the flags (see `generate`), `nxt` the RIP that follows. `OUT(reason)` leaves before the instruction. All numbers are
uint64: a literal would turn an expression into a float, so constants are U0, U1, ....
"""

from typing import NamedTuple


class Handler(NamedTuple):
    """One handler: its name, and the lines that execute it."""

    name: str
    lines: tuple[str, ...]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.rstrip() for line in text.strip("\n").splitlines())


EA = "ea = (r[o.base] + (r[o.index] << o.scale) + o.disp) & o.amask"


def _at(table: str) -> str:
    """Lines that form the RAM offset `off` of the memory operand, or leave; `table` is r (read) or w (write)."""
    return f"""
{EA}
if ea >= {table}count[o.seg, o.lg]:
    OUT(REFERENCE)
lin = (ea + segbase[o.seg]) & lmask
off = offset_of(lin, o.size, {table}tag, {table}off)
if off < 0:
    OUT_{table.upper()}
"""


def _stack(pointer: str, table: str) -> str:
    """Lines that form `off` for `o.size` bytes of stack at `sp`."""
    return f"""
sp = ({pointer}) & smask
if sp >= {table}count[2, o.lg]:
    OUT(REFERENCE)
lin = (sp + segbase[2]) & lmask
off = offset_of(lin, o.size, {table}tag, {table}off)
if off < 0:
    OUT_{table.upper()}
"""


READ_RM = _at("r") + "b = load(ram, off, o.lg)\n"
MODIFY = _at("w") + "a = load(ram, off, o.lg)\n"
STORE = "store(ram, off, o.lg, res)\n"
LEFT = "a = (r[o.d] >> o.dsh) & o.mask\n"
RIGHT = "b = ((r[o.s] >> o.ssh) + o.imm) & o.mask\n"
PUT = "r[o.d] = (r[o.d] & o.keep) | (res << o.dsh)\n"
SOURCE = f"""
if o.mem:
{chr(10).join("    " + line for line in READ_RM.strip(chr(10)).splitlines())}
else:
    b = ((r[o.s] >> o.ssh) + o.imm) & o.smask
"""
"""A source that is a register, an immediate or memory, for forms that are not hot."""
TARGET_READ = f"""
if o.mem:
{chr(10).join("    " + line for line in MODIFY.strip(chr(10)).splitlines())}
else:
    a = (r[o.d] >> o.dsh) & o.mask
    off = I0
"""
TARGET_WRITE = """
if o.mem:
    store(ram, off, o.lg, res)
else:
    r[o.d] = (r[o.d] & o.keep) | (res << o.dsh)
"""

_LAZY = "sg = o.sg\nkind = U1\n"
ARITHMETIC = {
    "ADD": "res = (a + b) & o.mask\ncf = U1 if res < a else U0\naux = a ^ b ^ res\nov = (a ^ res) & (b ^ res)\n" + _LAZY,
    "ADC": "c = cf\nres = (a + b + c) & o.mask\ncf = U1 if (res < a or (c != U0 and res == a)) else U0\n"
    "aux = a ^ b ^ res\nov = (a ^ res) & (b ^ res)\n" + _LAZY,
    "SUB": "res = (a - b) & o.mask\ncf = U1 if a < b else U0\naux = a ^ b ^ res\nov = (a ^ b) & (a ^ res)\n" + _LAZY,
    "SBB": "c = cf\nres = (a - b - c) & o.mask\ncf = U1 if (a < b or (c != U0 and a == b)) else U0\n"
    "aux = a ^ b ^ res\nov = (a ^ b) & (a ^ res)\n" + _LAZY,
    "AND": "res = a & b\ncf = U0\naux = U0\nov = U0\n" + _LAZY,
    "OR": "res = a | b\ncf = U0\naux = U0\nov = U0\n" + _LAZY,
    "XOR": "res = a ^ b\ncf = U0\naux = U0\nov = U0\n" + _LAZY,
}
"""Operation -> lines from `a` and `b` to `res` and the flags."""


def _arithmetic() -> list[Handler]:
    """Three forms an operation: register and register or immediate, register and memory, memory and the rest."""
    found = []
    for name, lines in ARITHMETIC.items():
        found.append(Handler(f"{name}_RX", _lines(LEFT + RIGHT + lines + PUT)))
        found.append(Handler(f"{name}_RM", _lines(READ_RM + LEFT + lines + PUT)))
        found.append(Handler(f"{name}_MX", _lines(MODIFY + RIGHT + lines + STORE)))
    for name, like in (("CMP", "SUB"), ("TEST", "AND")):
        found.append(Handler(f"{name}_RX", _lines(LEFT + RIGHT + ARITHMETIC[like])))
        found.append(Handler(f"{name}_MX", _lines(READ_RM + "a = b\n" + RIGHT + ARITHMETIC[like])))
    found.append(Handler("CMP_RM", _lines(READ_RM + LEFT + ARITHMETIC["SUB"])))
    return found


UNARY = {
    "INC": "res = (a + U1) & o.mask\naux = a ^ res\nov = ~a & res\n" + _LAZY,
    "DEC": "res = (a - U1) & o.mask\naux = a ^ res\nov = a & ~res\n" + _LAZY,
    "NEG": "res = (U0 - a) & o.mask\ncf = U1 if a != U0 else U0\naux = a ^ res\nov = a & res\n" + _LAZY,
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
EAGER = "ef = flags_of(kind, ef, res, aux, ov, sg)\nkind = U0\n"
"""Turn lazy flags into bits of `ef`; `res` must still be the flags' own."""


def _indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())


def _shifting() -> list[Handler]:
    found = [Handler(name, _lines(TARGET_READ + lines + TARGET_WRITE)) for name, lines in UNARY.items() if name != "NOT"]
    # NOT writes no flag: `res` belongs to the flags and is kept.
    found.append(Handler("NOT", _lines("keep_res = res\n" + TARGET_READ + UNARY["NOT"] + TARGET_WRITE + "res = keep_res")))
    count = "n = (r[o.s] + o.imm) & o.smask\n"
    for name, lines in SHIFTS.items():
        body = lines + "aux = U0\n" + _LAZY + TARGET_WRITE
        found.append(Handler(name, _lines(TARGET_READ + count + "if n != U0:\n" + _indent(body))))
    for name, lines in ROTATES.items():
        body = EAGER + lines + "ef = (ef & ~OF) | (OF if w != U0 else U0)\n" + TARGET_WRITE
        found.append(Handler(name, _lines(TARGET_READ + count + "if n != U0:\n" + _indent(body))))
    return found


CONDITIONS = {
    "O": "of_of(kind, ef, ov, sg)", "NO": "not of_of(kind, ef, ov, sg)", "B": "cf != U0", "AE": "cf == U0",
    "E": "zf_of(kind, ef, res)", "NE": "not zf_of(kind, ef, res)",
    "BE": "(cf != U0 or zf_of(kind, ef, res))", "A": "(cf == U0 and not zf_of(kind, ef, res))",
    "S": "sf_of(kind, ef, res, sg)", "NS": "not sf_of(kind, ef, res, sg)",
    "P": "pf_of(kind, ef, res)", "NP": "not pf_of(kind, ef, res)",
    "L": "lt_of(kind, ef, res, ov, sg)", "GE": "not lt_of(kind, ef, res, ov, sg)",
    "LE": "(lt_of(kind, ef, res, ov, sg) or zf_of(kind, ef, res))",
    "G": "not (lt_of(kind, ef, res, ov, sg) or zf_of(kind, ef, res))",
}  # fmt: skip
"""Condition -> expression, in the order of the condition's number in `o.cc`."""

JUMP = "nxt = o.imm\nfollow = np.uint64(o.taken)\n"
GO = "nxt = target\nfollow = U0\n"
_CHECK_TARGET = "if target > cslimit or ((target + CANONICAL) >> U48 != U0 and long_mode != U0):\n    OUT(REFERENCE)\n"
_DIRECTION = "step = (U0 - o.size) if ef & DF else U0 + o.size\n"


def _branches() -> list[Handler]:
    found = [Handler(f"J{name}", _lines(f"if {test}:\n" + _indent(JUMP))) for name, test in CONDITIONS.items()]
    push = "store(ram, off, o.lg, nxt & o.mask)\nr[4] = (r[4] & skeep) | sp\n"
    found += [
        Handler("JMP", _lines(JUMP)),
        Handler("JMP_X", _lines(SOURCE + "target = b & o.mask\n" + _CHECK_TARGET + GO)),
        Handler("CALL", _lines(_stack("r[4] - o.size", "w") + push + JUMP)),
        Handler(
            "CALL_X",
            _lines(SOURCE + "target = b & o.mask\n" + _CHECK_TARGET + _stack("r[4] - o.size", "w") + push + GO),
        ),
        Handler(
            "RET",
            _lines(
                _stack("r[4]", "r")
                + "target = load(ram, off, o.lg)\n"
                + _CHECK_TARGET
                + "r[4] = (r[4] & skeep) | ((r[4] + o.size + o.imm) & smask)\n"
                + GO
            ),
        ),
        Handler(
            "LOOP",
            _lines(
                "n = (r[1] - U1) & o.amask\n"
                "z = zf_of(kind, ef, res)\n"
                "if n != U0 and (o.cc == 0 or (z if o.cc == 1 else not z)):\n" + _indent(JUMP) +
                "r[1] = (r[1] & o.keep) | n"
            ),
        ),
        Handler("JCXZ", _lines("if (r[1] & o.amask) == U0:\n" + _indent(JUMP))),
    ]
    return found


def _moves() -> list[Handler]:
    condition = "cond(o.cc, kind, ef, res, ov, sg, cf)"
    sign = "v = (b ^ o.sbit) - o.sbit\nr[o.d] = (r[o.d] & o.keep) | ((v & o.mask) << o.dsh)"
    pushes = "store(ram, off, o.lg, b)\nr[4] = (r[4] & skeep) | sp"
    return [
        Handler("MOV_RX", _lines(RIGHT + "r[o.d] = (r[o.d] & o.keep) | (b << o.dsh)")),
        Handler("MOV_RM", _lines(READ_RM + "r[o.d] = (r[o.d] & o.keep) | (b << o.dsh)")),
        Handler("MOV_MX", _lines(_at("w") + RIGHT + "store(ram, off, o.lg, b)")),
        Handler("MOVZX", _lines(SOURCE + "r[o.d] = (r[o.d] & o.keep) | (b & o.mask)")),
        Handler("MOVSX", _lines(SOURCE + sign)),
        Handler("LEA", _lines(EA + "\nr[o.d] = (r[o.d] & o.keep) | (ea & o.mask)")),
        Handler("PUSH", _lines(SOURCE + _stack("r[4] - o.size", "w") + pushes)),
        Handler(
            "POP",
            _lines(
                _stack("r[4]", "r")
                + "b = load(ram, off, o.lg)\n"
                + "r[4] = (r[4] & skeep) | ((r[4] + o.size) & smask)\nr[o.d] = (r[o.d] & o.keep) | b"
            ),
        ),
        Handler(
            "LEAVE",
            _lines(
                _stack("r[5]", "r")
                + "b = load(ram, off, o.lg)\n"
                + "r[4] = (r[4] & skeep) | ((sp + o.size) & smask)\nr[5] = (r[5] & o.keep) | b"
            ),
        ),
        Handler("CMOV", _lines(SOURCE + LEFT + f"if {condition}:\n    a = b\nr[o.d] = (r[o.d] & o.keep) | a")),
        Handler(
            "SETCC",
            _lines(f"keep_res = res\nb = U1 if {condition} else U0\n" + TARGET_READ + "res = b\n" + TARGET_WRITE + "res = keep_res"),
        ),
        Handler(
            "XCHG",
            _lines("keep_res = res\n" + TARGET_READ + RIGHT + "res = b\n" + TARGET_WRITE + "res = keep_res\n"
                   "r[o.s] = (r[o.s] & o.keep2) | (a << o.ssh)"),
        ),
        Handler("CBW", _lines("v = ((r[0] & o.smask) ^ o.sbit) - o.sbit\nr[0] = (r[0] & o.keep) | (v & o.mask)")),
        Handler("CWD", _lines("r[2] = (r[2] & o.keep) | (o.mask if (r[0] >> o.sg) & U1 else U0)")),
        Handler("BSWAP", _lines("r[o.d] = bswap(r[o.d] & o.mask, o.size)")),
        Handler("NOP", ("pass",)),
        Handler("CLC", ("cf = U0",)),
        Handler("STC", ("cf = U1",)),
        Handler("CMC", ("cf = cf ^ U1",)),
        Handler("CLD", ("ef = ef & ~DF",)),
        Handler("STD", ("ef = ef | DF",)),
    ]


def _multiplying() -> list[Handler]:
    carry = "cf = U1 if lost else U0\nef = (ef & ~OF) | (OF if lost else U0)\n"
    low = "r[0] = (r[0] & o.keep) | {}\n"
    high = "r[2] = (r[2] & o.keep) | {}\n"
    return [
        Handler(
            "IMUL",  # two and three operands; `o.s2` is the left one, or zero where an immediate stands
            _lines(
                SOURCE + EAGER + "a = ((r[o.s2] + o.imm2) & o.mask ^ o.sbit) - o.sbit\nb = (b ^ o.sbit) - o.sbit\n"
                "v = a * b\nlost = (mulhi_signed(a, b) != sar(v, U63)) or (((v & o.mask) ^ o.sbit) - o.sbit != v)\n"
                "r[o.d] = (r[o.d] & o.keep) | (v & o.mask)\n" + carry
            ),
        ),
        Handler(
            "MUL",
            _lines(
                SOURCE + "a = r[0] & o.mask\nif o.size == 8:\n    v = a * b\n    w = mulhi(a, b)\n"
                "else:\n    v = a * b\n    w = v >> (o.sg + U1)\n    v = v & o.mask\n"
                "lost = w != U0\n" + EAGER + "if o.size == 1:\n    r[0] = (r[0] & KEEP16) | v | (w << U8)\n"
                "else:\n" + _indent(low.format("v") + high.format("w")) + carry
            ),
        ),
        Handler(
            "DIV",
            _lines(
                SOURCE + "if o.size == 1:\n    a = r[0] & U0xFFFF\nelif o.size == 8:\n    a = r[0]\n"
                "    if r[2] != U0:\n        OUT(REFERENCE)\n"
                "else:\n    a = ((r[2] & o.mask) << (o.sg + U1)) | (r[0] & o.mask)\n"
                "if b == U0:\n    OUT(REFERENCE)\nv = a // b\nif v > o.mask:\n    OUT(REFERENCE)\nw = a - v * b\n"
                "if o.size == 1:\n    r[0] = (r[0] & KEEP16) | v | (w << U8)\nelse:\n"
                + _indent(low.format("v") + high.format("w"))
            ),
        ),
        Handler("POPCNT", _lines(SOURCE + "r[o.d] = (r[o.d] & o.keep) | popcount(b)\ncf = U0\naux = U0\nov = U0\nkind = U0\n"
                                 "ef = (ef & ~STATUS) | (ZF if b == U0 else U0)")),
        Handler("BSF", _lines(SOURCE + EAGER + "ef = (ef & ~ZF) | (ZF if b == U0 else U0)\n"
                              "if b != U0:\n    r[o.d] = (r[o.d] & o.keep) | lowest(b)")),
        Handler("BSR", _lines(SOURCE + EAGER + "ef = (ef & ~ZF) | (ZF if b == U0 else U0)\n"
                              "if b != U0:\n    r[o.d] = (r[o.d] & o.keep) | highest(b)")),
        Handler("BT", _lines(SOURCE.replace("o.s]", "o.d]").replace("o.ssh", "o.dsh").replace("+ o.imm", "+ U0")
                             + "n = (r[o.s2] + o.imm2) & o.sg\ncf = (b >> n) & U1")),
        Handler("BTX", _lines("keep_res = res\n" + TARGET_READ + "n = (r[o.s2] + o.imm2) & o.sg\ncf = (a >> n) & U1\n"
                              "res = a | (U1 << n) if o.cc == 0 else (a & ~(U1 << n) if o.cc == 1 else a ^ (U1 << n))\n"
                              + TARGET_WRITE + "res = keep_res")),
    ]


def _string_side(number: int, seg: str, table: str, name: str) -> str:
    return f"""
ea = r[{number}] & o.amask
if ea >= {table}count[{seg}, o.lg]:
    OUT(REFERENCE)
lin = (ea + segbase[{seg}]) & lmask
{name} = offset_of(lin, o.size, {table}tag, {table}off)
if {name} < 0:
    OUT_{table.upper()}
"""


def _advance(number: int) -> str:
    return f"r[{number}] = (r[{number}] & o.keep2) | ((r[{number}] + step) & o.amask)\n"


def _strings() -> list[Handler]:
    """One iteration; `o.cc`: 0 no prefix, 1 REPE or REP, 2 REPNE."""
    source, read_target = _string_side(6, "o.seg", "r", "off"), _string_side(7, "0", "r", "off2")
    write_target = _string_side(7, "0", "w", "off2")
    load_source = "b = load(ram, off, o.lg)\n"
    compare = "a, b = {}\n" + ARITHMETIC["SUB"]
    rows = {
        "MOVS": (source + write_target + load_source + "store(ram, off2, o.lg, b)\n", (6, 7), False),
        "STOS": (write_target + "store(ram, off2, o.lg, r[0] & o.mask)\n", (7,), False),
        "LODS": (source + load_source + "r[0] = (r[0] & o.keep) | b\n", (6,), False),
        "SCAS": (read_target + compare.format("r[0] & o.mask, load(ram, off2, o.lg)"), (7,), True),
        "CMPS": (source + read_target + load_source
                 + "c = load(ram, off2, o.lg)\n" + compare.format("b, c"), (6, 7), True),
    }
    found = []
    for name, (body, moved, compares) in rows.items():
        once = body + _DIRECTION + "".join(_advance(number) for number in moved)
        more = "n > U1"
        if compares:
            more += " and ((res == U0) if o.cc == 1 else (res != U0))"
        text = (
            "n = r[1] & o.amask\nif o.cc == 0 or n != U0:\n" + _indent(once)
            + f"    if o.cc != 0:\n        r[1] = (r[1] & o.keep2) | (n - U1)\n        if {more}:\n            nxt = rip\n            follow = here\n"
        )
        found.append(Handler(name, _lines(text)))
    return found


HANDLERS: tuple[Handler, ...] = (
    *_arithmetic(), *_branches(), *_moves(), *_shifting(), *_multiplying(), *_strings(),
)  # fmt: skip
"""Every handler; its number is its place, counted from 1 (0 is "the reference tier does it")."""

NUMBERS: dict[str, int] = {handler.name: number for number, handler in enumerate(HANDLERS, 1)}
