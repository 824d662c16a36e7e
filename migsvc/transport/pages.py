"""Pages of guest RAM as runs: out of a dirty bitmap, and split into pages of zeros and others. No Python per page.

A run is (first page, page count) of the backing. Source of the bitmap's form: Linux api.rst 4.8 KVM_GET_DIRTY_LOG, bit
n of byte n // 8 is page n.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

PAGE_BYTES = 4096
SCAN_BYTES = 4 << 20
"""Memory scanned at once for zeros: stays in the cache, and the flags beside it are small."""

Runs = list[tuple[int, int]]


def bitmap_runs(bitmap: bytes) -> Runs:
    """Return the runs of set bits, ascending."""
    flags = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little").astype(bool)
    return _runs(flags, 0)


def count_pages(runs: Iterable[tuple[int, int]]) -> int:
    """Return how many pages the runs hold."""
    return sum(count for _, count in runs)


def merge_runs(runs: Iterable[tuple[int, int]]) -> Runs:
    """Return runs in ascending order without overlaps."""
    merged: Runs = []
    for first, count in sorted(runs):
        if merged and first <= sum(merged[-1]):
            start, length = merged[-1]
            merged[-1] = (start, max(length, first + count - start))
        else:
            merged.append((first, count))
    return merged


def split_zero(ram: memoryview, runs: Iterable[tuple[int, int]]) -> tuple[Runs, Runs]:
    """Return (runs of pages with data, runs of pages of zeros), both ascending if `runs` are."""
    data: Runs = []
    zero: Runs = []
    words = np.frombuffer(ram, np.uint64).reshape(-1, PAGE_BYTES // 8)
    step = SCAN_BYTES // PAGE_BYTES
    for first, count in runs:
        for at in range(first, first + count, step):
            piece = words[at : min(at + step, first + count)]
            used = piece.any(axis=1)
            data += _runs(used, at)
            zero += _runs(~used, at)
    return data, zero


def _runs(flags: npt.NDArray[np.bool_], base: int) -> Runs:
    """Return the runs of true flags, counted from `base`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    pairs = edges.reshape(-1, 2)
    return [(base + int(start), int(end - start)) for start, end in pairs]
