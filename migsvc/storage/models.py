"""The catalogue's tables, as SQLAlchemy Core tables; `migrations/` builds the same ones step by step.

Every table whose rows are listed has `seq`, SQLite's row number that is never used twice (AUTOINCREMENT): a cursor
stays right when rows before it are deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)

SCHEMA_REVISION = "0001"
"""The newest revision in `migrations/versions`; a catalogue that already is at it is opened without Alembic."""

OVER_STATES = ("committed", "completed", "cancelled", "failed")
"""States of a migration in which its outcome is fixed: none of them can be cancelled or committed any more."""

ENDED_STATES = ("completed", "cancelled", "failed")
"""States of a migration in which nothing is left to do; `committed` still has the destination to tell."""

INCOMING, PAUSED, MIGRATED = "incoming", "paused", "migrated"
"""The statuses of a VM that the handover itself sets."""

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC: SQLite's own type drops the zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse a naive time, store the rest as UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value} has no zone; pass datetime.now(UTC)")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


def _seq() -> Column[int]:
    return Column("seq", Integer, primary_key=True, autoincrement=True)


def _text(name: str, *, nullable: bool = False, unique: bool = False) -> Column[str]:
    return Column(name, String, nullable=nullable, unique=unique)


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=nullable)


def _time(name: str) -> Column[datetime]:
    return Column(name, UtcDateTime, nullable=False)


host = Table("host", metadata, Column("id", String, primary_key=True), _text("name"), _time("created_at"))

vms = Table(
    "vms",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("name"),
    _text("backend"),
    _text("guest", nullable=True),
    _json("config"),
    _number("ram_bytes"),
    _number("vcpus"),
    _text("status"),
    _text("stop_reason", nullable=True),
    _number("exit_code", nullable=True),
    _text("owner"),
    _number("epoch"),
    Column("present", Boolean, nullable=False),
    _time("created_at"),
    Index("vms_name_while_present", "name", unique=True, sqlite_where=text("present = 1")),
    sqlite_autoincrement=True,
)

snapshots = Table(
    "snapshots",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("name", nullable=True),
    _text("status"),
    _text("vm_id", nullable=True),
    _text("vm_name"),
    _number("epoch"),
    _number("size_bytes"),
    _number("ram_bytes"),
    _text("state_digest"),
    _json("summary"),
    _json("error", nullable=True),
    _time("created_at"),
    Index("snapshots_name", "name", unique=True, sqlite_where=text("status <> 'failed'")),
    sqlite_autoincrement=True,
)

peers = Table(
    "peers",
    metadata,
    _seq(),
    _text("name", unique=True),
    _text("url"),
    _text("token_file", nullable=True),
    _text("host_id", nullable=True),
    _text("migration_address", nullable=True),
    _json("profile", nullable=True),
    _time("created_at"),
    sqlite_autoincrement=True,
)

migrations = Table(
    "migrations",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("role"),
    _text("vm_id"),
    _text("vm_name"),
    _text("peer"),
    _text("state"),
    _text("owner"),
    _number("epoch"),
    _text("explanation"),
    _json("options"),
    _json("stats"),
    _json("error", nullable=True),
    _json("config"),
    _time("created_at"),
    _time("updated_at"),
    Index("migrations_state", "state"),
    Index("migrations_vm_id", "vm_id"),
    sqlite_autoincrement=True,
)

migration_events = Table(
    "migration_events",
    metadata,
    Column("migration_id", String, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _time("at"),
    _text("type"),
    _json("data"),
    sqlite_with_rowid=False,
)

highest_epoch = Table(
    "highest_epoch",
    metadata,
    Column("vm_id", String, primary_key=True),
    _number("epoch"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String, primary_key=True),
    _text("request_hash"),
    _text("method"),
    _text("path"),
    _number("status"),
    _json("headers"),
    Column("body", LargeBinary, nullable=False),
    _time("created_at"),
    Index("idempotency_created_at", "created_at"),
)
