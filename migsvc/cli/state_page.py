"""The page of a state: what `schemas.views` says of it, below a line on where it comes from."""

from __future__ import annotations

import time

import typer

from migsvc.cli.documents import MachineDocument, StateDocument
from migsvc.units import human_bytes
from schemas.views.page import page
from schemas.views.smram import save_areas
from schemas.views.text import page_lines


def print_page(document: StateDocument, *, everything: bool) -> None:
    """Print the page of a state: the core registers and what is unusual, or everything."""
    typer.echo(origin_line(document))
    in_smm = {}
    if isinstance(document, MachineDocument) and document.memory is not None:
        in_smm = save_areas(document.state.vcpus, document.memory)
    for line, title in page_lines(page(document.state, everything=everything, save_areas=in_smm)):
        typer.secho(line, bold=title)


def origin_line(document: StateDocument) -> str:
    """Return where a document comes from, and what a stream says of its machine."""
    if not isinstance(document, MachineDocument) or document.stream is None:
        return document.origin if document.form == "vm" else f"{document.origin} ({document.form})"
    config, header = document.stream.config, document.stream.header
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(header.created_unix_ns // 1_000_000_000))
    guest = f", guest {config.guest}" if config.guest else ""
    text = (
        f"{document.origin}: VM {config.vm_name} of {config.source_host}, epoch {config.epoch}, {made}; "
        f"backend {config.backend}{guest}, {human_bytes(config.memory.ram_bytes)} of RAM, "
        f"schema version {header.schema_version}"
    )
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
