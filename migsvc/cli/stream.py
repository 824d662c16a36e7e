"""`migsvc stream`: verify and describe stream files; no host is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import finding_line, print_json
from migsvc.cli.session import OutputOption, group, reporting

app = group("stream", "Stream files: what `snapshot download` writes.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="stream file")]


@app.command("verify", epilog=EPILOG)
def verify(
    file: FileArgument,
    memory_budget_mib: Annotated[
        int, typer.Option(min=1, help="RAM to spend on comparing the memory digest; a larger guest is refused")
    ] = 1024,
    output: OutputOption = "table",
) -> None:
    """Check every byte of a stream file with the independent verifier; exit code 7 if the reader must refuse it."""
    from migsvc.stream.verify import verify_stream

    with reporting(output), file.open("rb") as source:
        report = verify_stream(source.read, memory_budget_bytes=memory_budget_mib << 20)
        findings = [violation.to_finding() for violation in report.violations]
        document = {"file": str(file), "valid": report.ok, "clean": report.clean}
        if output == "json":
            print_json({**document, "findings": findings, "summary": report.summary})
        else:
            for finding in findings:
                typer.echo(finding_line(finding))
            if not report.memory_checked:
                typer.echo("the memory digest was not compared; see --memory-budget-mib")
            typer.echo(f"{file}: {'valid' if report.ok else 'NOT valid'}, {len(findings)} findings")
        if not report.ok:
            raise typer.Exit(ExitCode.INTEGRITY)


@app.command("describe", epilog=EPILOG)
def describe() -> None:
    """Print the layout of the stream format as JSON, from the tables that reader and writer use."""
    from migsvc.stream.describe import describe as layout

    print_json(layout())
