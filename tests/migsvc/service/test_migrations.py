import asyncio
import os
import signal

import pytest

from migsvc.errors import ConflictError, LimitError, NotFoundError, NotOwnerError, StorageError
from migsvc.service import destination, hosts, source
from migsvc.service.dialect import Dialect
from migsvc.service.records import (
    MigrationCreate,
    MigrationOptions,
    MigrationState,
    PauseWhen,
    PeerCreate,
    VmStatus,
)
from migsvc.storage.catalogue import Catalogue

PHASES = {
    *("connect", "negotiate", "precopy", "pause", "last_pages"),
    *("state_save", "send", "verify", "commit", "resume"),
}
LONG = {"ticks": 200_000}


def test_a_vm_that_moves_while_it_runs_ends_as_one_that_never_moved(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            expected = await steps.expected(a, ticks=500)
            vm = await steps.ticker(a, ticks=500)
            for here, there in ((a, "b"), (b, "a"), (a, "b")):
                done = await steps.migrate(here, "vm", there)
                assert done.state == MigrationState.COMPLETED, done.error
                assert done.owner == there
                assert set(done.stats.phases_ns) == PHASES
                assert done.stats.bytes > 4096
                assert done.stats.rounds[0].pages + done.stats.rounds[0].zero_pages > 512
            assert await steps.result(b, "vm") == expected
            there = await b.vms.get("vm")
            assert (there.id, there.owner, there.epoch) == (vm.id, "b", 4)
            left = await a.vms.get("vm")
            assert (left.status, left.owner, left.epoch) == (VmStatus.MIGRATED, "b", 4)
            with pytest.raises(NotOwnerError) as refused:
                await a.vms.run("vm")
            assert refused.value.extra["owner"] == "b"
            assert refused.value.extra["epoch"] == 4

    run(work())


def test_events_tell_the_whole_course_and_end(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, **LONG)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            assert begun.state == MigrationState.QUEUED
            assert (await a.vms.get("vm")).migration == begun.id
            events = [event async for event in a.migrations.events(begun.id)]
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            states = [event.data["state"] for event in events if event.type in ("state", "end")]
            assert states == [
                *("connecting", "negotiating", "precopy", "stop_and_copy", "verifying", "committed", "completed")
            ]
            assert events[-1].type == "end"
            later = [event.seq async for event in a.migrations.events(begun.id, 3)]
            assert later[0] == 4
            there = await steps.ended(b, begun.id)
            assert (there.role, there.state, there.owner, there.epoch) == ("destination", "completed", "b", 2)
            assert there.stats.carried == (await a.migrations.get(begun.id)).stats.carried
            assert (await a.migrations.get(begun.id)).stats.downtime_ns > 0
            assert [m.id for m in (await a.migrations.list()).items] == [begun.id]

    run(work())


def test_a_paused_vm_stays_paused_and_keeps_its_state(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, start=False)
            await a.vms.step("vm", 12_345)
            before = await a.vms.get_machine("vm")
            done = await steps.migrate(a, "vm", "b")
            assert (done.state, done.stats.downtime_ns) == (MigrationState.COMPLETED, None)
            assert (await b.vms.get("vm")).status == VmStatus.PAUSED
            assert await b.vms.get_machine("vm") == before
            refused = await steps.migrate(b, "vm", "a", pause_when=PauseWhen.SMM)
            assert refused.state == MigrationState.FAILED
            assert "paused" in refused.error["detail"]

    run(work())


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        (PauseWhen.STI_SHADOW, {"smm": False, "shadow": "sti"}),
        (PauseWhen.MOV_SS_SHADOW, {"smm": False, "shadow": "mov_ss"}),
        (PauseWhen.SMM_SHADOW, {"smm": True, "shadow": "none"}),
    ],
)
def test_a_vm_moves_at_the_moment_that_was_asked_for(lab, run, steps, when, shown):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, **LONG)
            done = await steps.migrate(a, "vm", "b", pause_when=when)
            assert done.state == MigrationState.COMPLETED, done.error
            carried = done.stats.carried[0]
            assert {key: carried[key] for key in shown} == shown
            assert (carried["smm_shadow"] != "none") == (when is PauseWhen.SMM_SHADOW)
            assert (await b.vms.get("vm")).status == VmStatus.RUNNING

    run(work())


