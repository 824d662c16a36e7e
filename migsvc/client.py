"""A thin client of the HTTP API: paths in, decoded JSON out, problem documents as exceptions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from schemas.codec.text import TextBounds, loads
from schemas.errors import DecodeError

CONNECT_TIMEOUT_S = 5.0
"""A host that does not take the connection by then is down."""

CALL_TIMEOUT_S = 120.0
"""Pausing at a rare moment and stepping far answer late; a dead host is told by the connection, not by this."""

LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")
"""Hosts that no proxy of the environment can reach for us."""

CHUNK_BYTES = 1 << 20
"""Piece in which files are sent and received."""

MAX_ANSWER_BYTES = 32 << 20
"""Of a JSON answer: a vCPU state has at most 2 MiB, a page of a list at most 500 items."""

MAX_ANSWER_VALUES = 1 << 20


class ClientError(Exception):
    """Base of what a call can raise."""


class ApiError(ClientError):
    """The host answered with a problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """Keep the document; `slug` is the last part of its type."""
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP status {status}"))
        self.status = status
        self.problem = dict(problem)
        self.slug = str(problem.get("type", "")).rpartition("/")[2]


class UnreachableError(ClientError):
    """No answer: wrong address, the host is down, or the connection broke."""


class Client:
    """A connection to one host agent; use as a context manager. Not safe for use by several threads."""

    def __init__(self, server: str, token: str | None = None, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """`server` is a URL such as http://127.0.0.1:7700.

        Raises:
            UnreachableError: it is no URL at all.
        """
        self.server = server.rstrip("/")
        try:
            local = urlsplit(self.server).hostname in LOOPBACK_NAMES
        except ValueError as error:
            raise self._unreachable(error) from error
        self._http = httpx2.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            trust_env=not local,
        )

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Make one call and return the decoded JSON, or None for an empty answer.

        A POST carries a fresh Idempotency-Key, so that a retry by a proxy cannot act twice.

        Raises:
            ApiError: the host refused; UnreachableError: there was no answer.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        wanted = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            with self._http.stream(method, path, json=body, params=wanted, headers=headers) as answer:
                return self._decode(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from error

    def get(self, path: str, **params: Any) -> Any:
        """GET; None values are left out of the query."""
        return self.call("GET", path, params=params)

    def post(self, path: str, body: Any = None) -> Any:
        """POST a JSON body."""
        return self.call("POST", path, body=body)

    def put(self, path: str, body: Any) -> Any:
        """PUT a JSON body."""
        return self.call("PUT", path, body=body)

    def delete(self, path: str) -> None:
        """DELETE."""
        self.call("DELETE", path)

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, following `next` to the end."""
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **params)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def events(self, path: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield server-sent events as they come, until the host ends the stream.

        Raises:
            ApiError, UnreachableError: as `call`; go on with `after` = the last `seq` seen.
        """
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx2.Timeout(60.0, connect=CONNECT_TIMEOUT_S)  # the host sends a comment every 15 s
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                if answer.status_code != 200:
                    self._decode(answer)
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield _loads(line[5:])
        except (httpx2.HTTPError, DecodeError) as error:
            raise self._unreachable(error) from error

    def download(self, path: str, target: Path) -> int:
        """Write the answer's bytes to a file beside `target`, then rename; return their number."""
        part = target.with_name(target.name + ".part")
        size = 0
        try:
            with self._http.stream("GET", path) as answer:
                if answer.status_code != 200:
                    self._decode(answer)
                with part.open("wb") as file:
                    for chunk in answer.iter_bytes(CHUNK_BYTES):
                        size += file.write(chunk)
            part.replace(target)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            part.unlink(missing_ok=True)
        return size

    def upload(self, path: str, source: Path, **params: Any) -> Any:
        """PUT a file's bytes, streamed."""
        wanted = {key: value for key, value in params.items() if value is not None}
        with source.open("rb") as file:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            try:
                headers = {"Content-Type": "application/octet-stream"}
                with self._http.stream("PUT", path, params=wanted, content=chunks, headers=headers) as answer:
                    return self._decode(answer)
            except httpx2.HTTPError as error:
                raise self._unreachable(error) from error

    def _decode(self, answer: httpx2.Response) -> Any:
        """Read an answer within bounds and return its document; one that is none is no answer of an agent."""
        content = b""
        for chunk in answer.iter_bytes(CHUNK_BYTES):
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise UnreachableError(f"{self.server} answers more than {MAX_ANSWER_BYTES} octets: is it an agent?")
        good = 200 <= answer.status_code < 300
        try:
            document = _loads(content) if content else None
        except DecodeError as error:
            if good:
                raise UnreachableError(f"{self.server} does not answer as an agent: {str(error)[:200]}") from error
            document = None
        if good:
            return document
        status = answer.status_code
        raise ApiError(status, document if isinstance(document, dict) else {"title": f"HTTP status {status}"})

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"no answer from {self.server}: {str(error) or type(error).__name__}")


def segment(text: str) -> str:
    """Quote a caller's text for use as one path segment."""
    return quote(text, safe="")


def _loads(raw: bytes | str) -> Any:
    return loads(raw, TextBounds(max_bytes=MAX_ANSWER_BYTES, max_values=MAX_ANSWER_VALUES, fractions=True))
