import os
import signal

import pytest

from migsvc.errors import ConflictError, LimitError, NotFoundError, StorageError, StreamRejectedError
from migsvc.service.records import PauseWhen, SnapshotCreate, SnapshotRestore, SnapshotStatus, VmStatus
from migsvc.storage.snapshots import SnapshotWriter
from migsvc.stream.verify import verify_stream


async def taken(host, steps, vm="vm", name="s"):
    begun = await host.snapshots.create(SnapshotCreate(vm=vm, name=name))
    assert begun.status == SnapshotStatus.WRITING
    return await steps.until(lambda: host.snapshots.get(begun.id), lambda s: s.status != SnapshotStatus.WRITING)


def pieces(data, size=1000):
    async def chunks():
        for at in range(0, len(data), size):
            yield data[at : at + size]

    return chunks()


def test_a_snapshot_of_a_running_vm_goes_on_as_the_original_in_a_new_vm(lab, run, steps):
    async def work():
        host = await lab.start("a")
        expected = await steps.expected(host, ticks=100)
        vm = await steps.ticker(host, ticks=100)
        await host.vms.pause("vm", PauseWhen.SMM_SHADOW)
        await host.vms.run("vm")
        snapshot = await taken(host, steps)
        assert snapshot.status == SnapshotStatus.READY, snapshot.error
        assert (await host.vms.get("vm")).status == VmStatus.RUNNING
        assert snapshot.summary[0].keys() >= {"rip", "smm", "shadow", "smm_shadow", "retired_instructions"}
        path, size = await host.snapshots.open_content("s")
        assert path.stat().st_size == size == snapshot.size_bytes
        with path.open("rb") as file:
            report = verify_stream(file.read)
        assert report.clean
        assert report.summary["digests"]["root"] == snapshot.state_digest
        again = await host.snapshots.restore("s", SnapshotRestore(name="again", run=True))
        assert (again.id != vm.id, again.epoch, again.owner) == (True, 1, "a")
        code, console, retired = await steps.result(host, "again")
        assert (code, retired) == (expected[0], expected[2])
        assert expected[1].endswith(console)
        assert await steps.result(host, "vm") == expected
        with pytest.raises(ConflictError, match="name"):
            await host.snapshots.restore("s", SnapshotRestore(name="vm"))
        await lab.stop()

    run(work())


def test_an_uploaded_snapshot_is_listed_only_once_it_is_verified(lab, run, steps):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host, start=False)
        await host.vms.pause("vm", PauseWhen.SMM_SHADOW)
        original = await taken(host, steps)
        data = (await host.snapshots.open_content("s"))[0].read_bytes()
        copy = await host.snapshots.put_content("copy", pieces(data), "mine")
        assert (copy.state_digest, copy.summary, copy.vm) == (original.state_digest, original.summary, None)
        assert copy.summary[0]["smm_shadow"] != "none"
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        for damaged in (bytes(flipped), data[:-1], data + b"x", b"", b"junk" * 100):
            with pytest.raises(StreamRejectedError) as refused:
                await host.snapshots.put_content("bad", pieces(damaged))
            assert refused.value.findings[0]["rule"].startswith("STR-")
        with pytest.raises(ConflictError):
            await host.snapshots.put_content("copy", pieces(data))
        with pytest.raises(ConflictError):
            await host.snapshots.put_content("other", pieces(data), "mine")
        assert sorted(s.id for s in (await host.snapshots.list()).items) == sorted([original.id, "copy"])
        stored = {path.name for path in (lab.root / "a" / "snapshots").iterdir()}
        assert stored == {f"{original.id}.migstream", "copy.migstream"}
        assert (await host.snapshots.restore("mine", SnapshotRestore(name="of-copy"))).status == VmStatus.PAUSED
        assert await host.vms.get_machine("of-copy") == await host.vms.get_machine("vm")
        await host.snapshots.delete("mine")
        with pytest.raises(NotFoundError):
            await host.snapshots.get("copy")
        await lab.stop()

    run(work())


def test_what_is_larger_than_the_host_takes_is_refused(lab, run, steps):
    async def work():
        host = await lab.start("a", max_snapshot_bytes=1 << 16, max_snapshots=1)
        with pytest.raises(LimitError):
            await host.snapshots.put_content("big", pieces(bytes(1 << 17), 1 << 15))
        assert list((lab.root / "a" / "snapshots").iterdir()) == []
        await steps.ticker(host, start=False)
        await taken(host, steps)
        with pytest.raises(LimitError, match="at most 1"):
            await host.snapshots.create(SnapshotCreate(vm="vm"))
        await lab.stop()

    run(work())


def test_a_file_damaged_at_rest_is_refused_and_makes_no_vm(lab, run, steps):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host, start=False)
        await taken(host, steps)
        path, size = await host.snapshots.open_content("s")
        with path.open("r+b") as file:
            file.seek(size - 200)
            file.write(b"\xff")
        with pytest.raises(StreamRejectedError):
            await host.snapshots.restore("s", SnapshotRestore(name="again"))
        assert [vm.name for vm in (await host.vms.list()).items] == ["vm"]
        assert len(list((lab.root / "a" / "run").glob("*.pid"))) == 1
        await lab.stop()

    run(work())


def test_a_failed_snapshot_says_why_and_the_vm_goes_on(lab, run, steps, monkeypatch):
    async def work():
        host = await lab.start("a")
        await steps.ticker(host, ticks=100_000)

        def full(self, *buffers):
            raise StorageError("no room", hint="free space")

        with monkeypatch.context() as patch:
            patch.setattr(SnapshotWriter, "write", full)
            failed = await taken(host, steps)
        assert failed.status == SnapshotStatus.FAILED
        assert failed.error == {"type": "/problems/storage-failed", "detail": "no room", "hint": "free space"}
        assert (await host.vms.get("vm")).status == VmStatus.RUNNING
        assert list((lab.root / "a" / "snapshots").iterdir()) == []
        with pytest.raises(ConflictError):
            await host.snapshots.open_content(failed.id)
        assert (await taken(host, steps)).status == SnapshotStatus.READY
        await lab.stop()

    run(work())


def test_a_vm_paused_for_a_snapshot_runs_again_after_a_crash_of_the_agent(lab, run, steps):
    async def work():
        host = await lab.start("a")
        vm = await steps.ticker(host, ticks=100_000)
        # The crash: the worker stands still for the snapshot, the row still says writing, a file belongs to no row.
        catalogue, live = host._host.catalogue, host._host.registry.get(vm.id)
        await live.handle.call("pause")
        snapshot = await taken(host, steps)
        await catalogue.snapshots.update(snapshot.id, status="writing")
        await live.handle.call("pause")
        await host.stop(keep_vms=True)
        host = await lab.start("a")
        after = await host.snapshots.get(snapshot.id)
        assert after.status == SnapshotStatus.FAILED
        assert "stopped" in after.error["detail"]
        assert list((lab.root / "a" / "snapshots").iterdir()) == []
        assert (await host.vms.get("vm")).status == VmStatus.RUNNING
        os.kill(vm.worker_pid, signal.SIGKILL)
        await lab.stop()

    run(work())
