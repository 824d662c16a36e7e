import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migsvc.backends import client
from migsvc.backends.client import WorkerHandle
from migsvc.backends.config import VmConfig
from migsvc.backends.files import Identity, WorkerFiles, connect
from migsvc.errors import ConflictError, IllegalStateError, InputError, NotOwnerError, WorkerError

ROOT = Path(__file__).parents[3]


def alive(pid):
    return Identity.of(pid) is not None


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def test_a_worker_lives_runs_pauses_and_quits_without_a_trace(workers, run):
    async def work():
        handle = await workers.spawn()
        assert handle.hello["status"] == "paused"
        assert (await handle.call("run", epoch=1))["status"] == "running"
        await asyncio.sleep(0.05)
        first = await handle.call("pause")
        assert first["found"]
        assert first["retired"] > 0
        assert (await handle.call("status"))["retired"] == first["retired"]
        await handle.quit()
        assert handle.exited.result().status == 0
        assert list(workers.run_dir.iterdir()) == []
        assert not alive(handle.pid)

    run(work())


def test_a_worker_has_its_own_session_and_none_of_the_agents_descriptors(workers, run):
    async def work():
        listener = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(listener.fileno(), True)
        with listener:
            handle = await workers.spawn()
            fds = Path(f"/proc/{handle.pid}/fd")
            held = {int(fd.name): os.readlink(fd) for fd in fds.iterdir()}
            assert os.getsid(handle.pid) == handle.pid
            assert held[0] == "/dev/null"
            assert held[1] == held[2] == str(workers.run_dir / "vm-1.log")
            wanted = os.fstat(listener.fileno()).st_ino
            assert not [name for name in held.values() if f"[{wanted}]" in name]
        assert workers.run_dir.stat().st_mode & 0o777 == 0o700
        await handle.quit()

    run(work())


def test_guest_ram_is_shared_with_the_agent(workers, run):
    async def work():
        handle = await workers.spawn()
        ram = await handle.ram()
        assert (await handle.call("step", n=3))["steps"] == 3
        assert ram[3 * 4096] == 3
        assert await handle.ram() is ram
        await handle.quit()

    run(work())


