"""Two host agents as processes of their own: started, waited for, and always ended, workers included."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from migsvc.client import Client, ClientError

START_TIMEOUT_S = 60.0
"""An interpreter that compiles everything for the first time on a busy machine takes many seconds."""

STOP_TIMEOUT_S = 15.0
"""A graceful stop ends VM workers one by one."""

DIR_PREFIX = "migsvc-demo-"


class DemoError(Exception):
    """The demonstration could not be carried through; the text says at which step and why."""


@dataclass
class Agent:
    """One host agent: its process, and how to reach it."""

    name: str
    data_dir: Path
    process: subprocess.Popen[str]
    url: str = ""
    _clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        """Return a new client, for use by one thread; closed with the agent."""
        client = Client(self.url)
        self._clients.append(client)
        return client

    def await_ready(self) -> None:
        """Wait for the announced URL, then for /readyz.

        Raises:
            DemoError: the agent ended or did not get ready in time; its log's end is in the text.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        self.url = self._announced(deadline)
        with Client(self.url) as client:
            while True:
                try:
                    client.get("/readyz")
                    return
                except ClientError as error:
                    if time.monotonic() > deadline:
                        raise DemoError(f"{self.name} is not ready: {error}") from error
                    time.sleep(0.05)

    def _announced(self, deadline: float) -> str:
        """Read the one line of JSON that `migsvc serve -o json` prints."""
        stream = self.process.stdout
        if stream is None or not select.select([stream], [], [], deadline - time.monotonic())[0]:
            raise DemoError(
                f"{self.name} did not start in {START_TIMEOUT_S:.0f} s; its log ends with: {self.log_end()}"
            )
        line = stream.readline()
        if not line:
            raise DemoError(f"{self.name} did not start: {self.log_end()}")
        return str(json.loads(line)["url"])

    def log_end(self) -> str:
        """Return the last lines of the agent's log."""
        text = (self.data_dir / "agent.log").read_text(errors="replace").strip()
        return " / ".join(text.splitlines()[-3:]) or "(the log is empty)"

    def stop(self) -> None:
        """End the process: politely, then not; then whatever worker of this data directory is left."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for pid in processes_of(self.data_dir):
            os.kill(pid, signal.SIGKILL)


def processes_of(data_dir: Path) -> list[int]:
    """Return the processes whose arguments name the (unique, temporary) data directory: its VM workers."""
    needle = os.fsencode(str(data_dir)) + b"/"
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and needle in _arguments(pid)]


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def spawn(name: str, data_dir: Path) -> Agent:
    """Start an agent on free loopback ports; its log goes to the data directory."""
    data_dir.mkdir(mode=0o700, parents=True)
    command = [
        *(sys.executable, "-m", "migsvc", "serve", "--host", "127.0.0.1", "--port", "0", "--name", name),
        *("--migration-host", "127.0.0.1", "--migration-port", "0"),
        *("--data-dir", str(data_dir), "--on-exit", "stop", "--output", "json"),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MIGSVC_")}
    with (data_dir / "agent.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we end the agents in order
        )
    return Agent(name, data_dir, process)


@contextmanager
def two_agents(keep: bool = False) -> Iterator[tuple[Agent, Agent]]:
    """Run host-a and host-b, peers of each other; whatever happens, their processes end and their files go.

    `keep` leaves the files for a look afterwards.
    """
    base = Path(tempfile.mkdtemp(prefix=DIR_PREFIX))
    agents: list[Agent] = []
    try:
        agents.append(spawn("host-a", base / "host-a"))
        agents.append(spawn("host-b", base / "host-b"))
        for agent in agents:
            agent.await_ready()
        first, second = agents
        for here, there in ((first, second), (second, first)):
            with Client(here.url) as client:
                client.post("/v1/peers", {"name": there.name, "url": there.url})
        yield first, second
    finally:
        for agent in agents:
            agent.process.terminate()  # both at once; each takes a second or two
        for agent in agents:
            agent.stop()
        if not keep:
            shutil.rmtree(base, ignore_errors=True)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that cleaning up is never skipped."""

    def unwind(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
