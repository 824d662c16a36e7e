"""Hosts of different schema versions and carriers move a VM to each other, in SMM with a shadow put aside."""

import pytest

from migsvc.errors import IllegalStateError, StreamRejectedError
from migsvc.service import outgoing
from migsvc.service.records import MigrationState, PauseWhen, SmmShadowLoss, SnapshotCreate, SnapshotRestore, VmStatus
from schemas.shadow import for_stock_kernel

OLD = {"schema_version": 1}
OLDEST = {"schema_version": 1, "smm_carriers": "none"}
BLIND = {"smm_carriers": "none"}
SMRAM_ONLY = {"smm_carriers": "smram"}
NEW = {}
UNDER_A_SHADOW = {"pause_when": PauseWhen.SMM_SHADOW}
LONG = {"ticks": 200_000}


def rules(findings):
    return [finding["rule"] for finding in findings]


@pytest.mark.parametrize(
    ("here", "there", "version", "carrier"),
    [
        (OLD, NEW, 1, "events_nibble"),
        (NEW, OLD, 1, "smram"),
        (OLD, OLD, 1, "smram"),
        (NEW, NEW, 2, "events_nibble"),
        (NEW, SMRAM_ONLY, 2, "smram"),
        (SMRAM_ONLY, NEW, 2, "events_nibble"),
    ],
)
def test_a_vm_under_a_shadow_ends_as_one_that_never_moved(lab, run, steps, here, there, version, carrier):
    async def work():
        async with lab.pair(here, there) as (a, b):
            expected = await steps.expected(b, ticks=500)
            await steps.ticker(a, ticks=500)
            done = await steps.migrate(a, "vm", "b", **UNDER_A_SHADOW)
            assert done.state == MigrationState.COMPLETED, done.error
            arrived = await steps.ended(b, done.id)
            carried, translation = arrived.stats.carried[0], arrived.stats.translation
            assert (carried["smm"], carried["smm_shadow"]) == (True, done.stats.carried[0]["smm_shadow"])
            assert carried["smm_shadow"] != "none"
            assert (translation.schema_version, translation.smm_carrier) == (version, carrier)
            said = done.stats.translation
            assert said.schema_version == version
            assert (said.losses, translation.losses, said.waited) == ([], [], False)
            changed = (version == 1 and here is NEW) or there is SMRAM_ONLY
            assert ("LOSS-012" in rules(said.notes)) == changed or here is OLD
            assert await steps.result(b, "vm") == expected

    run(work())


def test_two_hops_old_to_new_to_old_end_as_if_nothing_had_moved(lab, run, steps):
    async def work():
        async with lab.pair(OLD, NEW) as (old, new):
            expected = await steps.expected(old, ticks=800)
            await steps.ticker(old, ticks=800)
            for here, there in ((old, "b"), (new, "a")):
                done = await steps.migrate(here, "vm", there, **UNDER_A_SHADOW)
                assert done.state == MigrationState.COMPLETED, done.error
                assert done.stats.carried[0]["smm_shadow"] != "none"
                assert done.stats.translation.losses == []
            assert await steps.result(old, "vm") == expected

    run(work())


@pytest.mark.parametrize("there", [OLDEST, BLIND])
def test_a_host_without_a_carrier_is_refused_unless_the_operator_agrees(lab, run, steps, there):
    async def work():
        async with lab.pair(NEW, there) as (a, b):
            await steps.ticker(a, **LONG)
            refused = await steps.migrate(a, "vm", "b", **UNDER_A_SHADOW)
            assert (refused.state, refused.owner) == (MigrationState.FAILED, "a")
            assert rules(refused.error["findings"]) == ["LOSS-001"]
            assert "--on-smm-shadow-loss" in refused.error["hint"]
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            await steps.gone(b, "vm")

            accepted = await steps.migrate(a, "vm", "b", smm_shadow_loss=SmmShadowLoss.ACCEPT, **UNDER_A_SHADOW)
            assert accepted.state == MigrationState.COMPLETED, accepted.error
            assert rules(accepted.stats.translation.losses) == ["LOSS-001"]
            assert accepted.stats.translation.smm_carrier is None
            assert accepted.stats.carried[0]["smm_shadow"] != "none", "what the source had"
            arrived = await steps.ended(b, accepted.id)
            assert arrived.stats.carried[0]["smm"] is True
            assert arrived.stats.carried[0]["smm_shadow"] == "none"

    run(work())


