"""Route of /v1/host: what this host is and can hold."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from migsvc.api import examples
from migsvc.api.docs import errors_of, example
from migsvc.api.params import Svc

router = APIRouter(prefix="/v1/host", tags=["host"])

EXAMPLE: dict[str, Any] = {
    "id": "0d9f3c1b2a4e5f60718293a4b5c6d7e8",
    "name": "host-a",
    "version": "0.1.0",
    "migration_address": "127.0.0.1:40711",
    "profile": {**examples.host_profile(), "name": "host-a"},
    "counts": {"vms": 2, "snapshots": 1, "peers": 1, "migrations": 6},
}


@router.get(
    "",
    operation_id="getHost",
    summary="Say what this host is and can hold",
    responses={**example(200, EXAMPLE), **errors_of("not-ready")},
)
async def get_host(services: Svc) -> dict[str, Any]:
    """Return identity, the address that takes migrations, the host profile and counts."""
    return await services.hosts.describe()
