"""The file header and the record header: octets to values and back.

File header, 64 octets; record header, 32 octets; little-endian; each ends in a CRC-32C over what precedes it. Frames
of the conversation (migsvc.protocol) have the same record header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from schemas.versions import SUPPORTED_SCHEMA_VERSIONS

from .checksum import crc32c
from .errors import RecordError, StreamError
from .records import (
    FILE_HEADER_BYTES,
    MAGIC,
    STREAM_VERSIONS_READ,
    StreamFlag,
    StreamHeader,
    type_name,
)

_FILE_HEADER = struct.Struct("<8sHHHH16sQ20sI")
_RECORD_HEADER = struct.Struct("<IIQIIII")
_CRC = struct.Struct("<I")


def pack_file_header(header: StreamHeader) -> bytes:
    """Return the 64 octets of a file header.

    Raises:
        ValueError: the stream id is not 16 octets, or the time is not a u64.
    """
    if len(header.stream_id) != 16 or not 0 <= header.created_unix_ns < 1 << 64:
        raise ValueError("stream_id must be 16 octets and created_unix_ns a u64")
    raw = _FILE_HEADER.pack(
        MAGIC, header.version, FILE_HEADER_BYTES, header.schema_version, int(header.flags),
        header.stream_id, header.created_unix_ns, bytes(20), 0,
    )[:-4]  # fmt: skip
    return raw + _CRC.pack(crc32c(raw))


def parse_file_header(raw: bytes) -> StreamHeader:
    """Return the file header in 64 octets.

    Raises:
        StreamError: STR-001 magic, STR-002 stream version, STR-003 header length, STR-004 CRC, STR-006 schema
            version. Magic and version are looked at first: they are told apart even in streams of other versions.
    """
    magic, version, length, schema_version, flags, stream_id, created_unix_ns, _, crc = _FILE_HEADER.unpack(raw)
    if magic != MAGIC:
        raise StreamError("STR-001", f"The first octets are {magic.hex()}, not {MAGIC.hex()}")
    if version not in STREAM_VERSIONS_READ:
        raise StreamError("STR-002", f"Stream version {version} is not one of {list(STREAM_VERSIONS_READ)}", offset=8)
    if length != FILE_HEADER_BYTES:
        raise StreamError("STR-003", f"The file header claims {length} octets, not {FILE_HEADER_BYTES}", offset=10)
    if crc != crc32c(raw[:-4]):
        raise StreamError("STR-004", "The CRC of the file header does not match", offset=FILE_HEADER_BYTES - 4)
    if schema_version not in SUPPORTED_SCHEMA_VERSIONS:
        text = f"Schema version {schema_version} is not one of {list(SUPPORTED_SCHEMA_VERSIONS)}"
        raise StreamError("STR-006", text, offset=12)
    return StreamHeader(stream_id, created_unix_ns, schema_version, StreamFlag(flags & StreamFlag.SNAPSHOT), version)


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The header of one record or control frame. `body_length` is in octets."""

    type: int
    sequence: int
    body_length: int
    body_crc32c: int

    def pack(self) -> bytes:
        """Return the 32 octets."""
        raw = _RECORD_HEADER.pack(self.type, self.sequence, self.body_length, self.body_crc32c, 0, 0, 0)[:-4]
        return raw + _CRC.pack(crc32c(raw))

    @classmethod
    def parse(cls, raw: bytes, offset: int = 0) -> RecordHeader:
        """Return the header in 32 octets found at `offset` of the stream.

        Raises:
            RecordError: STR-010, the CRC of the header does not match.
        """
        number, sequence, body_length, body_crc, _, _, crc = _RECORD_HEADER.unpack(raw)
        if crc != crc32c(raw[:-4]):
            raise RecordError(
                "STR-010", "The CRC of the record header does not match", offset=offset, sequence=sequence,
                record=type_name(number),
            )  # fmt: skip
        return cls(number, sequence, body_length, body_crc)


def pack_record(number: int, sequence: int, body: bytes) -> bytes:
    """Return a whole record whose body is at hand."""
    return RecordHeader(number, sequence, len(body), crc32c(body)).pack() + body
