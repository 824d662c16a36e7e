import asyncio
from datetime import UTC, datetime

import pytest

from migsvc.storage.catalogue import Catalogue
from migsvc.storage.rows import EventDraft, MigrationRow, VmRow

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class Rows:
    """Makes rows with defaults."""

    now = NOW

    def vm(self, vm_id="vm-1", name="web", **changes):
        fields = {"backend": "emulator", "status": "running", "owner": "north", "epoch": 1, "created_at": NOW}
        return VmRow(id=vm_id, name=name, **{**fields, **changes})

    def migration(self, migration_id="m-1", vm_id="vm-1", **changes):
        fields = {
            "role": "source",
            "vm_name": "web",
            "peer": "south",
            "state": "verifying",
            "owner": "north",
            "epoch": 1,
            "explanation": "not committed",
            "created_at": NOW,
            "updated_at": NOW,
        }
        return MigrationRow(id=migration_id, vm_id=vm_id, **{**fields, **changes})

    def event(self, **data):
        return EventDraft(NOW, "state", data)


@pytest.fixture
def rows():
    return Rows()


@pytest.fixture
def with_catalogue(tmp_path):
    """Runs `work(catalogue)` in a loop of its own, over one data directory for the whole test."""

    def run(work, host_name="north", data_dir=tmp_path / "data"):
        async def main():
            catalogue = await Catalogue.open(data_dir, host_name)
            try:
                return await work(catalogue)
            finally:
                await catalogue.close()

        return asyncio.run(main())

    return run
