"""Import times, each the best of fresh interpreters with bytecode in a cache, as an installed package has it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

CASES = (
    ("bare interpreter", "pass"),
    ("import schemas", "import schemas"),
    ("pydantic.BaseModel", "import pydantic; pydantic.BaseModel"),
    ("schemas.VcpuState", "import schemas; schemas.VcpuState"),
    (
        "… and the first vCPU validated",
        "import schemas; schemas.vcpu_from_json(open(__import__('sys').argv[1]).read())",
    ),
    ("schemas.check_state", "import schemas; schemas.check_state"),
    ("schemas.check_compat", "import schemas; schemas.check_compat"),
)
RUNS = 9


class StartTime(NamedTuple):
    """How long an interpreter lives that does one thing; other work on the machine moves the CPU time less."""

    wall_ms: float
    cpu_ms: float


def start_times(document: str) -> dict[str, StartTime]:
    """Return case -> best times of an interpreter that runs it and ends. `document` is the path of a vCPU's JSON."""
    samples: dict[str, list[StartTime]] = {name: [] for name, _ in CASES}
    with tempfile.TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        for number in range(RUNS + 1):
            for name, code in CASES:
                begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run([sys.executable, "-c", code, document], env=environment, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
                if number:  # the first fills the cache
                    samples[name].append(StartTime(1000 * (time.perf_counter() - begin), 1000 * cpu))
    return {
        name: StartTime(min(s.wall_ms for s in values), min(s.cpu_ms for s in values))
        for name, values in samples.items()
    }
