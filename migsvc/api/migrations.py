"""Routes of /v1/migrations: begin, list, show, watch and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.errors import ApiProblem
from migsvc.api.params import IdempotencyKey, PagingParams, Svc, filtered_page, link_next
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import MigrationCreate, MigrationEvent, MigrationRecord, MigrationState, Page

router = APIRouter(prefix="/v1/migrations", tags=["migrations"], route_class=StrictRoute)

MigrationId = Annotated[
    str,
    Path(
        min_length=1, max_length=64, description="id of the migration", openapi_examples={"id": {"value": "c0ffee00"}}
    ),
]


@router.post(
    "",
    status_code=202,
    operation_id="createMigration",
    summary="Move a VM to a peer, live",
    responses={
        **example(202, examples.QUEUED_MIGRATION, location=True),
        **errors_of(
            *("not-found", "conflict", "not-owner", "body-too-large", "invalid-request", "idempotency-key-reused"),
            *("request-in-progress", "limit-exceeded", "bad-request", "worker-failed", "storage-failed", "not-ready"),
        ),
    },
)
async def create_migration(
    services: Svc,
    request: Annotated[
        MigrationCreate,
        Body(
            openapi_examples=body_examples(
                plain={"vm": "web-1", "peer": "host-b"},
                inside_the_smi_handler={"vm": "web-1", "peer": "host-b", "options": {"pause_when": "smm_shadow"}},
                to_a_host_without_smm_shadow={
                    "vm": "web-1",
                    "peer": "host-old",
                    "options": {"smm_shadow_loss": "wait"},
                },
            )
        ),
    ],
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> MigrationRecord:
    """Begin a migration. It goes on in the background; follow Location, or its events."""
    record = await services.migrations.create(request)
    response.headers["Location"] = f"/v1/migrations/{record.id}"
    return record


@router.get(
    "",
    operation_id="listMigrations",
    summary="List migrations, outgoing and incoming",
    responses={
        **example(200, examples.page(examples.MIGRATION)),
        **errors_of("bad-request", "invalid-request", "not-ready"),
    },
)
async def list_migrations(
    services: Svc,
    paging: PagingParams,
    request: Request,
    response: Response,
    vm: Annotated[str | None, Query(max_length=64, description="only of this VM (id or name)")] = None,
    state: Annotated[list[MigrationState] | None, Query(max_length=16, description="only in these states")] = None,
) -> Page[MigrationRecord]:
    """Return one page of the migrations of this host, oldest first."""

    def keep(record: MigrationRecord) -> bool:
        return (vm is None or vm in (record.vm, record.vm_name)) and (not state or record.state in state)

    return link_next(request, response, await filtered_page(services.migrations.list, paging, keep))


@router.get(
    "/{migration}",
    operation_id="getMigration",
    summary="Show one migration",
    responses={**example(200, examples.MIGRATION), **errors_of("not-found", "invalid-request", "not-ready")},
)
async def get_migration(services: Svc, migration: MigrationId) -> MigrationRecord:
    """Return one migration: phase, figures, and who owns the VM and why."""
    return await services.migrations.get(migration)


@router.post(
    "/{migration}/cancel",
    status_code=202,
    operation_id="cancelMigration",
    summary="Cancel a migration",
    responses={
        **example(202, examples.MIGRATION, location=True),
        **errors_of(
            *("not-found", "conflict", "not-owner", "invalid-request", "idempotency-key-reused", "request-in-progress"),
            *("body-too-large", "peer-failed", "not-ready"),
        ),
    },
)
async def cancel_migration(
    services: Svc,
    migration: MigrationId,
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> MigrationRecord:
    """Cancel before the commit point: the VM goes on running here. After it: a conflict that names the owner."""
    record = await services.migrations.cancel(migration)
    response.headers["Location"] = f"/v1/migrations/{record.id}"
    return record


async def _watched(services: Svc, request: Request, migration: MigrationId) -> AsyncIterator[str]:
    """Check before the stream begins that there is such a migration and room for a stream."""
    state = request.app.state
    await services.migrations.get(migration)
    if state.event_streams >= state.settings.max_event_streams:
        raise ApiProblem(
            "not-ready",
            f"{state.event_streams} event streams are open, the most that this host serves",
            hint="poll GET /v1/migrations/{id}, or try again",
            headers={"Retry-After": "5"},
        )
    state.event_streams += 1
    try:
        yield migration
    finally:
        state.event_streams -= 1


@router.get(
    "/{migration}/events",
    operation_id="watchMigration",
    summary="Watch a migration (server-sent events)",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "events; `id:` is `seq`, `event:` is `type`, `data:` a MigrationEvent; the last is `end`",
            "content": {
                "text/event-stream": {
                    "example": 'id: 1\nevent: state\ndata: {"seq": 1, "type": "state", "data": {}}\n\n'
                }
            },
        },
        **errors_of("not-found", "invalid-request", "not-ready"),
    },
)
async def watch_migration(
    services: Svc,
    request: Request,
    migration: Annotated[str, Depends(_watched)],
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, lt=1 << 63, description="go on after this event")
    ] = None,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="as Last-Event-ID, which wins")] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Send the events so far, then each new one, until the migration ends; a comment every 15 s keeps it open."""
    start = after if last_event_id is None else last_event_id
    async for event in _until_closing(services.migrations.events(migration, start), request.app.state.closing):
        yield ServerSentEvent(data=event, event=event.type, id=str(event.seq))


async def _until_closing(
    events: AsyncIterator[MigrationEvent], closing: asyncio.Event
) -> AsyncIterator[MigrationEvent]:
    """Pass events on until they end or the host shuts down: an open stream must not hold the shutdown up."""

    async def following() -> MigrationEvent | None:
        return await anext(events, None)

    waiter = asyncio.ensure_future(closing.wait())
    task: asyncio.Task[MigrationEvent | None] | None = None
    try:
        while not closing.is_set():
            task = asyncio.ensure_future(following())
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
            event = task.result() if task.done() else None
            if event is None:
                return
            yield event
    finally:
        waiter.cancel()
        if task is not None:
            task.cancel()
