"""`migsvc emu vectors`: run single-instruction tests that were captured from hardware."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_json, print_rows
from migsvc.cli.session import CliError, OutputOption, reporting
from migsvc.cli.stderr import say

if TYPE_CHECKING:
    from emulator.vectors import Outcome, Vector, VectorBench

MAX_LINE_BYTES = 4 << 20
SHOWN_FAILURES = 20
FLAGS_FILE = "defined_flags.json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("vectors", epilog=EPILOG)(vectors)


def _list_exclusions(wanted: bool) -> None:
    if wanted:
        from emulator.vectors import EXCLUSIONS

        print_rows(["name", "why"], [[name, rule.reason] for name, rule in EXCLUSIONS.items()])
        raise typer.Exit


def vectors(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl[.xz]", help="one test a line")],
    exclude: Annotated[
        list[str] | None, typer.Option(help="do not count these: names of known differences, forms, patterns of names")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many tests")] = None,
    cpu: Annotated[str, typer.Option(help="CPU model")] = "x86-64",
    tier: Annotated[Literal["reference", "fast"], typer.Option(help="what executes them")] = "reference",
    flags: Annotated[
        Path | None, typer.Option(help=f"masks of defined FLAGS bits by form; default: {FLAGS_FILE} beside FILE")
    ] = None,
    list_exclusions: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option("--list-exclusions", callback=_list_exclusions, is_eager=True, help="print the known differences"),
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Run single-instruction tests and print per form how many passed and failed; exit code 1 if any failed.

    `--exclude` takes names separated by commas and can be repeated: names of `--list-exclusions`, forms (`F6.1`),
    patterns of test names (`lock *`).
    """
    with reporting(output):
        names = [name.strip() for text in exclude or [] for name in text.split(",") if name.strip()]
        bench = _bench(cpu, tier == "fast", _masks(flags, file.with_name(FLAGS_FILE)))
        tally = _run(file, names, limit, bench)
        if tier == "fast":
            say(f"the fast tier did {bench.fast_steps} of the steps")
        _print(tally, output)
        if tally.failed.total():
            raise typer.Exit(ExitCode.FAILED)


@dataclass
class Tally:
    """What came out, by form, and the first failures."""

    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def forms(self) -> list[str]:
        """Every form that occurred, in order."""
        return sorted({*self.passed, *self.failed, *self.excluded})

    def note(self, vector: Vector, outcome: Outcome) -> None:
        """Count a test that was run and not excluded."""
        if outcome.passed:
            self.passed[vector.form] += 1
            return
        self.failed[vector.form] += 1
        if len(self.failures) < SHOWN_FAILURES:
            found = {name: {"held": held, "expected": want} for name, (held, want) in outcome.differences.items()}
            record = {"form": vector.form, "name": vector.name, "differences": found}
            self.failures.append(record | ({"unsupported": outcome.unsupported} if outcome.unsupported else {}))


def _bench(cpu: str, fast: bool, masks: dict[str, int]) -> VectorBench:
    from emulator.cpu_model import MODELS
    from emulator.vectors import VectorBench

    if cpu not in MODELS:
        raise CliError(f"no CPU model {cpu!r}", ExitCode.USAGE, hint=f"there are: {', '.join(MODELS)}")
    try:
        return VectorBench(cpu, masks, fast)
    except ImportError as error:
        raise CliError(f"no fast tier: {error}", ExitCode.USAGE, hint="pip install migsvc[fast]") from error
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error


def _run(file: Path, names: list[str], limit: int | None, bench: VectorBench) -> Tally:
    from emulator.vectors import Excluder, VectorError, parse_vector

    excluder, tally = Excluder(names), Tally()
    for number, line in _lines(file, limit):
        try:
            vector = parse_vector(json.loads(line))
        except (ValueError, RecursionError) as error:
            text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            what = "no vector" if isinstance(error, VectorError) else "no JSON"
            raise CliError(f"{file}, line {number}: {what}: {text}", ExitCode.USAGE) from error
        why = excluder.before(vector)
        if why is None:
            outcome = bench.run(vector)
            why = None if outcome.passed else excluder.after(vector, outcome.faulted)
            if why is None:
                tally.note(vector, outcome)
                continue
        tally.excluded[vector.form] += 1
        tally.reasons[why] += 1
    return tally


def _lines(file: Path, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file, decompressed if its name ends in .xz."""
    count = 0
    try:
        with _open(file) as source:
            while line := source.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise CliError(f"{file}, line {count + 1}: more than {MAX_LINE_BYTES} bytes", ExitCode.USAGE)
                count += 1
                yield count, line
                if count == limit:
                    return
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise CliError(f"{file}: {getattr(error, 'strerror', None) or error}", ExitCode.USAGE) from error


def _open(file: Path) -> BinaryIO:
    return lzma.open(file, "rb") if file.suffix == ".xz" else file.open("rb")  # type: ignore[return-value]


def _masks(given: Path | None, beside: Path) -> dict[str, int]:
    """Read the masks of defined flags; none if no file is named and none lies beside the tests."""
    if given is None and not beside.is_file():
        return {}
    file = given or beside
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return {str(form): int(mask, 16) for form, mask in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        hint = 'an object of forms and hexadecimal masks is needed, as {"00": "0xFFD7"}'
        raise CliError(f"{file}: {error}", ExitCode.USAGE, hint=hint) from error


def _print(tally: Tally, output: str) -> None:
    counts = {"passed": tally.passed, "failed": tally.failed, "excluded": tally.excluded}
    forms = [{"form": form, **{name: count[form] for name, count in counts.items()}} for form in tally.forms()]
    totals = {name: count.total() for name, count in counts.items()}
    if output == "json":
        print_json({**totals, "reasons": dict(tally.reasons), "forms": forms, "failures": tally.failures})
        return
    print_rows(["form", *counts], [[str(value) for value in row.values()] for row in forms])
    for failure in tally.failures:
        pairs = (f"{name} {d['held']:#x} expected {d['expected']:#x}" for name, d in failure["differences"].items())
        typer.echo(f"failed: {failure['form']} {failure['name']}: {failure.get('unsupported') or ', '.join(pairs)}")
    for reason, count in tally.reasons.items():
        typer.echo(f"excluded {count}: {reason}")
    typer.echo(", ".join(f"{count} {name}" for name, count in totals.items()))
