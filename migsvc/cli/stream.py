"""`migsvc stream`: verify and describe stream files; no host is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_json
from migsvc.cli.session import OutputOption, group, reporting

app = group("stream", "Stream files: what `snapshot download` writes.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="stream file")]


@app.command("verify", epilog=EPILOG)
def verify(file: FileArgument, output: OutputOption = "table") -> None:
    """Check every byte of a stream file with the independent verifier; exit code 7 if any rule is broken."""
    from migsvc.stream.verify import verify_stream

    with reporting(output), file.open("rb") as source:
        report = verify_stream(source.read)
        violations = [{"rule": v.rule, "offset": v.offset, "text": v.text} for v in report.violations]
        if output == "json":
            print_json(
                {"file": str(file), "valid": not violations, "violations": violations, "summary": report.summary}
            )
        else:
            for violation in violations:
                typer.echo(f"{violation['rule']} at byte {violation['offset']}: {violation['text']}")
            typer.echo(f"{file}: {len(violations)} violations" if violations else f"{file}: valid")
        if violations:
            raise typer.Exit(ExitCode.INTEGRITY)


@app.command("describe", epilog=EPILOG)
def describe() -> None:
    """Print the layout of the stream format as JSON, from the tables that reader and writer use."""
    from migsvc.stream.describe import describe as layout

    print_json(layout())
