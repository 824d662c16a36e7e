"""What the handlers of the fast tier are made of: pieces of source text, from which the interpreter is generated.

Names in the text: `o` is the operation's record, `r` the registers (index 16 is zero), `res aux ov sg kind cf ef` the
flags (see `generate`), `nxt` the RIP that follows. `OUT(reason)` leaves before the instruction. All numbers are
uint64: a literal would turn an expression into a float, so constants are U0, U1, ....
"""

from typing import NamedTuple


class Handler(NamedTuple):
    """One handler: its name, and the text that executes it."""

    name: str
    text: str


def indent(text: str) -> str:
    """Lines one level deeper."""
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())


EA = "ea = (r[o.base] + (r[o.index] << o.scale) + o.disp) & o.amask"


def at(table: str) -> str:
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


def stack_at(pointer: str, table: str) -> str:
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


READ_RM = at("r") + "b = load(ram, off, o.lg)\n"
MODIFY = at("w") + "a = load(ram, off, o.lg)\n"
STORE = "store(ram, off, o.lg, res)\n"
LEFT = "a = (r[o.d] >> o.dsh) & o.mask\n"
RIGHT = "b = ((r[o.s] >> o.ssh) + o.imm) & o.mask\n"
PUT = "r[o.d] = (r[o.d] & o.keep) | (res << o.dsh)\n"
SOURCE = f"""
if o.mem:
{indent(READ_RM).rstrip()}
else:
    b = ((r[o.s] >> o.ssh) + o.imm) & o.smask
"""
"""A source that is a register, an immediate or memory, for forms that are not hot."""
TARGET_READ = f"""
if o.mem:
{indent(MODIFY).rstrip()}
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

LAZY = "sg = o.sg\nkind = U1\n"
"""The flags follow from the result from here on."""
ARITHMETIC = {
    "ADD": "res = (a + b) & o.mask\ncf = U1 if res < a else U0\naux = a ^ b ^ res\nov = (a ^ res) & (b ^ res)\n" + LAZY,
    "ADC": "c = cf\nres = (a + b + c) & o.mask\ncf = U1 if (res < a or (c != U0 and res == a)) else U0\n"
    "aux = a ^ b ^ res\nov = (a ^ res) & (b ^ res)\n" + LAZY,
    "SUB": "res = (a - b) & o.mask\ncf = U1 if a < b else U0\naux = a ^ b ^ res\nov = (a ^ b) & (a ^ res)\n" + LAZY,
    "SBB": "c = cf\nres = (a - b - c) & o.mask\ncf = U1 if (a < b or (c != U0 and a == b)) else U0\n"
    "aux = a ^ b ^ res\nov = (a ^ b) & (a ^ res)\n" + LAZY,
    "AND": "res = a & b\ncf = U0\naux = U0\nov = U0\n" + LAZY,
    "OR": "res = a | b\ncf = U0\naux = U0\nov = U0\n" + LAZY,
    "XOR": "res = a ^ b\ncf = U0\naux = U0\nov = U0\n" + LAZY,
}
"""Operation -> lines from `a` and `b` to `res` and the flags."""

EAGER = "ef = flags_of(kind, ef, res, aux, ov, sg)\nkind = U0\n"
"""Turn lazy flags into bits of `ef`; `res` must still be the flags' own."""
