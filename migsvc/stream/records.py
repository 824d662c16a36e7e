"""The record table of the stream format, its limits, and the records as values.

This is the one place that lists the record types: the reader, the writer, the verifier, FORMAT.md's table and
`describe` all follow it. The reader and the verifier share nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Literal

from schemas.memory import MemoryMap

MAGIC = b"\x8bMIGSVC\n"
"""First octets of every stream: not ASCII, not UTF-8, and broken by a transfer that rewrites line ends."""

STREAM_VERSION = 1
"""Version of the format that is written; independent of the package's version."""

STREAM_VERSIONS_READ = (1,)
"""Versions that are read: the present one and the one before it, when there is one."""

FILE_HEADER_BYTES = 64
RECORD_HEADER_BYTES = 32
PAGE_BYTES = 4096

OPTIONAL_BIT = 0x8000_0000
"""Set in the type of a record that a reader may skip when it does not know it."""

CONTROL_BIT = 0x4000_0000
"""Set in the type of a frame of the conversation (PROTOCOL.md); never in a stream file."""

MAX_SEQUENCE = 0xFFFF_FFFF
MAX_PAGES_PER_RECORD = 256
MAX_RUNS_PER_MEMORY = 256
MAX_RUNS_PER_ZERO = 4096
MAX_VCPUS = 1024
MAX_ROUNDS = 4096
MAX_MSGPACK_DEPTH = 8
MAX_MSGPACK_VALUES = 16384
DIGEST_CHUNK_BYTES = 1 << 20
DIGEST_ALGORITHM = 1


class StreamFlag(IntFlag):
    """Flags of the file header; all other bits are reserved.

    SNAPSHOT: the machine was paused and written in one go: one round, no ZERO record, what is absent is zero.
    """

    SNAPSHOT = 1


NO_FLAGS = StreamFlag(0)


class RecordType(IntEnum):
    """Numbers of the record types of stream version 1."""

    CONFIG = 1
    MEMORY = 2
    ZERO = 3
    ROUND_END = 4
    VM_STATE = 5
    VCPU_STATE = 6
    DIGEST = 7
    END = 8


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """One row of the record table. `min_body` and `max_body` are octets, `reason` says why that maximum."""

    type: RecordType
    min_body: int
    max_body: int
    encoding: str
    doc: str
    reason: str

    @property
    def name(self) -> str:
        """The record's name as FORMAT.md spells it."""
        return self.type.name


RECORDS: tuple[RecordSpec, ...] = (
    RecordSpec(
        RecordType.CONFIG, 2, 256 << 10, "MessagePack", "what the machine is: identity, memory map, vCPU count, clocks",
        "512 memory slots of at most 60 octets, and 64 machine parameters, with room to spare",
    ),
    RecordSpec(
        RecordType.MEMORY, 8 + 16 + PAGE_BYTES, 8 + 16 * MAX_RUNS_PER_MEMORY + PAGE_BYTES * MAX_PAGES_PER_RECORD,
        "fixed", "runs of guest pages with their contents",
        "1 MiB of pages: larger records gain nothing measurable, and a damaged one costs no more than this to resend",
    ),
    RecordSpec(
        RecordType.ZERO, 8 + 16, 8 + 16 * MAX_RUNS_PER_ZERO, "fixed", "runs of guest pages that hold only zeros",
        "4096 runs; a run has no length limit but the memory map, so one record can clear a whole machine",
    ),
    RecordSpec(
        RecordType.ROUND_END, 24, 24, "fixed", "end of one pre-copy round, or of the only one", "the body is fixed"
    ),
    RecordSpec(
        RecordType.VM_STATE, 1, 256 << 10, "MessagePack", "the sections that the vCPUs share, as raw structs",
        "the known vm sections sum up to less than 8 KiB; devices to come need room",
    ),
    RecordSpec(
        RecordType.VCPU_STATE, 9, 512 << 10, "fixed + MessagePack", "the sections of one vCPU, as raw structs",
        "about 11 KiB today; XSAVE areas with AMX and full MSR lists stay under 256 KiB",
    ),
    RecordSpec(
        RecordType.DIGEST, 104, 104, "fixed", "digests of the state, of the memory, and of both with the memory map",
        "the body is fixed",
    ),
    RecordSpec(RecordType.END, 16, 16, "fixed", "end of the stream; nothing follows", "the body is fixed"),
)  # fmt: skip
"""Every record type, in the order in which a stream holds them."""