@pytest.mark.parametrize("there", [OLDEST, BLIND])
def test_a_vm_waits_for_its_rsm_and_then_moves_whole(lab, run, steps, there):
    async def work():
        async with lab.pair(NEW, there) as (a, b):
            await steps.ticker(a, **LONG)
            done = await steps.migrate(a, "vm", "b", smm_shadow_loss=SmmShadowLoss.WAIT, **UNDER_A_SHADOW)
            assert done.state == MigrationState.COMPLETED, done.error
            assert done.stats.translation.waited
            assert done.stats.translation.losses == []
            carried = done.stats.carried[0]
            assert (carried["smm"], carried["smm_shadow"]) == (False, "none")
            assert carried["shadow"] != "none", "RSM has just brought it back"
            assert (await steps.ended(b, done.id)).stats.carried[0]["shadow"] == carried["shadow"]

    run(work())


def test_waiting_has_an_end(lab, run, steps, monkeypatch):
    async def work():
        async with lab.pair(NEW, BLIND) as (a, b):
            await steps.ticker(a, **LONG)
            pause = outgoing.pause_worker

            async def bounded(live, when, limit):
                await pause(live, when, 1 if when is PauseWhen.NO_SMM_SHADOW else limit)

            monkeypatch.setattr(outgoing, "pause_worker", bounded)
            done = await steps.migrate(a, "vm", "b", smm_shadow_loss=SmmShadowLoss.WAIT, **UNDER_A_SHADOW)
            assert (done.state, done.owner) == (MigrationState.FAILED, "a")
            assert "no moment no_smm_shadow within 1 instructions" in done.error["detail"]
            assert (await a.vms.get("vm")).status == VmStatus.RUNNING
            await steps.gone(b, "vm")

    run(work())


def test_a_paused_vm_under_a_shadow_is_judged_before_anything_moves(lab, run, steps):
    async def work():
        async with lab.pair(NEW, OLDEST) as (a, b):
            await steps.ticker(a, **LONG)
            await a.vms.pause("vm", PauseWhen.SMM_SHADOW, 1 << 30)
            for policy in (SmmShadowLoss.REFUSE, SmmShadowLoss.WAIT):
                done = await steps.migrate(a, "vm", "b", smm_shadow_loss=policy)
                assert done.state == MigrationState.FAILED
                assert rules(done.error["findings"]) == ["LOSS-001"]
                assert done.stats.rounds == []
            done = await steps.migrate(a, "vm", "b", smm_shadow_loss=SmmShadowLoss.ACCEPT)
            assert done.state == MigrationState.COMPLETED, done.error
            machine = await b.vms.get_machine("vm")
            assert machine.vcpus[0].events.smi.smm
            while machine.vcpus[0].events.smi.smm:
                await b.vms.step("vm", 1)
                machine = await b.vms.get_machine("vm")
            assert machine.vcpus[0].events.interrupt.shadow.to_byte() == 0, "Linux 6.1 brings none back"

    run(work())


def test_a_snapshot_is_in_its_host_s_version_and_is_read_by_later_ones(lab, run, steps):
    async def work():
        async with lab.pair(OLD, NEW) as (old, new):
            await steps.ticker(old, **LONG)
            await old.vms.pause("vm", PauseWhen.SMM_SHADOW, 1 << 30)
            path, summary = await snapshot_of(old, steps)
            assert int.from_bytes(path.read_bytes()[12:14], "little") == 1
            await new.snapshots.put_content("from-old", chunks(path))
            await new.snapshots.restore("from-old", SnapshotRestore(name="copy"))
            state = await new.vms.get_state("copy", 0)
            assert state.events.interrupt.shadow.smm != 0
            there = await old.vms.get_state("vm", 0)
            assert for_stock_kernel(state.events) == there.events, "an old host has neither nibble nor flag"
            assert await old.vms.put_state("vm", 0, there) == there
            with pytest.raises(IllegalStateError, match="flags that this host does not know"):
                await old.vms.put_state("vm", 0, there.model_copy(update={"events": state.events}))
            path, _ = await snapshot_of(new, steps, "copy")
            assert int.from_bytes(path.read_bytes()[12:14], "little") == 2
            with pytest.raises(StreamRejectedError) as refused:
                await old.snapshots.put_content("from-new", chunks(path))
            assert rules(refused.value.findings) == ["STR-006"]
            assert summary[0]["smm"]

    run(work())


async def snapshot_of(host, steps, vm="vm"):
    begun = await host.snapshots.create(SnapshotCreate(vm=vm))
    done = await steps.until(lambda: host.snapshots.get(begun.id), lambda s: s.status != "writing")
    assert done.status == "ready", done.error
    return (await host.snapshots.open_content(done.id))[0], done.summary


async def chunks(path):
    yield path.read_bytes()
