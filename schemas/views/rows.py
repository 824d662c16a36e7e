"""The rows of a page, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..model import Model
from ..names.bits import REGISTERS

BLANK = "-"


class PageRow(Model):
    """One line: the name of a thing, its raw number, and what the number means."""

    name: str
    raw: str
    decoded: str = ""
    unusual: bool = False
    """Worth a look: a guest that just runs does not have it."""


class PageSection(Model):
    """Rows under a title; `columns` of them fit side by side where they have no decoded text."""

    title: str
    rows: tuple[PageRow, ...]
    columns: int = 1


class Line(NamedTuple):
    """A row before it is chosen: a `usual` one is shown only where everything is."""

    name: str
    raw: str
    decoded: str = ""
    unusual: bool = False
    usual: bool = False


def section(title: str, lines: Iterable[Line], *, everything: bool, columns: int = 1) -> Iterator[PageSection]:
    """Yield the section of the lines that are to be shown, or nothing if none is."""
    rows = tuple(
        PageRow(name=line.name, raw=line.raw, decoded=line.decoded, unusual=line.unusual)
        for line in lines
        if everything or line.unusual or not line.usual
    )
    if rows:
        yield PageSection(title=title, rows=rows, columns=columns)


def hex64(value: int) -> str:
    """Return 16 hex digits."""
    return f"{value:016x}"


def hex32(value: int) -> str:
    """Return 8 hex digits."""
    return f"{value:08x}"


def register_line(name: str, value: int, bits: str, *, alarm: int = 0, usual: bool = False) -> Line:
    """Return the line of a register with named bits; bits of `alarm`, and reserved ones, make it unusual."""
    row = REGISTERS[bits]
    strange = value & (alarm | ~row.named & ~row.ones)
    raw = hex64(value) if row.width == 64 else f"{value:0{row.width // 4}x}"
    return Line(name, raw, row.describe(value), unusual=bool(strange), usual=usual)


def ranges(numbers: Iterable[int]) -> str:
    """Return vectors in short: "0x30-0x33 0xec"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(hex(a) if a == b else f"{a:#x}-{b:#x}" for a, b in runs) or BLANK


def bit_list(mask: int, width: int) -> str:
    """Return the numbers of the bits set: "0-2 8"."""
    runs = ranges(n for n in range(width) if mask >> n & 1)
    return " ".join("-".join(str(int(n, 16)) for n in run.split("-")) for run in runs.split()) if mask else BLANK


def duration(ns: int) -> str:
    """Return a time in the unit that suits it: "12.345 s", "3.2 ms"."""
    size = abs(ns)
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if size >= scale:
            return f"{ns / scale:.3f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{ns} ns"


def size_text(size_bytes: int) -> str:
    """Return a size in the largest unit that divides it: "64 KiB"."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes and size_bytes % scale == 0:
            return f"{size_bytes // scale} {unit}"
    return f"{size_bytes} bytes"


def junk_line(name: str, raw: bytes) -> Iterator[Line]:
    """Yield a line if bytes that ought to be zero are not."""
    if any(raw):
        first = next(n for n, byte in enumerate(raw) if byte)
        count = sum(byte != 0 for byte in raw)
        yield Line(name, raw[first : first + 8].hex(), f"junk: {count} bytes not zero, first at {first}", unusual=True)
