"""Emulated instructions a second, on the bundled ticking guests."""

from __future__ import annotations

import statistics
import time

from benchmarks.rows import Row
from emulator.guests import GUESTS
from emulator.machine import Machine

STEPS = 400_000
WARM_UP_STEPS = 100_000
SAMPLES = 3


def measure() -> list[Row]:
    """Time a long run, exact single steps, and a run that stops every 100 steps."""
    rows = [
        Row(f"{name}, {STEPS} steps", _mips(name, STEPS), "MIPS", "reference tier") for name in ("ticker32", "ticker64")
    ]
    rows.append(Row("ticker64, stopping every 100 steps", _mips("ticker64", 100), "MIPS", "exact stops"))
    rows.append(Row("ticker64, one step at a time", 1 / _mips("ticker64", 1), "us/step", "Machine.run(1)"))
    return rows


def _mips(guest: str, steps: int) -> float:
    """Million steps a second when `Machine.run` is asked for `steps` at a time."""
    samples = []
    for _ in range(SAMPLES):
        machine = Machine(GUESTS[guest].config({"ticks": 1_000_000}))
        machine.run(WARM_UP_STEPS)
        wanted = STEPS if steps > 1 else STEPS // 10
        begin = time.perf_counter()
        for _ in range(wanted // steps):
            machine.run(steps)
        samples.append(wanted / (time.perf_counter() - begin) / 1e6)
    return statistics.median(samples)
