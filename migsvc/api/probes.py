"""Probes, version and metrics: what orchestrators and Prometheus read."""

from __future__ import annotations

import platform
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from migsvc import __version__
from migsvc.api.docs import errors_of, example
from migsvc.api.errors import ApiProblem
from migsvc.api.strict_json import StrictRoute
from migsvc.errors import StorageError
from migsvc.service import Services

router = APIRouter(tags=["probes"], route_class=StrictRoute)


class Health(BaseModel):
    """Answer of a probe."""

    status: Literal["ok"] = "ok"


class Version(BaseModel):
    """What runs here."""

    version: str
    python: str
    api: Literal["v1"] = "v1"


@router.get(
    "/livez",
    operation_id="livez",
    summary="Tell whether the process answers",
    responses={**example(200, {"status": "ok"}), **errors_of(guarded=False)},
)
async def livez() -> Health:
    """Answer at once; a failure means: restart the process."""
    return Health()


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Tell whether the host takes requests",
    responses={**example(200, {"status": "ok"}), **errors_of("not-ready", guarded=False)},
)
async def readyz(request: Request) -> Health:
    """Answer ok while the catalogue can be read, from when unfinished migrations are decided until shutdown begins."""
    services: Services = request.app.state.services
    if not services.ready or request.app.state.closing.is_set():
        raise ApiProblem("not-ready", "the host is starting or stopping", headers={"Retry-After": "1"})
    try:
        await services.peers.list(limit=1)
    except StorageError as error:
        raise ApiProblem("not-ready", f"the catalogue does not answer: {error.detail}") from error
    return Health()


@router.get(
    "/version",
    operation_id="version",
    summary="Tell the version",
    responses={
        **example(200, {"version": __version__, "python": "3.11.7", "api": "v1"}),
        **errors_of(),
    },
)
async def version() -> Version:
    """Return the version of migsvc and of the interpreter."""
    return Version(version=__version__, python=platform.python_version())


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "text exposition format",
            "content": {"text/plain": {"example": 'migsvc_vms{status="running"} 1.0\n'}},
        },
        **errors_of(),
    },
)
async def metrics(request: Request) -> Response:
    """Return the metrics; every name begins with `migsvc_`, labels have few values (no ids, no names)."""
    body = await request.app.state.metrics.render(request.app.state.services)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
