"""What this host is and what it can hold."""

from __future__ import annotations

from typing import Any


class Hosts:
    """This host as peers and users see it."""

    async def describe(self) -> dict[str, Any]:
        """Return id, name, version, migration_address, profile (HostProfile as JSON) and counts."""
        raise NotImplementedError
