"""Bringing a catalogue to the present schema."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from migsvc.errors import StorageError
from migsvc.storage.models import SCHEMA_REVISION


async def migrate(connection: AsyncConnection) -> None:
    """Bring the catalogue to `SCHEMA_REVISION` within this transaction; one that is there already is left as it is.

    Raises:
        StorageError: a newer migsvc wrote it.
    """
    revision = await connection.run_sync(_revision)
    if revision != SCHEMA_REVISION:
        await connection.run_sync(_upgrade)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(connection: Connection) -> None:
    # Alembic takes 0.2 s to import; only a new or an older catalogue needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageError(
            f"the catalogue's schema is unknown to this migsvc ({error})",
            hint="it was written by a newer version: start that one, or use another data directory",
        ) from error