def test_a_moment_that_does_not_come_leaves_the_vm_running_where_it_was(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, smi_ticks=0, **LONG)
            done = await steps.migrate(a, "vm", "b", pause_when=PauseWhen.SMM, pause_limit_instructions=5000)
            assert done.state == MigrationState.FAILED
            assert done.owner == "a"
            assert "no moment smm" in done.error["detail"]
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            await steps.gone(b, "vm")
            assert (await steps.ended(b, done.id)).state in (MigrationState.CANCELLED, MigrationState.FAILED)

    run(work())


def test_what_cannot_begin_is_refused_at_once(lab, run, steps):
    async def work():
        async with lab.pair({"max_migrations": 1}) as (a, _b):
            await steps.ticker(a, start=False)
            with pytest.raises(NotFoundError, match="peer"):
                await a.migrations.create(MigrationCreate(vm="vm", peer="nobody"))
            with pytest.raises(NotFoundError, match="VM"):
                await a.migrations.create(MigrationCreate(vm="nothing", peer="b"))
            await a.peers.create(PeerCreate(name="me", url="http://a"))
            done = await steps.migrate(a, "vm", "me")
            assert done.state == MigrationState.FAILED
            assert "this very host" in done.error["detail"]
            await steps.ticker(a, "second", start=False)
            first = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            for what in (
                a.migrations.create(MigrationCreate(vm="vm", peer="b")),
                a.vms.delete("vm"),
                a.vms.step("vm", 1),
                a.vms.run("vm"),
                a.vms.pause("vm"),
                a.peers.delete("b"),
            ):
                with pytest.raises(ConflictError, match=first.id):
                    await what
            with pytest.raises(LimitError):
                await a.migrations.create(MigrationCreate(vm="second", peer="b"))
            assert (await steps.ended(a, first.id)).state == MigrationState.COMPLETED

    run(work())


def test_a_destination_that_cannot_hold_the_vm_refuses_before_any_page_with_every_reason(lab, run, steps, monkeypatch):
    async def work():
        real = hosts.host_profile

        async def poorer(host):
            profile = await real(host)
            change = {"msr_indices": (), "vm_sections": (), "event_flags": 0x0D}
            return profile.model_copy(update=change if host.name == "b" else {})

        from migsvc.service import admission

        monkeypatch.setattr(admission, "host_profile", poorer)
        monkeypatch.setattr(destination, "host_profile", poorer)
        async with lab.pair({}, {"max_vms": 1}) as (a, b):
            await steps.ticker(b, "vm", start=False)
            await steps.ticker(a, **LONG)
            done = await steps.migrate(a, "vm", "b")
            assert done.state == MigrationState.FAILED
            assert done.error["type"] == "/problems/incompatible"
            rules = [finding["rule"] for finding in done.error["findings"]]
            assert len(set(rules)) >= 3
            assert rules.count("HOST") == 2
            assert done.stats.bytes == 0
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            with pytest.raises(NotFoundError):
                await b.migrations.get(done.id)

    run(work())


