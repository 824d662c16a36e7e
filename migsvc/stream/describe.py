"""The layout of the stream as JSON values: `migsvc stream describe`, and the dump that tests compare over time."""

from __future__ import annotations

from typing import Any

from schemas.uapi import SECTIONS
from schemas.versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS

from .records import (
    FILE_HEADER_BYTES,
    MAGIC,
    MAX_MSGPACK_DEPTH,
    MAX_MSGPACK_VALUES,
    MAX_OPTIONAL_BODY,
    MAX_PAGES_PER_RECORD,
    MAX_ROUNDS,
    MAX_RUNS_PER_MEMORY,
    MAX_RUNS_PER_ZERO,
    MAX_VCPUS,
    OPTIONAL_BIT,
    RECORD_HEADER_BYTES,
    RECORDS,
    STREAM_VERSION,
    STREAM_VERSIONS_READ,
    StreamFlag,
)


def describe() -> dict[str, Any]:
    """Return versions, limits, record types and sections of the stream format."""
    return {
        "magic": MAGIC.hex(),
        "stream_version": STREAM_VERSION,
        "stream_versions_read": list(STREAM_VERSIONS_READ),
        "schema_version": SCHEMA_VERSION,
        "schema_versions_read": list(SUPPORTED_SCHEMA_VERSIONS),
        "file_header_bytes": FILE_HEADER_BYTES,
        "record_header_bytes": RECORD_HEADER_BYTES,
        "flags": {flag.name: flag.value for flag in StreamFlag},
        "optional_bit": f"{OPTIONAL_BIT:#010x}",
        "limits": {
            "pages_per_record": MAX_PAGES_PER_RECORD,
            "runs_per_memory": MAX_RUNS_PER_MEMORY,
            "runs_per_zero": MAX_RUNS_PER_ZERO,
            "rounds": MAX_ROUNDS,
            "vcpus": MAX_VCPUS,
            "optional_body_bytes": MAX_OPTIONAL_BODY,
            "msgpack_depth": MAX_MSGPACK_DEPTH,
            "msgpack_values": MAX_MSGPACK_VALUES,
        },
        "records": [
            {
                "type": int(spec.type),
                "name": spec.name,
                "encoding": spec.encoding,
                "min_body_bytes": spec.min_body,
                "max_body_bytes": spec.max_body,
                "doc": spec.doc,
            }
            for spec in RECORDS
        ],
        "sections": [
            {"name": row.name, "scope": row.scope, "required": row.required, "max_bytes": row.max_bytes}
            for row in SECTIONS
            if row.scope != "memory"  # these travel in records of their own
        ],
    }
