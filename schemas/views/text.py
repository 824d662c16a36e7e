"""A page as lines of text, in aligned columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .rows import PageRow, PageSection

UNUSUAL = "!"
"""Stands before a row that is worth a look."""

_RAW_WIDTH = 40
"""Raw text wider than this (a CPUID leaf, an AMX tile) does not push the words of other rows aside."""


def page_lines(sections: Iterable[PageSection]) -> Iterator[tuple[str, bool]]:
    """Yield each line of the page, and whether it is a title; an empty line stands between sections."""
    for number, section in enumerate(sections):
        if number:
            yield "", False
        yield section.title, True
        yield from ((line, False) for line in (_grid(section) if section.columns > 1 else _table(section.rows)))


def _table(rows: tuple[PageRow, ...]) -> Iterator[str]:
    """Yield a row a line: mark, name, raw, decoded."""
    names = max(len(row.name) for row in rows)
    raws = max((len(row.raw) for row in rows if len(row.raw) <= _RAW_WIDTH), default=0)
    for row in rows:
        mark = UNUSUAL if row.unusual else " "
        raw = f"{row.raw.ljust(raws)}  " if raws or row.raw else ""
        yield f"{mark} {row.name.ljust(names)}  {raw}{row.decoded}".rstrip()


def _grid(section: PageSection) -> Iterator[str]:
    """Yield several rows a line, from left to right."""
    names = max(len(row.name) for row in section.rows)
    raws = max(len(row.raw) for row in section.rows)
    for start in range(0, len(section.rows), section.columns):
        cells = [
            f"{row.name.rjust(names)} {row.raw.ljust(raws)}" for row in section.rows[start : start + section.columns]
        ]
        yield ("  " + "  ".join(cells)).rstrip()
