"""`migsvc vm console`: the guest's serial output, once or followed, across migrations of its host's VM."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer

from migsvc.cli.output import print_json
from migsvc.cli.session import Session, api_command
from migsvc.cli.vm import VmArgument, path

WAIT_S = 2.0
"""Long poll of --follow. Output comes at once; the end of the VM is noticed after at most this long."""

ENDED = ("stopped", "lost", "migrated")
"""Statuses in which no further byte comes from this host."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    api_command(app, "console")(console)


def console(
    session: Session,
    vm: VmArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on printing until the VM stops")] = False,
    offset: Annotated[int, typer.Option(min=0, help="begin at this byte")] = 0,
) -> None:
    """Print the serial console."""
    while True:
        chunk = session.client.get(path(vm, "console"), offset=offset, wait_s=WAIT_S if follow else 0)
        data = base64.b64decode(chunk["data_base64"])
        if session.output == "json":
            print_json(chunk)
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        offset = chunk["next_offset"]
        if data:
            continue
        if not follow or session.client.get(path(vm))["status"] in ENDED:
            return
