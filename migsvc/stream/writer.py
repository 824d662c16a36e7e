"""The writer: values in, octets out. It keeps sequence numbers, round totals and the checksum over all headers.

    writer = StreamWriter(StreamHeader(stream_id, now_unix_ns, SCHEMA_VERSION))
    send(writer.header())
    send(writer.config(config))
    for batch in memory_batches(writer.extents, dirty_runs):     # runs of backing pages
        sock.sendmsg(writer.memory(batch, ram))                  # two buffers, at most 1 MiB of pages
    for batch in zero_batches(writer.extents, zero_runs):
        send(writer.zero(batch))
    send(writer.round_end())
    ...                                                          # more rounds; then, the machine paused:
    send(writer.vm_state(vm_sections))
    send(writer.vcpu_state(0, vcpu_sections))
    send(writer.digest(memory_digest.root()))
    send(writer.end())

Order is the caller's duty and checked by the reader; the writer refuses what it can see is wrong.
"""

from __future__ import annotations

from .bodies import (
    encode_config,
    encode_digest,
    encode_end,
    encode_round_end,
    encode_runs,
    encode_sections,
    encode_vcpu_header,
)
from .checksum import Buffer, crc32c
from .digest import StateDigest, root_digest
from .errors import StreamUsageError
from .framing import RecordHeader, pack_file_header
from .memory import Batch, Extents, gather
from .records import (
    MAX_SEQUENCE,
    RECORD_BY_TYPE,
    Config,
    Digest,
    End,
    RecordType,
    RoundEnd,
    Sections,
    StreamHeader,
)


class StreamWriter:
    """Writes one stream. Every method returns octets to be sent in the order of the calls."""

    def __init__(self, header: StreamHeader) -> None:
        """Take the file header; nothing is written yet."""
        self._header = header
        self._config: Config | None = None
        self._extents: Extents | None = None
        self._sequence = 0
        self._headers_crc = 0
        self._round = 1
        self._pages = 0
        self._zero_pages = 0
        self._memory_end = 0
        self._zero_end = 0
        self._state = StateDigest()
        self._sent_digest: Digest | None = None

    @property
    def extents(self) -> Extents:
        """The extents of the memory map, for `memory_batches` and `zero_batches`; known after `config`."""
        if self._extents is None:
            raise StreamUsageError("config() comes first")
        return self._extents

    @property
    def sent_digest(self) -> Digest:
        """The DIGEST record, after `digest`: a source compares its root with the one in Prepared."""
        if self._sent_digest is None:
            raise StreamUsageError("digest() comes first")
        return self._sent_digest

    def header(self) -> bytes:
        """Return the file header, 64 octets."""
        return pack_file_header(self._header)

    def config(self, config: Config) -> bytes:
        """Return CONFIG."""
        self._config, self._extents = config, Extents(config.memory)
        return self._record(RecordType.CONFIG, encode_config(config))

    def memory(self, batch: Batch, ram: Buffer) -> tuple[bytes, bytes]:
        """Return MEMORY for one batch as two buffers: header with run table, and the pages.

        The pages are copied once. A running vCPU may write to them at any time; checksum and wire must see the
        same octets. What it writes later is in the dirty log and travels in the next round.

        Raises:
            StreamUsageError: the batch does not lie behind the MEMORY batches before it in this round.
        """
        self._memory_end = _ascend(batch, self._memory_end)
        pages = gather(ram, batch.spans)
        table = encode_runs(batch.as_id, batch.runs)
        head = self._advance(RecordType.MEMORY, len(table) + len(pages), crc32c(pages, crc32c(table)))
        self._pages += batch.pages
        return head + table, pages

    def zero(self, batch: Batch) -> bytes:
        """Return ZERO for one batch.

        Raises:
            StreamUsageError: the batch does not lie behind the ZERO batches before it in this round.
        """
        self._zero_end = _ascend(batch, self._zero_end)
        self._zero_pages += batch.pages
        return self._record(RecordType.ZERO, encode_runs(batch.as_id, batch.runs))

    def round_end(self) -> bytes:
        """Return ROUND_END with the totals since the last one."""
        body = encode_round_end(RoundEnd(self._round, self._pages, self._zero_pages))
        self._round, self._pages, self._zero_pages = self._round + 1, 0, 0
        self._memory_end = self._zero_end = 0
        return self._record(RecordType.ROUND_END, body)

    def vm_state(self, sections: Sections) -> bytes:
        """Return VM_STATE.

        Raises:
            BodyError: the sections are not those of the schemas.
        """
        body = encode_sections("vm", sections, self._header.schema_version)
        self._state.add(sections)
        return self._record(RecordType.VM_STATE, body)

    def vcpu_state(self, index: int, sections: Sections) -> bytes:
        """Return VCPU_STATE of one vCPU.

        Raises:
            BodyError: the sections are not those of the schemas.
        """
        body = encode_vcpu_header(index) + encode_sections("vcpu", sections, self._header.schema_version)
        self._state.add(sections)
        return self._record(RecordType.VCPU_STATE, body)

    def digest(self, memory_digest: bytes) -> bytes:
        """Return DIGEST; `memory_digest` is `MemoryDigest.root()` of the paused machine."""
        if self._config is None:
            raise StreamUsageError("config() comes first")
        state = self._state.value()
        self._sent_digest = Digest(state, memory_digest, root_digest(self._config.memory, state, memory_digest))
        return self._record(RecordType.DIGEST, encode_digest(self._sent_digest))

    def end(self) -> bytes:
        """Return END."""
        return self._record(RecordType.END, encode_end(End(self._sequence, self._headers_crc)))

    def _record(self, number: RecordType, body: bytes) -> bytes:
        return self._advance(number, len(body), crc32c(body)) + body

    def _advance(self, number: RecordType, body_length: int, body_crc: int) -> bytes:
        spec = RECORD_BY_TYPE[number]
        if not spec.min_body <= body_length <= spec.max_body:
            raise StreamUsageError(f"{spec.name} of {body_length} octets; the limit is {spec.max_body}")
        if self._sequence > MAX_SEQUENCE:
            raise StreamUsageError("the stream has no sequence number left; end it")
        head = RecordHeader(number, self._sequence, body_length, body_crc).pack()
        self._sequence += 1
        self._headers_crc = crc32c(head, self._headers_crc)
        return head


def _ascend(batch: Batch, end: int) -> int:
    for offset, size in batch.spans:
        if offset < end:
            raise StreamUsageError(f"a run at {offset:#x} of the backing comes after {end:#x} in one round")
        end = offset + size
    return end
