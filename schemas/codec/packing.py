"""Strict MessagePack: nil, bool, integers, str, bin, arrays and maps with str keys, each key once; nothing else.

Neither msgpack nor msgspec refuses repeated keys, and both hand extension types through. So what comes out of the C
decoder is checked in its hooks; whatever it refuses, or could make too large, goes through `scan`, which walks the
octets without building anything and says what is wrong and where.
Source: MessagePack specification, "Formats" (github.com/msgpack/msgpack/blob/master/spec.md).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgpack

from ..errors import DecodeError, Problem

__all__ = ["Bounds", "PackedError", "pack", "scan", "unpack"]

Kind = Literal["form", "keys", "types", "bounds"]


class Bounds(NamedTuple):
    """How large a document may be: octets, containers inside each other, and values (keys count)."""

    max_bytes: int
    max_depth: int
    max_values: int


class PackedError(DecodeError):
    """Octets that are not in the subset. `kind`: malformed, a key, a type, or beyond the bounds."""

    def __init__(self, kind: Kind, where: str, message: str) -> None:
        """Keep what kind of mistake it is: FORMAT.md has a rule for each."""
        super().__init__([Problem(where=where or "document", message=message)])
        self.kind = kind


_SCALARS = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Format octet -> octets that follow: nil, false, true, uint 8..64, int 8..64."""

_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Format octet -> octets of the length that follows: bin 8/16/32, str 8/16/32."""

_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Format octet -> (octets of the count that follows, values per entry): array 16/32, map 16/32."""

SCAN_ABOVE_BYTES = 1 << 16
"""An empty array is one octet that becomes an object of 64 (here 4 MiB at most); what is longer is scanned first."""

_TYPES = frozenset({type(None), bool, int, str, bytes, list, dict})
_CONTAINERS = frozenset({list, dict})


def pack(value: Any, bounds: Bounds) -> bytes:
    """Encode a value of the subset.

    Raises:
        PackedError: the value is outside the subset or the bounds, so that no reader would take it.
    """
    try:
        body: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise PackedError("types", "", f"cannot be encoded: {error}") from error
    if not _is_flat(value) or len(body) > bounds.max_bytes or 2 * len(value) >= bounds.max_values:
        scan(body, bounds)
    return body


def _is_flat(value: Any) -> bool:
    """Return whether a value is a map of str to bin, which packs to nothing that `scan` could refuse."""
    return type(value) is dict and all(type(k) is str and type(v) is bytes for k, v in value.items())


