"""The reader: octets in, records out, every rule of FORMAT.md checked on the way.

Pull form, for bulk: the reader says what it wants next and the driver gets exactly that. Pages go from the socket or
the file straight into guest RAM::

    reader, ram = StreamReader(), memoryview(b"")
    while (want := reader.expect()) is not None:
        if isinstance(want, MemoryBody):
            count = sock.recvmsg_into(want.buffers(ram))[0]      # any number of octets up to want.size
            if count == 0:
                reader.end_of_input()                            # raises StreamError
            reader.filled(ram, count)
        else:
            reader.fill(receive_exactly(sock, want.size))
        for record in reader.records():
            if isinstance(record, Config):
                ram = memoryview(allocate_zeroed(record.memory.ram_bytes))
            elif isinstance(record, Zero):
                clear(ram, record.spans)

RAM begins as zeros. Pages are in place before their checksum is known: whoever applies a stream throws the whole
machine away on StreamError. `migsvc.stream.machine` holds such drivers for files and for pushed octets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from . import bodies
from .bodies import BodyError
from .checksum import Buffer, crc32c
from .errors import RecordError, StreamError, StreamUsageError
from .framing import RecordHeader, parse_file_header
from .layout import Layout
from .memory import gather
from .records import (
    CONTROL_BIT,
    FILE_HEADER_BYTES,
    MAX_OPTIONAL_BODY,
    OPTIONAL_BIT,
    PAGE_BYTES,
    RECORD_BY_TYPE,
    RECORD_HEADER_BYTES,
    Config,
    Digest,
    Memory,
    Record,
    RecordType,
    Skipped,
    Span,
    type_name,
)

SKIP_PIECE_BYTES = 64 << 10
"""Optional records that the reader does not know pass through in pieces of this size."""


@dataclass(frozen=True, slots=True)
class Need:
    """Exactly `size` octets are wanted, given to `fill`."""

    size: int


@dataclass(frozen=True, slots=True)
class MemoryBody:
    """Up to `size` octets are wanted at `spans` of the backing, in order; then `filled` is told how many came."""

    spans: tuple[Span, ...]
    size: int

    def buffers(self, ram: Buffer) -> list[memoryview]:
        """Return the pieces of guest RAM to receive into, in order (at most 256, below IOV_MAX)."""
        view = memoryview(ram)
        return [view[offset : offset + size] for offset, size in self.spans]


Want = Need | MemoryBody


class StreamReader:
    """Reads one stream."""

    def __init__(self) -> None:
        """Begin before the first octet."""
        self.offset = 0
        self._layout: Layout | None = None
        self._records: deque[Record] = deque()
        self._error: StreamError | None = None
        self._boundary = True
        self._current = (0, "?")
        self._machine = self._run()
        self._want: Want | None = next(self._machine)

    @property
    def at_boundary(self) -> bool:
        """Whether a record header (or the file header) comes next."""
        return self._boundary

    @property
    def ended(self) -> bool:
        """Whether END has been read."""
        return self._layout is not None and self._layout.ended and self._error is None

    @property
    def config(self) -> Config | None:
        """CONFIG, once it has been read."""
        return self._layout.config if self._layout else None

    @property
    def digest(self) -> Digest | None:
        """DIGEST, once it has been read."""
        return self._layout.digest if self._layout else None

    def expect(self) -> Want | None:
        """Return what is wanted next; None after END.

        Raises:
            StreamError: the stream was found to be wrong before; the same error again.
        """
        if self._error is not None:
            raise self._error
        return self._want

    def fill(self, data: Buffer) -> None:
        """Give the octets of a Need.

        Raises:
            StreamError: they break a rule.
            StreamUsageError: it is not their turn, or they are more or fewer than wanted.
        """
        want = self.expect()
        if not isinstance(want, Need) or len(data) != want.size:
            raise StreamUsageError(f"fill() of {len(data)} octets, but the reader wants {want}")
        self._advance(bytes(data))

    def filled(self, ram: Buffer, count: int) -> None:
        """Tell that the first `count` octets of a MemoryBody are in `ram`, the whole backing.

        Raises:
            StreamError: they break a rule.
            StreamUsageError: it is not their turn, or they are more than wanted.
        """
        want = self.expect()
        if not isinstance(want, MemoryBody) or not 1 <= count <= want.size:
            raise StreamUsageError(f"filled() of {count} octets, but the reader wants {want}")
        self._advance(gather(ram, split_spans(want.spans, count)[0]))

    def put(self, ram: Buffer, data: Buffer) -> None:
        """Copy octets of a MemoryBody to their places in `ram`, the whole backing; for drivers that hold them already.

        Raises:
            StreamError: they break a rule.
            StreamUsageError: it is not their turn, or they are more than wanted.
        """
        want, source = self.expect(), memoryview(data).cast("B")
        if not isinstance(want, MemoryBody) or not 1 <= len(source) <= want.size:
            raise StreamUsageError(f"put() of {len(source)} octets, but the reader wants {want}")
        target, at = memoryview(ram).cast("B"), 0
        for offset, size in split_spans(want.spans, len(source))[0]:
            target[offset : offset + size] = source[at : at + size]
            at += size
        self._advance(bytes(source))

    def end_of_input(self) -> None:
        """Tell that no more octets come.

        Raises:
            StreamError: STR-016, the stream is cut off.
        """
        if self.expect() is not None:
            self._stop(StreamError("STR-016", f"The input ends after {self.offset} octets", offset=self.offset))

    def trailing(self, count: int) -> None:
        """Tell that `count` octets follow END in a file.

        Raises:
            StreamError: STR-017, unless `count` is 0.
        """
        if count:
            self._stop(StreamError("STR-017", f"{count} or more octets follow END", offset=self.offset))

    def records(self) -> Iterator[Record]:
        """Yield the records that are complete, each once."""
        while self._records:
            yield self._records.popleft()

    def require_memory(self, memory_digest: bytes) -> None:
        """Compare the digest of the memory as applied, `MemoryDigest.root()`, with the one in DIGEST.

        Raises:
            StreamError: STR-072, they differ.
            StreamUsageError: DIGEST has not been read.
        """
        if self.digest is None:
            raise StreamUsageError("DIGEST has not been read")
        if memory_digest != self.digest.memory:
            self._stop(
                StreamError("STR-072", "The memory as applied does not have the digest in DIGEST", offset=self.offset)
            )

    def _stop(self, error: StreamError) -> None:
        self._error = error
        raise error

    def _advance(self, data: bytes) -> None:
        try:
            self._want = self._machine.send(data)
        except StopIteration:
            self._want = None
        except StreamError as error:
            self._stop(error)
        self.offset += len(data)

    def _fail(self, rule: str, detail: str) -> RecordError:
        sequence, name = self._current
        return RecordError(rule, detail, offset=self.offset, sequence=sequence, record=name)

    def _run(self) -> Generator[Want, bytes, None]:
        header = parse_file_header((yield Need(FILE_HEADER_BYTES)))
        self._layout = layout = Layout(header)
        self._records.append(header)
        while not layout.ended:
            self._boundary = True
            raw = yield Need(RECORD_HEADER_BYTES)
            self._boundary = False
            found = RecordHeader.parse(raw, self.offset)
            self._current = (found.sequence, type_name(found.type))
            try:
                self._check_header(found, layout)
                record = yield from self._body(found, layout)
            except BodyError as error:
                raise self._fail(error.rule, error.detail) from error
            layout.took(raw, record)
            self._records.append(record)
        self._boundary = True

    def _check_header(self, header: RecordHeader, layout: Layout) -> None:
        if header.sequence != layout.sequence:
            raise self._fail("STR-011", f"Sequence number {header.sequence} where {layout.sequence} was due")
        spec = RECORD_BY_TYPE.get(header.type)
        if spec is None and (not header.type & OPTIONAL_BIT or header.type & CONTROL_BIT):
            raise self._fail("STR-012", f"Record type {header.type:#010x} is not known and not optional")
        least, most = (spec.min_body, spec.max_body) if spec else (0, MAX_OPTIONAL_BODY)
        if not least <= header.body_length <= most:
            raise self._fail("STR-014", f"A body of {header.body_length} octets is not within {least} to {most}")
        layout.require_turn(spec.type if spec else None)

    def _body(self, header: RecordHeader, layout: Layout) -> Generator[Want, bytes, Record]:
        if header.type not in RECORD_BY_TYPE:
            return (yield from self._skip(header))
        if header.type == RecordType.MEMORY:
            return (yield from self._memory(header, layout))
        raw = yield Need(header.body_length)
        self._check_crc(header, crc32c(raw))
        return layout.decode(RecordType(header.type), raw)

    def _check_crc(self, header: RecordHeader, crc: int) -> None:
        if crc != header.body_crc32c:
            raise self._fail(
                "STR-015", f"The CRC of the body is {crc:#010x}, its header says {header.body_crc32c:#010x}"
            )

    def _skip(self, header: RecordHeader) -> Generator[Want, bytes, Record]:
        crc, left = 0, header.body_length
        while left:
            piece = yield Need(min(left, SKIP_PIECE_BYTES))
            crc, left = crc32c(piece, crc), left - len(piece)
        self._check_crc(header, crc)
        return Skipped(header.type, header.body_length)

    def _memory(self, header: RecordHeader, layout: Layout) -> Generator[Want, bytes, Record]:
        head = yield Need(bodies.RUNS_HEADER.size)
        as_id, count = bodies.decode_runs_header(head, header.body_length, memory=True)
        table = yield Need(bodies.RUN.size * count)
        crc = crc32c(table, crc32c(head))
        left = header.body_length - len(head) - len(table)
        pages = left // PAGE_BYTES if left % PAGE_BYTES == 0 else -1
        runs, spans = bodies.decode_runs(table, as_id, layout.extents(), pages)
        layout.require_ascending(spans)
        todo = spans
        while left:
            data = yield MemoryBody(todo, left)
            crc, left = crc32c(data, crc), left - len(data)
            todo = split_spans(todo, len(data))[1]
        self._check_crc(header, crc)
        return Memory(as_id, runs, spans)


def split_spans(spans: tuple[Span, ...], count: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Cut spans after `count` octets; return what lies before the cut and what lies behind it."""
    for index, (offset, size) in enumerate(spans):
        if count < size:
            before = (*spans[:index], (offset, count)) if count else spans[:index]
            return before, ((offset + count, size - count), *spans[index + 1 :])
        count -= size
    return spans, ()
