"""Mutators that know the form: they change values inside a document, so that what lies behind the parser is reached."""

from __future__ import annotations

import json
import random
from typing import Any

import msgpack

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30),
    *("", "0x0", "0xffffffffffffffff", "0x10000000000000000", "-0x1", "zz", "00", "0" * 100, "\x00", "ä", "𝄞"),
    *([], {}, [[]], [0] * 300, {"x": {}}),
)
"""Values that sit at the edges of what our documents hold."""


def changed(value: Any, rng: random.Random) -> Any:
    """Return the value with something in it changed: a member replaced, removed, doubled, renamed or moved."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _scalar(value, rng)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    made: Any = value.copy()
    kind = rng.random()
    if kind < 0.75:
        made[key] = changed(value[key], rng)
    elif kind < 0.83:
        del made[key]
    elif isinstance(made, dict):
        made[rng.choice([*keys, str(key) + "x", "", "index"])] = value[key]
    else:
        made[key:key] = [value[rng.choice(keys)]] * rng.choice((1, 2, 40))
    return made


def _scalar(value: Any, rng: random.Random) -> Any:
    kind = rng.random()
    if isinstance(value, bytes) and kind < 0.8:
        made = bytearray(value)
        if kind < 0.6 and made:
            at = rng.randrange(len(made))
            made[at : at + 1] = bytes([rng.randrange(256)])
        else:
            made = made[: rng.randrange(len(made) + 1)] + bytes(rng.choice((0, 1, 4, 16)))
        return bytes(made)
    if isinstance(value, int) and not isinstance(value, bool) and kind < 0.5:
        return value ^ (1 << rng.randrange(66))
    if isinstance(value, str) and kind < 0.5 and value:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice("0123456789abcdefxX-\x00ß") + value[at + rng.choice((0, 1)) :]
    return rng.choice(ODD)


def mutate_json(data: bytes, seed: int) -> bytes | None:
    """Return a changed JSON document, None if it is none or cannot be written."""
    try:
        return json.dumps(changed(json.loads(data), random.Random(seed))).encode()
    except (ValueError, RecursionError):
        return None


def mutate_msgpack(data: bytes, seed: int) -> bytes | None:
    """Return a changed MessagePack document, None if it is none or cannot be written."""
    try:
        return bytes(msgpack.packb(changed(msgpack.unpackb(data, strict_map_key=False), random.Random(seed))))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return None
