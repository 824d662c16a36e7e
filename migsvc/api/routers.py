"""Every router of the API, each with the bound of its request bodies. A new file of routes adds a row."""

from __future__ import annotations

from fastapi import APIRouter

from migsvc.api import (
    compat,
    hosts,
    migrations,
    peers,
    probes,
    problems,
    schemas,
    snapshot_content,
    snapshots,
    vcpus,
    vm_actions,
    vms,
)
from migsvc.config import Settings


def table(settings: Settings) -> tuple[tuple[APIRouter, int], ...]:
    """Return each router and the most bytes that a request body of its routes may have."""
    json = settings.max_json_body_bytes
    return (
        (probes.router, json),
        (problems.router, json),
        (hosts.router, json),
        (vms.router, settings.max_vm_create_body_bytes),
        (vm_actions.router, json),
        (vcpus.router, json),
        (compat.router, json),
        (schemas.router, json),
        (snapshots.router, json),
        (snapshot_content.router, settings.max_snapshot_bytes),
        (peers.router, json),
        (migrations.router, json),
    )
