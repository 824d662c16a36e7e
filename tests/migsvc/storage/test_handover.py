import asyncio

import pytest

from migsvc.errors import ConflictError, NotFoundError


def give(catalogue, rows, **changes):
    arguments = {"expected_owner": "north", "expected_epoch": 1, "new_owner": "south", "explanation": "committed"}
    return catalogue.commit_handover("m-1", "vm-1", at=rows.now, **{**arguments, **changes})


def take(catalogue, rows, migration="m-1", vm="vm-1", **changes):
    arguments = {"owner": "north", "epoch": 2, "explanation": "the source committed"}
    return catalogue.take_ownership(migration, vm, at=rows.now, **{**arguments, **changes})


async def owned(catalogue, rows):
    await catalogue.vms.add(rows.vm())
    await catalogue.migrations.add(rows.migration())


async def arriving(catalogue, rows, epoch=1, state="prepared"):
    await catalogue.vms.put_incoming(rows.vm(owner="south", epoch=epoch))
    await catalogue.migrations.add(rows.migration(role="destination", state=state, owner="south", epoch=epoch))


def test_the_commit_moves_owner_epoch_and_migration_together(with_catalogue, rows):
    async def work(catalogue):
        await owned(catalogue, rows)
        assert await give(catalogue, rows, event=rows.event(state="committed")) == 2
        vm, migration = await catalogue.vms.get("vm-1"), await catalogue.migrations.get("m-1")
        assert (vm.owner, vm.epoch, vm.status, vm.present) == ("south", 2, "migrated", False)
        assert (migration.state, migration.owner, migration.epoch) == ("committed", "south", 2)
        assert migration.explanation == "committed"
        assert await catalogue.vms.highest_epoch("vm-1") == 2
        assert [event.data for event in await catalogue.migrations.events("m-1")] == [{"state": "committed"}]

    with_catalogue(work)


@pytest.mark.parametrize("wrong", [{"expected_owner": "west"}, {"expected_epoch": 2}])
def test_a_commit_on_another_owner_or_epoch_changes_nothing(with_catalogue, rows, wrong):
    async def work(catalogue):
        await owned(catalogue, rows)
        with pytest.raises(ConflictError, match="cannot be handed over"):
            await give(catalogue, rows, **wrong)
        vm, migration = await catalogue.vms.get("vm-1"), await catalogue.migrations.get("m-1")
        assert (vm.owner, vm.epoch, vm.present, migration.state) == ("north", 1, True, "verifying")
        assert await catalogue.vms.highest_epoch("vm-1") == 1

    with_catalogue(work)


def test_of_many_rival_commits_exactly_one_gets_through(with_catalogue, rows):
    async def work(catalogue):
        await owned(catalogue, rows)
        for n in range(16):
            await catalogue.migrations.add(rows.migration(f"r-{n}"))
        rivals = [
            catalogue.commit_handover(
                f"r-{n}",
                "vm-1",
                expected_owner="north",
                expected_epoch=1,
                new_owner=f"h{n}",
                explanation="",
                at=rows.now,
            )
            for n in range(16)
        ]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        winners = [n for n, result in enumerate(results) if result == 2]
        assert len(winners) == 1
        assert sum(isinstance(result, ConflictError) for result in results) == 15
        assert (await catalogue.vms.get("vm-1")).owner == f"h{winners[0]}"

    with_catalogue(work)


def test_of_a_cancellation_and_the_commit_one_wins(with_catalogue, rows):
    async def work(catalogue):
        for n in range(8):
            vm, migration = f"vm-{n}", f"m-{n}"
            await catalogue.vms.add(rows.vm(vm, vm))
            await catalogue.migrations.add(rows.migration(migration, vm))
            commit = catalogue.commit_handover(
                migration, vm, expected_owner="north", expected_epoch=1, new_owner="south", explanation="", at=rows.now
            )
            cancel = catalogue.migrations.transition(migration, "cancelled", at=rows.now)
            order = [commit, cancel] if n % 2 else [cancel, commit]
            results = await asyncio.gather(*order, return_exceptions=True)
            assert sum(isinstance(result, ConflictError) for result in results) == 1
            moved = (await catalogue.vms.get(vm)).owner == "south"
            assert ((await catalogue.migrations.get(migration)).state == "committed") == moved

    with_catalogue(work)


