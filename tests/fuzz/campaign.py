"""Fuzz with coverage guidance: `python tests/fuzz/campaign.py [TARGET ...] [--seconds N]`; `make fuzz` does it.

Each target gets N seconds in a process of its own, at low priority. What is found is kept in the output folder; a
finding makes the exit status 1. Turn it into a test by copying the file to tests/data/fuzz/<target>/.
Needs atheris (Linux, CPython 3.11 to 3.13).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = ROOT / "tests" / "data" / "fuzz"
TIMEOUT_S = 20
RSS_LIMIT_MB = 2048


def fuzz_one(name: str, seconds: int, out: Path) -> None:
    """Fuzz one target in this process; does not return (libFuzzer ends the process)."""
    import atheris

    sys.path[:0] = [str(HERE), str(ROOT)]
    with atheris.instrument_imports(include=["schemas", "migsvc.stream"]):
        from targets import TARGETS
    from mutators import mutate_json, mutate_msgpack

    target = TARGETS[name]
    by_form = {"json": mutate_json, "msgpack": mutate_msgpack}.get(target.form)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        made = by_form(data, seed) if by_form and seed % 4 else None
        return atheris.Mutate(data, max_size) if made is None or len(made) > max_size else made

    grown = out / name / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0], str(grown), str(CORPUS / name), f"-max_total_time={seconds}", f"-max_len={target.max_bytes}",
        f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_LIMIT_MB}", f"-artifact_prefix={out / name}/",
        "-print_final_stats=1", "-use_value_profile=1", "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup(arguments, target.run, custom_mutator=mutate)
    atheris.Fuzz()


def summary(log: Path) -> str:
    """Return the last word of libFuzzer: runs, coverage."""
    lines = log.read_text(errors="replace").splitlines()
    stats = [line for line in lines if line.startswith(("stat::number_of_executed_units", "stat::peak_rss_mb"))]
    coverage = [line for line in lines if "cov:" in line][-1:]
    return "; ".join(line.strip() for line in (*coverage, *stats))


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="time for each target (60)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz", help="grown corpus and findings")
    parser.add_argument("--here", action="store_true", help="fuzz the one target in this process")
    options = parser.parse_args()
    names = options.targets or sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; it exists for CPython 3.11 to 3.13 on Linux x86-64", file=sys.stderr)
        return 2
    if options.here:
        fuzz_one(names[0], options.seconds, options.out)
    os.nice(19)
    found = 0
    for name in names:
        log = options.out / name / "log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, name, "--here", f"--seconds={options.seconds}", f"--out={options.out}"]
        with log.open("wb") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        found += status != 0
        print(f"{name}: {'FINDING, see ' + str(log) if status else 'nothing found'}; {summary(log)}", flush=True)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
