"""Who may call: the bearer token, and, on a host without one, loopback names only.

A service on loopback without a token is still reachable from the user's browser: by a page whose name resolves to
127.0.0.1 (DNS rebinding) and by cross-site POSTs. Both are told by the Host and Origin headers.

Peer certificates and roles are to find their place here too: `authorise` is the one decision.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from migsvc.api.docs import PUBLIC_PATHS
from migsvc.api.errors import BY_SLUG, ApiProblem, problem_response
from migsvc.config import is_loopback


class Guard:
    """ASGI middleware in front of every route but the probes."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        """Keep only a hash of the token: comparing hashes takes the same time for every input."""
        self.app = app
        self._token_hash = None if token is None else hashlib.sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or pass the request on."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            try:
                self.authorise(Headers(scope=scope))
            except ApiProblem as refusal:
                answer = problem_response(
                    refusal.row, refusal.detail, instance=scope["path"], hint=refusal.hint, headers=refusal.headers
                )
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def authorise(self, headers: Headers) -> None:
        """Decide from the headers.

        Raises:
            ApiProblem: unauthorized or foreign-origin.
        """
        if self._token_hash is None:
            _require_local(headers)
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given_hash = hashlib.sha256(given.strip().encode("utf-8", errors="replace")).digest()
        if not hmac.compare_digest(given_hash, self._token_hash) or scheme.lower() != "bearer":
            problem = BY_SLUG["unauthorized"]
            raise ApiProblem(
                problem.slug,
                "this host needs a bearer token" if not given else "the bearer token is not the one of this host",
                hint="send `Authorization: Bearer <token>`; the CLI reads it from --token-file",
                headers={"WWW-Authenticate": 'Bearer realm="migsvc"'},
            )


def _require_local(headers: Headers) -> None:
    host = headers.get("host", "")
    if not is_loopback(_parts(f"//{host}").hostname or ""):
        raise ApiProblem(
            "foreign-origin",
            f"the Host header names {host[:100]!r}, which is not a loopback name",
            hint="a host without a token answers to 127.0.0.1, [::1] and localhost only; others need a token file",
        )
    origin = headers.get("origin")
    if origin is not None and _parts(origin).netloc != host:
        raise ApiProblem("foreign-origin", f"a page of {origin[:100]!r} may not call this host")


def _parts(url: str) -> SplitResult:
    """Split a URL; one that is none, like `//[::1`, has no parts and so names nobody."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
