"""`migsvc migrate`: move a VM to a peer, live; list, show, watch and cancel migrations."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from migsvc.cli.exit_codes import BY_PROBLEM, ExitCode
from migsvc.cli.output import Column, finding_line, print_done, print_json, print_record, print_records
from migsvc.cli.session import CliError, Session, api_command, group
from migsvc.cli.vm import When
from migsvc.units import human_bytes, human_ms

app = group("migrate", "Live migrations. `migrate start VM PEER` begins one.")

MigrationArgument = Annotated[str, typer.Argument(metavar="MIGRATION", help="id of the migration")]

REPEATED = ("owner", "epoch", "reason")
"""Members of an event that the explanation says again, or that only a program wants."""

COLUMNS: tuple[Column, ...] = (
    ("id", "id"),
    ("vm", "vm_name"),
    ("role", "role"),
    ("peer", "peer"),
    ("state", "state"),
    ("owner", "owner"),
    ("epoch", "epoch"),
    ("bytes", lambda m: human_bytes(m["stats"]["bytes"])),
    ("downtime", lambda m: human_ms(m["stats"]["downtime_ns"])),
    ("total", lambda m: human_ms(m["stats"]["total_ns"])),
)


def path(migration: str, *rest: str) -> str:
    """Return the API's path of a migration."""
    from migsvc.client import segment

    return "/".join(("/v1/migrations", segment(migration), *rest))


@api_command(app, "start")
def start(
    session: Session,
    vm: Annotated[str, typer.Argument(metavar="VM", help="name or id of the VM")],
    peer: Annotated[str, typer.Argument(metavar="PEER", help="name of the peer")],
    pause_when: Annotated[When, typer.Option(help="moment of the stop-and-copy")] = When.any,
    downtime_limit_ms: Annotated[int | None, typer.Option(min=1, help="allowed downtime (default 300)")] = None,
    bandwidth_limit_bytes: Annotated[int | None, typer.Option(min=65536, help="bytes a second")] = None,
    on_smm_shadow_loss: Annotated[
        Literal["refuse", "wait", "accept"] | None,
        typer.Option(help="if the peer would lose a shadow put aside by an SMI (default refuse)"),
    ] = None,
    max_rounds: Annotated[int | None, typer.Option(min=1, help="then stop and copy the rest")] = None,
    timeout_s: Annotated[float | None, typer.Option(min=0.001, help="then cancel")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="follow it to the end; exit 1 if it fails")] = False,
) -> None:
    """Move a VM to a peer while it runs."""
    wanted = {
        "pause_when": pause_when.value,
        "downtime_limit_ms": downtime_limit_ms,
        "bandwidth_limit_bytes": bandwidth_limit_bytes,
        "smm_shadow_loss": on_smm_shadow_loss,
        "max_rounds": max_rounds,
        "timeout_s": timeout_s,
    }
    options = {key: value for key, value in wanted.items() if value is not None}
    record = session.client.post("/v1/migrations", {"vm": vm, "peer": peer, "options": options})
    if watch:
        follow(session, record["id"])
        record = session.client.get(path(record["id"]))
        require_completed(record)
    print_done(record, summary(record), session.output)


def summary(record: dict[str, Any]) -> str:
    """Return what a migration has come to, in a few lines."""
    stats = record["stats"]
    text = f"migration {record['id']} is {record['state']}: {record['explanation']}"
    if record["state"] == "completed":
        text += (
            f"\n{len(stats['rounds'])} rounds, {stats['pages']} pages, {human_bytes(stats['bytes'])}, "
            f"downtime {human_ms(stats['downtime_ns'])}, total {human_ms(stats['total_ns'])}"
        )
    for loss in (stats.get("translation") or {}).get("losses", []):
        text += f"\nlost: {loss['where']}: {loss['message']} ({loss['rule']})"
    return text


def require_completed(record: dict[str, Any]) -> None:
    """Fail unless the migration is completed.

    Raises:
        CliError: with the migration's own error, and who owns the VM.
    """
    if record["state"] == "completed":
        return
    error = record.get("error") or {}
    detail = error.get("detail") or f"the migration is {record['state']}"
    slug = str(error.get("type", "")).rpartition("/")[2]
    code = BY_PROBLEM.get(slug, ExitCode.FAILED)
    known = {key: error[key] for key in ("findings",) if error.get(key)}
    raise CliError(
        f"{detail}; {record['explanation']}",
        code,
        hint=str(error.get("hint", "")),
        migration=record["id"],
        owner=record["owner"],
        epoch=record["epoch"],
        **known,
    )


def follow(session: Session, migration: str, after: int = 0) -> None:
    """Print a migration's events as they come; a broken stream is taken up again where it ended."""
    from migsvc.client import UnreachableError

    failures = 0
    while True:
        try:
            for event in session.client.events(path(migration, "events"), after):
                after, failures = event["seq"], 0
                if session.output == "json":
                    typer.echo(json.dumps(event))
                else:
                    typer.echo(event_line(event), err=True)
                if event["type"] == "end":
                    return
        except UnreachableError:
            failures += 1
            if failures > 3:
                raise


def event_line(event: dict[str, Any]) -> str:
    """Return an event in one line, an error in it as a sentence."""
    data = event["data"]
    if event["type"] == "error":
        text = fault_line(data)
    else:
        error = data.get("error")
        words = [f"{key} {value}" for key, value in data.items() if key not in (*REPEATED, "error")]
        text = ", ".join(words) + (f": {fault_line(error)}" if isinstance(error, dict) else "")
    return f"{event['at'][11:23]}  {event['type']:<8}  {text}"


def fault_line(error: dict[str, Any]) -> str:
    """Return the error of a migration in one line: what, the way out, and the first of the findings."""
    text = finding_line({key: error[key] for key in ("detail", "hint") if key in error})
    first, *more = error.get("findings") or [None]
    if first:
        text += f"; {finding_line(first)}" + (f", and {len(more)} more" if more else "")
    return text


@api_command(app, "list")
def list_(
    session: Session,
    vm: Annotated[str | None, typer.Option(help="only of this VM")] = None,
    state: Annotated[list[str] | None, typer.Option(help="only in this state; repeatable")] = None,
) -> None:
    """List the migrations of the host."""
    print_records(session.client.pages("/v1/migrations", vm=vm, state=state), COLUMNS, session.output)


@api_command(app, "show")
def show(session: Session, migration: MigrationArgument) -> None:
    """Show one migration, and who owns the VM and why."""
    print_record(session.client.get(path(migration)), session.output)


@api_command(app, "events")
def events(
    session: Session,
    migration: MigrationArgument,
    after: Annotated[int, typer.Option(min=0, help="only events after this one")] = 0,
) -> None:
    """Follow a migration's events to its end."""
    session.client.get(path(migration))
    follow(session, migration, after)


@api_command(app, "cancel")
def cancel(session: Session, migration: MigrationArgument) -> None:
    """Cancel a migration that is not committed yet; the VM goes on running on the source."""
    record = session.client.post(path(migration, "cancel"))
    if session.output == "json":
        print_json(record)
    else:
        typer.echo(f"migration {migration} is being cancelled: {record['explanation']}")