def test_the_refusal_of_a_late_cancellation_names_owner_and_epoch(with_catalogue, rows):
    async def work(catalogue):
        await owned(catalogue, rows)
        await give(catalogue, rows)
        with pytest.raises(ConflictError, match="south owns the VM at epoch 2") as caught:
            await catalogue.migrations.transition("m-1", "cancelled", at=rows.now)
        assert caught.value.extra == {"state": "committed", "owner": "south", "epoch": 2}
        done = await catalogue.migrations.transition("m-1", "completed", at=rows.now, allowed_from={"committed"})
        assert done.state == "completed"

    with_catalogue(work)


def test_the_destination_takes_over_once_and_a_repeated_commit_changes_nothing(with_catalogue, rows):
    async def work(catalogue):
        await arriving(catalogue, rows)
        assert (await catalogue.vms.get("vm-1")).status == "incoming"
        assert await take(catalogue, rows) is True
        vm = await catalogue.vms.get("vm-1")
        assert (vm.owner, vm.epoch, vm.status, vm.present) == ("north", 2, "paused", True)
        await catalogue.vms.update("vm-1", status="running")
        assert await take(catalogue, rows) is False
        assert (await catalogue.vms.get("vm-1")).status == "running"

    with_catalogue(work)


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_not_above_the_highest_seen_is_refused(with_catalogue, rows, epoch):
    async def work(catalogue):
        await owned(catalogue, rows)
        await give(catalogue, rows)
        await catalogue.vms.put_incoming(rows.vm(owner="south", epoch=2))
        await catalogue.migrations.add(rows.migration("m-2", role="destination", state="prepared"))
        with pytest.raises(ConflictError, match="stale"):
            await take(catalogue, rows, "m-2", epoch=epoch)
        assert (await catalogue.vms.get("vm-1")).status == "incoming"
        assert await take(catalogue, rows, "m-2", epoch=3) is True

    with_catalogue(work)


def test_ownership_is_not_taken_without_a_copy_or_a_migration(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.migrations.add(rows.migration(state="prepared"))
        with pytest.raises(ConflictError, match="no copy"):
            await take(catalogue, rows)
        with pytest.raises(NotFoundError, match="m-9"):
            await take(catalogue, rows, "m-9")
        assert await catalogue.vms.highest_epoch("vm-1") is None
        await catalogue.vms.add(rows.vm(owner="west"))
        with pytest.raises(ConflictError, match="no copy"):
            await take(catalogue, rows)
        assert (await catalogue.vms.get("vm-1")).owner == "west"

    with_catalogue(work)


def test_a_cancelled_migration_can_no_longer_take_ownership(with_catalogue, rows):
    async def work(catalogue):
        await arriving(catalogue, rows)
        await catalogue.migrations.transition("m-1", "cancelled", at=rows.now)
        with pytest.raises(ConflictError, match="m-1 is cancelled"):
            await take(catalogue, rows)

    with_catalogue(work)


def test_a_present_vm_cannot_arrive_again(with_catalogue, rows):
    async def work(catalogue):
        await catalogue.vms.add(rows.vm())
        with pytest.raises(ConflictError, match="already present"):
            await catalogue.vms.put_incoming(rows.vm())
        with pytest.raises(ConflictError, match="a VM of that name is present"):
            await catalogue.vms.put_incoming(rows.vm("vm-2"))

    with_catalogue(work)


def test_discarding_leaves_nothing_of_a_new_vm_and_the_old_row_of_one_that_had_left(with_catalogue, rows):
    async def work(catalogue):
        await owned(catalogue, rows)
        with pytest.raises(ConflictError, match="not on its way in"):
            await catalogue.vms.discard_incoming("vm-1")
        await give(catalogue, rows)
        await catalogue.vms.put_incoming(rows.vm(owner="south", epoch=2))
        await catalogue.vms.put_incoming(rows.vm("vm-2", "new", owner="south", epoch=9))
        for _ in range(2):
            await catalogue.vms.discard_incoming("vm-1")
            await catalogue.vms.discard_incoming("vm-2")
        old = await catalogue.vms.get("vm-1")
        assert (old.present, old.status, old.owner, old.epoch) == (False, "migrated", "south", 2)
        assert await catalogue.vms.find("vm-2") is None

    with_catalogue(work)
