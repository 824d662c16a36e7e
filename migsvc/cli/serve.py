"""`migsvc serve`: run one host agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_error
from migsvc.cli.session import OutputOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", epilog=EPILOG)(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="address of the API; other than loopback needs a token file")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port of the API; 0: the system chooses")] = None,
    data_dir: Annotated[Path | None, typer.Option(file_okay=False, help="catalogue, snapshots, sockets, logs")] = None,
    name: Annotated[str | None, typer.Option(help="name of this host, as peers and records show it")] = None,
    token_file: Annotated[Path | None, typer.Option(help="file with the bearer token every call needs")] = None,
    migration_host: Annotated[str | None, typer.Option(help="address that takes migrations")] = None,
    migration_port: Annotated[int | None, typer.Option(min=0, max=65535, help="its port; 0: chosen")] = None,
    migration_advertise: Annotated[str | None, typer.Option(help="address told to peers instead")] = None,
    on_exit: Annotated[
        Literal["keep", "stop"] | None, typer.Option(help="on a graceful stop: keep VMs running, or stop them")
    ] = None,
    schema_version: Annotated[
        int | None, typer.Option(min=1, max=2, help="highest schema version spoken; 1: hosts before the SMM shadow")
    ] = None,
    smm_carriers: Annotated[
        Literal["all", "smram", "none"] | None,
        typer.Option(help="how an SMM shadow can arrive: smram as on Linux 6.2 and later, none as before"),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="least level logged")
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Run one host agent. Every option can also be set as MIGSVC_<NAME>; the URL is printed when it is ready."""
    from migsvc.config import ConfigError, Settings

    try:
        settings = Settings.from_env(
            host=host, port=port, data_dir=data_dir, name=name, token_file=token_file, on_exit=on_exit,
            migration_host=migration_host, migration_port=migration_port, migration_advertise=migration_advertise,
            schema_version=schema_version, smm_carriers=smm_carriers, log_level=log_level,
        )  # fmt: skip
        settings.read_token()
    except ConfigError as error:
        print_error({"detail": str(error)}, output)
        raise typer.Exit(ExitCode.USAGE) from error

    from migsvc.server import StartError, run  # after the settings: it takes a second or two to import

    try:
        run(settings, as_json=output == "json")
    except StartError as error:
        print_error({"detail": str(error)}, output)
        raise typer.Exit(ExitCode.FAILED) from error
