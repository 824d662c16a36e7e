"""What the repositories share: a table, its row class, and lists that page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, Executable, Table, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.errors import NotFoundError
from migsvc.storage.database import Database

RowT = TypeVar("RowT")


class Repository(Generic[RowT]):
    """Rows of one table. `get` by key; `list` in order of insertion, after a `seq`."""

    TABLE: ClassVar[Table]
    ROW: ClassVar[type[Any]]
    KEY: ClassVar[str] = "id"
    WHAT: ClassVar[str]
    """What a row is called in messages."""

    def __init__(self, database: Database) -> None:
        """Work on that database."""
        self._database = database

    async def add(self, row: RowT) -> RowT:
        """Insert a row and return it with its `seq`.

        Raises:
            ConflictError: its id or name is taken.
        """
        return await self._database.write(lambda connection: self._insert(connection, row))

    async def get(self, key: str) -> RowT:
        """Return one row.

        Raises:
            NotFoundError: there is none.
        """
        found = await self.find(key)
        if found is None:
            raise NotFoundError(f"there is no {self.WHAT} {key!r} on this host")
        return found

    async def find(self, key: str) -> RowT | None:
        """Return one row, or None."""
        return await self._database.read(lambda connection: self._one(connection, self._key() == key))

    async def list(self, after_seq: int = 0, limit: int = 100) -> list[RowT]:
        """Return at most `limit` rows after `after_seq`, oldest first."""
        seq = self.TABLE.c.seq
        query = select(self.TABLE).where(seq > after_seq).order_by(seq).limit(limit)
        return list(await self._database.read(lambda connection: self._many(connection, query)))

    async def count(self) -> int:
        """Return how many rows there are."""

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(select(func.count()).select_from(self.TABLE))).scalar_one())

        return await self._database.read(work)

    async def update(self, key: str, **changes: Any) -> RowT:
        """Set those columns of one row, at least one, and return the row.

        Raises:
            NotFoundError: there is no such row.
            ConflictError: a name is taken.
        """
        return await self._database.write(lambda connection: self._set(connection, key, changes))

    async def delete(self, key: str) -> None:
        """Delete one row.

        Raises:
            NotFoundError: there is none.
        """

        async def work(connection: AsyncConnection) -> None:
            done = await connection.execute(self.TABLE.delete().where(self._key() == key))
            if done.rowcount != 1:
                raise NotFoundError(f"there is no {self.WHAT} {key!r} on this host")

        await self._database.write(work)

    def _key(self) -> ColumnElement[Any]:
        return self.TABLE.c[self.KEY]

    async def _insert(self, connection: AsyncConnection, row: RowT) -> RowT:
        values = columns_of(row)
        seq = (await connection.execute(insert(self.TABLE).values(values).returning(self.TABLE.c.seq))).scalar_one()
        return dataclasses.replace(row, seq=seq)  # type: ignore[type-var]

    async def _set(self, connection: AsyncConnection, key: str, changes: Mapping[str, Any]) -> RowT:
        query = update(self.TABLE).where(self._key() == key).values(**changes).returning(*self.TABLE.c)
        found = (await connection.execute(query)).mappings().one_or_none()
        if found is None:
            raise NotFoundError(f"there is no {self.WHAT} {key!r} on this host")
        return self._row(found)

    async def _one(self, connection: AsyncConnection, *where: ColumnElement[bool]) -> RowT | None:
        found = (await connection.execute(select(self.TABLE).where(*where))).mappings().one_or_none()
        return None if found is None else self._row(found)

    async def _many(self, connection: AsyncConnection, query: Executable) -> Sequence[RowT]:
        return [self._row(found) for found in (await connection.execute(query)).mappings()]

    def _row(self, columns: Any) -> RowT:
        row: RowT = self.ROW(**columns)
        return row


def columns_of(row: Any, leave_out: Iterable[str] = ("seq",)) -> dict[str, Any]:
    """Return a row's columns; `seq` is the database's to give."""
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in leave_out}
