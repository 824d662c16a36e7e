"""Whole machines: a paused machine as a stream, and a stream applied to guest RAM. Still without I/O.

    for piece in write_machine(header, config, ram, runs, vm_sections, vcpu_sections):
        file.write(piece)

    records = read_machine(file.readinto, allocate)              # pull: pages go straight into guest RAM
    loader = MachineLoader(allocate); loader.feed(chunk); ...; loader.close()      # push: octets as they come

`allocate(config)` returns the backing: a zeroed, writable buffer of `config.memory.ram_bytes` octets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from .checksum import Buffer
from .digest import MemoryDigest
from .errors import StreamUsageError
from .memory import clear, memory_batches
from .reader import MemoryBody, Need, StreamReader
from .records import (
    Config,
    Digest,
    Memory,
    Record,
    Sections,
    StreamFlag,
    StreamHeader,
    Zero,
)
from .writer import StreamWriter

Allocate = Callable[[Config], Buffer]
"""Returns the zeroed, writable backing of a machine."""


def write_machine(
    header: StreamHeader,
    config: Config,
    ram: Buffer,
    runs: Iterable[tuple[int, int]],
    vm: Sections,
    vcpus: Sequence[Sections],
    memory_digest: bytes | None = None,
) -> Iterator[bytes]:
    """Yield the stream of a paused machine, each page at most once and in order (flag SNAPSHOT).

    `runs` are (first page, page count) of the backing, ascending; pages outside them must hold zeros.
    `memory_digest` is computed from `ram` unless it is given.

    Raises:
        StreamUsageError: runs do not ascend.
        BodyError: the sections are not those of the schemas.
    """
    writer = StreamWriter(replace(header, flags=header.flags | StreamFlag.SNAPSHOT))
    yield writer.header()
    yield writer.config(config)
    for batch in memory_batches(writer.extents, runs):
        yield from writer.memory(batch, ram)
    yield writer.round_end()
    yield writer.vm_state(vm)
    for index, sections in enumerate(vcpus):
        yield writer.vcpu_state(index, sections)
    if memory_digest is None:
        digest = MemoryDigest(config.memory.ram_bytes)
        digest.update(ram)
        memory_digest = digest.root()
    yield writer.digest(memory_digest)
    yield writer.end()


class MachineMemory:
    """The backing that a stream is applied to, with its digest kept up to date.

    A driver gives it every record; it allocates at Config, clears at Zero, and compares digests at Digest.
    """

    def __init__(self, reader: StreamReader, allocate: Allocate) -> None:
        """Take the reader whose records will be taken."""
        self._reader = reader
        self._allocate = allocate
        self.ram: Buffer = b""
        self.digest = MemoryDigest(0)

    def take(self, record: Record) -> None:
        """Apply one record.

        Raises:
            StreamError: STR-072, the memory as applied does not have the digest in the stream.
            StreamUsageError: the allocated backing has the wrong size.
        """
        if isinstance(record, Config):
            self.ram = memoryview(self._allocate(record)).cast("B")
            if len(self.ram) != record.memory.ram_bytes or self.ram.readonly:
                raise StreamUsageError(f"allocate() must return {record.memory.ram_bytes} writable octets")
            self.digest = MemoryDigest(record.memory.ram_bytes, zeroed=True)
        elif isinstance(record, Memory):
            self.digest.mark_spans(record.spans)
        elif isinstance(record, Zero):
            clear(self.ram, record.spans)
            self.digest.mark_spans(record.spans)
        elif isinstance(record, Digest):
            self.digest.update(self.ram)
            self._reader.require_memory(self.digest.root())


def read_machine(readinto: Callable[[memoryview], int], allocate: Allocate) -> Iterator[Record]:
    """Yield the records of a stream, its memory applied and checked; for files.

    `readinto` fills a buffer as far as it can and returns how many octets it wrote, 0 at the end of the input.

    Raises:
        StreamError: the input breaks a rule of FORMAT.md; the allocated memory must be thrown away.
    """
    reader = StreamReader()
    memory = MachineMemory(reader, allocate)
    while (want := reader.expect()) is not None:
        if isinstance(want, MemoryBody):
            _read_pages(readinto, want, reader, memory.ram)
        else:
            reader.fill(_read_exactly(readinto, want.size, reader))
        for record in reader.records():
            memory.take(record)
            yield record
    reader.trailing(readinto(memoryview(bytearray(1))))


def _read_pages(readinto: Callable[[memoryview], int], want: MemoryBody, reader: StreamReader, ram: Buffer) -> None:
    """Read one run in place; many short runs at once, through a buffer, for a call a page would be slower."""
    if len(want.spans) > 1:
        reader.put(ram, _read_exactly(readinto, want.size, reader))
        return
    offset, size = want.spans[0]
    count = readinto(memoryview(ram)[offset : offset + size])
    if count == 0:
        reader.end_of_input()
    reader.filled(ram, count)


def _read_exactly(readinto: Callable[[memoryview], int], size: int, reader: StreamReader) -> bytes:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = readinto(view[at:])
        if count == 0:
            reader.end_of_input()
        at += count
    return bytes(data)


class MachineLoader:
    """The push form: octets in pieces of any size, records out. Holds at most one record body that is not memory."""

    def __init__(self, allocate: Allocate) -> None:
        """Begin before the first octet."""
        self.reader = StreamReader()
        self.memory = MachineMemory(self.reader, allocate)
        self._held = bytearray()

    def feed(self, data: Buffer) -> list[Record]:
        """Take the next octets; return the records that they complete.

        Raises:
            StreamError: the input breaks a rule of FORMAT.md; the allocated memory must be thrown away.
        """
        view, made = memoryview(data).cast("B"), []
        while len(view):
            want = self.reader.expect()
            if want is None:
                self.reader.trailing(len(view))
            elif isinstance(want, Need):
                view = self._fill(want, view)
            else:
                view = self._put(want, view)
            for record in self.reader.records():
                self.memory.take(record)
                made.append(record)
        return made

    def close(self) -> None:
        """Tell that no more octets come.

        Raises:
            StreamError: STR-016, the stream is cut off.
        """
        self.reader.end_of_input()

    def _fill(self, want: Need, view: memoryview) -> memoryview:
        take = want.size - len(self._held)
        self._held += view[:take]
        if len(self._held) == want.size:
            whole, self._held = bytes(self._held), bytearray()
            self.reader.fill(whole)
        return view[take:]

    def _put(self, want: MemoryBody, view: memoryview) -> memoryview:
        self.reader.put(self.memory.ram, view[: want.size])
        return view[want.size :]
