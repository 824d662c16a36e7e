"""Guest pages on their way between the backing and the stream: extents, and runs cut into records.

The backing is the buffer that holds all guest RAM. A stream names pages by (address space, gpa); every page has one
such name, the one that `schemas.MemoryMap.extents` gives, so that aliases travel once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schemas.memory import MemoryMap

from .checksum import Buffer
from .records import MAX_PAGES_PER_RECORD, MAX_RUNS_PER_MEMORY, MAX_RUNS_PER_ZERO, PAGE_BYTES, Run, Span

ZERO_MIB = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of the backing and its name. All in octets."""

    as_id: int
    gpa: int
    offset: int
    size: int


class Extents:
    """The canonical pieces of a memory map, found by name or by offset."""

    def __init__(self, memory: MemoryMap) -> None:
        """Take the pieces of `memory`."""
        self.ram_bytes = memory.ram_bytes
        self.pieces = tuple(sorted((Extent(*piece) for piece in memory.extents()), key=lambda e: e.offset))
        self._offsets = [e.offset for e in self.pieces]
        self._by_space: dict[int, tuple[list[int], list[Extent]]] = {}
        for extent in sorted(self.pieces, key=lambda e: (e.as_id, e.gpa)):
            starts, extents = self._by_space.setdefault(extent.as_id, ([], []))
            starts.append(extent.gpa)
            extents.append(extent)

    @property
    def covered_bytes(self) -> int:
        """Octets of the backing that some extent names."""
        return sum(e.size for e in self.pieces)

    def span(self, as_id: int, run: Run) -> Span | None:
        """Return the span of the backing behind a run, or None unless it is aligned and inside one extent."""
        gpa, count = run
        size = count * PAGE_BYTES
        starts, extents = self._by_space.get(as_id, ([], []))
        at = bisect_right(starts, gpa) - 1
        if count < 1 or gpa % PAGE_BYTES or at < 0 or gpa + size > extents[at].gpa + extents[at].size:
            return None
        return extents[at].offset + gpa - extents[at].gpa, size

    def name(self, first_page: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield (as_id, gpa, pages) for `count` pages of the backing from `first_page` on, cut at extents."""
        at, end = first_page * PAGE_BYTES, (first_page + count) * PAGE_BYTES
        while at < end:
            index = bisect_right(self._offsets, at) - 1
            extent = self.pieces[index] if index >= 0 else None
            if extent is None or at >= extent.offset + extent.size:
                raise ValueError(f"offset {at:#x} of the backing belongs to no memory slot")
            stop = min(end, extent.offset + extent.size)
            yield extent.as_id, extent.gpa + at - extent.offset, (stop - at) // PAGE_BYTES
            at = stop


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one MEMORY or ZERO record: runs of one address space, and where they lie in the backing."""

    as_id: int
    runs: tuple[Run, ...]
    spans: tuple[Span, ...]

    @property
    def pages(self) -> int:
        """How many pages the batch holds."""
        return sum(count for _, count in self.runs)


def memory_batches(extents: Extents, runs: Iterable[tuple[int, int]]) -> Iterator[Batch]:
    """Cut runs of backing pages into MEMORY-sized batches: at most 256 pages, at most 256 runs each.

    `runs` are (first page, page count) of the backing and must ascend within a round [STR-053].
    """
    return _batches(extents, runs, MAX_RUNS_PER_MEMORY, MAX_PAGES_PER_RECORD)


def zero_batches(extents: Extents, runs: Iterable[tuple[int, int]]) -> Iterator[Batch]:
    """Cut runs of backing pages into ZERO-sized batches: at most 4096 runs each."""
    return _batches(extents, runs, MAX_RUNS_PER_ZERO, 1 << 62)


def _batches(extents: Extents, runs: Iterable[tuple[int, int]], max_runs: int, max_pages: int) -> Iterator[Batch]:
    as_id, pages = -1, 0
    made: list[Run] = []
    spans: list[Span] = []
    for first, count in runs:
        offset = int(first) * PAGE_BYTES
        for space, gpa, left in extents.name(int(first), int(count)):
            while left:
                if made and (space != as_id or pages == max_pages or len(made) == max_runs):
                    yield Batch(as_id, tuple(made), tuple(spans))
                    made, spans, pages = [], [], 0
                take = min(left, max_pages - pages)
                made.append((gpa, take))
                spans.append((offset, take * PAGE_BYTES))
                as_id, pages, left = space, pages + take, left - take
                gpa, offset = gpa + take * PAGE_BYTES, offset + take * PAGE_BYTES
    if made:
        yield Batch(as_id, tuple(made), tuple(spans))


def gather(ram: Buffer, spans: Sequence[Span]) -> bytes:
    """Copy spans of the backing into one `bytes`: a stable picture, even while a vCPU goes on writing."""
    view = memoryview(ram)
    return b"".join([view[offset : offset + size] for offset, size in spans])


def clear(ram: Buffer, spans: Sequence[Span]) -> None:
    """Write zeros over spans of the backing."""
    view = memoryview(ram).cast("B")
    for offset, size in spans:
        for at in range(offset, offset + size, len(ZERO_MIB)):
            piece = min(len(ZERO_MIB), offset + size - at)
            view[at : at + piece] = ZERO_MIB[:piece]
