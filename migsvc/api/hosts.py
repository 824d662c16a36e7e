"""Route of /v1/host: what this host is and can hold."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from migsvc.api import examples
from migsvc.api.docs import errors_of, example
from migsvc.api.params import Svc
from migsvc.api.strict_json import StrictRoute

router = APIRouter(prefix="/v1/host", tags=["host"], route_class=StrictRoute)

EXAMPLE: dict[str, Any] = {
    "id": "0d9f3c1b2a4e5f60718293a4b5c6d7e8",
    "name": "host-a",
    "version": "0.1.0",
    "migration_address": "127.0.0.1:40711",
    "profile": {**examples.host_profile(), "name": "host-a"},
    "guests": [
        {
            "name": "ticker64",
            "description": "timer, a dirtied working set, its checksum on the serial port, SMIs in shadows",
            "ram_bytes": 16777216,
            "params": {
                "ticks": {"default": 500, "minimum": 1, "maximum": 4294967295, "description": "end after so many ticks"}
            },
        }
    ],
    "counts": {"vms": 2, "snapshots": 1, "peers": 1, "migrations": 6, "migrations_under_way": 0},
}


@router.get(
    "",
    operation_id="getHost",
    summary="Say what this host is and can hold",
    responses={**example(200, EXAMPLE), **errors_of("not-ready")},
)
async def get_host(services: Svc) -> dict[str, Any]:
    """Return identity, the address that takes migrations, the host profile, the bundled guests and counts."""
    return await services.hosts.describe()
