"""`migsvc schema`: the layout of the state as a document, and what a change of it breaks. No host is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_done, print_error, print_json, print_records
from migsvc.cli.session import CliError, OutputOption, group, reporting

if TYPE_CHECKING:
    from schemas.evolution import SchemaExport

app = group("schema", "The layout of the state as a document, and what a change of it breaks.")

PRESENT = "present"
"""The export of the program that runs; the only name besides version numbers."""

ReportFormat = Literal["table", "json", "markdown"]
ReportOption = Annotated[
    ReportFormat, typer.Option("--output", "-o", envvar="MIGSVC_OUTPUT", help="table, json or markdown")
]


class SchemaExit(IntEnum):
    """Exit codes of `migsvc schema check`: what a CI job can tell from `$?`."""

    COMPATIBLE = 0
    ONE_WAY = 1
    BREAKING = 2
    NOT_CHECKED = 3


MEANINGS = {
    SchemaExit.COMPATIBLE: "compatible: both versions read each other",
    SchemaExit.ONE_WAY: "forward-only or backward-only",
    SchemaExit.BREAKING: "breaking: neither reads everything of the other",
    SchemaExit.NOT_CHECKED: "could not be checked: wrong usage, no such file or version, no export",
}
"""One line for each code."""

CHECK_EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANINGS.items()) + "."

EXIT_OF_CLASS = {
    "compatible": SchemaExit.COMPATIBLE,
    "forward-only": SchemaExit.ONE_WAY,
    "backward-only": SchemaExit.ONE_WAY,
    "breaking": SchemaExit.BREAKING,
}
"""Exit code of each verdict."""

Operand = Annotated[
    str, typer.Argument(help=f"file that `schema export` wrote, - for stdin, a version such as 1, or {PRESENT}")
]


_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises for any wrong command line; Typer names only this subclass of it."""


class CheckCommand(typer.core.TyperCommand):
    """A command whose usage errors say "could not be checked": the usual 2 would read as "breaking"."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the command line as usual, with another exit code for what is wrong in it."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except _USAGE_ERROR as error:
            vars(error)["exit_code"] = int(SchemaExit.NOT_CHECKED)
            raise


@app.command("list", epilog=EPILOG)
def list_exports(output: OutputOption = "table") -> None:
    """List the schema versions whose exports are kept, and the present one."""
    with reporting(output):
        from migsvc import schema_exports

        exports = [(f"v{number}", schema_exports.kept(number)) for number in schema_exports.kept_versions()]
        exports.append((PRESENT, schema_exports.present()))
        rows = [
            {"name": name, "schema_version": found.schema_version, "digest": found.digest} for name, found in exports
        ]
        print_records(rows, (("name", "name"), ("schema version", "schema_version"), ("digest", "digest")), output)


@app.command("kinds", epilog=EPILOG)
def kinds(output: ReportOption = "table") -> None:
    """List every kind of change that `schema check` tells apart, with its class and the reason."""
    from schemas.evolution import KINDS, render

    if output == "markdown":
        typer.echo(render.kinds_table())
        return
    columns = ("id", "name", "change_class", "reason")
    rows = [{name: str(getattr(kind, name)) for name in columns} for kind in KINDS]
    print_records(rows, [(name.replace("_", " "), name) for name in columns], output)


@app.command("export", epilog=EPILOG)
def export(
    file: Annotated[Path | None, typer.Argument(help="file to write; standard output if none")] = None,
    version: Annotated[str, typer.Option("--version", help=f"a released version such as 1, or {PRESENT}")] = PRESENT,
    output: OutputOption = "table",
) -> None:
    """Write the whole layout - structs, sections, records, numbers, rules - as canonical JSON with a digest."""
    with reporting(output):
        found = _named(version)
        text = found.canonical()
        if file is None:
            typer.echo(text, nl=False)
            return
        file.write_text(text, encoding="ascii")
        done = {"file": str(file), "schema_version": found.schema_version, "digest": found.digest}
        print_done(done, f"{file}: schema version {found.schema_version}, {found.digest}", output)


@app.command("check", cls=CheckCommand, epilog=CHECK_EPILOG)
def check(
    old: Operand,
    new: Operand,
    strict: Annotated[bool, typer.Option("--strict", help="count declared changes too")] = False,
    everything: Annotated[bool, typer.Option("--all", help="show compatible changes too")] = False,
    output: ReportOption = "table",
) -> None:
    """Say by meaning what changes from OLD to NEW break: state that is kept, documents, migrations. For CI."""
    with _checking(output):
        from schemas.evolution import compare, render

        report = compare(load(old), load(new), strict=strict)
    if output == "json":
        print_json(report.model_dump(mode="json"))
    else:
        show = render.markdown if output == "markdown" else render.text
        typer.echo(show(report, everything=everything))
    raise typer.Exit(EXIT_OF_CLASS[report.verdict])


@contextmanager
def _checking(output: ReportFormat) -> Iterator[None]:
    """Turn whatever keeps two exports from being compared into a message and its exit code."""
    try:
        yield
    except CliError as error:
        print_error(error.problem, "json" if output == "json" else "table")
        raise typer.Exit(SchemaExit.NOT_CHECKED) from error


def load(operand: str) -> SchemaExport:
    """Return the export that an operand names; a file is meant if there is one of this name.

    Raises:
        CliError: there is no such file or version, or it is no export.
    """
    from schemas.evolution import EvolutionError, load_export

    if _is_name(operand) and not Path(operand).exists():
        return _named(operand)
    try:
        return load_export(_read(operand))
    except EvolutionError as error:
        problems = [problem.model_dump(mode="json") for problem in error.problems]
        raise CliError(f"{operand} is no schema export", ExitCode.USAGE, findings=problems) from error


def _is_name(operand: str) -> bool:
    return operand == PRESENT or (len(operand) <= 16 and operand.removeprefix("v").isdigit())


def _read(operand: str) -> bytes:
    """Return the bytes of a file or of standard input, at most one more than an export may have."""
    from schemas.evolution.reading import BOUNDS

    try:
        if operand == "-":
            return typer.get_binary_stream("stdin").read(BOUNDS.max_bytes + 1)
        with Path(operand).open("rb") as file:
            return file.read(BOUNDS.max_bytes + 1)
    except OSError as error:
        hint = "a file, -, a version number, or " + PRESENT
        raise CliError(f"{operand}: {error.strerror or error}", ExitCode.USAGE, hint=hint) from error


def _named(name: str) -> SchemaExport:
    """Return the export of a released version or the present one.

    Raises:
        CliError: there is none.
    """
    from migsvc import schema_exports
    from migsvc.errors import NotFoundError

    try:
        return schema_exports.named(name)
    except NotFoundError as error:
        raise CliError(error.detail, ExitCode.NOT_FOUND, hint=error.hint) from error
