"""Handlers of moves, of the stack, and of single flags."""

from .templates import EA, LEFT, READ_RM, RIGHT, SOURCE, TARGET_READ, TARGET_WRITE, Handler, at, stack_at


def moves() -> list[Handler]:
    """Moves, conversions, the stack and single flags."""
    condition = "cond(o.cc, kind, ef, res, ov, sg, cf)"
    sign = "v = (b ^ o.sbit) - o.sbit\nr[o.d] = (r[o.d] & o.keep) | ((v & o.mask) << o.dsh)"
    pushes = "store(ram, off, o.lg, b)\nr[4] = (r[4] & skeep) | sp"
    return [
        Handler("MOV_RX", RIGHT + "r[o.d] = (r[o.d] & o.keep) | (b << o.dsh)"),
        Handler("MOV_RM", READ_RM + "r[o.d] = (r[o.d] & o.keep) | (b << o.dsh)"),
        Handler("MOV_MX", at("w") + RIGHT + "store(ram, off, o.lg, b)"),
        Handler("MOVZX", SOURCE + "r[o.d] = (r[o.d] & o.keep) | (b & o.mask)"),
        Handler("MOVSX", SOURCE + sign),
        Handler("LEA", EA + "\nr[o.d] = (r[o.d] & o.keep) | (ea & o.mask)"),
        Handler("PUSH", SOURCE + stack_at("r[4] - o.size", "w") + pushes),
        Handler(
            "POP",
            (
                stack_at("r[4]", "r")
                + "b = load(ram, off, o.lg)\n"
                + "r[4] = (r[4] & skeep) | ((r[4] + o.size) & smask)\nr[o.d] = (r[o.d] & o.keep) | b"
            ),
        ),
        Handler(
            "LEAVE",
            (
                stack_at("r[5]", "r")
                + "b = load(ram, off, o.lg)\n"
                + "r[4] = (r[4] & skeep) | ((sp + o.size) & smask)\nr[5] = (r[5] & o.keep) | b"
            ),
        ),
        Handler("CMOV", SOURCE + LEFT + f"if {condition}:\n    a = b\nr[o.d] = (r[o.d] & o.keep) | a"),
        Handler(
            "SETCC",
            (
                f"keep_res = res\nb = U1 if {condition} else U0\n"
                + TARGET_READ
                + "res = b\n"
                + TARGET_WRITE
                + "res = keep_res"
            ),
        ),
        Handler(
            "XCHG",
            (
                "keep_res = res\n" + TARGET_READ + RIGHT + "res = b\n" + TARGET_WRITE + "res = keep_res\n"
                "r[o.s] = (r[o.s] & o.keep2) | (a << o.ssh)"
            ),
        ),
        Handler("CBW", "v = ((r[0] & o.smask) ^ o.sbit) - o.sbit\nr[0] = (r[0] & o.keep) | (v & o.mask)"),
        Handler("CWD", "r[2] = (r[2] & o.keep) | (o.mask if (r[0] >> o.sg) & U1 else U0)"),
        Handler("BSWAP", "r[o.d] = bswap(r[o.d] & o.mask, o.size)"),
        Handler("NOP", "pass"),
        Handler("CLC", "cf = U0"),
        Handler("STC", "cf = U1"),
        Handler("CMC", "cf = cf ^ U1"),
        Handler("CLD", "ef = ef & ~DF"),
        Handler("STD", "ef = ef | DF"),
    ]
