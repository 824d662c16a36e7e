import asyncio
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import StatementError

from migsvc.errors import ConflictError, NotFoundError, StorageError
from migsvc.storage import models
from migsvc.storage.catalogue import Catalogue

ROOT = Path(__file__).parents[3]


def test_a_row_comes_back_as_it_was_written(with_catalogue, rows):
    vm = rows.vm(config={"guest_params": {"ticks": 3}}, exit_code=7, ram_bytes=64 << 30)

    async def work(catalogue):
        added = await catalogue.vms.add(vm)
        assert added == dataclasses.replace(vm, seq=1)
        assert await catalogue.vms.get("vm-1") == added
        assert (await catalogue.vms.get("vm-1")).created_at.tzinfo is not None

    with_catalogue(work)


def test_what_was_written_is_there_after_the_agent_was_killed(tmp_path, rows, with_catalogue):
    program = f"""
import asyncio, os, signal
from datetime import datetime, UTC
from pathlib import Path
from migsvc.storage.catalogue import Catalogue
from migsvc.storage.rows import VmRow
async def main():
    catalogue = await Catalogue.open(Path({str(tmp_path / "data")!r}), "north")
    now = datetime.now(UTC)
    await catalogue.vms.add(VmRow(id="v", name="n", backend="b", status="s", owner="north", epoch=4, created_at=now))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL

    async def work(catalogue):
        assert (await catalogue.vms.get("v")).epoch == 4
        assert await catalogue.vms.highest_epoch("v") == 4

    with_catalogue(work)


def test_a_known_catalogue_opens_in_half_a_second(with_catalogue):
    async def nothing(catalogue):
        return catalogue.host

    first = with_catalogue(nothing)
    begin = time.perf_counter()
    assert with_catalogue(nothing) == first
    assert time.perf_counter() - begin < 0.5


def test_the_host_keeps_its_id_and_what_it_owns_when_it_is_renamed(with_catalogue, rows):
    async def before(catalogue):
        await catalogue.vms.add(rows.vm())
        await catalogue.vms.add(rows.vm("vm-2", "other", owner="south"))
        return catalogue.host

    async def after(catalogue):
        assert (await catalogue.vms.get("vm-1")).owner == "core"
        assert (await catalogue.vms.get("vm-2")).owner == "south"
        return catalogue.host

    old, new = with_catalogue(before), with_catalogue(after, host_name="core")
    assert (new.id, new.name) == (old.id, "core")


def test_a_second_agent_is_refused_with_the_first_ones_process_id(with_catalogue, tmp_path):
    async def work(_catalogue):
        with pytest.raises(StorageError, match=rf"in use by another agent \(process {os.getpid()}\)"):
            await Catalogue.open(tmp_path / "data", "north")

    with_catalogue(work)
    with_catalogue(lambda catalogue: catalogue.check())


def test_a_catalogue_of_a_newer_version_is_refused_and_left_alone(with_catalogue, tmp_path):
    with_catalogue(lambda catalogue: catalogue.check())
    path = tmp_path / "data" / "catalogue.db"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        with_catalogue(lambda catalogue: catalogue.check())


def test_the_migrations_build_the_tables_of_the_models(with_catalogue, tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with_catalogue(lambda catalogue: catalogue.check())
    engine = create_engine(f"sqlite:///{tmp_path / 'data' / 'catalogue.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), models.metadata) == []
        sql = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = 'vms_name_while_present'"
        assert "WHERE present = 1" in connection.exec_driver_sql(sql).scalar_one()
        sql = "SELECT sql FROM sqlite_master WHERE name = 'vms'"
        assert "AUTOINCREMENT" in connection.exec_driver_sql(sql).scalar_one()
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_models_name():
    versions = Path(models.__file__).with_name("migrations") / "versions"
    assert sorted(path.name[1:5] for path in versions.glob("r*.py"))[-1] == models.SCHEMA_REVISION


def test_every_commit_is_synced(with_catalogue):
    async def work(catalogue):
        async def pragma(connection):
            return (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()

        assert await catalogue._database.read(pragma) == 2  # FULL
        assert await catalogue._database.write(pragma) == 2

    with_catalogue(work)


def test_a_name_is_taken_only_while_its_vm_is_present(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.vms.add(rows.vm())
        with pytest.raises(ConflictError, match="a VM of that name is present"):
            await catalogue.vms.add(rows.vm("vm-2"))
        await catalogue.vms.update("vm-1", present=False, status="migrated")
        await catalogue.vms.add(rows.vm("vm-2"))
        assert (await catalogue.vms.resolve("web")).id == "vm-2"
        assert (await catalogue.vms.resolve("vm-1")).id == "vm-1"
        assert [vm.id for vm in await catalogue.vms.list_present()] == ["vm-2"]

    with_catalogue(work)


def test_lists_page_by_seq_even_when_rows_go(with_catalogue, rows):
    async def work(catalogue):
        for n in range(5):
            await catalogue.vms.add(rows.vm(f"v{n}", f"n{n}"))
        first = await catalogue.vms.list(limit=2)
        await catalogue.vms.delete("v1")
        await catalogue.vms.delete("v4")
        rest = await catalogue.vms.list(after_seq=first[-1].seq)
        assert [vm.id for vm in first + rest] == ["v0", "v1", "v2", "v3"]
        assert (await catalogue.vms.add(rows.vm("v5", "n5"))).seq == 6
        assert await catalogue.vms.count() == 4

    with_catalogue(work)


def test_what_is_missing_is_named(with_catalogue):
    async def work(catalogue):
        for call in (catalogue.vms.get("x"), catalogue.vms.update("x", status="y"), catalogue.peers.delete("x")):
            with pytest.raises(NotFoundError, match="'x'"):
                await call

    with_catalogue(work)


def test_a_time_without_a_zone_is_refused(with_catalogue, rows):
    async def work(catalogue):
        with pytest.raises(StatementError, match="no zone"):
            await catalogue.vms.add(rows.vm(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001

    with_catalogue(work)


def test_a_caller_cancelled_during_a_write_leaves_it_whole(with_catalogue, rows):
    async def work(catalogue):
        for n in range(20):
            task = asyncio.create_task(catalogue.vms.add(rows.vm(f"v{n}", f"n{n}")))
            for _ in range(n):
                await asyncio.sleep(0)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            found = await catalogue.vms.find(f"v{n}")
            seen = await catalogue.vms.highest_epoch(f"v{n}")
            assert (found is None) == (seen is None)
            assert isinstance(done[0], asyncio.CancelledError) or found is not None
        await catalogue.check()

    with_catalogue(work)


def test_a_cancellation_waits_until_the_write_has_ended(with_catalogue, rows):
    async def work(catalogue):
        async def slowly(connection):
            await catalogue.vms._insert(connection, rows.vm("v1", "n1"))
            await asyncio.sleep(0.1)
            await catalogue.vms._insert(connection, rows.vm("v2", "n2"))

        task = asyncio.create_task(catalogue._database.write(slowly))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await catalogue.vms.count() == 2

    with_catalogue(work)


def test_a_read_only_catalogue_is_a_storage_error(with_catalogue, rows, tmp_path):
    async def work(catalogue):
        async def forbid(connection):
            await connection.exec_driver_sql("PRAGMA query_only = 1")

        for _ in range(4):
            await catalogue._database.read(forbid)
        with pytest.raises(StorageError, match="readonly"):
            await catalogue.vms.add(rows.vm())

    with_catalogue(work)
