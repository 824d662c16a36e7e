"""`migsvc peer`: the other hosts, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migsvc.cli.output import Column, print_done, print_records
from migsvc.cli.session import Session, api_command, group

app = group("peer", "Other hosts that VMs can be moved to.")

COLUMNS: tuple[Column, ...] = (("name", "name"), ("url", "url"), ("migration address", "migration_address"))


@api_command(app, "add")
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="name to call it by")],
    url: Annotated[str, typer.Argument(help="URL of its API, e.g. http://127.0.0.1:7702")],
    peer_token_file: Annotated[
        Path | None, typer.Option(help="file, on this command's host, with the peer's bearer token")
    ] = None,
) -> None:
    """Register another host."""
    token_file = None if peer_token_file is None else str(peer_token_file.absolute())
    record = session.client.post("/v1/peers", {"name": name, "url": url, "token_file": token_file})
    print_done(record, f"peer {name} is {record['url']}", session.output)


@api_command(app, "list")
def list_(session: Session) -> None:
    """List the registered hosts."""
    print_records(session.client.pages("/v1/peers"), COLUMNS, session.output)


@api_command(app, "remove")
def remove(session: Session, name: Annotated[str, typer.Argument(help="name of the peer")]) -> None:
    """Forget a host."""
    from migsvc.client import segment

    session.client.delete(f"/v1/peers/{segment(name)}")
    print_done(None, f"peer {name} is forgotten", session.output)
