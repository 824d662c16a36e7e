"""The shape of a result, and the clock that all benchmarks use."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """One printed figure."""

    what: str
    value: float
    unit: str
    note: str = ""


def median_ns(call: Callable[[], object], *, repeat: int, inner: int = 1) -> float:
    """Return the median time of one call in ns over `repeat` samples of `inner` calls each."""
    samples = []
    for _ in range(repeat):
        begin = time.perf_counter_ns()
        for _ in range(inner):
            call()
        samples.append((time.perf_counter_ns() - begin) / inner)
    return statistics.median(samples)


def best_ns(call: Callable[[], object], *, repeat: int, inner: int = 1) -> float:
    """Return the best time of one call in ns: for microseconds of pure computing, all else is the machine's noise."""
    return min(timeit.repeat(call, number=inner, repeat=repeat)) / inner * 1e9
