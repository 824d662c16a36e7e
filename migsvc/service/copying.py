"""Writes one machine as a stream, to a file or to a socket: memory in rounds, then state, digests and the end.

The calls block and belong in a thread. Memory may be read while the vCPU runs: what it writes meanwhile is in the
dirty log, which must have been fetched before the pages of a round are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from migsvc.service.records import RoundStats
from migsvc.stream import (
    PAGE_BYTES,
    Config,
    Digest,
    MemoryDigest,
    StreamWriter,
    memory_batches,
    zero_batches,
)
from migsvc.stream.records import Sections
from migsvc.transport.pages import Pages, select

Sink = Callable[[bytes, bytes], None]
"""Takes one record: its head and the pages behind it, if it has any; blocks until both are written."""


class MachineCopier:
    """One machine on its way out. `check` is called between records and raises to stop."""

    def __init__(self, writer: StreamWriter, ram: memoryview, sink: Sink, check: Callable[[], None]) -> None:
        """Write with `writer` what is in `ram`, the whole backing, to `sink`."""
        self._writer = writer
        self._ram = ram
        self._sink = sink
        self._check = check
        self._digest = MemoryDigest(len(ram))
        self.rounds = 0
        self.bytes = 0

    def begin(self, config: Config) -> None:
        """Write file header and CONFIG."""
        self._put(self._writer.header())
        self._put(self._writer.config(config))

    def round(self, pages: Pages) -> RoundStats:
        """Write those pages of the backing and ROUND_END.

        `dirty_pages_after` of the result is 0: only the dirty log knows it.
        """
        begun_ns, bytes_before = time.monotonic_ns(), self.bytes
        selection = select(self._ram, pages)
        for first, count in (*selection.data, *selection.zero):
            self._digest.mark(first * PAGE_BYTES, count * PAGE_BYTES)
        for batch in memory_batches(self._writer.extents, selection.data):
            self._check()
            self._put(*self._writer.memory(batch, self._ram))
        for batch in zero_batches(self._writer.extents, selection.zero):
            self._check()
            self._put(self._writer.zero(batch))
        self._put(self._writer.round_end())
        self.rounds += 1
        return RoundStats(
            round=self.rounds,
            pages=selection.data_pages,
            zero_pages=selection.zero_pages,
            bytes=self.bytes - bytes_before,
            duration_ns=time.monotonic_ns() - begun_ns,
            dirty_pages_after=0,
        )

    def hash(self) -> None:
        """Hash what the rounds have marked, behind them: a chunk written again later is marked by its own round."""
        while self._digest.update(self._ram, max_chunks=16):
            self._check()

    def finish(self, vm: Sections, vcpus: Sequence[Sections]) -> Digest:
        """Write the state of the paused machine, DIGEST and END; return what was written as DIGEST."""
        self._digest.update(self._ram)
        self._put(self._writer.vm_state(vm))
        for index, sections in enumerate(vcpus):
            self._put(self._writer.vcpu_state(index, sections))
        self._put(self._writer.digest(self._digest.root()))
        self._put(self._writer.end())
        return self._writer.sent_digest

    def _put(self, head: bytes, pages: bytes = b"") -> None:
        self._sink(head, pages)
        self.bytes += len(head) + len(pages)
