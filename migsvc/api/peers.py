"""Routes of /v1/peers: the other hosts, by name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.params import IdempotencyKey, PagingParams, Svc, link_next
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import Page, PeerCreate, PeerRecord

router = APIRouter(prefix="/v1/peers", tags=["peers"], route_class=StrictRoute)

PeerName = Annotated[
    str,
    Path(min_length=1, max_length=64, description="name of the peer", openapi_examples={"name": {"value": "host-b"}}),
]


@router.post(
    "",
    status_code=201,
    operation_id="createPeer",
    summary="Register another host",
    responses={
        **example(201, examples.PEER, location=True),
        **errors_of(
            *("conflict", "body-too-large", "invalid-request", "idempotency-key-reused", "request-in-progress"),
            *("limit-exceeded", "bad-request", "not-ready"),
        ),
    },
)
async def create_peer(
    services: Svc,
    request: Annotated[
        PeerCreate, Body(openapi_examples=body_examples(loopback={"name": "host-b", "url": "http://127.0.0.1:7702"}))
    ],
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> PeerRecord:
    """Register a host by name. It is asked for its identity when it is first needed."""
    record = await services.peers.create(request)
    response.headers["Location"] = f"/v1/peers/{record.name}"
    return record


@router.get(
    "",
    operation_id="listPeers",
    summary="List the registered hosts",
    responses={
        **example(200, examples.page(examples.PEER)),
        **errors_of("bad-request", "invalid-request", "not-ready"),
    },
)
async def list_peers(services: Svc, paging: PagingParams, request: Request, response: Response) -> Page[PeerRecord]:
    """Return one page of the peers, by name."""
    return link_next(request, response, await services.peers.list(paging.cursor, paging.limit))


@router.get(
    "/{peer}",
    operation_id="getPeer",
    summary="Show one registered host",
    responses={**example(200, examples.PEER), **errors_of("not-found", "invalid-request", "not-ready")},
)
async def get_peer(services: Svc, peer: PeerName) -> PeerRecord:
    """Return one peer; `host_id` and `migration_address` are what it last said of itself."""
    return await services.peers.get(peer)


@router.delete(
    "/{peer}",
    status_code=204,
    operation_id="deletePeer",
    summary="Forget a registered host",
    responses=errors_of("not-found", "conflict", "invalid-request", "not-ready"),
)
async def delete_peer(services: Svc, peer: PeerName) -> None:
    """Forget the peer. Migrations that name it keep what they recorded."""
    await services.peers.delete(peer)
