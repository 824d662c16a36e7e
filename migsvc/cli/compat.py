"""`migsvc compat`: say before a migration, or in CI, what would be lost."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.operands import FORMS, Operand, fetch_profile, read_operand, read_profile
from migsvc.cli.output import print_json
from migsvc.cli.schema import CheckCommand, ReportFormat, ReportOption
from migsvc.cli.session import (
    DEFAULT_SERVER,
    CliError,
    ServerOption,
    Session,
    TokenFileOption,
    group,
    reporting,
)

if TYPE_CHECKING:
    from schemas.compat import CompatReport

app = group("compat", "Whether hosts can hold the state of machines.")


class CompatExit(IntEnum):
    """Exit codes of `migsvc compat`: what a CI job can tell from `$?`."""

    HOLDS = 0
    LOSSY = 1
    IMPOSSIBLE = 2
    NOT_CHECKED = 3


MEANINGS = {
    CompatExit.HOLDS: "exact or translated: nothing is lost",
    CompatExit.LOSSY: "lossy",
    CompatExit.IMPOSSIBLE: "impossible",
    CompatExit.NOT_CHECKED: "could not be checked: wrong usage, no such file, VM or host, no profile",
}
"""One line for each code."""

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANINGS.items()) + "."

EXIT_OF_VERDICT = {
    "exact": CompatExit.HOLDS,
    "translated": CompatExit.HOLDS,
    "lossy": CompatExit.LOSSY,
    "impossible": CompatExit.IMPOSSIBLE,
}
"""Exit code of each verdict."""

OperandArgument = Annotated[str, typer.Argument(help=FORMS)]
HostArguments = Annotated[
    list[str], typer.Argument(metavar="HOST…", help="profiles: a file, peer:NAME, host:, backend:NAME or a URL")
]


def style_of(output: ReportFormat) -> Literal["text", "markdown"]:
    """Return the style of the renderers for a format."""
    return "markdown" if output == "markdown" else "text"


@contextmanager
def checking(server: str, output: ReportFormat, token_file: Path | None) -> Iterator[Session]:
    """Turn whatever keeps a comparison from being made into a message and exit code 3, a bug of ours included.

    An exception that nobody expects would end with 1, which says "lossy" here.
    """
    plain: Literal["table", "json"] = "json" if output == "json" else "table"
    session = Session(server, plain, token_file)
    try:
        with closing(session), reporting(plain):
            yield session
    except typer.Exit as error:
        raise typer.Exit(CompatExit.NOT_CHECKED) from error
    except Exception as error:
        traceback.print_exc()
        raise typer.Exit(CompatExit.NOT_CHECKED) from error


def show(document: Any, lines: Sequence[str], output: ReportFormat) -> None:
    """Print a result: the document as JSON, or its lines."""
    if output == "json":
        print_json(document)
    else:
        typer.echo("\n".join(lines))


@app.command("check", cls=CheckCommand, epilog=EPILOG)
def check(
    a: OperandArgument,
    b: OperandArgument,
    output: ReportOption = "table",
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenFileOption = None,
) -> None:
    """Check whether A fits B: a machine a host, a host's machines another host, a machine the hosts of another."""
    from schemas.compat.render import report_lines

    with checking(server, output, token_file) as session:
        first, second = read_operand(session, a), read_operand(session, b)
        report = _report(session, first, second)
        lines = report_lines(report, first.name, second.name, style_of(output))
        show({"a": first.name, "b": second.name, **report.model_dump(mode="json")}, lines, output)
    raise typer.Exit(EXIT_OF_VERDICT[report.verdict])


def _report(session: Session, a: Operand, b: Operand) -> CompatReport:
    """Check here what was read here, and let the agent check what only it knows."""
    from schemas.compat import CompatReport, check_pair
    from schemas.errors import SchemaError, parse_as

    if a.subject is not None and b.subject is not None:
        return check_pair(a.subject, b.subject)
    answer = session.client.post("/v1/compat/check", {"a": a.body, "b": b.body})
    try:
        return parse_as(CompatReport, answer)
    except SchemaError as error:
        hint = "is the agent of another release?"
        raise CliError(f"{session.server} answers no report: {error}", ExitCode.FAILED, hint=hint) from error


@app.command("baseline", cls=CheckCommand, epilog=EPILOG)
def baseline(
    hosts: HostArguments,
    name: Annotated[str, typer.Option("--name", help="name of the profile that is made")] = "baseline",
    to: Annotated[Path | None, typer.Option("--to", help="write the profile to this file")] = None,
    output: ReportOption = "table",
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenFileOption = None,
) -> None:
    """Make the largest profile that all hosts can hold, and say what each gives up for it."""
    from schemas.compat import baseline as make_baseline
    from schemas.compat.render import baseline_lines

    with checking(server, output, token_file) as session:
        profiles = [fetch_profile(session, read_profile(session, host)) for host in hosts]
        made = make_baseline(profiles, name)
        if to is not None:
            to.write_text(made.profile.model_dump_json(indent=1) + "\n", encoding="utf-8")
        show(made.model_dump(mode="json"), baseline_lines(made, style_of(output)), output)
    raise typer.Exit(EXIT_OF_VERDICT[made.verdict])


@app.command("matrix", cls=CheckCommand, epilog=EPILOG)
def matrix(
    hosts: HostArguments,
    output: ReportOption = "table",
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenFileOption = None,
) -> None:
    """Compare every pair of a fleet's hosts: what becomes on the second of a machine that uses all of the first."""
    from schemas.compat import matrix as make_matrix
    from schemas.compat.render import matrix_lines

    with checking(server, output, token_file) as session:
        made = make_matrix([fetch_profile(session, read_profile(session, host)) for host in hosts])
        show(made.model_dump(mode="json"), matrix_lines(made, style_of(output)), output)
    raise typer.Exit(EXIT_OF_VERDICT[made.verdict])
