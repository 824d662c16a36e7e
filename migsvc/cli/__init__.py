"""The command line: `migsvc serve` runs a host agent, the other commands are clients of its HTTP API.

Only light modules are imported here, so that `--help` and completion answer at once; each command imports what it
needs when it runs.
"""

from __future__ import annotations

import typer

from migsvc import __version__
from migsvc.cli import compat, console, demo, emu, host, migrate, peer, schema, serve, snapshot, state, stream, vm
from migsvc.cli.exit_codes import EPILOG

app = typer.Typer(
    name="migsvc",
    help="Snapshot, live-migrate and restore KVM x86 vCPUs between hosts, the SMM interrupt shadow included.",
    no_args_is_help=True,
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"migsvc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="print the version"),
) -> None:
    """Snapshot, live-migrate and restore KVM x86 vCPUs between hosts, the SMM interrupt shadow included."""


serve.register(app)
demo.register(app)
console.register(vm.app)
for module in (vm, snapshot, migrate, peer, state, host, compat, schema, stream, emu):
    app.add_typer(module.app)


def main() -> None:
    """Run the command line; the console script `migsvc`."""
    app(prog_name="migsvc")
