"""Makes the framework's answer to a body that is too large a problem document.

Routers set `max_body_size`; Starlette 1.10 then counts the bytes and answers 413 as plain text, past every exception
handler, when Content-Length already says too much. This middleware must stand outside of those limits.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migsvc.api.errors import BY_SLUG, problem_response


class BodyLimitProblems:
    """ASGI middleware that replaces a plain 413 by a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but a plain 413."""
        replaced = False

        async def sending(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_413(message):
                replaced = True
                detail = "the request body is larger than this route takes"
                answer = problem_response(BY_SLUG["body-too-large"], detail, instance=scope["path"])
                await answer(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, sending)


def _is_plain_413(message: Message) -> bool:
    plain = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
    return bool(message["status"] == 413 and plain)
