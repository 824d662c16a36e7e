"""Which media type a state document is read and answered in: JSON or MessagePack."""

from __future__ import annotations

from migsvc.api.errors import ApiProblem

JSON = "application/json"
MSGPACK = "application/msgpack"
TYPES = (JSON, MSGPACK)
"""In order of preference when Accept leaves the choice."""


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
