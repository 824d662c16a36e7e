"""Problem documents (RFC 9457): one row per kind of error, and the handlers that turn exceptions into them.

This is the only file that maps errors to HTTP status codes. `type` is the stable part: `/problems/<slug>`, which is
also a page of this API; clients compare it, never the text.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from migsvc import errors

log = logging.getLogger("migsvc.api")

PROBLEM_JSON = "application/problem+json"
"""Media type of every error answer (RFC 9457, section 3)."""

MAX_LISTED_ERRORS = 100
"""Validation errors listed in one problem: a hostile body of 1 MiB could cause hundreds of thousands."""


class Problem(BaseModel):
    """A problem document (RFC 9457). Further members depend on the type, e.g. `findings`, `owner`, `epoch`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="URI of the kind of problem; stable, compare this", examples=["/problems/not-found"])
    title: str = Field(description="the kind of problem in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong, and where")
    instance: str | None = Field(default=None, description="path of the request")
    hint: str | None = Field(default=None, description="what to do about it")


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: a row of `PROBLEMS`."""

    slug: str
    status: int
    title: str
    description: str
    error: type[errors.MigsvcError] | None = None

    @property
    def uri(self) -> str:
        """The `type` member of the documents."""
        return f"/problems/{self.slug}"


PROBLEMS: tuple[ProblemType, ...] = (
    ProblemType(
        "bad-request",
        400,
        "Bad request",
        "The request cannot be read, e.g. a cursor that is not ours.",
        errors.InputError,
    ),
    ProblemType("unauthorized", 401, "Unauthorized", "This host needs a bearer token; send `Authorization: Bearer …`."),
    ProblemType(
        "foreign-origin",
        403,
        "Foreign origin",
        "The Host or Origin header names another site. A host without a token answers loopback names only, so that "
        "no web page can reach it.",
    ),
    ProblemType(
        "not-found",
        404,
        "Not found",
        "There is no such VM, snapshot, peer or migration on this host.",
        errors.NotFoundError,
    ),
    ProblemType("no-such-route", 404, "No such route", "The path is not part of the API; see /openapi.json."),
    ProblemType(
        "method-not-allowed", 405, "Method not allowed", "The path exists, the method does not; see the Allow header."
    ),
    ProblemType("not-acceptable", 406, "Not acceptable", "None of the media types in Accept can be served."),
    ProblemType(
        "conflict", 409, "Conflict", "The request contradicts the present state of the object.", errors.ConflictError
    ),
    ProblemType(
        "not-owner",
        409,
        "Not the owner",
        "Another host owns the VM; `owner` and `epoch` say which.",
        errors.NotOwnerError,
    ),
    ProblemType("cancelled", 409, "Cancelled", "The operation was cancelled by request.", errors.CancelledError),
    ProblemType(
        "request-in-progress",
        409,
        "Request in progress",
        "A request with the same Idempotency-Key is still being worked on; ask again.",
    ),
    ProblemType(
        "precondition-failed",
        412,
        "Precondition failed",
        "If-Match does not name the present ETag: somebody else was faster. Read again, then decide.",
    ),
    ProblemType("body-too-large", 413, "Body too large", "The request body is larger than the bound of this route."),
    ProblemType(
        "range-not-satisfiable",
        416,
        "Range not satisfiable",
        "The Range header asks for octets that the file does not have; see Content-Range for its size.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "The body's Content-Type is none that this route reads.",
    ),
    ProblemType(
        "invalid-request",
        422,
        "Invalid request",
        "Parameters or body do not fit the schema; `errors` lists each place.",
    ),
    ProblemType(
        "idempotency-key-reused",
        422,
        "Idempotency key reused",
        "The Idempotency-Key was used before for another request. Take a new key.",
    ),
    ProblemType(
        "limit-exceeded",
        422,
        "Limit exceeded",
        "Larger, longer or more than this host is configured to take.",
        errors.LimitError,
    ),
    ProblemType(
        "illegal-state",
        422,
        "Illegal state",
        "The vCPU state breaks the rules; `findings` lists every one. Nothing was applied.",
        errors.IllegalStateError,
    ),
    ProblemType(
        "incompatible",
        422,
        "Incompatible",
        "The host cannot hold the state; `findings` gives a reason per field. Nothing was moved.",
        errors.IncompatibleError,
    ),
    ProblemType(
        "stream-rejected",
        422,
        "Stream rejected",
        "The stream is damaged, truncated, reordered or of an unknown version; `findings` lists the violated rules.",
        errors.StreamRejectedError,
    ),
    ProblemType(
        "internal", 500, "Internal error", "A fault of this program; the log has the details.", errors.MigsvcError
    ),
    ProblemType(
        "worker-failed",
        500,
        "Worker failed",
        "The VM's worker process died or did not answer. The host goes on.",
        errors.WorkerError,
    ),
    ProblemType(
        "peer-failed", 502, "Peer failed", "The other host refused, failed or cannot be reached.", errors.PeerError
    ),
    ProblemType(
        "not-ready", 503, "Not ready", "The host is starting, stopping, or has no place for another stream; try again."
    ),
    ProblemType(
        "storage-failed",
        507,
        "Storage failed",
        "The catalogue or the snapshot directory failed, e.g. the disk is full. Nothing that was there is lost.",
        errors.StorageError,
    ),
)
"""Every kind of problem. Adding an error to `migsvc.errors` means adding a row here."""

BY_SLUG: Mapping[str, ProblemType] = {row.slug: row for row in PROBLEMS}
_BY_ERROR: Mapping[type[errors.MigsvcError], ProblemType] = {row.error: row for row in PROBLEMS if row.error}
_BY_STATUS: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    404: "no-such-route",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "body-too-large",
    415: "unsupported-media-type",
    503: "not-ready",
}
"""Kinds of the framework's own HTTP errors."""