def test_the_wrong_token_and_other_versions_are_refused(lab, run, steps, monkeypatch, tmp_path):
    async def work():
        (tmp_path / "token").write_text("0123456789abcdef\n")
        (tmp_path / "wrong").write_text("fedcba9876543210\n")
        async with lab.pair({}, {"token_file": tmp_path / "token"}) as (a, _b):
            await steps.ticker(a, **LONG)
            await a.peers.create(PeerCreate(name="bad", url="http://b", token_file=str(tmp_path / "wrong")))
            for peer in ("bad",):
                done = await steps.migrate(a, "vm", peer)
                assert done.state == MigrationState.FAILED
                assert "token" in done.error["detail"]
            monkeypatch.setattr(source, "agree", lambda *_: Dialect(99, None))
            done = await steps.migrate(a, "vm", "b")
            assert done.state == MigrationState.FAILED
            assert "schema version 99" in done.error["detail"]
            monkeypatch.undo()
            monkeypatch.setattr("migsvc.service.peers.fetch_host", lab.fetch_host)
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            assert (await steps.migrate(a, "vm", "b")).state == MigrationState.COMPLETED

    run(work())


POINTS = [
    ("source", "connecting"),
    ("source", "negotiating"),
    ("source", "precopy"),
    ("source", "stop_and_copy"),
    ("source", "verifying"),
    ("source", "committing"),
    ("destination", "precopy"),
    ("destination", "verifying"),
    ("destination", "prepared"),
]
DEFAULT = {("source", "precopy"), ("source", "committing"), ("destination", "verifying"), ("destination", "prepared")}
CASES = [p if p in DEFAULT else pytest.param(*p, marks=pytest.mark.campaign) for p in POINTS]


@pytest.mark.parametrize(("role", "point"), CASES)
def test_a_cancelled_migration_leaves_the_vm_running_on_the_source(lab, run, steps, role, point):
    async def work():
        # A stalled destination hears of the end only when it goes on.
        stall = {"test_stall": f"{role}:{point}:{30 if role == 'source' else 2}"}
        async with lab.pair(stall if role == "source" else {}, stall if role == "destination" else {}) as (a, b):
            expected = await steps.expected(a, ticks=500)
            await steps.ticker(a, ticks=500)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            shown = "verifying" if point == "committing" else point
            await steps.in_state(a if role == "source" else b, begun.id, shown)
            await asyncio.sleep(0.1)
            done = await a.migrations.cancel(begun.id)
            assert (done.state, done.owner, done.epoch) == (MigrationState.CANCELLED, "a", 1)
            assert done.error["type"] == "/problems/cancelled"
            assert (await a.migrations.cancel(begun.id)).state == MigrationState.CANCELLED
            await steps.gone(b, "vm")
            assert (await a.vms.get("vm")).status in (VmStatus.RUNNING, VmStatus.STOPPED)
            assert await steps.result(a, "vm") == expected

    run(work())


def test_after_the_commit_point_a_cancellation_names_owner_and_epoch(lab, run, steps):
    async def work():
        async with lab.pair({"test_stall": "source:committed:1"}) as (a, b):
            await steps.ticker(a, **LONG)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            await steps.in_state(a, begun.id, "committed")
            with pytest.raises(NotOwnerError) as refused:
                await a.migrations.cancel(begun.id)
            assert (refused.value.extra["owner"], refused.value.extra["epoch"]) == ("b", 2)
            waiting = await b.migrations.get(begun.id)
            assert (waiting.state, waiting.owner) == (MigrationState.PREPARED, "a")
            with pytest.raises(ConflictError, match="waits for the word"):
                await b.migrations.cancel(begun.id)
            assert (await steps.ended(a, begun.id)).state == MigrationState.COMPLETED
            with pytest.raises(NotOwnerError):
                await a.migrations.cancel(begun.id)

    run(work())


def test_a_migration_that_takes_too_long_is_cancelled_however_slow_the_link(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, **LONG)
            await asyncio.sleep(0.3)
            begun = asyncio.get_running_loop().time()
            done = await steps.migrate(a, "vm", "b", bandwidth_limit_bytes=65536, timeout_s=1)
            assert done.state == MigrationState.CANCELLED
            assert "within 1 s" in done.error["detail"]
            assert asyncio.get_running_loop().time() - begun < 6
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            assert (await steps.ended(b, done.id)).owner == "a"

    run(work())