def unpack(body: bytes, bounds: Bounds) -> Any:
    """Decode octets that are exactly one value of the subset, in bounded time and memory.

    Raises:
        PackedError: they are not; `where` is the path of the first offence.
    """
    if len(body) > min(SCAN_ABOVE_BYTES, bounds.max_bytes):
        scan(body, bounds)
    try:
        value = msgpack.unpackb(
            body, raw=False, strict_map_key=True, object_pairs_hook=_map_of, list_hook=_list_of, ext_hook=_extension
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        scan(body, bounds)
        raise PackedError("form", "", f"not valid MessagePack: {error}") from error
    if type(value) not in _TYPES or _beyond(value, bounds):
        scan(body, bounds)
    return value


def _map_of(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a map key occurs twice")
    for key, value in pairs:
        if type(key) is not str or type(value) not in _TYPES:
            raise ValueError("a key or a value of a map has a type that is not allowed")
    return made


def _list_of(values: list[Any]) -> list[Any]:
    if not _TYPES.issuperset(map(type, values)):
        raise ValueError("a value of an array has a type that is not allowed")
    return values


def _extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _beyond(value: Any, bounds: Bounds) -> bool:
    """Return whether a value is nested too deeply or holds too many values; looks at containers only."""
    values, depth = 1, 0
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        depth += 1
        inner: list[Any] = []
        for held in level:
            items = held
            if type(held) is dict:
                values += len(held)
                items = held.values()
            values += len(held)
            inner += [item for item in items if type(item) in _CONTAINERS]
        if depth > bounds.max_depth or values > bounds.max_values:
            return True
        level = inner
    return False


class _Open:
    """A container that is being walked."""

    __slots__ = ("is_map", "key", "keys", "left", "total")

    def __init__(self, total: int, is_map: bool) -> None:
        self.total = self.left = total
        self.is_map = is_map
        self.key = ""
        self.keys: set[str] = set()

    @property
    def at_key(self) -> bool:
        return self.is_map and self.left % 2 == 0

    @property
    def place(self) -> str:
        return self.key if self.is_map else str(self.total - self.left)


def _place(open_: list[_Open]) -> str:
    return ".".join(container.place[:64] for container in open_)


def scan(body: bytes, bounds: Bounds) -> None:
    """Check that `body` is exactly one value of the subset, without building it.

    Raises:
        PackedError: form, it is malformed, cut off, or octets follow; keys, a key is no str or occurs twice; types, a
            float, an extension or an unused format; bounds, it is too long, too deep or holds too many values.
    """
    if len(body) > bounds.max_bytes:
        raise PackedError("bounds", "", f"{len(body)} octets, at most {bounds.max_bytes}")
    position, values, open_ = 0, 0, list[_Open]()
    while True:
        values += 1
        if values > bounds.max_values:
            raise PackedError("bounds", _place(open_), f"more than {bounds.max_values} values")
        begin = position
        position, inner, is_map = _step(body, position, open_)
        if open_ and open_[-1].at_key:
            _take_key(body, begin, position, open_)
        if inner:
            if len(open_) >= bounds.max_depth:
                raise PackedError("bounds", _place(open_), f"nested deeper than {bounds.max_depth}")
            open_.append(_Open(inner, is_map))
            continue
        while open_:
            open_[-1].left -= 1
            if open_[-1].left:
                break
            open_.pop()
        if not open_:
            break
    if position != len(body):
        raise PackedError("form", "", f"{len(body) - position} octets follow the MessagePack value")


def _step(body: bytes, position: int, open_: list[_Open]) -> tuple[int, int, bool]:
    """Return (position after the value's own octets, values inside it, whether it is a map)."""
    if position >= len(body):
        raise PackedError("form", _place(open_), "the MessagePack value is cut off")
    octet = body[position]
    if open_ and open_[-1].at_key and not _is_str(octet):
        raise PackedError("keys", _place(open_[:-1]), f"a map key is not a str (format {octet:#04x})")
    start = position + 1
    inner, is_map, end = 0, False, start
    if octet <= 0x7F or octet >= 0xE0:
        pass
    elif octet <= 0x9F:
        is_map = octet <= 0x8F
        inner = (octet & 0x0F) * (1 + is_map)
    elif octet <= 0xBF:
        end += octet & 0x1F
    elif octet in _SCALARS:
        end += _SCALARS[octet]
    elif octet in _SIZED:
        start += _SIZED[octet]
        end = start + int.from_bytes(body[position + 1 : start], "big")
    elif octet in _NESTED:
        width, each = _NESTED[octet]
        end += width
        inner, is_map = int.from_bytes(body[start:end], "big") * each, each == 2
    else:
        message = f"MessagePack format {octet:#04x} is not allowed here (float, extension or unused)"
        raise PackedError("types", _place(open_), message)
    if end > len(body):
        raise PackedError("form", _place(open_), "the MessagePack value is cut off")
    if _is_str(octet):
        _text(body[start:end], open_)
    return end, inner, is_map


def _is_str(octet: int) -> bool:
    return 0xA0 <= octet <= 0xBF or 0xD9 <= octet <= 0xDB


def _text(raw: bytes, open_: list[_Open]) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PackedError("form", _place(open_), f"a str is not UTF-8: {error.reason}") from error


def _take_key(body: bytes, begin: int, end: int, open_: list[_Open]) -> None:
    """Remember the key at this place; it was checked to be a str."""
    begin += 1 + _SIZED.get(body[begin], 0)
    key = body[begin:end].decode()
    if key in open_[-1].keys:
        raise PackedError("keys", _place(open_[:-1]), f"the map key {key[:64]!r} occurs twice")
    open_[-1].keys.add(key)
    open_[-1].key = key
