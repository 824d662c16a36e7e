import asyncio
from datetime import timedelta

import pytest

from migsvc.errors import ConflictError, NotFoundError
from migsvc.storage.models import OVER_STATES
from migsvc.storage.rows import IdempotencyRow, PeerRow, SnapshotRow


def test_events_are_numbered_without_a_gap_even_by_rivals(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.migrations.add(rows.migration())
        await asyncio.gather(*(catalogue.migrations.add_event("m-1", rows.event(n=n)) for n in range(20)))
        events = await catalogue.migrations.events("m-1", after_seq=5, limit=10)
        assert [event.seq for event in events] == list(range(6, 16))
        assert len({event.data["n"] for event in await catalogue.migrations.events("m-1")}) == 20
        with pytest.raises(NotFoundError):
            await catalogue.migrations.add_event("m-2", rows.event())

    with_catalogue(work)


def test_a_transition_writes_state_columns_and_event_together(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.migrations.add(rows.migration(state="queued"))
        later = rows.now + timedelta(seconds=1)
        row = await catalogue.migrations.transition(
            "m-1", "connecting", at=later, event=rows.event(state="connecting"), stats={"pages": 1}
        )
        assert (row.state, row.updated_at, row.stats) == ("connecting", later, {"pages": 1})
        assert len(await catalogue.migrations.events("m-1")) == 1
        with pytest.raises(ConflictError):
            await catalogue.migrations.transition("m-1", "precopy", at=later, allowed_from={"negotiating"})
        assert (await catalogue.migrations.get("m-1")).state == "connecting"

    with_catalogue(work)


@pytest.mark.parametrize("state", OVER_STATES)
def test_no_transition_leaves_a_fixed_outcome_unasked(with_catalogue, rows, state):
    async def work(catalogue):
        await catalogue.migrations.add(rows.migration(state=state))
        with pytest.raises(ConflictError, match=f"m-1 is {state}"):
            await catalogue.migrations.transition("m-1", "failed", at=rows.now)

    with_catalogue(work)


def test_a_restarted_agent_finds_what_is_unfinished(with_catalogue, rows):
    async def work(catalogue):
        for n, state in enumerate(["precopy", "committed", "completed", "cancelled", "failed", "prepared"]):
            await catalogue.migrations.add(rows.migration(f"m-{n}", f"vm-{n}", state=state))
        assert [row.state for row in await catalogue.migrations.list_unfinished()] == [
            "precopy",
            "committed",
            "prepared",
        ]
        assert (await catalogue.migrations.active_of_vm("vm-1")).id == "m-1"
        assert await catalogue.migrations.active_of_vm("vm-2") is None
        assert (await catalogue.migrations.last_of_vm("vm-2")).id == "m-2"

    with_catalogue(work)


def test_pruning_drops_the_oldest_ended_migrations_with_their_events(with_catalogue, rows):
    async def work(catalogue):
        for n in range(5):
            await catalogue.migrations.add(rows.migration(f"m-{n}", state="precopy" if n == 0 else "failed"))
            await catalogue.migrations.add_event(f"m-{n}", rows.event())
        assert await catalogue.migrations.prune(keep=2) == 2
        assert [row.id for row in await catalogue.migrations.list()] == ["m-0", "m-3", "m-4"]
        assert await catalogue.migrations.events("m-1") == []
        assert len(await catalogue.migrations.events("m-3")) == 1

    with_catalogue(work)


def test_a_snapshot_name_is_free_again_after_a_failure(with_catalogue, rows):
    async def work(catalogue):
        row = SnapshotRow(id="s-1", name="daily", status="writing", vm_name="web", created_at=rows.now)
        await catalogue.snapshots.add(row)
        with pytest.raises(ConflictError, match="a snapshot of that name"):
            await catalogue.snapshots.add(SnapshotRow("s-2", "writing", "web", rows.now, name="daily"))
        await catalogue.snapshots.update("s-1", status="failed", error={"type": "x"})
        await catalogue.snapshots.add(
            SnapshotRow("s-2", "ready", "web", rows.now, name="daily", summary=[{"smm": True}])
        )
        assert (await catalogue.snapshots.get("s-2")).summary == [{"smm": True}]
        await catalogue.snapshots.add(SnapshotRow("s-3", "ready", "web", rows.now))
        await catalogue.snapshots.add(SnapshotRow("s-4", "ready", "web", rows.now))

    with_catalogue(work)


def test_peers_are_known_by_name(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.peers.add(PeerRow("south", "http://127.0.0.1:7702", rows.now))
        with pytest.raises(ConflictError, match="a peer of that name"):
            await catalogue.peers.add(PeerRow("south", "http://127.0.0.1:7703", rows.now))
        row = await catalogue.peers.update("south", host_id="h", profile={"name": "south"})
        assert row.profile == {"name": "south"}
        await catalogue.peers.delete("south")
        assert await catalogue.peers.list() == []

    with_catalogue(work)


def test_of_many_requests_with_one_key_exactly_one_is_done(with_catalogue, rows):
    async def work(catalogue):
        keys = catalogue.idempotency
        row = IdempotencyRow("k", "hash", "POST", "/v1/vms", rows.now)
        found = await asyncio.gather(*(keys.reserve(row) for _ in range(8)))
        assert found.count(None) == 1
        assert {other.status for other in found if other} == {0}
        await keys.complete("k", 201, b"{}", {"location": "/v1/vms/1"})
        kept = await keys.reserve(row)
        assert (kept.status, kept.body, kept.headers) == (201, b"{}", {"location": "/v1/vms/1"})
        await keys.release("k")
        assert await keys.reserve(row) is None

    with_catalogue(work)


def test_keys_go_by_age_by_number_and_when_their_agent_died(with_catalogue, rows):
    async def work(catalogue):
        keys = catalogue.idempotency
        for n in range(10):
            await keys.reserve(IdempotencyRow(f"k{n}", "h", "POST", "/", rows.now + timedelta(seconds=n)))
            if n != 9:
                await keys.complete(f"k{n}", 200, b"")
        assert await keys.purge(rows.now + timedelta(seconds=3), keep=100) == 3
        assert await keys.purge(rows.now, keep=4) == 3
        assert await keys.release_unfinished() == 1
        assert await keys.count() == 3

    with_catalogue(work)
