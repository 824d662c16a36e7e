"""Pages of lists. A cursor is the `seq` of the last row seen, so that deletions in between lose nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from migsvc.errors import InputError
from migsvc.service.records import Page

MAX_ITEMS = 500
"""Items in one page: it is held in memory. The API refuses more; a direct caller gets this many."""


class Numbered(Protocol):
    """A row with its place in the table."""

    @property
    def seq(self) -> int:
        """Place in the table."""


RowT = TypeVar("RowT", bound=Numbered)
ItemT = TypeVar("ItemT")


async def rows_of(
    fetch: Callable[[int, int], Awaitable[Sequence[RowT]]], cursor: str | None, limit: int
) -> tuple[Sequence[RowT], str | None]:
    """Fetch the rows after `cursor`, at most `limit`, and the next cursor.

    Raises:
        InputError: the cursor is not one of ours.
    """
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InputError(f"cursor {cursor[:40]!r} is not one that this host gave", hint="take `next` of the last page")
    wanted = max(1, min(limit, MAX_ITEMS))
    rows = await fetch(int(cursor or 0), wanted + 1)
    more = len(rows) > wanted
    return rows[:wanted], str(rows[wanted - 1].seq) if more else None


async def page_of(
    fetch: Callable[[int, int], Awaitable[Sequence[RowT]]],
    convert: Callable[[RowT], ItemT],
    cursor: str | None,
    limit: int,
) -> Page[ItemT]:
    """Fetch one page and convert each row.

    Raises:
        InputError: the cursor is not one of ours.
    """
    rows, after = await rows_of(fetch, cursor, limit)
    return Page[ItemT](items=[convert(row) for row in rows], next=after)
