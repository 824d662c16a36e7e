"""What the agent and a worker say to each other: frames of MessagePack over a Unix socket.

A frame is a little-endian u32 length and that many octets of MessagePack, one map:

    {"id": n, "method": m, "params": {...}}    agent -> worker: a request
    {"cancel": n}                              agent -> worker: nobody waits for the answer to request n any more
    {"id": n, "result": r}                     worker -> agent: its answer
    {"id": n, "error": {"type", "detail", "hint", "extra"}}
    {"event": e, ...}                          worker -> agent: something happened

Both ends check what they read: a frame that is too long or not such a map ends the connection, never the VM.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from migsvc import errors
from migsvc.errors import FindingsError, LimitError, MigsvcError, WorkerError

MAX_FRAME_BYTES = 64 << 20
"""A VM may be created from 32 MiB of images; a dirty bitmap of 64 GiB is 2 MiB."""

MAX_TEXT_BYTES = 1 << 16
MAX_ITEMS = 1 << 16
LENGTH = struct.Struct("<I")

Message = dict[str, Any]


class FrameError(ValueError):
    """The other end sent something that is not a frame."""


class FrameDecoder:
    """Cuts a byte stream into messages; holds at most one frame."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        """Refuse frames beyond `max_bytes`."""
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take received bytes and yield each message that is complete.

        Raises:
            FrameError: the bytes are not frames; the connection is of no more use.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > self._max_bytes:
                raise FrameError(f"a frame of {length} bytes; at most {self._max_bytes} are allowed")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[LENGTH.size : end])
            del self._buffer[:end]
            yield _decode(body)


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as a frame.

    Raises:
        LimitError: it is longer than a frame may be.
    """
    body: bytes = msgpack.packb(message)
    if len(body) > MAX_FRAME_BYTES:
        raise LimitError(f"a message of {len(body)} bytes to or from a worker; at most {MAX_FRAME_BYTES} are allowed")
    return LENGTH.pack(len(body)) + body


def _decode(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(
            body,
            max_str_len=MAX_TEXT_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise FrameError(f"a frame that is not MessagePack: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError("a frame that is not a map with text keys")
    return message


def error_to_map(error: MigsvcError) -> dict[str, Any]:
    """Return an error as it crosses the socket."""
    extra = {key: value for key, value in error.extra.items() if key != "findings"}
    findings = error.findings if isinstance(error, FindingsError) else []
    return {
        "type": type(error).__name__,
        "detail": error.detail,
        "hint": error.hint,
        "extra": extra,
        "findings": findings,
    }


def error_from_map(raw: object) -> MigsvcError:
    """Return the error that a worker sent; one that we do not know is a WorkerError."""
    if not isinstance(raw, dict):
        return WorkerError("the worker answered with an error that is not a map")
    detail, hint, extra = str(raw.get("detail", "")), str(raw.get("hint", "")), raw.get("extra")
    members = {str(key): value for key, value in extra.items()} if isinstance(extra, dict) else {}
    kind = getattr(errors, str(raw.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, MigsvcError)):
        return WorkerError(f"the worker answered {raw.get('type')}: {detail}", hint=hint)
    if issubclass(kind, FindingsError):
        findings = raw.get("findings")
        return kind(detail, findings if isinstance(findings, list) else [], hint=hint, **members)
    return kind(detail, hint=hint, **members)
