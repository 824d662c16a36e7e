"""Host agents as separate processes, for benchmarks that measure the service as it is used."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migsvc.client import Client

DEADLINE_S = 120.0


@dataclass
class Agent:
    """One running agent and a client of it."""

    name: str
    url: str
    client: Client

    def wait_for_snapshot(self, snapshot: str) -> None:
        """Return once a snapshot is written.

        Raises:
            RuntimeError: it failed, or was not written in time.
        """
        deadline = time.monotonic() + DEADLINE_S
        while (record := self.client.get(f"/v1/snapshots/{snapshot}"))["status"] == "writing":
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if record["status"] != "ready":
            raise RuntimeError(f"snapshot {snapshot} {record['status']}: {record['error']}")

    def wait_for_migration(self, migration: str) -> dict[str, Any]:
        """Return the record of a migration once it has completed.

        Raises:
            RuntimeError: it ended otherwise, or not in time.
        """
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            record: dict[str, Any] = self.client.get(f"/v1/migrations/{migration}")
            if record["state"] == "completed":
                return record
            if record["state"] in ("failed", "cancelled"):
                raise RuntimeError(f"migration {migration} {record['state']}: {record['error']}")
            time.sleep(0.005)
        raise RuntimeError(f"migration {migration} did not end within {DEADLINE_S} s")


@contextmanager
def agents(folder: Path, count: int) -> Iterator[list[Agent]]:
    """Start `count` agents on free loopback ports under `folder`; end them, and their VMs, afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(_agent(folder, f"host-{letter}")) for letter in "abcdefgh"[:count]]


@contextmanager
def _agent(folder: Path, name: str) -> Iterator[Agent]:
    command = [sys.executable, "-m", "migsvc", "serve", "--port", "0", "--name", name, "-o", "json"]
    command += ["--data-dir", str(folder / name), "--on-exit", "stop"]
    with (
        (folder / f"{name}.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise RuntimeError(f"{name} did not start; see {log.name}")
            url = json.loads(line)["url"]
            with Client(url) as client:
                yield Agent(name, url, client)
        finally:
            process.terminate()
            process.wait(20)


def connect_as_peers(hosts: list[Agent]) -> None:
    """Register every agent with every other under its name."""
    for host in hosts:
        for other in hosts:
            if other is not host:
                host.client.post("/v1/peers", {"name": other.name, "url": other.url})