def test_the_dirty_log_tells_which_pages_were_written(workers, run):
    async def work():
        handle = await workers.spawn()
        await handle.call("dirty_start")
        await handle.call("step", n=9)
        bitmap = (await handle.call("dirty_fetch"))["bitmap"]
        assert [n for n in range(64) if bitmap[n // 8] >> n % 8 & 1] == list(range(1, 10))
        assert not any((await handle.call("dirty_fetch"))["bitmap"])
        await handle.call("dirty_stop")
        await handle.quit()

    run(work())


def test_a_pause_takes_a_few_milliseconds_while_the_vm_runs(workers, run):
    async def work():
        handle = await workers.spawn()
        took = []
        for _ in range(10):
            await handle.call("run", epoch=1)
            await asyncio.sleep(0.02)
            begin = time.perf_counter()
            await handle.call("pause")
            took.append(time.perf_counter() - begin)
        assert sorted(took)[5] < 0.05  # 2 ms on an idle machine
        await handle.quit()

    run(work())


def test_a_paused_worker_uses_no_processor_time(workers, run):
    async def work():
        handle = await workers.spawn()

        def ticks():
            return sum(map(int, Path(f"/proc/{handle.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

        before = ticks()
        await asyncio.sleep(0.5)
        assert ticks() - before <= 1
        await handle.quit()

    run(work())


def test_an_idle_paced_guest_keeps_step_with_real_time_and_answers_meanwhile(workers, run):
    async def work():
        handle = await workers.spawn(paced=True, idle_every=10, idle_ns=10_000_000)
        await handle.call("run", epoch=1)
        begin = time.perf_counter()
        await asyncio.sleep(0.5)
        at = time.perf_counter()
        retired = (await handle.call("pause"))["retired"]
        assert time.perf_counter() - at < 0.2
        virtual_s = retired * 0.001001  # 10 steps of 1 us and 10 ms of idling
        assert 0.2 < virtual_s < time.perf_counter() - begin + 0.05
        await handle.quit()

    run(work())


def test_a_killed_worker_is_noticed_at_once_with_its_signal(workers, run):
    async def work():
        handle = await workers.spawn()
        await handle.call("run", epoch=1)
        waiting = asyncio.create_task(handle.call("pause", when="mov_ss_shadow", limit_instructions=1 << 40))
        await asyncio.sleep(0.05)
        begin = time.perf_counter()
        os.kill(handle.pid, signal.SIGKILL)
        ended = await asyncio.wait_for(handle.exited, 5)
        assert time.perf_counter() - begin < 1
        assert (ended.signal, ended.status, str(ended).endswith("was killed by SIGKILL")) == (
            signal.SIGKILL,
            None,
            True,
        )
        with pytest.raises(WorkerError):
            await waiting
        with pytest.raises(WorkerError, match="SIGKILL"):
            await handle.call("status")
        assert not handle.alive
        assert [path.name for path in workers.run_dir.iterdir()] == ["vm-1.log"]

    run(work())


def test_a_worker_told_to_terminate_cleans_up(workers, run):
    async def work():
        handle = await workers.spawn()
        await handle.call("run", epoch=1)
        handle.detach()
        os.kill(handle.pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, handle.pid, 0))[1]) == 0
        assert [path.name for path in workers.run_dir.iterdir()] == ["vm-1.log"]

    run(work())


def test_the_death_of_one_worker_touches_no_other(workers, run):
    async def work():
        one, two = await workers.spawn("vm-1"), await workers.spawn("vm-2")
        one.kill()
        await one.exited
        assert (await two.call("step", n=5))["retired"] == 5
        await two.quit()

    run(work())


AGENT = """
import asyncio, os, signal, sys
from pathlib import Path
from migsvc.backends.client import WorkerHandle
from migsvc.backends.config import VmConfig
async def main():
    run_dir, program = Path(sys.argv[1]), sys.argv[2:]
    for vm_id, running in (("running", True), ("paused", False)):
        handle = await WorkerHandle.spawn(run_dir, vm_id, VmConfig("fake", paced=False), program=program)
        if running:
            await handle.call("run", epoch=1)
        else:
            await handle.call("step", n=1234)
        print(handle.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_workers_outlive_a_killed_agent_and_the_next_one_adopts_them(workers, run):
    command = [sys.executable, "-c", AGENT, str(workers.run_dir), *workers.fake.PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(line) for line in done.stdout.split()]
    workers.pids += pids

    async def work():
        assert all(alive(pid) for pid in pids)
        running, paused = await workers.adopt("running"), await workers.adopt("paused")
        assert [running.pid, paused.pid] == pids
        assert (running.hello["status"], paused.hello["status"]) == ("running", "paused")
        assert paused.hello["retired"] == 1234
        first = (await running.call("status"))["retired"]
        await asyncio.sleep(0.05)
        assert (await running.call("status"))["retired"] > first
        os.kill(running.pid, signal.SIGKILL)
        ended = await asyncio.wait_for(running.exited, 5)
        assert ended.pid == running.pid
        await paused.quit()
        assert not alive(paused.pid)
        with pytest.raises(WorkerError, match="is gone"):
            await workers.adopt("running")

    run(work())


def test_another_process_under_an_old_number_is_not_taken_for_the_worker(workers, run):
    async def work():
        workers.run_dir.mkdir()
        files = WorkerFiles(workers.run_dir, "vm-1")
        me = Identity.of(os.getpid())
        files.pid.write_text(f'{{"pid": {me.pid}, "start_ticks": {me.start_ticks - 1}, "boot_id": "{me.boot_id}"}}')
        assert files.identity() is None
        with pytest.raises(WorkerError, match="is gone"):
            await workers.adopt()
        assert list(workers.run_dir.iterdir()) == []

    run(work())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_damaged_pid_file_is_a_worker_that_is_gone(workers, run, text):
    async def work():
        workers.run_dir.mkdir()
        (workers.run_dir / "vm-1.pid").write_text(text)
        with pytest.raises(WorkerError, match="is gone"):
            await workers.adopt()

    run(work())


def test_the_newest_agent_wins_and_the_vm_goes_on(workers, run):
    async def work():
        old = await workers.spawn()
        await old.call("run", epoch=1)
        waiting = asyncio.create_task(old.call("pause", when="mov_ss_shadow", limit_instructions=1 << 40))
        await asyncio.sleep(0.02)
        new = await workers.adopt()
        with pytest.raises(WorkerError, match="is closed"):
            await waiting
        status = await new.call("status")
        assert (status["status"], status["searching"]) == ("running", False)
        old.detach()
        await new.quit()

    run(work())


def test_a_vm_gets_no_second_worker(workers, run):
    async def work():
        handle = await workers.spawn()
        with pytest.raises(WorkerError, match="has a worker already"):
            await workers.spawn()
        again = [*workers.fake.PROGRAM, "--run-dir", str(workers.run_dir), "--vm", "vm-1"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = await asyncio.to_thread(subprocess.run, again, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, "has a worker already" in done.stderr) == (1, True)
        assert (await handle.call("hello"))["pid"] == handle.pid
        await handle.quit()

    run(work())


def test_a_worker_that_dies_at_once_is_reported_with_its_last_words(workers, run):
    async def work():
        program = [sys.executable, "-c", "import sys; sys.exit('no such machine')"]
        with pytest.raises(WorkerError, match="ended with status 1 before it was ready") as caught:
            await WorkerHandle.spawn(workers.run_dir, "vm-1", VmConfig("fake"), program=program)
        assert caught.value.extra["log_tail"] == "no such machine"

    run(work())


def test_a_worker_that_never_listens_is_ended(workers, run):
    async def work():
        program = [sys.executable, "-c", "import time; time.sleep(60)"]
        with pytest.raises(WorkerError, match="not ready in time"):
            await WorkerHandle.spawn(workers.run_dir, "vm-1", VmConfig("fake"), program=program, timeout_s=0.2)

    run(work())


def test_a_vm_that_cannot_be_made_leaves_no_worker(workers, run):
    async def work():
        with pytest.raises(InputError, match="no backend 'kvm'"):
            await WorkerHandle.spawn(workers.run_dir, "vm-1", VmConfig("kvm"), program=workers.fake.PROGRAM)
        assert WorkerFiles(workers.run_dir, "vm-1").identity() is None

    run(work())


def test_errors_of_the_worker_arrive_as_their_own_class(workers, run):
    async def work():
        handle = await workers.spawn(incoming=True)
        with pytest.raises(NotOwnerError):
            await handle.call("run", epoch=1)
        with pytest.raises(InputError, match="no method"):
            await handle.call("explode")
        with pytest.raises(InputError, match="n is missing"):
            await handle.call("step")
        with pytest.raises(IllegalStateError) as caught:
            await handle.call("load", vm={"fake": b"x"}, vcpus=[{}])
        assert caught.value.findings == [{"rule": "FAKE-1", "message": "wrong size"}]
        with pytest.raises(InputError, match="must be at most"):
            await handle.call("load", vm={"fake": 3}, vcpus=[{}])
        with pytest.raises(ConflictError):
            await handle.call("create", config=VmConfig("fake").to_map())
        await handle.quit()

    run(work())


def test_a_call_that_times_out_ends_its_search_in_the_worker(workers, run):
    async def work():
        handle = await workers.spawn()
        await handle.call("run", epoch=1)
        with pytest.raises(WorkerError, match="did not answer pause within"):
            await handle.call("pause", timeout_s=0.05, when="mov_ss_shadow", limit_instructions=1 << 40)
        status = await handle.call("status")
        assert (status["status"], status["searching"]) == ("running", False)
        await handle.quit()

    run(work())


def test_events_reach_the_agent(workers, run):
    async def work():
        handle = await workers.spawn(stop_after=5000)
        events = []
        handle.on_event = events.append
        await handle.call("run", epoch=1)
        await until(lambda: any(event["event"] == "stopped" for event in events))
        stopped = next(event for event in events if event["event"] == "stopped")
        assert (stopped["stop_reason"], stopped["exit_code"], stopped["retired"]) == ("debug_exit", 7, 5000)
        await until(lambda: {"event": "console", "end": 5} in events)
        assert (await handle.call("console"))["data"] == b"*****"
        await handle.quit()

    run(work())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\x01\x00\x00\x00\xc1",
        b"\x02\x00\x00\x00\x91\x01",
        b"\x01\x00\x00\x00\x80",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_closes_the_connection_and_leaves_the_vm_unharmed(workers, run, garbage):
    async def work():
        handle = await workers.spawn()
        await handle.call("run", epoch=1)
        handle.detach()

        def talk():
            peer = connect(workers_files)
            peer.settimeout(5)
            with peer:
                peer.sendall(garbage)
                answer = b""
                while piece := peer.recv(65536):
                    answer += piece
                return answer

        workers_files = WorkerFiles(workers.run_dir, "vm-1")
        assert b"closing the connection" in await asyncio.to_thread(talk)
        again = await workers.adopt()
        assert again.hello["status"] == "running"
        await again.quit()

    run(work())


def test_half_a_frame_harms_nobody(workers, run):
    async def work():
        handle = await workers.spawn()
        handle.detach()
        peer = connect(WorkerFiles(workers.run_dir, "vm-1"))
        peer.send(b"\x00\x00\x00\x03abc")
        peer.close()
        again = await workers.adopt()
        assert (await again.call("step", n=1))["steps"] == 1
        await again.quit()

    run(work())


def test_an_agent_that_does_not_read_is_cut_off_and_the_vm_runs_on(workers, run, monkeypatch):
    async def work():
        handle = await workers.spawn(ram_bytes=256 << 20)
        await handle.call("run", epoch=1)
        await handle.call("dirty_start")
        handle.detach()
        peer = connect(WorkerFiles(workers.run_dir, "vm-1"))
        peer.setblocking(True)
        peer.settimeout(20)
        request = b"".join(
            client.encode({"id": n, "method": "dirty_fetch", "params": {}}) for n in range(40_000)
        )  # 8 KiB of bitmap each, 320 MB in all

        def talk():
            with peer:
                peer.sendall(request)
                while True:
                    peer.send(client.encode({"id": 1, "method": "status"}))

        with pytest.raises(OSError, match=r"Broken pipe|reset by peer"):
            await asyncio.to_thread(talk)
        again = await workers.adopt()
        assert again.hello["status"] == "running"
        await again.quit()

    run(work())


def test_a_run_directory_with_a_long_path_works(workers, run, tmp_path):
    workers.run_dir = tmp_path / ("d" * 120) / "run"

    async def work():
        handle = await workers.spawn()
        await handle.quit()

    run(work())


@pytest.mark.parametrize("vm_id", ["", "../x", "a/b", ".x", "x" * 65])
def test_an_id_that_could_name_another_place_is_refused(workers, run, vm_id):
    with pytest.raises(InputError):
        run(workers.spawn(vm_id))


def test_a_vm_that_cannot_be_made_leaves_no_files(workers, run):
    async def work():
        with pytest.raises(InputError):
            await WorkerHandle.spawn(workers.run_dir, "vm-1", VmConfig(guest="nothing"))
        assert list(workers.run_dir.iterdir()) == []

    run(work())
