"""Record bodies: values to octets, and octets to values with every check that needs no memory.

Raises of all decoders: BodyError with the rule's id; the reader adds the place.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from schemas.memory import MemoryMap, MemorySlot
from schemas.state import section_problems
from schemas.versions import foreign_sections

from .memory import Extents
from .packing import PackingError, pack_map, unpack_map
from .records import (
    DIGEST_ALGORITHM,
    MAX_PAGES_PER_RECORD,
    MAX_RUNS_PER_MEMORY,
    MAX_RUNS_PER_ZERO,
    MAX_VCPUS,
    PAGE_BYTES,
    Config,
    Digest,
    End,
    RoundEnd,
    Run,
    Sections,
    Span,
)

RUNS_HEADER = struct.Struct("<II")
RUN = struct.Struct("<QQ")
ROUND_END = struct.Struct("<IIQQ")
VCPU_HEADER = struct.Struct("<II")
DIGEST = struct.Struct("<II32s32s32s")
END = struct.Struct("<QII")

U64_MAX = (1 << 64) - 1
MAX_MACHINE_ENTRIES = 64
MAX_NAME_CHARS = 255


class BodyError(ValueError):
    """A record body breaks a rule; `rule` is its id."""

    def __init__(self, rule: str, detail: str) -> None:
        """Keep the rule beside the text."""
        super().__init__(detail)
        self.rule = rule
        self.detail = detail


def _unpack(raw: bytes) -> dict[str, Any]:
    try:
        return unpack_map(raw)
    except PackingError as error:
        raise BodyError(error.rule, str(error)) from error


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_NAME_CHARS


def _is_u64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= U64_MAX


def _is_machine(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_MACHINE_ENTRIES
        and all(_is_name(k) and (_is_u64(v) or _is_name(v)) for k, v in value.items())
    )


def _is_memory(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"ram_bytes", "slots"}
        and _is_u64(value["ram_bytes"])
        and isinstance(value["slots"], list)
        and all(isinstance(s, list) and len(s) == 6 and all(_is_u64(n) for n in s) for s in value["slots"])
    )


CONFIG_FIELDS: Mapping[str, tuple[Any, str]] = {
    "vm_id": (_is_name, "str of 1 to 255 characters"),
    "vm_name": (_is_name, "str of 1 to 255 characters"),
    "backend": (_is_name, "str of 1 to 255 characters"),
    "guest": (lambda v: v is None or _is_name(v), "str of 1 to 255 characters, or nil"),
    "epoch": (_is_u64, "u64"),
    "source_host": (_is_name, "str of 1 to 255 characters"),
    "schema_version": (_is_u64, "u64"),
    "memory": (_is_memory, "map: ram_bytes u64, slots array of [as_id, slot, gpa, size, flags, backing offset]"),
    "vcpus": (lambda v: _is_u64(v) and 1 <= v <= MAX_VCPUS, f"1 to {MAX_VCPUS}"),
    "machine": (_is_machine, f"map of at most {MAX_MACHINE_ENTRIES} entries, str -> u64 or str"),
    "digest_algorithm": (_is_u64, "u64"),
}
"""Keys of CONFIG: check and description."""


def config_map(config: Config) -> dict[str, Any]:
    """Return CONFIG as the map that travels in the record and in an Offer."""
    value = {name: getattr(config, name) for name in CONFIG_FIELDS if name not in {"memory", "machine"}}
    value["memory"] = {
        "ram_bytes": config.memory.ram_bytes,
        "slots": [[s.as_id, s.slot, s.gpa, s.size_bytes, s.flags, s.backing_offset_bytes] for s in config.memory.slots],
    }
    value["machine"] = dict(config.machine)
    return value


def parse_config_map(value: Mapping[str, Any]) -> Config:
    """Return the Config in a map from a record or an Offer.

    Raises:
        BodyError: STR-040 keys or types, STR-041 memory map, STR-042 digest algorithm.
    """
    if value.keys() != CONFIG_FIELDS.keys():
        odd = sorted(map(str, value.keys() ^ CONFIG_FIELDS.keys()))
        raise BodyError("STR-040", f"CONFIG has missing or unknown keys: {', '.join(odd)[:200]}")
    for name, (check, wanted) in CONFIG_FIELDS.items():
        if not check(value[name]):
            raise BodyError("STR-040", f"CONFIG {name} is not {wanted}")
    if value["digest_algorithm"] != DIGEST_ALGORITHM:
        raise BodyError("STR-042", f"Digest algorithm {value['digest_algorithm']} is not known")
    memory = _memory_map(value["memory"])
    return Config(**{**value, "memory": memory, "machine": dict(value["machine"])})


def _memory_map(value: Mapping[str, Any]) -> MemoryMap:
    names = ("as_id", "slot", "gpa", "size_bytes", "flags", "backing_offset_bytes")
    try:
        slots = tuple(MemorySlot(**dict(zip(names, row, strict=True))) for row in value["slots"])
        memory = MemoryMap(slots=slots, ram_bytes=value["ram_bytes"])
    except (ValueError, TypeError) as error:
        raise BodyError("STR-041", f"The memory map is not legal: {str(error)[:300]}") from error
    if Extents(memory).covered_bytes != memory.ram_bytes:
        raise BodyError("STR-041", "Some of the backing belongs to no memory slot")
    return memory


def encode_config(config: Config) -> bytes:
    """Return the body of CONFIG."""
    return pack_map(config_map(config))


def decode_config(raw: bytes) -> Config:
    """Return CONFIG of its body."""
    return parse_config_map(_unpack(raw))


def encode_runs(as_id: int, runs: tuple[Run, ...]) -> bytes:
    """Return the run table that begins MEMORY and ZERO."""
    return RUNS_HEADER.pack(as_id, len(runs)) + b"".join([RUN.pack(gpa, count) for gpa, count in runs])


def decode_runs_header(raw: bytes, body_length: int, *, memory: bool) -> tuple[int, int]:
    """Return (as_id, run count) of the first 8 octets of MEMORY or ZERO.

    Raises:
        BodyError: STR-050, the count does not fit the limits or the body's length.
    """
    as_id, count = RUNS_HEADER.unpack(raw)
    least = RUNS_HEADER.size + RUN.size * count + (PAGE_BYTES * count if memory else 0)
    limit = MAX_RUNS_PER_MEMORY if memory else MAX_RUNS_PER_ZERO
    if not 1 <= count <= limit or body_length < least or (not memory and body_length != least):
        raise BodyError("STR-050", f"{count} runs do not fit a body of {body_length} octets (limit {limit} runs)")
    return as_id, count


def decode_runs(
    raw: bytes, as_id: int, extents: Extents, pages: int | None
) -> tuple[tuple[Run, ...], tuple[Span, ...]]:
    """Return the runs of a run table and their spans; `pages` is the total that the body has room for.

    Raises:
        BodyError: STR-050 the pages do not sum up to the body's length, STR-051 a run is not one piece of the map.
    """
    runs = tuple(RUN.iter_unpack(raw))
    total = sum(count for _, count in runs)
    if pages is not None and (total != pages or total > MAX_PAGES_PER_RECORD):
        raise BodyError(
            "STR-050", f"The runs name {total} pages, the body holds {pages} (limit {MAX_PAGES_PER_RECORD})"
        )
    spans = []
    for run in runs:
        span = extents.span(as_id, run)
        if span is None:
            raise BodyError(
                "STR-051", f"Run of {run[1]} pages at {run[0]:#x} in address space {as_id} is not inside one extent"
            )
        spans.append(span)
    return runs, tuple(spans)


def encode_round_end(record: RoundEnd) -> bytes:
    """Return the body of ROUND_END."""
    return ROUND_END.pack(record.round, 0, record.pages, record.zero_pages)


def decode_round_end(raw: bytes) -> RoundEnd:
    """Return ROUND_END of its body."""
    number, _, pages, zero_pages = ROUND_END.unpack(raw)
    return RoundEnd(number, pages, zero_pages)


def encode_sections(scope: str, sections: Sections, schema_version: int) -> bytes:
    """Return sections as MessagePack; `scope` is "vm" or "vcpu", the version that of the stream.

    Raises:
        BodyError: STR-060, a reader would refuse them; every problem is named.
    """
    raw = {name: bytes(body) for name, body in sections.items()}
    _require_sections(scope, raw, schema_version)
    return pack_map(raw)


def decode_sections(scope: str, raw: bytes, schema_version: int) -> Sections:
    """Return the sections of a state body of a stream of this schema version.

    Raises:
        BodyError: STR-030 to STR-033 of MessagePack, STR-060 with every problem of the sections.
    """
    sections = _unpack(raw)
    _require_sections(scope, sections, schema_version)
    return sections


def _require_sections(scope: str, sections: Mapping[str, Any], schema_version: int) -> None:
    found = [f"{name[:64]}: not bin" for name, body in sections.items() if not isinstance(body, bytes)]
    found += [f"{problem.where}: {problem.message}" for problem in section_problems(sections, scope)]
    if not found:
        text = f"not a section of schema version {schema_version}"
        found = [f"{name}: {text}" for name in foreign_sections(set(sections), scope, schema_version)]
    if found:
        raise BodyError("STR-060", f"The sections are not those of a {scope}: {'; '.join(found)[:1000]}")


def encode_vcpu_header(index: int) -> bytes:
    """Return the octets before the sections of VCPU_STATE."""
    return VCPU_HEADER.pack(index, 0)


def decode_vcpu_header(raw: bytes) -> int:
    """Return the vCPU index of a VCPU_STATE body."""
    index, _ = VCPU_HEADER.unpack_from(raw)
    return int(index)


def encode_digest(record: Digest) -> bytes:
    """Return the body of DIGEST."""
    return DIGEST.pack(record.algorithm, 0, record.state, record.memory, record.root)


def decode_digest(raw: bytes) -> Digest:
    """Return DIGEST of its body."""
    algorithm, _, state, memory, root = DIGEST.unpack(raw)
    return Digest(state, memory, root, algorithm)


def encode_end(record: End) -> bytes:
    """Return the body of END."""
    return END.pack(record.record_count, record.headers_crc32c, 0)


def decode_end(raw: bytes) -> End:
    """Return END of its body."""
    count, crc, _ = END.unpack(raw)
    return End(count, crc)
