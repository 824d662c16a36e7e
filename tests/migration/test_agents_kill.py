"""Two real agents; either, or both, are killed (SIGKILL) at a phase of a migration and started again.

Afterwards exactly one host has a VM that can run, both say who owns it and why, and the guest ends as one that never
moved. The default run takes one case per decision of `migsvc.protocol.ownership`; the whole product is a campaign.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest

GUEST = {"ticks": 300, "working_set_pages": 16, "line_ticks": 10, "smi_ticks": 1, "pit_count": 11932}
"""Mostly idle: it lives for three seconds, through the kill and the recovery, and costs little."""

ENDS = ("completed", "cancelled", "failed")
STALL_S = 60
SOURCE_POINTS = ("connecting", "negotiating", "precopy", "stop_and_copy", "verifying", "committing", "committed")
DESTINATION_POINTS = ("negotiating", "precopy", "verifying", "prepared", "committing", "committed")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Agent:
    """One `migsvc serve` that can be killed and started again on the same data directory and port."""

    def __init__(self, root, name, options=()):
        self.name = name
        self.options = options
        self.data_dir = root / name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.http = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)
        self.stall = None

    def begin(self, stall=None):
        """Start the process; `ready` waits for it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MIGSVC_")}
        if stall:
            environment["MIGSVC_TEST_STALL"] = stall
        command = [sys.executable, "-m", "migsvc", "serve", "-o", "json", "--port", str(self.port)]
        with self.data_dir.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), "--name", self.name, *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self.stall = stall

    def ready(self):
        heard = select.select([self.process.stdout], [], [], 90)[0]
        assert heard, self.data_dir.with_suffix(".log").read_text()[-4000:]
        assert self.process.stdout.readline(), self.data_dir.with_suffix(".log").read_text()[-4000:]

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def get(self, path):
        answer = self.http.get(path)
        return answer.json() if answer.status_code == 200 else None

    def post(self, path, **body):
        answer = self.http.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


class Pair:
    """Agents a and b that know each other."""

    def __init__(self, root, a=(), b=()):
        self.a, self.b = Agent(root, "a", a), Agent(root, "b", b)
        self.restart(self.a, self.b)
        self.a.post("/v1/peers", name="b", url=self.b.url)
        self.b.post("/v1/peers", name="a", url=self.a.url)

    def restart(self, *agents, stalls=()):
        """Kill these and start them again, with these stalls; without any, as they are to be for good."""
        for agent in agents:
            agent.kill()
        for agent in agents:
            agent.begin(dict(stalls).get(agent.name))
        for agent in agents:
            agent.ready()

    def end(self):
        for agent in (self.a, self.b):
            agent.kill()
            agent.http.close()
            for path in agent.data_dir.glob("run/*.pid"):
                with contextlib.suppress(OSError, ValueError):
                    os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)


def until(look, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return seen


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("agents"))
    yield pair
    pair.end()


OLD = ("--schema-version", "1")


@pytest.fixture(params=[(OLD, ()), ((), OLD)], ids=["from-version-1", "to-version-1"])
def mixed(request, tmp_path):
    pair = Pair(tmp_path, *request.param)
    yield pair
    pair.end()


@pytest.fixture(scope="module")
def expected(pair):
    """What the guest ends with when it never moves."""
    vm = pair.a.post("/v1/vms", name="still", guest="ticker64", guest_params=GUEST, ram_bytes=2 << 20, run=True)
    return result(pair.a, vm["id"])


def result(agent, vm_id):
    def stopped():
        vm = agent.get(f"/v1/vms/{vm_id}")
        return vm if vm and vm["status"] == "stopped" else None

    vm = until(stopped, "the guest's end", 120)
    console = agent.get(f"/v1/vms/{vm_id}/console?offset=0&max_bytes=1000000")["text"]
    return vm["exit_code"], vm["retired_instructions"], console


