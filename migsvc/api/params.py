"""Parameters and helpers that routes share: the services, paging, filters, preconditions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Query, Request, Response

from migsvc.api.errors import ApiProblem
from migsvc.service import Services
from migsvc.service.records import Page

MAX_PAGE_ITEMS = 500
"""Items in one page of a list: a page is held in memory, about 1 KB an item."""

MAX_SCANNED_PAGES = 20
"""Pages of the catalogue read for one filtered page, so that no filter makes one request read everything."""

T = TypeVar("T")


def get_services(request: Request) -> Services:
    """Return the services of the application.

    Raises:
        ApiProblem: not-ready, while the host starts or stops.
    """
    services: Services = request.app.state.services
    if not services.ready:
        raise ApiProblem("not-ready", "the host is starting or stopping; try again", headers={"Retry-After": "1"})
    return services


Svc = Annotated[Services, Depends(get_services)]

VmRef = Annotated[
    str,
    Path(
        min_length=1, max_length=64, description="id or name of the VM", openapi_examples={"name": {"value": "web-1"}}
    ),
]
SnapshotRef = Annotated[
    str,
    Path(
        min_length=1,
        max_length=64,
        description="id or name of the snapshot",
        openapi_examples={"name": {"value": "s-1"}},
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key with the same request gives the first answer again instead of acting twice",
    ),
]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=256, description='ETag that must still hold, e.g. "epoch-3", or *')
]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is wanted."""

    cursor: str | None
    limit: int


def _paging(
    cursor: Annotated[str | None, Query(max_length=256, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS, description="most items in the page")] = 100,
) -> Paging:
    return Paging(cursor, limit)


PagingParams = Annotated[Paging, Depends(_paging)]


async def filtered_page(
    fetch: Callable[[str | None, int], Awaitable[Page[T]]], paging: Paging, keep: Callable[[T], bool]
) -> Page[T]:
    """Return one page of the items that `keep` accepts.

    It may hold fewer items than asked for while `next` is set: the part of the catalogue read is bounded.
    """
    items: list[T] = []
    cursor = paging.cursor
    for _ in range(MAX_SCANNED_PAGES):
        page = await fetch(cursor, paging.limit - len(items))
        items.extend(item for item in page.items if keep(item))
        cursor = page.next
        if cursor is None or len(items) >= paging.limit:
            break
    return Page(items=items, next=cursor)


def link_next(request: Request, response: Response, page: Page[T]) -> Page[T]:
    """Add a `Link: <…>; rel="next"` header (RFC 8288) when there is a next page."""
    if page.next is not None:
        url = request.url.include_query_params(cursor=page.next)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return page


def epoch_etag(epoch: int) -> str:
    """Return the ETag of a VM: it names the ownership epoch, what a second client must not act across."""
    return f'"epoch-{epoch}"'


def require_match(if_match: str | None, etag: str) -> None:
    """Refuse unless If-Match is absent, `*`, or lists the present ETag.

    Raises:
        ApiProblem: precondition-failed.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if etag not in [part.strip() for part in if_match.split(",")]:
        raise ApiProblem(
            "precondition-failed",
            f"If-Match is {if_match}, the present ETag is {etag}",
            hint="read the object again and decide anew",
            headers={"ETag": etag},
        )


async def unless_closing(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, but not beyond the shutdown of the host.

    Raises:
        ApiProblem: not-ready, when the host is shutting down.
    """
    closing: asyncio.Event = request.app.state.closing
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiProblem("not-ready", "the host is stopping")
    finally:
        for pending in (task, waiter):
            pending.cancel()
