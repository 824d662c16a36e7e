"""Which pages travel, as runs: from a dirty bitmap, without those that hold only zeros. No Python work per page.

A page is a number: its offset in the backing / 4096. A run is (first page, page count); runs ascend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from migsvc.stream.records import PAGE_BYTES
from schemas.memory import MemoryMap

Buffer = bytes | bytearray | memoryview
Pages = NDArray[np.int64]
"""Page numbers, ascending."""

Runs = list[tuple[int, int]]
WORDS = PAGE_BYTES // 8
BLOCK_PAGES = 4096
"""Pages looked at together: 16 MiB, so that a scattered block, which is copied, stays small."""

PROBES = (0, WORDS // 2 + 5, WORDS - 1)
"""Words that are looked at first: a page in use rarely holds zero in all three."""


class Selection(NamedTuple):
    """The pages of one round: those that travel with their contents, and those that hold only zeros."""

    data: Runs
    zero: Runs
    data_pages: int
    zero_pages: int


def all_pages(memory: MemoryMap) -> Pages:
    """Return every page of the backing that some slot shows."""
    return np.flatnonzero(covered(memory)).astype(np.int64)


def covered(memory: MemoryMap) -> NDArray[np.bool_]:
    """Return, per page of the backing, whether some slot shows it; no other page is part of the machine."""
    mask = np.zeros(memory.ram_bytes // PAGE_BYTES, np.bool_)
    for extent in memory.extents():
        first = extent.backing_offset_bytes // PAGE_BYTES
        mask[first : first + extent.size_bytes // PAGE_BYTES] = True
    return mask


def pages_of_bitmap(bitmap: Buffer, memory: MemoryMap) -> Pages:
    """Return the pages whose bit is set (bit n of byte n // 8 = page n) and that some slot shows.

    Raises:
        ValueError: the bitmap is shorter than the backing.
    """
    count = memory.ram_bytes // PAGE_BYTES
    octets = np.frombuffer(bitmap, np.uint8)
    if octets.size * 8 < count:
        raise ValueError(f"a dirty bitmap of {octets.size} bytes for {count} pages")
    bits = np.unpackbits(octets, count=count, bitorder="little").view(np.bool_)
    return np.flatnonzero(bits & covered(memory)).astype(np.int64)


def runs_of(pages: Pages) -> Runs:
    """Return ascending pages as runs."""
    if not pages.size:
        return []
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    starts = np.concatenate(([0], breaks))
    lengths = np.diff(np.concatenate((starts, [pages.size])))
    return list(zip(pages[starts].tolist(), lengths.tolist(), strict=True))


def are_zero(ram: Buffer, pages: Pages) -> NDArray[np.bool_]:
    """Return, per page, whether it holds only zeros now; one that a vCPU writes meanwhile is dirty again anyway."""
    rows = np.frombuffer(ram, np.uint64).reshape(-1, WORDS)
    found = np.zeros(pages.size, np.bool_)
    for at in range(0, pages.size, BLOCK_PAGES):
        block = pages[at : at + BLOCK_PAGES]
        found[at : at + block.size] = _block_is_zero(rows, block)
    return found


def _block_is_zero(rows: NDArray[np.uint64], block: Pages) -> NDArray[np.bool_]:
    first, last = int(block[0]), int(block[-1])
    contiguous = last - first + 1 == block.size
    here = slice(first, last + 1) if contiguous else block
    maybe = np.zeros(block.size, np.uint64)
    for word in PROBES:
        maybe |= rows[here, word]
    empty: NDArray[np.bool_] = maybe == 0
    candidates = int(np.count_nonzero(empty))
    if candidates == block.size and contiguous:
        empty = np.bitwise_or.reduce(rows[here], axis=1) == 0
    elif candidates:
        empty[empty] = np.bitwise_or.reduce(rows[block[empty]], axis=1) == 0
    return empty


def select(ram: Buffer, pages: Pages) -> Selection:
    """Split pages into runs with contents and runs of zeros."""
    zero = are_zero(ram, pages)
    zero_pages = int(np.count_nonzero(zero))
    return Selection(runs_of(pages[~zero]), runs_of(pages[zero]), int(pages.size) - zero_pages, zero_pages)
