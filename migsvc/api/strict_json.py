"""Reads every JSON body of the API strictly: each name once, no NaN, bounded; the problem names the place.

The framework's own decoder lets the last of two equal names win and reads NaN, so that two readers of one request can
see two requests. Every router takes its routes from here; `tests/migsvc/api/test_strict_json.py` demands it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from migsvc.api.errors import MAX_LISTED_ERRORS, ApiProblem
from schemas.codec.text import TextBounds, loads
from schemas.errors import DecodeError

MAX_VALUES = 1 << 17
"""Eight octets a value in the 1 MiB that all routes but one take; a whole vCPU has some 6,000 values."""

MAX_NAMES = 4096
"""Names in one object: a schema export and a profile's maps have some hundred."""


class StrictRequest(Request):
    """A request whose JSON is decoded by `schemas.codec.text`."""

    refusal: ApiProblem | None = None
    """What was wrong with the body; the framework makes something else of what `json` raises."""

    async def json(self) -> Any:
        """Return the decoded body.

        Raises:
            ApiProblem: invalid-request, with the place.
        """
        body = await self.body()  # as long as the route allows
        bounds = TextBounds(max_bytes=len(body), max_values=MAX_VALUES, max_names=MAX_NAMES, fractions=True)
        try:
            return loads(body, bounds)
        except DecodeError as error:
            self.refusal = _refusal(error)
            raise self.refusal from error


class StrictRoute(APIRoute):
    """A route whose handler gets a `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler with the request replaced."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            read = StrictRequest(request.scope, request.receive)
            try:
                return await handler(read)
            except HTTPException:
                if read.refusal is not None:
                    raise read.refusal from None
                raise

        return strict


def _refusal(error: DecodeError) -> ApiProblem:
    found = [
        {"where": f"body.{p.where}"[:256], "message": p.message[:300], "kind": "json"}
        for p in error.problems[:MAX_LISTED_ERRORS]
    ]
    detail = f"the body cannot be read: {error.problems[0]}"[:300]
    return ApiProblem("invalid-request", detail, hint="see `errors` for the place", errors=found)
