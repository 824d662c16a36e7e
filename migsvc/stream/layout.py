"""What a reader knows between two records: the order of records, the totals, and what CONFIG said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from . import bodies
from .bodies import BodyError
from .checksum import crc32c
from .digest import StateDigest, root_digest
from .memory import Extents
from .records import (
    MAX_ROUNDS,
    Config,
    Digest,
    End,
    Memory,
    Record,
    RecordType,
    RoundEnd,
    Span,
    StreamFlag,
    StreamHeader,
    VcpuSections,
    VmSections,
    Zero,
)

T = RecordType

FOLLOWERS: Mapping[RecordType | None, tuple[RecordType, ...]] = {
    None: (T.CONFIG,),
    T.CONFIG: (T.MEMORY, T.ZERO, T.ROUND_END),
    T.MEMORY: (T.MEMORY, T.ZERO, T.ROUND_END),
    T.ZERO: (T.MEMORY, T.ZERO, T.ROUND_END),
    T.ROUND_END: (T.MEMORY, T.ZERO, T.ROUND_END, T.VM_STATE),
    T.VM_STATE: (T.VCPU_STATE,),
    T.VCPU_STATE: (T.VCPU_STATE, T.DIGEST),
    T.DIGEST: (T.END,),
    T.END: (),
}
"""Record type -> what may follow it; None is the start. The whole layout of a stream."""


class Layout:
    """The state of a stream between records. Methods raise BodyError with the rule that is broken."""

    def __init__(self, header: StreamHeader) -> None:
        """Begin after the file header."""
        self.header = header
        self.last: RecordType | None = None
        self.sequence = 0
        self.config: Config | None = None
        self.digest: Digest | None = None
        self._extents: Extents | None = None
        self._headers_crc = 0
        self._round = 1
        self._pages = 0
        self._zero_pages = 0
        self._vcpus = 0
        self._state = StateDigest()
        self._memory_end = 0
        self._zero_end = 0

    @property
    def ended(self) -> bool:
        """Whether END has been taken."""
        return self.last is T.END

    def require_turn(self, number: RecordType | None) -> None:
        """Require that a record of this type, or an unknown optional one (None), may come now: STR-020, STR-021."""
        name = number.name if number else "an optional record"
        if self.last is None and number is not T.CONFIG:
            _fail("STR-020", f"The first record is {name}, not CONFIG")
        if number is not None and number not in FOLLOWERS[self.last]:
            _fail("STR-021", f"{name} must not follow {self.last.name if self.last else 'the file header'}")

    def extents(self) -> Extents:
        """Return the extents of CONFIG's memory map."""
        if self._extents is None:
            _fail("STR-020", "CONFIG has not been read")
        return self._extents

    def require_ascending(self, spans: tuple[Span, ...]) -> None:
        """Require that the spans of a MEMORY record ascend from those before it in the round: STR-053."""
        self._memory_end = _ascend(spans, self._memory_end)

    def decode(self, number: RecordType, raw: bytes) -> Record:
        """Return the record of a whole body, checked against what came before."""
        return DECODERS[number](self, raw)

    def took(self, header: bytes, record: Record) -> None:
        """Note a complete record and the octets of its header."""
        if isinstance(record, Memory):
            self._pages += record.pages
            self.last = T.MEMORY
        self.sequence += 1
        self._headers_crc = crc32c(header, self._headers_crc)

    def _config(self, raw: bytes) -> Config:
        config = bodies.decode_config(raw)
        if config.schema_version != self.header.schema_version:
            _fail("STR-043", f"Schema version {config.schema_version} differs from the file header's")
        self.config, self._extents, self.last = config, Extents(config.memory), T.CONFIG
        return config

    def _zero(self, raw: bytes) -> Zero:
        if self.header.flags & StreamFlag.SNAPSHOT:
            _fail("STR-054", "A stream flagged SNAPSHOT holds no ZERO record")
        head, table = raw[: bodies.RUNS_HEADER.size], raw[bodies.RUNS_HEADER.size :]
        as_id, _ = bodies.decode_runs_header(head, len(raw), memory=False)
        record = Zero(as_id, *bodies.decode_runs(table, as_id, self.extents(), None))
        self._zero_end = _ascend(record.spans, self._zero_end)
        self._zero_pages += record.pages
        self.last = T.ZERO
        return record

    def _round_end(self, raw: bytes) -> RoundEnd:
        record = bodies.decode_round_end(raw)
        if record.round != self._round or record.round > MAX_ROUNDS:
            _fail("STR-055", f"Round {record.round} ends where round {self._round} was under way")
        if record.round > 1 and self.header.flags & StreamFlag.SNAPSHOT:
            _fail("STR-054", "A stream flagged SNAPSHOT has one round")
        if (record.pages, record.zero_pages) != (self._pages, self._zero_pages):
            _fail(
                "STR-056",
                f"The round held {self._pages} pages and {self._zero_pages} zero pages, "
                f"ROUND_END says {record.pages} and {record.zero_pages}",
            )
        self._round, self._pages, self._zero_pages, self.last = self._round + 1, 0, 0, T.ROUND_END
        self._memory_end = self._zero_end = 0
        return record

    def _vm_state(self, raw: bytes) -> VmSections:
        sections = bodies.decode_sections("vm", raw, self.header.schema_version)
        self._state.add(sections)
        self.last = T.VM_STATE
        return VmSections(sections)

    def _vcpu_state(self, raw: bytes) -> VcpuSections:
        index = bodies.decode_vcpu_header(raw)
        if index != self._vcpus or index >= self._require_config().vcpus:
            _fail("STR-022", f"vCPU {index} where vCPU {self._vcpus} of {self._require_config().vcpus} was due")
        sections = bodies.decode_sections("vcpu", raw[bodies.VCPU_HEADER.size :], self.header.schema_version)
        self._state.add(sections)
        self._vcpus, self.last = self._vcpus + 1, T.VCPU_STATE
        return VcpuSections(index, sections)

    def _digest(self, raw: bytes) -> Digest:
        config, record = self._require_config(), bodies.decode_digest(raw)
        if self._vcpus != config.vcpus:
            _fail("STR-022", f"{self._vcpus} VCPU_STATE records for {config.vcpus} vCPUs")
        if record.algorithm != config.digest_algorithm:
            _fail("STR-070", f"Digest algorithm {record.algorithm} is not CONFIG's {config.digest_algorithm}")
        if record.state != self._state.value():
            _fail("STR-071", "The sections do not have the state digest in DIGEST")
        if record.root != root_digest(config.memory, record.state, record.memory):
            _fail("STR-073", "The root digest is not that of the map, the state and the memory digest")
        self.digest, self.last = record, T.DIGEST
        return record

    def _end(self, raw: bytes) -> End:
        record = bodies.decode_end(raw)
        if record.record_count != self.sequence:
            _fail("STR-080", f"END counts {record.record_count} records, there were {self.sequence}")
        if record.headers_crc32c != self._headers_crc:
            _fail("STR-081", "The CRC over the record headers does not match")
        self.last = T.END
        return record

    def _require_config(self) -> Config:
        if self.config is None:
            _fail("STR-020", "CONFIG has not been read")
        return self.config


def _ascend(spans: tuple[Span, ...], end: int) -> int:
    """Require that spans ascend from `end` on without overlap; return their end."""
    for offset, size in spans:
        if offset < end:
            _fail("STR-053", f"A run at {offset:#x} of the backing comes after {end:#x} in one round")
        end = offset + size
    return end


def _fail(rule: str, detail: str) -> NoReturn:
    raise BodyError(rule, detail)


DECODERS: Mapping[RecordType, Callable[[Layout, bytes], Record]] = {
    T.CONFIG: Layout._config,
    T.ZERO: Layout._zero,
    T.ROUND_END: Layout._round_end,
    T.VM_STATE: Layout._vm_state,
    T.VCPU_STATE: Layout._vcpu_state,
    T.DIGEST: Layout._digest,
    T.END: Layout._end,
}
"""Record type -> decoder of a whole body. MEMORY has none: its pages never pass through the reader."""
