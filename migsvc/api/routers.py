"""Every router of the API, each with the bound of its request bodies. A new file of routes adds a row."""

from __future__ import annotations

from fastapi import APIRouter

from migsvc.api import (
    hosts,
    migrations,
    peers,
    probes,
    problems,
    snapshot_content,
    snapshots,
    vcpus,
    vm_actions,
    vms,
)
from migsvc.config import Settings


def table(settings: Settings) -> tuple[tuple[APIRouter, int | None], ...]:
    """Return router and body limit in bytes; None: the application's limit for JSON."""
    return (
        (probes.router, None),
        (problems.router, None),
        (hosts.router, None),
        (vms.router, settings.max_vm_create_body_bytes),
        (vm_actions.router, None),
        (vcpus.router, None),
        (snapshots.router, None),
        (snapshot_content.router, settings.max_snapshot_bytes),
        (peers.router, None),
        (migrations.router, None),
    )
