"""Notes on standard error, for commands whose standard output is the guest's."""

from __future__ import annotations

import typer


def say(text: str) -> None:
    """Print a note."""
    typer.echo(f"migsvc: {text}", err=True)
