"""`migsvc host`: what the host is and can hold."""

from __future__ import annotations

import platform
from typing import Annotated, Any

import typer

from migsvc.cli.output import Column, print_json, print_record, print_records
from migsvc.cli.session import Session, api_command, group

app = group("host", "The host agent itself.")

GUEST_COLUMNS: tuple[Column, ...] = (
    ("name", "name"),
    ("description", "description"),
    ("parameters", lambda guest: " ".join(f"{name}={row['default']}" for name, row in guest["params"].items())),
)


@api_command(app, "show")
def show(session: Session) -> None:
    """Show name, version, addresses and counts."""
    record: dict[str, Any] = session.client.get("/v1/host")
    if session.output == "table":
        record = {key: value for key, value in record.items() if key not in ("profile", "guests")}
    print_record(record, session.output)


@api_command(app, "profile")
def profile(
    session: Session,
    backend: Annotated[
        str | None, typer.Option("--backend", help="emulator or kvm: ask this machine itself, no agent")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="with --backend: name of the host")] = "",
) -> None:
    """Print the host profile as JSON: a file that `compat` compares, and that can be kept."""
    if backend is None:
        print_json(session.client.get("/v1/host")["profile"])
        return
    from migsvc.cli.operands import backend_profile

    print_json(backend_profile(backend, name or platform.node()).model_dump(mode="json"))


@api_command(app, "guests")
def guests(session: Session) -> None:
    """List the bundled guests and their parameters, for `vm create --guest`."""
    print_records(session.client.get("/v1/host")["guests"], GUEST_COLUMNS, session.output)
