"""Answers kept by Idempotency-Key, so that a repeated request is answered and not done again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.storage import models
from migsvc.storage.database import Database
from migsvc.storage.repositories.base import columns_of
from migsvc.storage.rows import IdempotencyRow


class IdempotencyRepository:
    """A key is reserved before the work and completed with the answer after it."""

    def __init__(self, database: Database) -> None:
        """Work on that database."""
        self._database = database

    async def reserve(self, row: IdempotencyRow) -> IdempotencyRow | None:
        """Reserve a key and return None, or return what is kept under it (`status` 0: still being worked on)."""
        table = models.idempotency

        async def work(connection: AsyncConnection) -> IdempotencyRow | None:
            found = (await connection.execute(select(table).where(table.c.key == row.key))).mappings().one_or_none()
            if found is not None:
                return IdempotencyRow(**found)
            await connection.execute(insert(table).values(columns_of(row)))
            return None

        return await self._database.write(work)

    async def complete(self, key: str, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Keep the answer of a reserved key."""
        table = models.idempotency
        values = {"status": status, "body": body, "headers": headers or {}}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(table).where(table.c.key == key).values(**values))

        await self._database.write(work)

    async def release(self, key: str) -> None:
        """Forget a key, so that the request may be tried again."""
        table = models.idempotency

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(table).where(table.c.key == key))

        await self._database.write(work)

    async def release_unfinished(self) -> int:
        """Forget keys whose work a dead agent never finished; return how many."""
        table = models.idempotency

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(table).where(table.c.status == 0))).rowcount

        return await self._database.write(work)

    async def purge(self, before: datetime, keep: int) -> int:
        """Delete answers older than `before`, and the oldest beyond `keep` of them; return how many went."""
        table = models.idempotency

        async def work(connection: AsyncConnection) -> int:
            newest = select(table.c.key).order_by(table.c.created_at.desc(), table.c.key).limit(keep)
            old = or_(table.c.created_at < before, table.c.key.not_in(newest))
            return (await connection.execute(delete(table).where(old))).rowcount

        return await self._database.write(work)

    async def count(self) -> int:
        """Return how many answers are kept."""

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(select(func.count()).select_from(models.idempotency))).scalar_one())

        return await self._database.read(work)