def owners(pair, vm_id):
    """Hosts whose VM can run: it is there, theirs, and has a worker."""
    found = []
    for agent in (pair.a, pair.b):
        vm = agent.get(f"/v1/vms/{vm_id}")
        if vm and vm["owner"] == agent.name and vm["status"] in ("running", "stopped", "halted", "paused"):
            found.append((agent, vm))
    return found


def case(pair, expected, role, point, victims):
    """Stall at a phase, kill, start again, and look what has become of the VM."""
    stalled = pair.a if role == "source" else pair.b
    pair.restart(stalled, stalls={stalled.name: f"{role}:{point}:{STALL_S}"})
    vm = pair.a.post(
        "/v1/vms", name=f"vm-{time.time_ns()}", guest="ticker64", guest_params=GUEST, ram_bytes=2 << 20, run=True
    )
    migration = pair.a.post("/v1/migrations", vm=vm["id"], peer="b")
    path = f"/v1/migrations/{migration['id']}"
    # "committing" is within a state: the stall lies before the transaction.
    within = {"source": "verifying", "destination": "prepared"}[role] if point == "committing" else point
    until(lambda: (stalled.get(path) or {}).get("state") == within, f"{role} {within}")
    time.sleep(0.15 if point == "committing" else 0.05)
    chosen = {"source": (pair.a,), "destination": (pair.b,), "both": (pair.a, pair.b)}[victims]
    agents = dict.fromkeys((*chosen, stalled))  # the stalled one goes on only when it is started without the stall
    for agent in chosen:
        agent.kill()
    if stalled not in chosen:
        # Give the survivor time to notice the death while its peer is away.
        time.sleep(0.3)
    pair.restart(*agents)

    def settled():
        states = [(agent.get(path) or {"state": "failed"})["state"] for agent in (pair.a, pair.b)]
        return all(state in ENDS for state in states)

    until(settled, "an outcome on both hosts")
    ((owner, there),) = owners(pair, vm["id"])
    for agent in (pair.a, pair.b):
        record = agent.get(path)
        if record is None:
            assert agent is pair.b
            assert owner is pair.a
            continue
        assert record["owner"] == owner.name
        assert record["epoch"] == there["epoch"] == (1 if owner is pair.a else 2)
        assert len(record["explanation"]) > 20
    committed = role == "destination" and point in ("committing", "committed")
    committed = committed or (role, point) == ("source", "committed")
    if committed or (role, point) == ("source", "committing"):
        assert (owner is pair.b) == committed
    other = pair.b if owner is pair.a else pair.a
    gone = other.get(f"/v1/vms/{vm['id']}")
    assert gone is None or (gone["status"], gone["owner"]) == ("migrated", owner.name)
    assert not list(other.data_dir.glob(f"run/{vm['id']}.pid"))
    assert result(owner, vm["id"]) == expected
    assert owner.http.delete(f"/v1/vms/{vm['id']}").status_code == 204


DEFAULT = (
    ("source", "stop_and_copy", "source"),
    ("source", "committing", "both"),
    ("source", "committed", "source"),
    ("destination", "prepared", "destination"),
    ("destination", "committed", "destination"),
)
PRODUCT = [
    (role, point, victims)
    for role, points in (("source", SOURCE_POINTS), ("destination", DESTINATION_POINTS))
    for point in points
    for victims in ("source", "destination", "both")
    if (role, point, victims) not in DEFAULT
]


@pytest.mark.parametrize(("role", "point", "victims"), DEFAULT)
def test_a_killed_agent_leaves_exactly_one_runnable_copy(pair, expected, role, point, victims):
    case(pair, expected, role, point, victims)


def test_hosts_of_two_schema_versions_find_out_who_owns_the_vm(mixed, expected):
    case(mixed, expected, "destination", "prepared", "both")


def test_hosts_of_two_schema_versions_repeat_the_commit(mixed, expected):
    case(mixed, expected, "source", "committed", "source")


@pytest.mark.campaign
@pytest.mark.parametrize(("role", "point", "victims"), PRODUCT)
def test_a_killed_agent_leaves_exactly_one_runnable_copy_at_every_phase(pair, expected, role, point, victims):
    case(pair, expected, role, point, victims)
