"""Which media type a state document is read and answered in: JSON or MessagePack."""

from __future__ import annotations

from typing import Any

import msgpack

from migsvc.api.errors import ApiProblem

JSON = "application/json"
MSGPACK = "application/msgpack"
TYPES = (JSON, MSGPACK)
"""In order of preference when Accept leaves the choice."""

MAX_MAP_ENTRIES = 64
"""A state document has 3 entries and some 15 sections; arrays, which cost a second of CPU per MiB, it has none."""


def wanted_type(accept: str) -> str:
    """Return the media type that an Accept header (RFC 9110, 12.5.1) likes best.

    Raises:
        ApiProblem: not-acceptable.
    """
    ranked = [(_quality(accept, offered), -rank, offered) for rank, offered in enumerate(TYPES)]
    quality, _, best = max(ranked)
    if quality <= 0:
        raise ApiProblem("not-acceptable", f"Accept is {accept[:200]!r}", hint=f"{' and '.join(TYPES)} can be served")
    return best


def _quality(accept: str, offered: str) -> float:
    """Return the quality of the most specific range that covers the type; 0 when none does."""
    best = (-1, 0.0)
    for part in accept.split(","):
        media_range, *parameters = (text.strip().lower() for text in part.split(";"))
        ranges = ("*/*", offered.partition("/")[0] + "/*", offered)
        if media_range in ranges:
            quality = next((_number(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
            best = max(best, (ranges.index(media_range), quality))
    return best[1]


def _number(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def content_type_of(header: str | None) -> str:
    """Return the media type of a body.

    Raises:
        ApiProblem: unsupported-media-type.
    """
    media_type = (header or "").partition(";")[0].strip().lower()
    if media_type not in TYPES:
        raise ApiProblem(
            "unsupported-media-type", f"Content-Type is {header!r}"[:200], hint=f"send {' or '.join(TYPES)}"
        )
    return media_type


def unpack(body: bytes) -> Any:
    """Decode a MessagePack body strictly: maps with string keys, no duplicates, no arrays, extensions, trailing bytes.

    Raises:
        ApiProblem: invalid-request.
    """
    try:
        return msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_array_len=0,
            max_map_len=MAX_MAP_ENTRIES,
            object_pairs_hook=_unique,
            ext_hook=_refuse_extension,
            timestamp=0,
        )
    except (ValueError, TypeError, RecursionError) as error:  # msgpack's errors are ValueErrors
        raise ApiProblem("invalid-request", f"the body is not acceptable MessagePack: {error}"[:300]) from error


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str) or key in found:
            raise ValueError(f"map key {str(key)[:40]!r} is no string, or there twice")
        found[key] = value
    return found


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not accepted")
