"""Handlers of jumps, calls, returns, loops and string instructions, and the conditions."""

from .templates import ARITHMETIC, SOURCE, Handler, indent, stack_at

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
AGAIN = "nxt = rip\nfollow = here\n"
CHECK_TARGET = "if target > cslimit or ((target + CANONICAL) >> U48 != U0 and long_mode != U0):\n    OUT(REFERENCE)\n"
_DIRECTION = "step = (U0 - o.size) if ef & DF else U0 + o.size\n"


def branches() -> list[Handler]:
    """Near jumps, calls, returns and loops."""
    found = [Handler(f"J{name}", f"if {test}:\n" + indent(JUMP)) for name, test in CONDITIONS.items()]
    push = "store(ram, off, o.lg, nxt & o.mask)\nr[4] = (r[4] & skeep) | sp\n"
    found += [
        Handler("JMP", JUMP),
        Handler("JMP_X", SOURCE + "target = b & o.mask\n" + CHECK_TARGET + GO),
        Handler("CALL", stack_at("r[4] - o.size", "w") + push + JUMP),
        Handler(
            "CALL_X",
            (SOURCE + "target = b & o.mask\n" + CHECK_TARGET + stack_at("r[4] - o.size", "w") + push + GO),
        ),
        Handler(
            "RET",
            (
                stack_at("r[4]", "r")
                + "target = load(ram, off, o.lg)\n"
                + CHECK_TARGET
                + "r[4] = (r[4] & skeep) | ((r[4] + o.size + o.imm) & smask)\n"
                + GO
            ),
        ),
        Handler(
            "LOOP",
            (
                "n = (r[1] - U1) & o.amask\n"
                "z = zf_of(kind, ef, res)\n"
                "if n != U0 and (o.cc == 0 or (z if o.cc == 1 else not z)):\n"
                + indent(JUMP)
                + "r[1] = (r[1] & o.keep) | n"
            ),
        ),
        Handler("JCXZ", "if (r[1] & o.amask) == U0:\n" + indent(JUMP)),
    ]
    return found


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


def strings() -> list[Handler]:
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
        "CMPS": (
            source + read_target + load_source + "c = load(ram, off2, o.lg)\n" + compare.format("b, c"),
            (6, 7),
            True,
        ),
    }
    found = []
    for name, (body, moved, compares) in rows.items():
        once = body + _DIRECTION + "".join(_advance(number) for number in moved)
        more = "n > U1"
        if compares:
            more += " and ((res == U0) if o.cc == 1 else (res != U0))"
        text = (
            "n = r[1] & o.amask\nif o.cc == 0 or n != U0:\n"
            + indent(once)
            + f"    if o.cc != 0:\n        r[1] = (r[1] & o.keep2) | (n - U1)\n        if {more}:\n"
            + indent(indent(indent(AGAIN)))
        )
        found.append(Handler(name, text))
    return found
