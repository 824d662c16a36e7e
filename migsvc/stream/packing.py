"""Strict MessagePack: what is read is checked before it is decoded, what is written is checked before it is sent.

Streams and control frames use a subset: nil, bool, integers, str, bin, arrays and maps with str keys. No floats, no
extension types, no repeated keys, bounded depth and number of values. `scan` walks the encoding without building
anything, so that a small body cannot become a large object.
Source: MessagePack specification, "Formats" (github.com/msgpack/msgpack/blob/master/spec.md).
"""

from __future__ import annotations

from typing import Any

import msgpack

from .records import MAX_MSGPACK_DEPTH, MAX_MSGPACK_VALUES

RULE_FORM = "STR-030"
RULE_KEYS = "STR-031"
RULE_TYPES = "STR-032"
RULE_BOUNDS = "STR-033"


class PackingError(ValueError):
    """A body is not in the subset. `rule` is the rule's id in FORMAT.md."""

    def __init__(self, rule: str, detail: str) -> None:
        """Keep the rule beside the text."""
        super().__init__(detail)
        self.rule = rule


_SCALARS = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Format octet -> octets that follow: nil, false, true, uint 8..64, int 8..64."""

_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Format octet -> octets of the length that follows: bin 8/16/32, str 8/16/32."""

_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Format octet -> (octets of the count that follows, values per entry): array 16/32, map 16/32."""


def _is_str(octet: int) -> bool:
    return 0xA0 <= octet <= 0xBF or 0xD9 <= octet <= 0xDB


def scan(body: bytes) -> None:
    """Check that `body` is exactly one value of the subset, without building it.

    Raises:
        PackingError: STR-030 malformed or trailing octets, STR-031 a key is not a str, STR-032 float or extension
            type, STR-033 too deep or too many values.
    """
    position, values = 0, 0
    # One entry per open container: [values still to come, is a map].
    open_: list[list[int]] = []
    while True:
        values += 1
        if values > MAX_MSGPACK_VALUES:
            raise PackingError(RULE_BOUNDS, f"more than {MAX_MSGPACK_VALUES} values")
        if position >= len(body):
            raise PackingError(RULE_FORM, "the MessagePack value is cut off")
        octet = body[position]
        if open_ and open_[-1][1] and open_[-1][0] % 2 == 0 and not _is_str(octet):
            raise PackingError(RULE_KEYS, f"a map key is not a str (format {octet:#04x})")
        position, children, is_map = _step(body, position, octet)
        if position > len(body):
            raise PackingError(RULE_FORM, "the MessagePack value is cut off")
        if children:
            if len(open_) >= MAX_MSGPACK_DEPTH:
                raise PackingError(RULE_BOUNDS, f"nested deeper than {MAX_MSGPACK_DEPTH}")
            open_.append([children, is_map])
            continue
        while open_:
            open_[-1][0] -= 1
            if open_[-1][0]:
                break
            open_.pop()
        if not open_:
            break
    if position != len(body):
        raise PackingError(RULE_FORM, f"{len(body) - position} octets follow the MessagePack value")


def _step(body: bytes, position: int, octet: int) -> tuple[int, int, int]:
    """Return (position after the value's own octets, children to come, 1 if they are a map's)."""
    position += 1
    if octet <= 0x7F or octet >= 0xE0:
        return position, 0, 0
    if octet <= 0x8F:
        return position, 2 * (octet & 0x0F), 1
    if octet <= 0x9F:
        return position, octet & 0x0F, 0
    if octet <= 0xBF:
        return position + (octet & 0x1F), 0, 0
    if octet in _SCALARS:
        return position + _SCALARS[octet], 0, 0
    if octet in _SIZED:
        width = _SIZED[octet]
        return position + width + int.from_bytes(body[position : position + width], "big"), 0, 0
    if octet in _NESTED:
        width, per_entry = _NESTED[octet]
        count = int.from_bytes(body[position : position + width], "big")
        return position + width, count * per_entry, int(per_entry == 2)
    raise PackingError(RULE_TYPES, f"MessagePack format {octet:#04x} is not allowed here (float, extension or unused)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise PackingError(RULE_KEYS, "a map key occurs twice")
    return made


def unpack_map(body: bytes) -> dict[str, Any]:
    """Decode a body that is exactly one map of the subset.

    Raises:
        PackingError: as `scan`; STR-030 also when the value is not a map or a str is not UTF-8.
    """
    scan(body)
    try:
        value = msgpack.unpackb(body, raw=False, strict_map_key=True, object_pairs_hook=_unique)
    except PackingError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise PackingError(RULE_FORM, f"not valid MessagePack: {error}") from error
    if not isinstance(value, dict):
        raise PackingError(RULE_FORM, "the MessagePack value is not a map")
    return value


def pack_map(value: dict[str, Any]) -> bytes:
    """Encode a map of the subset.

    Raises:
        PackingError: the value is outside the subset, so that no reader would take it.
    """
    try:
        body = bytes(msgpack.packb(value, use_bin_type=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise PackingError(RULE_TYPES, f"cannot be encoded: {error}") from error
    scan(body)
    return body
