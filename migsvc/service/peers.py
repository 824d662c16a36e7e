"""Use cases on peers: the other hosts that VMs can be moved to."""

from __future__ import annotations

from migsvc.service.records import Page, PeerCreate, PeerRecord


class Peers:
    """The peers that this host knows by name."""

    async def create(self, request: PeerCreate) -> PeerRecord:
        """Register a peer; it is asked for its identity when it is first needed."""
        raise NotImplementedError

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[PeerRecord]:
        """Return one page of the peers, by name."""
        raise NotImplementedError

    async def get(self, name: str) -> PeerRecord:
        """Return one peer."""
        raise NotImplementedError

    async def delete(self, name: str) -> None:
        """Forget a peer."""
        raise NotImplementedError