RECORD_BY_TYPE: Mapping[int, RecordSpec] = {int(spec.type): spec for spec in RECORDS}

MAX_OPTIONAL_BODY = 1 << 20
"""Largest body of an optional record that the reader does not know: it is skipped, so only time is at stake."""

Run = tuple[int, int]
"""A run of pages: (gpa in octets, page count)."""

Span = tuple[int, int]
"""A span of the backing: (offset in octets, size in octets)."""

Sections = Mapping[str, bytes]
"""Section name -> raw struct."""


def type_name(number: int) -> str:
    """Return the name of a record type, or its number in hex when it has none."""
    spec = RECORD_BY_TYPE.get(number)
    return spec.name if spec else f"type {number:#010x}"


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """The file header. `stream_id` is 16 octets, `created_unix_ns` is nanoseconds since 1970 UTC."""

    stream_id: bytes
    created_unix_ns: int
    schema_version: int
    flags: StreamFlag = NO_FLAGS
    version: int = STREAM_VERSION


@dataclass(frozen=True, slots=True)
class Config:
    """CONFIG: what the machine is. `machine` holds parameters of the backend, e.g. tsc_khz, cpu_model."""

    vm_id: str
    vm_name: str
    backend: str
    guest: str | None
    epoch: int
    source_host: str
    schema_version: int
    memory: MemoryMap
    vcpus: int
    machine: Mapping[str, int | str] = field(default_factory=dict)
    digest_algorithm: int = DIGEST_ALGORITHM


@dataclass(frozen=True, slots=True)
class Memory:
    """MEMORY, after its pages have been put in place: the runs, and the spans of the backing that they fill."""

    as_id: int
    runs: tuple[Run, ...]
    spans: tuple[Span, ...]

    @property
    def pages(self) -> int:
        """How many pages the record carried."""
        return sum(count for _, count in self.runs)


@dataclass(frozen=True, slots=True)
class Zero:
    """ZERO: runs of pages that hold zeros now. Whoever applies the stream clears `spans` in the backing."""

    as_id: int
    runs: tuple[Run, ...]
    spans: tuple[Span, ...]

    @property
    def pages(self) -> int:
        """How many pages the record names."""
        return sum(count for _, count in self.runs)


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """ROUND_END: rounds count from 1; totals are of the MEMORY and ZERO records since the last ROUND_END."""

    round: int
    pages: int
    zero_pages: int


@dataclass(frozen=True, slots=True)
class VmSections:
    """VM_STATE: section name -> raw struct."""

    sections: Sections


@dataclass(frozen=True, slots=True)
class VcpuSections:
    """VCPU_STATE of vCPU `index`: section name -> raw struct."""

    index: int
    sections: Sections


@dataclass(frozen=True, slots=True)
class Digest:
    """DIGEST: three digests of 32 octets each."""

    state: bytes
    memory: bytes
    root: bytes
    algorithm: int = DIGEST_ALGORITHM


@dataclass(frozen=True, slots=True)
class End:
    """END: number of the records before it, and CRC-32C over their headers in order."""

    record_count: int
    headers_crc32c: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """An optional record that this reader does not know."""

    type: int
    body_bytes: int


Record = StreamHeader | Config | Memory | Zero | RoundEnd | VmSections | VcpuSections | Digest | End | Skipped
"""Everything that a reader yields."""

Direction = Literal["source->destination", "destination->source"]
