"""`migsvc compat`: say before a migration what a host could not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.output import finding_line, print_json
from migsvc.cli.session import CliError, Session, api_command, group, read_json
from migsvc.cli.vm import VmArgument, path

app = group("compat", "Whether a host can hold a VM's state.")

GOOD = ("exact", "translated")
"""Verdicts under which nothing is lost."""


@api_command(app, "check")
def check(
    session: Session,
    vm: VmArgument,
    against: Annotated[str | None, typer.Option(help="URL of the other host's API")] = None,
    profile: Annotated[Path | None, typer.Option(help="file that `host profile` of the other host wrote")] = None,
) -> None:
    """Check a VM against another host, or a host profile; exit code 5 if state would be lost. Nothing is moved."""
    if (against is None) == (profile is None):
        raise CliError("give one of --against and --profile", ExitCode.USAGE)
    document = read_json(profile) if profile is not None else other_profile(session, against or "")
    report: dict[str, Any] = session.client.post(path(vm, "compat"), {"profile": document})
    if session.output == "json":
        print_json(report)
    else:
        typer.echo(f"{report['verdict']}: {vm} on {document.get('name', 'that host')}")
        for finding in report["findings"]:
            typer.echo("  - " + finding_line(finding))
    if report["verdict"] not in GOOD:
        raise typer.Exit(ExitCode.REFUSED)


def other_profile(session: Session, url: str) -> dict[str, Any]:
    """Fetch the profile of another host; its token is taken to be the same."""
    from migsvc.cli.session import read_token
    from migsvc.client import Client

    with Client(url, read_token(session.token_file)) as other:
        profile: dict[str, Any] = other.get("/v1/host")["profile"]
    return profile
