"""`migsvc snapshot`: take, list, restore, download and upload snapshots."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.output import Column, print_done, print_record, print_records
from migsvc.cli.session import CliError, Session, api_command, group
from migsvc.units import human_bytes

app = group("snapshot", "Snapshots: stream files at rest.")

SnapshotArgument = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="name or id of the snapshot")]

POLL_S = 0.05
"""Pause between two looks at a snapshot that is being written: a small VM takes about 50 ms."""

COLUMNS: tuple[Column, ...] = (
    ("name", "name"),
    ("status", "status"),
    ("vm", "vm_name"),
    ("epoch", "epoch"),
    ("size", lambda s: human_bytes(s["size_bytes"])),
    ("state digest", lambda s: s["state_digest"][:16]),
    ("created", "created_at"),
    ("id", "id"),
)


def path(snapshot: str, *rest: str) -> str:
    """Return the API's path of a snapshot."""
    from migsvc.client import segment

    return "/".join(("/v1/snapshots", segment(snapshot), *rest))


@api_command(app, "create")
def create(
    session: Session,
    vm: Annotated[str, typer.Argument(metavar="VM", help="name or id of the VM")],
    name: Annotated[str | None, typer.Option(help="name of the snapshot")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until it is written")] = True,
) -> None:
    """Take a snapshot of a VM."""
    record: dict[str, Any] = session.client.post("/v1/snapshots", {"vm": vm, "name": name})
    while wait and record["status"] == "writing":
        time.sleep(POLL_S)
        record = session.client.get(path(record["id"]))
    if record["status"] == "failed":
        error = record.get("error") or {}
        raise CliError(str(error.get("detail", "the snapshot failed")), ExitCode.FAILED, snapshot=record["id"])
    print_done(record, f"snapshot {record['name'] or record['id']} is {record['status']}", session.output)


@api_command(app, "list")
def list_(session: Session, vm: Annotated[str | None, typer.Option(help="only of this VM")] = None) -> None:
    """List the snapshots."""
    print_records(session.client.pages("/v1/snapshots", vm=vm), COLUMNS, session.output)


@api_command(app, "show")
def show(session: Session, snapshot: SnapshotArgument) -> None:
    """Show one snapshot."""
    print_record(session.client.get(path(snapshot)), session.output)


@api_command(app, "restore")
def restore(
    session: Session,
    snapshot: SnapshotArgument,
    name: Annotated[str, typer.Argument(help="name of the new VM")],
    run: Annotated[bool, typer.Option("--run", help="run it at once")] = False,
) -> None:
    """Make a new VM of a snapshot."""
    record = session.client.post(path(snapshot, "restore"), {"name": name, "run": run})
    print_done(record, f"VM {name} is {record['status']}, id {record['id']}", session.output)


@api_command(app, "download")
def download(
    session: Session, snapshot: SnapshotArgument, file: Annotated[Path, typer.Argument(help="file to write")]
) -> None:
    """Download the stream file."""
    size = session.client.download(path(snapshot, "content"), file)
    print_done({"file": str(file), "size_bytes": size}, f"{file}: {human_bytes(size)}", session.output)


@api_command(app, "upload")
def upload(
    session: Session,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="stream file")],
    name: Annotated[str | None, typer.Option(help="name of the snapshot")] = None,
) -> None:
    """Upload a stream file; the host verifies all of it."""
    import uuid

    record = session.client.upload(path(uuid.uuid4().hex, "content"), file, name=name)
    print_done(record, f"snapshot {record['name'] or record['id']} is {record['status']}", session.output)


@api_command(app, "delete")
def delete(session: Session, snapshot: SnapshotArgument) -> None:
    """Delete a snapshot."""
    session.client.delete(path(snapshot))
    print_done(None, f"snapshot {snapshot} is deleted", session.output)
