"""MessagePack of streams and control frames: `schemas.codec.packing` with the rules of FORMAT.md.

A body is one map. nil, bool, integers, str, bin, arrays and maps with str keys; no floats, no extension types, no
repeated keys, bounded depth and number of values.
"""

from __future__ import annotations

from typing import Any

from schemas.codec import packing as strict

from .records import MAX_MSGPACK_DEPTH, MAX_MSGPACK_VALUES

RULE_FORM = "STR-030"
RULE_KEYS = "STR-031"
RULE_TYPES = "STR-032"
RULE_BOUNDS = "STR-033"

_RULES = {"form": RULE_FORM, "keys": RULE_KEYS, "types": RULE_TYPES, "bounds": RULE_BOUNDS}

_BOUNDS = strict.Bounds(max_bytes=16 << 20, max_depth=MAX_MSGPACK_DEPTH, max_values=MAX_MSGPACK_VALUES)
"""Records and frames have tighter limits in octets, each its own, checked before a body is read."""


class PackingError(ValueError):
    """A body is not in the subset. `rule` is the rule's id in FORMAT.md."""

    def __init__(self, rule: str, detail: str) -> None:
        """Keep the rule beside the text."""
        super().__init__(detail)
        self.rule = rule


def unpack_map(body: bytes) -> dict[str, Any]:
    """Decode a body that is exactly one map of the subset.

    Raises:
        PackingError: STR-030 malformed, cut off, no map, or octets follow; STR-031 a key is no str or occurs twice;
            STR-032 a float or an extension type; STR-033 too deep or too many values.
    """
    try:
        value = strict.unpack(body, _BOUNDS)
    except strict.PackedError as error:
        raise PackingError(_RULES[error.kind], str(error)) from error
    if not isinstance(value, dict):
        raise PackingError(RULE_FORM, "the MessagePack value is not a map")
    return value


def pack_map(value: dict[str, Any]) -> bytes:
    """Encode a map of the subset.

    Raises:
        PackingError: the value is outside the subset, so that no reader would take it.
    """
    try:
        return strict.pack(value, _BOUNDS)
    except strict.PackedError as error:
        raise PackingError(_RULES[error.kind], str(error)) from error
