"""Use cases on migrations: begin one, watch it, cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from migsvc.service.records import MigrationCreate, MigrationEvent, MigrationRecord, Page


class Migrations:
    """The migrations of this host, outgoing and incoming."""

    async def create(self, request: MigrationCreate) -> MigrationRecord:
        """Begin to move a VM to a peer; the record comes back in state queued."""
        raise NotImplementedError

    async def list(self, cursor: str | None = None, limit: int = 100) -> Page[MigrationRecord]:
        """Return one page of the migrations, oldest first."""
        raise NotImplementedError

    async def get(self, migration_id: str) -> MigrationRecord:
        """Return one migration."""
        raise NotImplementedError

    async def cancel(self, migration_id: str) -> MigrationRecord:
        """Cancel a migration that has not been committed; the VM stays on the source."""
        raise NotImplementedError

    def events(self, migration_id: str, after_seq: int = 0) -> AsyncIterator[MigrationEvent]:
        """Yield the events after `after_seq`, then each new one, until the one of type `end`."""
        raise NotImplementedError
