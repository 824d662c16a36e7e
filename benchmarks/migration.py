"""Live migration of a 64 MiB VM between two agents, beside a plain loopback TCP copy of as many bytes."""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy

from benchmarks.agents import Agent, agents, connect_as_peers
from benchmarks.loopback import copy_seconds, fresh_memory
from benchmarks.machines import fill_idle_ram
from benchmarks.rows import Row

RAM_BYTES = 64 << 20
HOPS = 6


def measure() -> list[Row]:
    """Move a ticking guest with random RAM back and forth; report medians over the hops."""
    with tempfile.TemporaryDirectory(prefix="migsvc-bench-") as folder, agents(Path(folder), 2) as hosts:
        connect_as_peers(hosts)
        finished = migrate_back_and_forth(hosts, Path(folder))
    payload = memoryview(fresh_memory(RAM_BYTES))
    numpy.frombuffer(payload, dtype=numpy.uint8)[:] = numpy.random.default_rng(1).integers(0, 256, RAM_BYTES, "uint8")
    copies = [copy_seconds(payload) for _ in range(HOPS)]
    stats = [record["stats"] for record in finished]
    total_s = statistics.median(s["total_ns"] for s in stats) / 1e9
    rate = statistics.median(s["bytes"] / s["phases_ns"]["precopy"] for s in stats) * 1e9
    downtime_ms = statistics.median(s["downtime_ns"] for s in stats) / 1e6
    copy_rate = RAM_BYTES / statistics.median(copies)
    wire = statistics.median(s["bytes"] for s in stats)
    return [
        Row("total time, request to completion", total_s * 1000, "ms", f"median of {HOPS} hops, 64 MiB of random RAM"),
        Row("downtime, pause to RUNNING", downtime_ms, "ms", "two durable commits included"),
        Row("bytes on the wire", wire / 2**20, "MiB", f"{wire / RAM_BYTES:.2f} x RAM"),
        Row("pre-copy rate", rate / 1e6, "MB/s", f"{rate / copy_rate:.2f} x the plain copy"),
        Row("plain loopback TCP copy of 64 MiB", copy_rate / 1e6, "MB/s", "same machine, same run, fresh memory"),
    ]


def migrate_back_and_forth(hosts: list[Agent], folder: Path) -> list[dict[str, Any]]:
    """Run a ticking VM whose idle RAM is random, migrate it `HOPS` times, return the source's records."""
    first = hosts[0].client
    first.post(
        "/v1/vms", {"name": "plain", "guest": "ticker64", "guest_params": {"ticks": 1_000_000}, "ram_bytes": RAM_BYTES}
    )
    plain, filled = folder / "plain.migsvc", folder / "filled.migsvc"
    hosts[0].wait_for_snapshot(first.post("/v1/snapshots", {"vm": "plain", "name": "plain"})["id"])
    first.download("/v1/snapshots/plain/content", plain)
    fill_idle_ram(plain, filled)
    snapshot = first.upload(f"/v1/snapshots/{uuid.uuid4().hex}/content", filled)
    first.delete("/v1/vms/plain")
    first.post(f"/v1/snapshots/{snapshot['id']}/restore", {"name": "bench", "run": True})
    finished = []
    for hop in range(HOPS):
        time.sleep(0.2)  # let the guest dirty its working set between the hops
        source, destination = hosts[hop % 2], hosts[(hop + 1) % 2]
        record = source.client.post("/v1/migrations", {"vm": "bench", "peer": destination.name})
        finished.append(source.wait_for_migration(record["id"]))
    hosts[HOPS % 2].client.delete("/v1/vms/bench")
    return finished