class ApiProblem(Exception):  # noqa: N818 - a problem document in flight, not a fault
    """Raised by routes and middleware for problems that only HTTP knows (preconditions, media types, tokens)."""

    def __init__(
        self, slug: str, detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        """Keep the parts; `slug` names a row of `PROBLEMS`."""
        super().__init__(detail)
        self.row = BY_SLUG[slug]
        self.detail = detail
        self.hint = hint
        self.headers = headers
        self.extra = extra


def problem_response(
    row: ProblemType,
    detail: str,
    *,
    instance: str | None = None,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Build the answer; members of `extra` never replace the standard ones."""
    document: dict[str, Any] = {"type": row.uri, "title": row.title, "status": row.status, "detail": detail}
    if instance:
        document["instance"] = instance
    if hint:
        document["hint"] = hint
    body = json.dumps({**document, **{k: v for k, v in (extra or {}).items() if k not in document}}, default=str)
    merged = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body.encode(), row.status, headers=merged, media_type=PROBLEM_JSON)


def row_of(error: errors.MigsvcError) -> ProblemType:
    """Return the row of the nearest class of the error."""
    return next(_BY_ERROR[cls] for cls in type(error).__mro__ if cls in _BY_ERROR)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""
    app.add_exception_handler(errors.MigsvcError, _on_service_error)
    app.add_exception_handler(ApiProblem, _on_api_problem)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_crash)


async def _on_service_error(request: Request, error: Exception) -> Response:
    error = cast("errors.MigsvcError", error)
    row = row_of(error)
    if row.status >= 500:
        log.warning("%s %s: %s: %s", request.method, request.url.path, row.slug, error)
    return problem_response(row, error.detail, instance=request.url.path, hint=error.hint, extra=error.extra)


async def _on_api_problem(request: Request, error: Exception) -> Response:
    error = cast("ApiProblem", error)
    path = request.url.path
    return problem_response(
        error.row, error.detail, instance=path, hint=error.hint, headers=error.headers, extra=error.extra
    )


async def _on_validation_error(request: Request, error: Exception) -> Response:
    error = cast("RequestValidationError", error)
    return problem_response(
        BY_SLUG["invalid-request"],
        "the request does not fit the schema",
        instance=request.url.path,
        hint="see `errors` for each place, and /openapi.json for the schema",
        extra={"errors": listed(error.errors())},
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    error = cast("HTTPException", error)
    row = BY_SLUG[_BY_STATUS.get(error.status_code, "bad-request")]
    details = {
        "no-such-route": f"there is no route {request.url.path}",
        "method-not-allowed": f"{request.method} is not a method of {request.url.path}",
        "body-too-large": "the request body is larger than this route takes",
    }
    detail = details.get(row.slug, str(error.detail))
    headers = dict(error.headers or {})
    if row.slug == "method-not-allowed":
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.url.path))
    return problem_response(row, detail, instance=request.url.path, headers=headers)


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods of a path, as RFC 9110 15.5.6 wants in Allow; the framework names those of one route only."""
    templates = app.openapi()["paths"].items()
    found = (ops for template, ops in templates if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path))
    return sorted({method.upper() for operations in found for method in operations})


async def _on_disconnect(request: Request, _error: Exception) -> Response:
    # No fault of this program, and nobody is left to read the answer.
    detail = "the caller hung up before its request was complete"
    return problem_response(BY_SLUG["bad-request"], detail, instance=request.url.path)


async def _on_crash(request: Request, error: Exception) -> Response:
    # The framework logs the traceback after this answer; the document must not carry internals.
    detail = f"unexpected {type(error).__name__}; the log of the host has the details"
    return problem_response(BY_SLUG["internal"], detail, instance=request.url.path)


def listed(found: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Turn pydantic's errors into where, message and kind; input values are not echoed, they may be secret."""
    return [
        {
            "where": ".".join(str(part) for part in item["loc"]),
            "message": str(item["msg"]).removeprefix("Value error, "),
            "kind": str(item["type"]),
        }
        for item in found[:MAX_LISTED_ERRORS]
    ]
