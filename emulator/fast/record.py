"""The record of one decoded instruction, 128 bytes, as the interpreter reads it."""

import numpy as np

OP = np.dtype(
    [
        ("handler", "u2"), ("size", "u1"), ("lg", "u1"), ("d", "u1"), ("s", "u1"), ("s2", "u1"), ("dsh", "u1"),
        ("ssh", "u1"), ("base", "u1"), ("index", "u1"), ("scale", "u1"), ("seg", "u1"), ("cc", "u1"), ("mem", "u1"),
        ("direct", "u1"),
        ("next", "u4"), ("taken", "u4"), ("behind", "u8"),
        ("imm", "u8"), ("mask", "u8"), ("keep", "u8"), ("sg", "u8"),
        ("disp", "u8"), ("amask", "u8"), ("smask", "u8"), ("sbit", "u8"), ("keep2", "u8"), ("imm2", "u8"),
        ("unused", "u8", 2),
    ]
)  # fmt: skip
"""`behind` is the RIP that follows, `next` the number of the record there and `taken` that of the branch target `imm`
of a `direct` branch, as soon as the interpreter knows them (0 before): so it need not look up RIP between records.

`size` and `lg` (its logarithm) are those of the memory access; `mask`, `keep`, `sg` (number of the sign bit) of the
destination; `smask` and `sbit` of the source; `d`, `s`, `s2`, `base`, `index` number registers, 16 being zero."""

ZERO_REGISTER = 16
RIP, RFLAGS, DONE, MISSED = 17, 18, 19, 20
"""Places in the register array behind the general registers."""
SELECTORS = 24
"""Place of the six selectors, which are only read."""
REGISTERS = 32

TLB_ENTRIES = 2048
PAGE_TABLE_ENTRIES = 512
MAX_OPS = 1 << 16
MAX_CODE_PAGES = 512
EMPTY = 0xFFFF_FFFF_FFFF_FFFF
"""Tag that no page number has."""

LIMIT, REFERENCE, MISS_READ, MISS_WRITE, DECODE, PAGE, STOP = range(7)
"""Why the interpreter came back."""
