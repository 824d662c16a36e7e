"""The ASGI application of one host agent: routers, middleware, problem documents, and the services' life.

Order of the middleware, outermost first: metrics (counts refusals too), guard (token or loopback names), plain errors,
body quota, idempotency (a replayed answer must have passed the guard; it holds bodies, so the quota is outside), then
the routes with their body limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from migsvc import __version__
from migsvc.api import docs, errors, routers
from migsvc.api.body_quota import BodyQuota
from migsvc.api.guard import Guard
from migsvc.api.idempotency import Idempotency
from migsvc.api.metrics import Metrics, MetricsMiddleware
from migsvc.api.plain_errors import PlainErrorProblems
from migsvc.config import Settings
from migsvc.service import Services

log = logging.getLogger("migsvc.app")

DESCRIPTION = """
One host agent: it keeps VMs, takes snapshots of them, and moves them to other hosts while they run, the SMM
interrupt shadow included.

Errors are problem documents (RFC 9457); their `type` is stable and explained under `/problems`. Long operations
answer 202 with a Location. A POST takes an Idempotency-Key. 64-bit values are "0x…" strings in answers; both
strings and numbers are read.
"""

TAGS = (
    {"name": "vms", "description": "Virtual machines: make, run, pause, step, look into"},
    {"name": "state", "description": "The architectural state of vCPUs, in the kernel's structs"},
    {"name": "snapshots", "description": "Stream files at rest"},
    {"name": "peers", "description": "Other hosts, by name"},
    {"name": "migrations", "description": "Moving a VM to a peer, live"},
    {"name": "host", "description": "What this host is and can hold"},
    {"name": "schemas", "description": "The layout of each schema version, and what a change of it breaks"},
    {"name": "probes", "description": "Liveness, readiness, version, metrics"},
    {"name": "problems", "description": "What each kind of error means"},
)


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Compose the application; `services` are opened under `settings.data_dir` unless given.

    Raises:
        ConfigError: the token file is set but cannot be used.
    """
    token = settings.read_token()
    used = Services.open(settings) if services is None else services
    metrics = Metrics()
    app = FastAPI(
        title="migsvc",
        version=__version__,
        summary="Snapshots, live-migrates and restores KVM x86 vCPUs between hosts",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # the bundled pages load scripts from a CDN; /openapi.json is served
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[
            Middleware(MetricsMiddleware, metrics=metrics),
            Middleware(Guard, token=token),
            Middleware(PlainErrorProblems),
            Middleware(BodyQuota, limit_bytes=settings.max_held_body_bytes),
            Middleware(Idempotency, store=lambda: used.idempotency if used.ready else None, settings=settings),
        ],
    )
    app.state.settings = settings
    app.state.services = used
    app.state.metrics = metrics
    app.state.event_streams = 0
    app.state.closing = asyncio.Event()
    app.state.start_error = None
    for router, limit in routers.table(settings):
        app.include_router(router, max_body_size=limit)
    errors.install(app)
    docs.install(app, TAGS)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    services: Services = app.state.services
    try:
        await services.start()
    except Exception as error:
        app.state.start_error = error
        raise
    try:
        yield {}
    finally:
        app.state.closing.set()
        keep = app.state.settings.on_exit == "keep"
        if keep:
            await _tell_of_workers(services)
        await services.stop(keep_vms=keep)


async def _tell_of_workers(services: Services) -> None:
    """Log that VMs outlive the agent: whoever pressed Ctrl-C should know."""
    page = await services.vms.list(None, 500)
    left = [vm.name for vm in page.items if vm.worker_pid is not None]
    if left:
        log.warning(
            "%d VMs go on in their workers (%s): start again with the same data directory to take them up, "
            "or serve with --on-exit stop",
            len(left),
            ", ".join(left[:10]),
        )
