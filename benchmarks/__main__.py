"""Print the figures of this machine: `python -m benchmarks [NAME...] [--json]`.

Every claim of speed or size in the documentation is a line printed here. Where a peer or a physical limit exists,
it is measured in the same run and the ratio is printed beside the figure.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys

from benchmarks import emulator_speed, fast_tier, migration, state

BENCHMARKS = {
    "emulator": emulator_speed.measure,
    "fast": fast_tier.measure,
    "state": state.measure,
    "migration": migration.measure,
}
"""Name on the command line -> function that returns rows (what, value, unit, note)."""


def main() -> int:
    """Run the named benchmarks, all by default, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    results = {}
    for name in arguments.names or BENCHMARKS:
        print(f"{name}: measuring ...", file=sys.stderr, flush=True)
        rows = results[name] = BENCHMARKS[name]()
        if not arguments.json:
            print(f"\n{name}")
            for row in rows:
                print(f"  {row.what:<58} {row.value:>12.4g} {row.unit:<10} {row.note}")
    if arguments.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(
            json.dumps(
                {"machine": machine, **{n: [r._asdict() for r in rows] for n, rows in results.items()}}, indent=2
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
