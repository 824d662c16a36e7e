"""`migsvc serve` as a process of its own, and the command line against it."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import httpx2
import pytest
from typer.testing import CliRunner

from migsvc.cli import app

TOKEN = "0123456789abcdef0123456789abcdef"


class Served:
    """A running `migsvc serve` and what it announced."""

    def __init__(self, data_dir, *options, environment=None):
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MIGSVC_")}
        command = [
            sys.executable,
            "-m",
            "migsvc",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(data_dir),
            "--name",
            "host-t",
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "-o", "json", "--on-exit", "stop", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**clean, **(environment or {})},
            )
        assert select.select([self.process.stdout], [], [], 60)[0], self.log.read_text()
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.announced = json.loads(line)
        self.url = self.announced["url"]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.stdout.close()

    def cli(self, *arguments, check=True, local=False):
        done = CliRunner().invoke(app, [*arguments, *([] if local else ["--server", self.url])])
        if check:
            assert done.exit_code == 0, done.output
        return done

    def json(self, *arguments):
        return json.loads(self.cli(*arguments, "-o", "json").stdout)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    host = Served(tmp_path_factory.mktemp("serve") / "data")
    yield host
    host.stop()


def test_the_announcement_tells_where_everything_is(served):
    announced = served.announced
    assert announced["url"].startswith("http://127.0.0.1:")
    assert announced["data_dir"] == str(served.data_dir)
    assert announced["pid"] == served.process.pid
    assert announced["name"] == "host-t"
    assert served.json("host", "show")["migration_address"] == announced["migration_address"]


def test_a_vm_is_made_stepped_inspected_changed_and_deleted(served, tmp_path):
    created = served.json("vm", "create", "tour", "--guest", "ticker64", "--param", "ticks=5")
    assert created["status"] == "paused"
    assert served.json("vm", "step", "tour", "1000")["steps"] == 1000
    assert served.json("vm", "show", "tour")["retired_instructions"] == 1000
    file = tmp_path / "state.json"
    served.cli("state", "get", "tour", str(file))
    state = json.loads(file.read_text())
    served.cli("state", "check", str(file), local=True)
    state["regs"]["r15"] = "0xfeed"
    file.write_text(json.dumps(state))
    served.cli("state", "put", "tour", str(file))
    assert served.json("state", "get", "tour")["regs"]["r15"] == "0xfeed"
    state["events"]["interrupt"]["shadow"] = {"current": 0, "smm": 2}
    file.write_text(json.dumps(state))
    refused = served.cli("state", "put", "tour", str(file), check=False)
    assert refused.exit_code == 5
    assert "  - INV-" in refused.stderr
    assert served.cli("state", "check", str(file), check=False, local=True).exit_code == 5
    assert served.json("state", "get", "tour")["events"]["interrupt"]["shadow"]["smm"] == 0
    served.cli("vm", "delete", "tour")
    assert served.cli("vm", "show", "tour", check=False).exit_code == 3


def test_a_guest_runs_to_its_end_and_its_console_is_followed(served):
    served.cli(
        "vm", "create", "ender", "--guest", "ticker64", "--param", "ticks=20", "--param", "line_ticks=5", "--run"
    )
    output = served.cli("vm", "console", "ender", "-f").stdout
    record = served.json("vm", "show", "ender")
    assert (record["status"], record["exit_code"]) == ("stopped", 0)
    assert record["console_bytes"] == len(output)
    assert len(output.splitlines()) >= 4


def test_a_snapshot_is_taken_downloaded_verified_uploaded_and_restored(served, tmp_path):
    served.cli("vm", "create", "orig", "--guest", "ticker64", "--param", "ticks=50")
    served.cli("vm", "step", "orig", "20000")
    taken = served.json("snapshot", "create", "orig", "--name", "snap-1")
    assert taken["status"] == "ready"
    file = tmp_path / "snap.migsvc"
    served.cli("snapshot", "download", "snap-1", str(file))
    served.cli("stream", "verify", str(file), local=True)
    uploaded = served.json("snapshot", "upload", str(file), "--name", "snap-2")
    assert uploaded["state_digest"] == taken["state_digest"]
    served.cli("snapshot", "restore", "snap-2", "copy")
    again = served.json("snapshot", "create", "copy", "--name", "snap-3")
    assert again["state_digest"] == taken["state_digest"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert served.cli("stream", "verify", str(file), check=False, local=True).exit_code == 7
    assert served.cli("snapshot", "upload", str(file), check=False).exit_code == 7
    assert len(served.json("snapshot", "list")) == 3


def test_pausing_inside_the_smi_handler_shows_the_shadow(served):
    served.cli(
        "vm", "create", "smm", "--guest", "ticker64", "--param", "ticks=100000", "--param", "smi_ticks=1", "--run"
    )
    served.cli("vm", "pause", "smm", "--when", "smm_shadow")
    state = served.json("state", "get", "smm")
    assert state["events"]["smi"]["smm"] == 1
    assert state["events"]["interrupt"]["shadow"]["smm"] != 0
    served.cli("vm", "delete", "smm")


def test_the_same_key_makes_one_vm_even_over_the_wire(served):
    request = {"json": {"name": "once", "guest": "ticker64"}, "headers": {"Idempotency-Key": "key-1"}}
    first, second = (httpx2.post(f"{served.url}/v1/vms", **request) for _ in range(2))
    assert first.json() == second.json()
    assert (first.status_code, second.headers["idempotent-replayed"]) == (201, "true")


def test_a_data_directory_serves_one_agent_only(served):
    done = subprocess.run(
        [sys.executable, "-m", "migsvc", "serve", "--port", "0", "--data-dir", str(served.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(served.data_dir) in done.stderr


def test_a_taken_port_is_told(served, tmp_path):
    port = served.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "migsvc", "serve", "--port", port, "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"migsvc: cannot listen on 127.0.0.1:{port}")


@pytest.mark.parametrize(
    "options", [["--host", "0.0.0.0"], ["--migration-host", "0.0.0.0"], ["--token-file", "/nowhere"]]
)
def test_an_open_door_is_refused_at_the_start(tmp_path, options):
    done = subprocess.run(
        [sys.executable, "-m", "migsvc", "serve", "--port", "0", "--data-dir", str(tmp_path), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "token" in done.stderr


def test_a_host_with_a_token_serves_other_addresses(tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    host = Served(tmp_path / "data", "--host", "0.0.0.0", "--token-file", str(token))
    try:
        url = host.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{url}/v1/vms").status_code == 401
        assert httpx2.get(f"{url}/readyz").status_code == 200
        host.url = url
        assert host.cli("vm", "list", check=False).exit_code == 5
        assert host.cli("vm", "list", "--token-file", str(token)).exit_code == 0
    finally:
        host.stop()
    assert TOKEN not in host.log.read_text()


def test_a_stop_does_not_wait_for_long_polls(tmp_path):
    host = Served(tmp_path / "data")
    try:
        host.cli("vm", "create", "idle", "--guest", "ticker64")
        answers = []
        poll = threading.Thread(
            target=lambda: answers.append(
                httpx2.get(f"{host.url}/v1/vms/idle/console?wait_s=30", timeout=60).status_code
            )
        )
        poll.start()
        time.sleep(0.5)
        began = time.monotonic()
        assert host.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 10
        poll.join(10)
        assert answers == [503]
    finally:
        host.stop()
