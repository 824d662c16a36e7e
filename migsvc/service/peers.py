"""Use cases on peers: the other hosts that VMs can be moved to."""

from __future__ import annotations

import asyncio
import builtins
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migsvc.config import ConfigError, Settings
from migsvc.errors import ConflictError, LimitError, PeerError
from migsvc.service.context import Host
from migsvc.service.journal import now
from migsvc.service.mapping import peer_record
from migsvc.service.paging import page_of
from migsvc.service.records import Page, PeerCreate, PeerRecord
from migsvc.storage.rows import MigrationRow, PeerRow
from migsvc.transport.hostinfo import fetch_host


@dataclass(frozen=True, slots=True)
class PeerTarget:
    """A peer as a migration needs it: who it is, where it takes migrations, what it can hold, the token it asks for."""

    name: str
    host_id: str
    address: str
    token: str | None
    profile: dict[str, Any]


class Peers:
    """The peers that this host knows by name."""

    def __init__(self, host: Host) -> None:
        """Work on that host."""
        self._host = host

    async def create(self, request: PeerCreate) -> PeerRecord:
        """Register a peer; it is asked for its identity when it is first needed.

        Raises:
            ConflictError: the name is taken.
            LimitError: as many peers as this host keeps.
        """
        limit = self._host.settings.max_peers
        if await self._host.catalogue.peers.count() >= limit:
            raise LimitError(f"this host keeps at most {limit} peers", hint="delete some", limit=limit)
        row = PeerRow(name=request.name, url=request.url, token_file=request.token_file, created_at=now())
        return peer_record(await self._host.catalogue.peers.add(row))

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[PeerRecord]:
        """Return one page of the peers, oldest first."""
        return await page_of(self._host.catalogue.peers.list, peer_record, cursor, limit)

    async def get(self, name: str) -> PeerRecord:
        """Return one peer.

        Raises:
            NotFoundError: there is none of that name.
        """
        return peer_record(await self._host.catalogue.peers.get(name))

    async def delete(self, name: str) -> None:
        """Forget a peer.

        Raises:
            NotFoundError: there is none of that name.
            ConflictError: a migration to it is under way.
        """
        users = [row.id for row in await self._unfinished() if row.role == "source" and row.peer == name]
        if users:
            raise ConflictError(f"migration {users[0]} to peer {name!r} is under way", hint="wait for it or cancel it")
        await self._host.catalogue.peers.delete(name)

    async def target(self, name: str) -> PeerTarget:
        """Ask a peer who it is and where it takes migrations, and note what it says.

        Raises:
            NotFoundError: there is no such peer.
            PeerError: it cannot be reached, or is not what it was.
            ConflictError: the peer is this very host.
        """
        row = await self._host.catalogue.peers.get(name)
        token = await asyncio.to_thread(_token_of, row)
        info = await fetch_host(row.url, token)
        if info.id == self._host.id:
            raise ConflictError(f"peer {name!r} ({row.url}) is this very host", hint="name another host as the peer")
        await self._host.catalogue.peers.update(
            name, host_id=info.id, migration_address=info.migration_address, profile=info.profile
        )
        return PeerTarget(name=name, host_id=info.id, address=info.migration_address, token=token, profile=info.profile)

    async def address_of(self, host_id: str) -> str | None:
        """Return where the registered peer with that host id takes migrations now, None if none says so."""
        rows = await self._host.catalogue.peers.list(0, self._host.settings.max_peers)
        for row in (row for row in rows if row.host_id in (host_id, None)):
            try:
                token = await asyncio.to_thread(_token_of, row)
                info = await fetch_host(row.url, token)
                if info.id == host_id:
                    return info.migration_address
            except PeerError:
                continue
        return None

    async def _unfinished(self) -> builtins.list[MigrationRow]:
        return await self._host.catalogue.migrations.list_unfinished()


def _token_of(row: PeerRow) -> str | None:
    if row.token_file is None:
        return None
    try:
        return Settings(token_file=Path(row.token_file)).read_token()
    except ConfigError as error:
        raise PeerError(f"the token of peer {row.name!r} cannot be read: {error}") from error
