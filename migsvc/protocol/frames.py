"""Frames: events to octets and back. A frame has a record header with the control bit, and a MessagePack map.

Raises of the decoder: RemoteProtocolError, PRO-003 to PRO-006.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from migsvc.stream.checksum import crc32c
from migsvc.stream.framing import RecordHeader, pack_record
from migsvc.stream.packing import PackingError, pack_map, unpack_map
from migsvc.stream.records import CONTROL_BIT, OPTIONAL_BIT

from .errors import LocalProtocolError, RemoteProtocolError
from .events import EVENTS, Event

MAX_FRAME_BODY = 1 << 20
"""A HostProfile with its CPUID table is the largest thing said, about 30 KiB; a list of findings may be longer."""

MAX_TEXT_CHARS = 4096
"""Names, reasons, explanations: one paragraph, not a log file."""

MAX_OCTETS = 256 << 10
"""The end of a console's output: travels while the VM is paused, and is hours of a guest's log."""

ROOT_BYTES = 32
U64_MAX = (1 << 64) - 1

_BY_NUMBER = {spec.number: spec.cls for spec in EVENTS}
_NUMBERS = {spec.cls: spec.number for spec in EVENTS}


def _is_u64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= U64_MAX


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS


KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "int": (_is_u64, "u64"),
    "str": (_is_text, f"str of at most {MAX_TEXT_CHARS} characters"),
    "str | None": (lambda v: v is None or _is_text(v), f"str of at most {MAX_TEXT_CHARS} characters, or nil"),
    "bytes": (lambda v: isinstance(v, bytes) and len(v) == ROOT_BYTES, f"bin of {ROOT_BYTES} octets"),
    "bool": (lambda v: isinstance(v, bool), "bool"),
    "Octets": (lambda v: isinstance(v, bytes) and len(v) <= MAX_OCTETS, f"bin of at most {MAX_OCTETS} octets"),
    "Mapping[str, Any]": (lambda v: isinstance(v, dict), "map"),
    "tuple[Mapping[str, Any], ...]": (
        lambda v: isinstance(v, list | tuple) and all(isinstance(m, dict) for m in v),
        "array of maps",
    ),
}
"""Annotation of a field in events.py -> check and description. Every annotation used there has a row."""


def encode_event(event: Event, sequence: int) -> bytes:
    """Return the frame of an event.

    Raises:
        LocalProtocolError: PRO-005 too large, PRO-006 a field has the wrong type or cannot be encoded.
    """
    value: dict[str, Any] = {}
    for field in fields(event):
        part = getattr(event, field.name)
        value[field.name] = list(part) if isinstance(part, tuple) else part
        check, wanted = KINDS[str(field.type)]
        if not check(part):
            raise LocalProtocolError("PRO-006", f"{type(event).__name__}.{field.name} is not {wanted}")
    try:
        body = pack_map(value)
    except PackingError as error:
        raise LocalProtocolError("PRO-006", f"{type(event).__name__}: {error}") from error
    if len(body) > MAX_FRAME_BODY:
        raise LocalProtocolError(
            "PRO-005", f"{type(event).__name__} of {len(body)} octets; the limit is {MAX_FRAME_BODY}"
        )
    return pack_record(CONTROL_BIT | _NUMBERS[type(event)], sequence, body)


def event_class(header: RecordHeader) -> type[Event] | None:
    """Return the event's class of a frame header, None for an unknown optional frame.

    Raises:
        RemoteProtocolError: PRO-003 unknown and not optional, PRO-005 the body is too large.
    """
    cls = _BY_NUMBER.get(header.type ^ CONTROL_BIT)
    if cls is None and not header.type & OPTIONAL_BIT:
        raise RemoteProtocolError("PRO-003", f"Frame type {header.type:#010x} is not known", hint="the peer is newer")
    if header.body_length > MAX_FRAME_BODY:
        raise RemoteProtocolError("PRO-005", f"A frame of {header.body_length} octets; the limit is {MAX_FRAME_BODY}")
    return cls


def require_crc(header: RecordHeader, crc: int) -> None:
    """Require the checksum of a frame's body: PRO-001."""
    if crc != header.body_crc32c:
        raise RemoteProtocolError("PRO-001", f"The CRC of a frame of type {header.type:#010x} does not match")


def decode_event(cls: type[Event], header: RecordHeader, body: bytes) -> Event:
    """Return the event in a frame.

    Raises:
        RemoteProtocolError: PRO-001 checksum, PRO-006 not exactly the event's fields.
    """
    require_crc(header, crc32c(body))
    try:
        value = unpack_map(body)
    except PackingError as error:
        raise RemoteProtocolError("PRO-006", f"{cls.__name__}: {error} [{error.rule}]") from error
    wanted = {field.name: str(field.type) for field in fields(cls)}
    if value.keys() != wanted.keys():
        odd = ", ".join(sorted(value.keys() ^ wanted.keys()))[:200]
        raise RemoteProtocolError("PRO-006", f"{cls.__name__} has missing or unknown fields: {odd}")
    for name, kind in wanted.items():
        check, description = KINDS[kind]
        if not check(value[name]):
            raise RemoteProtocolError("PRO-006", f"{cls.__name__}.{name} is not {description}")
        if isinstance(value[name], list):
            value[name] = tuple(value[name])
    return cls(**value)
