"""Idempotency-Key: a POST repeated with the same key and the same content gets the first answer, and acts once.

The key, a hash of the request and the answer are kept in the catalogue, so that this holds across a restart. Only
successes are kept: a refused request changed nothing and may be repeated with the same key.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migsvc.api.errors import ApiProblem, problem_response, row_of
from migsvc.config import Settings
from migsvc.errors import MigsvcError, StorageError
from migsvc.storage.repositories.idempotency import IdempotencyRepository
from migsvc.storage.rows import IdempotencyRow

log = logging.getLogger("migsvc.api")

MAX_KEY_CHARS = 255
"""Longer keys are refused by the route's own validation."""

KEPT_HEADERS = ("content-type", "location", "etag", "link")
"""Headers of an answer that are given again."""

PURGE_EVERY = 256
"""Answers kept between two purges of the old ones."""

REPLAYED = (b"idempotent-replayed", b"true")
"""Header that marks an answer given again."""


class Idempotency:
    """ASGI middleware for POST requests that carry an Idempotency-Key."""

    def __init__(self, app: ASGIApp, store: Callable[[], IdempotencyRepository | None], settings: Settings) -> None:
        """`store` gives the repository of the catalogue, or None while that is not open."""
        self.app = app
        self._store = store
        self._settings = settings
        self._working: set[str] = set()
        self._kept_since_purge = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the store, or pass the request on and keep its answer."""
        key = _key_of(scope)
        store = self._store() if key else None
        if key is None or store is None:
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
            request_hash = _hash(scope, body)
            row = IdempotencyRow(key, request_hash, scope["method"], scope["path"], datetime.now(UTC))
            stored = await store.reserve(row)
            if stored is not None:
                self._check(key, stored, request_hash)
        except (ApiProblem, MigsvcError) as refusal:
            kind = refusal.row if isinstance(refusal, ApiProblem) else row_of(refusal)
            answer = problem_response(kind, refusal.detail, instance=scope["path"], hint=refusal.hint)
            await answer(scope, receive, send)
            return
        if stored is not None:
            await _replay(stored, send)
            return
        self._working.add(key)
        try:
            await self._run(scope, _body_again(body, receive), send, store, key)
        finally:
            self._working.discard(key)

    def _check(self, key: str, stored: IdempotencyRow, request_hash: str) -> None:
        if stored.request_hash != request_hash:
            raise ApiProblem(
                "idempotency-key-reused",
                f"the Idempotency-Key {key!r} was used for another request",
                hint="take a new key for a new request",
            )
        if stored.status == 0 and key in self._working:
            raise ApiProblem(
                "request-in-progress", f"the request with the key {key!r} is being worked on", hint="ask again"
            )
        if stored.status == 0:
            raise ApiProblem(
                "request-in-progress",
                f"the host was stopped while it worked on the request with the key {key!r}; its outcome was not kept",
                hint="look at the object before you act again, then take a new key",
            )

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._settings.max_vm_create_body_bytes:  # the most that any POST may have
                raise ApiProblem("body-too-large", "the request body is larger than any POST takes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        return b"".join(chunks)

    async def _run(self, scope: Scope, receive: Receive, send: Send, store: IdempotencyRepository, key: str) -> None:
        started: Message = {}
        chunks: list[bytes] = []

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))
                if not message.get("more_body", False):
                    try:
                        await self._keep(store, key, started, b"".join(chunks))
                    except StorageError as error:  # what was done is done: the caller must hear of it
                        log.warning("the answer to the request with the key %r is not kept: %s", key, error)
                    await send(started)
                    await send({"type": "http.response.body", "body": b"".join(chunks)})

        try:
            await self.app(scope, receive, keeping)
        except BaseException:
            with suppress(StorageError):
                await store.release(key)
            raise

    async def _keep(self, store: IdempotencyRepository, key: str, started: Message, body: bytes) -> None:
        """Keep the answer before it is sent: a client that saw it must get the same one again."""
        if not 200 <= started["status"] < 300:
            await store.release(key)
            return
        headers = Headers(raw=started["headers"])
        kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        await store.complete(key, started["status"], body, kept)
        self._kept_since_purge += 1
        if self._kept_since_purge >= PURGE_EVERY:
            self._kept_since_purge = 0
            oldest = datetime.now(UTC) - timedelta(seconds=self._settings.idempotency_ttl_s)
            await store.purge(oldest, self._settings.max_idempotency_keys)


def _key_of(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    key = Headers(scope=scope).get("idempotency-key")
    usable = key is not None and 0 < len(key) <= MAX_KEY_CHARS and all("!" <= c <= "~" for c in key)
    return key if usable else None


def _hash(scope: Scope, body: bytes) -> str:
    head = "\n".join((scope["method"], scope["path"], scope["query_string"].decode("latin-1"), ""))
    return hashlib.sha256(head.encode() + body).hexdigest()


def _body_again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def _replay(stored: IdempotencyRow, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in stored.headers.items()]
    length = (b"content-length", str(len(stored.body)).encode())
    await send({"type": "http.response.start", "status": stored.status, "headers": [*headers, length, REPLAYED]})
    await send({"type": "http.response.body", "body": stored.body})
