"""Makes the framework's plain-text errors problem documents: those that it answers past every exception handler.

Starlette 1.10 has two: a body above a router's `max_body_size` when Content-Length already says so (413), and a Range
header that a file response cannot serve (400, 416). This middleware must stand outside of both.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migsvc.api.errors import BY_SLUG, problem_response

DETAILS = {
    400: ("bad-request", "the Range header cannot be read; it is of the form bytes=FIRST-LAST"),
    413: ("body-too-large", "the request body is larger than this route takes"),
    416: ("range-not-satisfiable", "the Range header asks for octets that the file does not have"),
}
"""Kind of problem and what is wrong, by the status of the plain answer."""


class PlainErrorProblems:
    """ASGI middleware that replaces a plain 400, 413 or 416 by a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but those."""
        replaced = False

        async def sending(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_error(message):
                replaced = True
                slug, detail = DETAILS[message["status"]]
                kept = Headers(raw=message["headers"]).get("content-range")
                headers = {} if kept is None else {"Content-Range": kept}
                answer = problem_response(BY_SLUG[slug], detail, instance=scope["path"], headers=headers)
                await answer(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, sending)


def _is_plain_error(message: Message) -> bool:
    plain = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
    return plain and message["status"] in DETAILS
