"""What this host is and what it can hold."""

from __future__ import annotations

from typing import Any

from migsvc import __version__
from migsvc.backends import BACKENDS
from migsvc.service.context import Host
from migsvc.service.dialect import within
from schemas.compat import HostProfile


async def host_profile(host: Host) -> HostProfile:
    """Return what this host can hold: its backend's profile within its own limits."""
    (backend,) = BACKENDS.values()
    profile = await host.blocking(backend.profile, host.name)
    return within(profile, host.settings)


class Hosts:
    """This host as peers and users see it."""

    def __init__(self, host: Host) -> None:
        """Speak for that host."""
        self._host = host

    async def describe(self) -> dict[str, Any]:
        """Return id, name, version, migration_address, profile (HostProfile as JSON), guests and counts."""
        host, catalogue = self._host, self._host.catalogue
        profile = await host_profile(host)
        return {
            "id": host.id,
            "name": host.name,
            "version": __version__,
            "migration_address": host.migration_address,
            "profile": profile.model_dump(mode="json"),
            "guests": [_guest(guest) for backend in BACKENDS.values() for guest in backend.guests],
            "counts": {
                "vms": len(await catalogue.vms.list_present()),
                "snapshots": await catalogue.snapshots.count(),
                "peers": await catalogue.peers.count(),
                "migrations": await catalogue.migrations.count(),
                "migrations_under_way": len(await catalogue.migrations.list_unfinished()),
            },
        }


def _guest(guest: Any) -> dict[str, Any]:
    params = {name: param._asdict() for name, param in guest.params.items()}
    return {"name": guest.name, "description": guest.description, "ram_bytes": guest.ram_bytes, "params": params}
