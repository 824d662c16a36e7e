"""`migsvc demo`: two hosts, one VM that moves between them in SMM and in shadows, and proof that nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_error, print_json
from migsvc.cli.session import OutputOption, reporting

if TYPE_CHECKING:
    from migsvc.demo.scenario import Scenario
    from migsvc.demo.verdict import Verdict


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=EPILOG)(demo)


def demo(
    hops: Annotated[int, typer.Option(min=6, max=60, help="how many live migrations")] = 6,
    guest: Annotated[str, typer.Option(help="bundled guest")] = "ticker64",
    ticks: Annotated[
        int | None, typer.Option(min=100, help="timer ticks until the guest ends; more if it ends before the last hop")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="keep the hosts' files for a look afterwards")] = False,
    output: OutputOption = "table",
) -> None:
    """Start two hosts, migrate a running VM back and forth, and compare with the same guest run without migration."""
    from migsvc.demo.agents import DemoError, terminated_like_interrupted, two_agents
    from migsvc.demo.console import GapError
    from migsvc.demo.plan import Plan
    from migsvc.demo.report import Report
    from migsvc.demo.scenario import Scenario, Silent

    report = Report() if output == "table" else None
    with reporting(output), terminated_like_interrupted():
        try:
            with two_agents(keep) as hosts:
                scenario = Scenario(
                    hosts, Plan(hops, guest, extra_params={} if ticks is None else {"ticks": ticks}), report or Silent()
                )
                verdict = scenario.run()
                if report is not None:
                    report.finish(scenario, verdict)
                else:
                    print_json(document(scenario, verdict))
                if keep:
                    typer.echo(f"files: {hosts[0].data_dir.parent}", err=True)
        except (DemoError, GapError) as error:
            print_error({"detail": str(error)}, output)
            raise typer.Exit(ExitCode.FAILED) from error
        finally:
            if report is not None:
                report.close()
    if not verdict.good:
        raise typer.Exit(ExitCode.FAILED)


def document(scenario: Scenario, verdict: Verdict) -> dict[str, Any]:
    """Return the whole demonstration as one JSON object."""
    return {
        "migrations": scenario.migrations,
        "console": [{"host": line.host, "text": line.text} for line in scenario.follower.lines],
        "verdict": verdict.as_json(),
    }
