"""The verifier's own MessagePack decoder and its own picture of guest memory."""

from __future__ import annotations

import hashlib
from typing import Any

import xxhash

from .records import DIGEST_CHUNK_BYTES, MAX_MSGPACK_DEPTH, MAX_MSGPACK_VALUES

CHUNK = DIGEST_CHUNK_BYTES


class RefusedError(ValueError):
    """A body cannot be understood; nothing more can be said about it."""

    def __init__(self, rule: str, text: str) -> None:
        """Keep the rule beside the text."""
        super().__init__(text)
        self.rule = rule


class Unpacker:
    """MessagePack by recursive descent, with the limits of FORMAT.md."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._values = data, 0, 0

    def whole(self) -> dict[str, Any]:
        """Return the one map that the octets are."""
        value = self._value(0)
        if self._at != len(self._data):
            raise RefusedError("STR-030", f"{len(self._data) - self._at} octets after the MessagePack value")
        if not isinstance(value, dict):
            raise RefusedError("STR-030", "the MessagePack value is not a map")
        return value

    def _raw(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise RefusedError("STR-030", "the MessagePack value is cut off")
        self._at += size
        return piece

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._raw(size), "big", signed=signed)

    def _text(self, size: int) -> str:
        try:
            return self._raw(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusedError("STR-030", "a str is not UTF-8") from error

    def _value(self, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_MSGPACK_VALUES:
            raise RefusedError("STR-033", f"more than {MAX_MSGPACK_VALUES} values")
        tag = self._number(1)
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag < 0x90:
            return self._map(tag - 0x80, depth)
        if tag < 0xA0:
            return self._array(tag - 0x90, depth)
        if tag < 0xC0:
            return self._text(tag - 0xA0)
        return self._tagged(tag, depth)

    def _tagged(self, tag: int, depth: int) -> Any:
        match tag:
            case 0xC0:
                return None
            case 0xC2 | 0xC3:
                return tag == 0xC3
            case 0xC4 | 0xC5 | 0xC6:
                return self._raw(self._number(1 << (tag - 0xC4)))
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self._number(1 << (tag - 0xCC))
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                return self._number(1 << (tag - 0xD0), signed=True)
            case 0xD9 | 0xDA | 0xDB:
                return self._text(self._number(1 << (tag - 0xD9)))
            case 0xDC | 0xDD:
                return self._array(self._number(2 << (tag - 0xDC)), depth)
            case 0xDE | 0xDF:
                return self._map(self._number(2 << (tag - 0xDE)), depth)
        raise RefusedError("STR-032", f"MessagePack format {tag:#04x} is not allowed")

    def _array(self, count: int, depth: int) -> list[Any]:
        if count and depth >= MAX_MSGPACK_DEPTH:
            raise RefusedError("STR-033", f"nested deeper than {MAX_MSGPACK_DEPTH}")
        return [self._value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        if count and depth >= MAX_MSGPACK_DEPTH:
            raise RefusedError("STR-033", f"nested deeper than {MAX_MSGPACK_DEPTH}")
        made: dict[str, Any] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, str):
                raise RefusedError("STR-031", "a map key is not a str")
            if key in made:
                raise RefusedError("STR-031", f"the key {key[:64]!r} occurs twice")
            made[key] = self._value(depth + 1)
        return made


class Pages:
    """Guest memory as the stream leaves it: chunks that were written, or, once they are final, their digests."""

    def __init__(self, ram_bytes: int, *, ascending: bool, budget: int) -> None:
        self._ram_bytes, self._ascending, self._budget = ram_bytes, ascending, max(budget, 2 * CHUNK)
        self._chunks: dict[int, bytearray] = {}
        self._final: dict[int, bytes] = {}
        self.over_budget = False

    def write(self, offset: int, data: memoryview) -> None:
        """Put octets at an offset of the backing."""
        while len(data):
            index, at = divmod(offset, CHUNK)
            take = min(CHUNK - at, len(data))
            chunk = self._chunk(index)
            if chunk is not None:
                chunk[at : at + take] = data[:take]
            offset, data = offset + take, data[take:]

    def clear(self, offset: int, size: int) -> None:
        """Put zeros at an offset of the backing."""
        end = offset + size
        for index in [i for i in self._chunks if offset < (i + 1) * CHUNK and i * CHUNK < end]:
            start, stop = max(offset - index * CHUNK, 0), min(end - index * CHUNK, CHUNK)
            self._chunks[index][start:stop] = bytes(stop - start)

    def _chunk(self, index: int) -> bytearray | None:
        chunk = self._chunks.get(index)
        if chunk is None:
            if self._ascending:
                self._finish()
            if (len(self._chunks) + 1) * CHUNK > self._budget:
                self.over_budget = True
                return None
            chunk = self._chunks[index] = bytearray(min(CHUNK, self._ram_bytes - index * CHUNK))
        return chunk

    def _finish(self) -> None:
        for index, chunk in self._chunks.items():
            self._final[index] = xxhash.xxh3_128_digest(chunk)
        self._chunks = {}

    def digest(self) -> bytes:
        """Return the memory digest, 32 octets."""
        self._finish()
        count = -(-self._ram_bytes // CHUNK)
        whole = xxhash.xxh3_128_digest(bytes(CHUNK))
        last = xxhash.xxh3_128_digest(bytes(self._ram_bytes - (count - 1) * CHUNK))
        digests = [self._final.get(i, whole if i < count - 1 else last) for i in range(count)]
        head = b"migsvc memory 1\0" + self._ram_bytes.to_bytes(8, "little")
        return hashlib.sha256(head + b"".join(digests)).digest()
