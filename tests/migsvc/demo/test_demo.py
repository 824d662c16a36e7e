"""The demonstration as a whole: it succeeds, it leaves nothing behind, and it notices when state is tampered with."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from migsvc.demo.agents import DIR_PREFIX, processes_of, two_agents
from migsvc.demo.plan import Plan
from migsvc.demo.scenario import Scenario, Silent

COMMAND = [sys.executable, "-m", "migsvc", "demo"]


@pytest.fixture
def own_temp(tmp_path):
    # Whatever the demonstration leaves behind is in here.
    return {**os.environ, "TMPDIR": str(tmp_path)}


def left_behind(folder):
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(DIR_PREFIX)], processes_of(folder)


def test_six_migrations_end_as_none(own_temp):
    done = subprocess.run(
        [*COMMAND, "-o", "json"], capture_output=True, text=True, timeout=250, env=own_temp, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"]["good"] is True
    assert [m["state"] for m in document["migrations"]] == ["completed"] * 6
    assert [m["epoch"] for m in document["migrations"]] == [2, 3, 4, 5, 6, 7]
    carried = [m["stats"]["carried"][0] for m in document["migrations"]]
    assert any(v["smm"] and v["smm_shadow"] != "none" for v in carried)
    assert any(not v["smm"] and v["shadow"] == "sti" for v in carried)
    assert any(not v["smm"] and v["shadow"] == "mov_ss" for v in carried)
    hosts = [line["host"] for line in document["console"]]
    assert {"host-a", "host-b"} == set(hosts)
    assert sum(a != b for a, b in pairwise(hosts)) >= 4
    assert left_behind(own_temp["TMPDIR"]) == ([], [])


class Tamper(Silent):
    """Changes one register of the VM on its way, as a faulty host would."""

    def hop_done(self, scenario, hop, migration):
        if hop == 1:
            path = f"/v1/vms/{scenario.vm}"
            scenario.client.post(f"{path}/pause")
            state = scenario.client.get(f"{path}/vcpus/0/state")
            state["regs"]["r15"] = "0xdead"
            scenario.client.put(f"{path}/vcpus/0/state", state)
            scenario.client.post(f"{path}/run")


def test_one_changed_register_turns_the_verdict():
    with two_agents() as hosts:
        verdict = Scenario(hosts, Plan(hops=3), Tamper()).run()
    assert not verdict.good
    assert [check.name for check in verdict.checks if not check.good] == ["machine state"]


@pytest.fixture
def interruptible():
    """Let children take SIGINT: a shell that runs the tests in the background makes them ignore it, and so theirs."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_behind(own_temp, sent):
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own_temp)
    try:
        for line in process.stdout:
            if "│" in line:
                break
        assert processes_of(own_temp["TMPDIR"])
        process.send_signal(sent)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert left_behind(own_temp["TMPDIR"]) == ([], [])


def test_a_failure_is_told_in_one_sentence_and_leaves_nothing_behind(own_temp):
    done = subprocess.run(
        [*COMMAND, "--guest", "nothing"], capture_output=True, text=True, timeout=90, env=own_temp, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("migsvc: cannot make the VM reference on host-a: ")
    assert "Traceback" not in done.stderr
    assert left_behind(own_temp["TMPDIR"]) == ([], [])
