"""The stream format: one machine as octets, at rest in a snapshot or in flight in a migration. FORMAT.md is normative.

Nothing here does I/O: writers return octets, readers say what they want. The verifier is a second implementation.
"""

from .bodies import BodyError, config_map, parse_config_map
from .checksum import Buffer, crc32c, crc32c_buffer
from .digest import MemoryDigest, machine_digest, root_digest
from .errors import RecordError, StreamError, StreamUsageError
from .machine import MachineLoader, MachineMemory, read_machine, write_machine
from .memory import Batch, Extents, clear, memory_batches, zero_batches
from .reader import MemoryBody, Need, StreamReader, Want
from .records import (
    PAGE_BYTES,
    RECORDS,
    STREAM_VERSION,
    STREAM_VERSIONS_READ,
    Config,
    Digest,
    End,
    Memory,
    Record,
    RecordType,
    RoundEnd,
    Skipped,
    StreamFlag,
    StreamHeader,
    VcpuSections,
    VmSections,
    Zero,
)
from .writer import StreamWriter

__all__ = [
    "PAGE_BYTES",
    "RECORDS",
    "STREAM_VERSION",
    "STREAM_VERSIONS_READ",
    "Batch",
    "BodyError",
    "Buffer",
    "Config",
    "Digest",
    "End",
    "Extents",
    "MachineLoader",
    "MachineMemory",
    "Memory",
    "MemoryBody",
    "MemoryDigest",
    "Need",
    "Record",
    "RecordError",
    "RecordType",
    "RoundEnd",
    "Skipped",
    "StreamError",
    "StreamFlag",
    "StreamHeader",
    "StreamReader",
    "StreamUsageError",
    "StreamWriter",
    "VcpuSections",
    "VmSections",
    "Want",
    "Zero",
    "clear",
    "config_map",
    "crc32c",
    "crc32c_buffer",
    "machine_digest",
    "memory_batches",
    "parse_config_map",
    "read_machine",
    "root_digest",
    "write_machine",
    "zero_batches",
]
