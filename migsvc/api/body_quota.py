"""Bounds the memory of all request bodies together: one body has a bound of its own, but callers can send many.

Uploads of stream files go to disk piece by piece and are not counted.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migsvc.api.errors import BY_SLUG, problem_response

SMALL_BYTES = 64 << 10
"""The first octets of a body are not counted, so that slow senders of large ones cannot keep small ones out. As many
connections as an agent has descriptors for, 1024 by default, hold 64 MiB of them."""

STREAMED = re.compile(r"/v1/snapshots/[^/]+/content")
"""Paths whose PUT bodies are not held."""


class BodyQuota:
    """ASGI middleware that answers 503 to a large body while others fill the quota."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        """Let bodies take `limit_bytes` in all."""
        self.app = app
        self._limit = limit_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received until the request is answered."""
        if scope["type"] != "http" or (scope["method"] == "PUT" and STREAMED.fullmatch(scope["path"])):
            await self.app(scope, receive, send)
            return
        size = counted = 0
        refused = begun = False

        async def receiving() -> Message:
            nonlocal size, counted, refused
            message = await receive()
            size += len(message.get("body", b""))
            growth = max(size - SMALL_BYTES, 0) - counted
            if self._held + growth > self._limit:
                refused = True
                raise _QuotaExceededError
            counted += growth
            self._held += growth
            return message

        async def sending(message: Message) -> None:
            nonlocal begun
            if not refused or begun:
                begun = True
                await send(message)

        try:
            await self.app(scope, receiving, sending)
        except Exception:
            if not refused:
                raise
        finally:
            self._held -= counted
        if refused and not begun:
            detail = "other requests hold as much memory for their bodies as this host gives; try again"
            headers = {"Retry-After": "1", "Connection": "close"}
            answer = problem_response(BY_SLUG["not-ready"], detail, instance=scope["path"], headers=headers)
            await answer(scope, receive, send)


class _QuotaExceededError(Exception):
    """Unwinds the application; it never gets out of the middleware."""