@pytest.mark.parametrize(("stalled", "role"), [("destination", "precopy"), ("source", "stop_and_copy")])
def test_a_copy_whose_worker_dies_is_given_up(lab, run, steps, stalled, role):
    async def work():
        stall = {"test_stall": f"{stalled}:{role}:1"}
        async with lab.pair(stall if stalled == "source" else {}, stall if stalled == "destination" else {}) as (a, b):
            await steps.ticker(a, **LONG)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            await steps.in_state(a if stalled == "source" else b, begun.id, role)
            os.kill((await b.vms.get("vm")).worker_pid, signal.SIGKILL)
            done = await steps.ended(a, begun.id)
            assert (done.state, done.owner) == (MigrationState.FAILED, "a")
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            assert (await steps.ended(b, begun.id)).owner == "a"
            await steps.gone(b, "vm")

    run(work())


def test_a_vm_whose_worker_dies_on_the_source_is_lost_and_the_destination_is_told(lab, run, steps):
    async def work():
        async with lab.pair({"test_stall": "source:precopy:1"}) as (a, b):
            vm = await steps.ticker(a, **LONG)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b"))
            await steps.in_state(a, begun.id, "precopy")
            os.kill(vm.worker_pid, signal.SIGKILL)
            done = await steps.ended(a, begun.id)
            assert done.state == MigrationState.FAILED
            assert done.error["type"] == "/problems/worker-failed"
            assert (await a.vms.get("vm")).status == VmStatus.LOST
            assert (await steps.ended(b, begun.id)).state != MigrationState.COMPLETED

    run(work())


def test_a_peer_that_is_not_there_is_a_clear_error(lab, run, steps):
    async def work():
        async with lab.pair() as (a, b):
            await steps.ticker(a, start=False)
            await b.stop(keep_vms=False)
            done = await steps.migrate(a, "vm", "b", timeout_s=20)
            assert done.state == MigrationState.FAILED
            assert (await a.vms.get("vm")).status == VmStatus.PAUSED
            lab.hosts.pop("b")

    run(work())


def test_an_agent_that_stops_gracefully_cancels_what_is_not_committed(lab, run, steps):
    async def work():
        async with lab.pair({"test_stall": "source:precopy:30"}) as (a, b):
            await steps.ticker(a, **LONG)
            begun = await a.migrations.create(MigrationCreate(vm="vm", peer="b", options=MigrationOptions()))
            await steps.in_state(a, begun.id, "precopy")
            await a.stop(keep_vms=True)
            a = await lab.start("a")
            assert (await a.migrations.get(begun.id)).state == MigrationState.CANCELLED
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            assert (await steps.ended(b, begun.id)).owner == "a"

    run(work())


def test_a_commit_that_does_not_reach_the_disk_leaves_the_vm_on_the_source(lab, run, steps, monkeypatch):
    async def work():
        async def full(self, *args, **kwargs):
            raise StorageError("disk full")

        async with lab.pair() as (a, b):
            await steps.ticker(a, **LONG)
            with monkeypatch.context() as patch:
                patch.setattr(Catalogue, "commit_handover", full)
                done = await steps.migrate(a, "vm", "b")
            assert (done.state, done.owner, done.epoch) == (MigrationState.FAILED, "a", 1)
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            await steps.gone(b, "vm")

    run(work())


def test_whatever_fails_behind_the_commit_point_the_destination_is_told(lab, run, steps, monkeypatch):
    async def work():
        async def broken(live, epoch):
            raise StorageError("a fault behind the commit point")

        async with lab.pair() as (a, b):
            await steps.ticker(a, **LONG)
            monkeypatch.setattr(source, "fence", broken)
            done = await steps.migrate(a, "vm", "b")
            assert (done.state, done.owner) == (MigrationState.COMPLETED, "b")
            assert (await a.vms.get("vm")).status == VmStatus.MIGRATED
            assert (await b.vms.get("vm")).status == VmStatus.RUNNING

    run(work())
