"""Use cases on migrations: begin one, watch it, cancel it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

from migsvc.errors import ConflictError, LimitError, NotOwnerError
from migsvc.service.context import Host
from migsvc.service.hub import wait_for_news
from migsvc.service.jobs import Job
from migsvc.service.journal import ENDED, Journal, now
from migsvc.service.mapping import event_record, migration_record
from migsvc.service.paging import page_of
from migsvc.service.peers import Peers
from migsvc.service.records import MigrationCreate, MigrationEvent, MigrationRecord, MigrationState, Page
from migsvc.service.source import SourceEngine
from migsvc.service.vm_lookup import VmLookup
from migsvc.storage.rows import MigrationRow

CANCEL_WAIT_S = 30.0
"""A cancelled migration ends within a record and a round trip; this is for a machine under great load."""

NEWS_WAIT_S = 5.0
"""Watchers look again after this long in any case."""


class Migrations:
    """The migrations of this host, outgoing and incoming."""

    def __init__(self, host: Host, peers: Peers) -> None:
        """Work on that host."""
        self._host = host
        self._lookup = VmLookup(host)
        self._peers = peers

    async def create(self, request: MigrationCreate) -> MigrationRecord:
        """Begin to move a VM to a peer; the record comes back in state queued.

        Raises:
            NotFoundError: no such VM or peer.
            NotOwnerError: another host owns the VM.
            ConflictError: the VM is not fit to be moved now, or the peer is this very host.
            LimitError: as many migrations as this host runs at once are under way.
        """
        vm, live = await self._lookup.owned(request.vm)
        peer = await self._host.catalogue.peers.get(request.peer)
        if peer.host_id == self._host.id:
            raise ConflictError(f"peer {peer.name!r} is this very host", hint="name another host as the peer")
        live.require_free("be migrated")
        limit = self._host.settings.max_migrations
        if self._host.jobs.count("source") >= limit:
            raise LimitError(f"{limit} migrations are under way, the most at once", hint="try again later", limit=limit)
        at = now()
        row = MigrationRow(
            id=str(uuid.uuid4()),
            role="source",
            vm_id=vm.id,
            vm_name=vm.name,
            peer=peer.name,
            state=MigrationState.QUEUED,
            owner=self._host.name,
            epoch=vm.epoch,
            explanation="nothing has begun; the VM is here as before",
            created_at=at,
            updated_at=at,
            options=request.options.model_dump(mode="json"),
        )
        live.migration = row.id
        try:
            row = await self._host.catalogue.migrations.add(row)
        except BaseException:
            live.migration = None
            raise
        job = self._host.jobs.add(Job(Journal(self._host, row)))
        engine = SourceEngine(self._host, self._peers, job, live, request.options)
        self._host.jobs.start(job, engine.run())
        return migration_record(row)

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[MigrationRecord]:
        """Return one page of the migrations, oldest first."""
        return await page_of(self._host.catalogue.migrations.list, migration_record, cursor, limit)

    async def get(self, migration_id: str) -> MigrationRecord:
        """Return one migration.

        Raises:
            NotFoundError: there is none of that id.
        """
        return migration_record(await self._host.catalogue.migrations.get(migration_id))

    async def cancel(self, migration_id: str) -> MigrationRecord:
        """Cancel a migration that has not been committed; the VM stays on the source, running if it was.

        Raises:
            NotFoundError: there is none of that id.
            ConflictError: it is too late; owner and epoch are named.
        """
        row = await self._host.catalogue.migrations.get(migration_id)
        job = self._host.jobs.find(migration_id)
        if job is None or not job.cancel.cancel("cancelled by request"):
            return await self._too_late(row)
        if job.task is not None:
            await asyncio.wait({job.task}, timeout=CANCEL_WAIT_S)
        row = await self._host.catalogue.migrations.get(migration_id)
        return await self._too_late(row)

    async def events(self, migration_id: str, after_seq: int = 0) -> AsyncIterator[MigrationEvent]:
        """Yield the events after `after_seq`, then each new one, until the one of type `end`.

        Raises:
            NotFoundError: there is no such migration.
        """
        seen = after_seq
        while True:
            news = self._host.hub.watch(migration_id)
            row = await self._host.catalogue.migrations.get(migration_id)
            found = await self._host.catalogue.migrations.events(migration_id, seen, 200)
            for event in found:
                seen = event.seq
                yield event_record(event)
                if event.type == "end":
                    return
            if not found:
                if row.state in ENDED:
                    return
                await wait_for_news(news, NEWS_WAIT_S)

    async def _too_late(self, row: MigrationRow) -> MigrationRecord:
        """Return the record if it is cancelled, else say who owns the VM."""
        if row.state == MigrationState.CANCELLED:
            return migration_record(row)
        members = {"state": row.state, "owner": row.owner, "epoch": row.epoch}
        detail = f"migration {row.id} is {row.state}: {row.owner} owns the VM at epoch {row.epoch} ({row.explanation})"
        if row.role == "destination" and row.state == MigrationState.PREPARED:
            raise ConflictError(detail, hint="only the source can tell now; cancel it there", **members)
        if row.owner != self._host.name:
            raise NotOwnerError(detail, hint=f"ask {row.owner}", **members)
        raise ConflictError(detail, hint="there is nothing left to cancel", **members)
