"""`migsvc host`: what the host is and can hold."""

from __future__ import annotations

from typing import Any

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
def profile(session: Session) -> None:
    """Print the host profile as JSON: what `compat check --profile` compares with."""
    print_json(session.client.get("/v1/host")["profile"])


@api_command(app, "guests")
def guests(session: Session) -> None:
    """List the bundled guests and their parameters, for `vm create --guest`."""
    print_records(session.client.get("/v1/host")["guests"], GUEST_COLUMNS, session.output)
