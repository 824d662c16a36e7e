"""The interpreter's source text, made from `templates`.

The same text runs compiled by numba and, for tests, as plain Python. Lazy flags: with `kind` 1 the flags OF SF ZF AF PF
follow from `res` (the result), `ov` (overflow in its sign bit), `aux` (AF in bit 4) and `sg` (number of the sign bit);
with `kind` 0 they are bits of `ef`. CF is always in `cf`.
"""

from typing import NamedTuple

from . import record
from .control import CONDITIONS
from .frame import ARRAY_ACCESS, POINTER_ACCESS, POSTLUDE, PRELUDE
from .handlers import HANDLERS

_CONSTANTS = {
    **{f"U{n}": n for n in (0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 24, 32, 40, 48, 56, 63, 64, 0xFF, 0xFFF, 0x1000)},
    "U0xFFFF": 0xFFFF,
    "U0xFF00": 0xFF00,
    "KEEP16": ~0xFFFF & (1 << 64) - 1,
    "CANONICAL": 1 << 47,
    "CF": 1, "PF": 4, "AF": 0x10, "ZF": 0x40, "SF": 0x80, "DF": 0x400, "OF": 0x800, "STATUS": 0x8D4,
    "SZAP": 0xD4, "SZAPC": 0xD5, "VM": 0x20000,
    "TLB_MASK": record.TLB_ENTRIES - 1, "PAGE_TABLE_MASK": record.PAGE_TABLE_ENTRIES - 1,
}  # fmt: skip


class Form(NamedTuple):
    """How the text is to be run: its header, and whether guest RAM comes as an address or as an array of bytes."""

    header: str
    by_address: bool


COMPILED = Form(POINTER_ACCESS, True)
"""Machine code that is kept beside the source."""
CHECKED = Form(
    ARRAY_ACCESS.format(
        decorator="from numba import njit\n\njit = njit(nogil=True, boundscheck=True, error_model='numpy')"
    ),
    False,
)
"""The same with every array index checked."""
INTERPRETED = Form(ARRAY_ACCESS.format(decorator="def jit(function):\n    return function"), False)
"""The same as plain Python."""


def source(form: Form = COMPILED) -> str:
    """Return the text of a module that defines `run`."""
    numbers = {name: getattr(record, name) for name in ("LIMIT", "REFERENCE", "DECODE", "PAGE", "STOP")}
    places = {"rip": record.RIP, "rflags": record.RFLAGS, "done": record.DONE, "missed": record.MISSED}
    constants = dict(_CONSTANTS) | {"U255": 0xFF, "U4095": 0xFFF, "U4096": 0x1000, "U0xFFFFFFFF": 0xFFFFFFFF}
    text = "\n".join(f"{name} = np.uint64({value:#x})" for name, value in constants.items())
    conditions = "\n".join(f"    if cc == {n}:\n        return {test}" for n, test in enumerate(CONDITIONS.values()))
    lines = [
        PRELUDE.format(header=form.header, constants=text, conditions=conditions, **numbers, **places).rstrip("\n")
    ]
    lines += _dispatch(0, len(HANDLERS), 2)
    lines.append(POSTLUDE.format(**numbers, **places))
    return "\n".join(lines)


def _dispatch(first: int, last: int, depth: int) -> list[str]:
    """Lines that find the handler of number `h` in [first, last] by halves: a chain would cost one test a handler."""
    indent = "    " * depth
    if first < last:
        middle = (first + last) // 2
        left, right = _dispatch(first, middle, depth + 1), _dispatch(middle + 1, last, depth + 1)
        return [f"{indent}if h <= {middle}:", *left, f"{indent}else:", *right]
    if first == 0:
        return [f"{indent}reason = {record.REFERENCE}", f"{indent}break"]
    handler = HANDLERS[first - 1]
    return [
        f"{indent}# {handler.name}",
        *(indent + line for raw in handler.text.strip("\n").splitlines() for line in _expanded(raw)),
    ]


def _expanded(line: str) -> list[str]:
    """Replace the ways out by an assignment and a break."""
    body = line.lstrip()
    indent = line[: len(line) - len(body)]
    ways = {
        "OUT(REFERENCE)": record.REFERENCE,
        "OUT_R": record.MISS_READ,
        "OUT_W": record.MISS_WRITE,
    }
    if body in ways:
        return [f"{indent}reason = {ways[body]}", f"{indent}break"]
    return [line]
