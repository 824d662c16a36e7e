"""What every command shares: --server, --output and --token-file, the client, and errors as exit codes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from migsvc.cli.exit_codes import BY_PROBLEM, EPILOG, ExitCode
from migsvc.cli.output import Format, print_error

if TYPE_CHECKING:
    from migsvc.client import Client

DEFAULT_SERVER = "http://127.0.0.1:7700"

OutputOption = Annotated[
    Format, typer.Option("--output", "-o", envvar="MIGSVC_OUTPUT", help="table for people, json for programs")
]
ServerOption = Annotated[str, typer.Option("--server", envvar="MIGSVC_SERVER", help="URL of the host agent")]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", envvar="MIGSVC_TOKEN_FILE", help="file with the host's bearer token")
]

Function = TypeVar("Function", bound=Callable[..., Any])


class CliError(Exception):
    """A failure that a command itself finds; printed like a problem document."""

    def __init__(self, detail: str, code: ExitCode, *, hint: str = "", **extra: Any) -> None:
        """Keep what is printed and the exit code."""
        super().__init__(detail)
        self.code = code
        self.problem = {"detail": detail, **({"hint": hint} if hint else {}), **extra}


@dataclass
class Session:
    """One command's connection to the host, and how it prints."""

    server: str
    output: Format
    token_file: Path | None

    @cached_property
    def client(self) -> Client:
        """The client; made when first used, because importing it takes longer than `--help` should."""
        from migsvc.client import Client

        return Client(self.server, read_token(self.token_file))

    def close(self) -> None:
        """Close the client's connections, if it was used."""
        if "client" in self.__dict__:
            self.client.close()


def read_token(path: Path | None) -> str | None:
    """Return the token of a file.

    Raises:
        CliError: the file cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"token file {path}: {error}", ExitCode.USAGE) from error


def read_json(source: Path) -> Any:
    """Return the JSON document of a file, or of standard input for `-`, read strictly and in bounded memory.

    Raises:
        CliError: there is no such file, or it is no JSON that we read.
    """
    from schemas.codec.documents import MACHINE_TEXT_BOUNDS
    from schemas.codec.text import loads
    from schemas.errors import DecodeError

    bounds = MACHINE_TEXT_BOUNDS._replace(max_names=1024)
    try:
        if str(source) == "-":
            raw: str | bytes = typer.get_text_stream("stdin").read(bounds.max_bytes + 1)
        else:
            with source.open("rb") as file:
                raw = file.read(bounds.max_bytes + 1)
        return loads(raw, bounds)
    except (OSError, UnicodeDecodeError, DecodeError) as error:
        raise CliError(f"{source}: {error}", ExitCode.USAGE, hint="a JSON document is needed") from error


@contextmanager
def reporting(output: Format) -> Iterator[None]:
    """Turn the errors that a command may raise into a message on stderr and an exit code."""
    try:
        yield
    except CliError as error:
        print_error(error.problem, output)
        raise typer.Exit(error.code) from error
    except Exception as error:
        from migsvc.client import ApiError, UnreachableError

        if isinstance(error, ApiError):
            print_error(error.problem, output)
            raise typer.Exit(BY_PROBLEM.get(error.slug, ExitCode.FAILED)) from error
        if isinstance(error, UnreachableError):
            print_error({"detail": str(error), "hint": "is `migsvc serve` running there? see --server"}, output)
            raise typer.Exit(ExitCode.UNREACHABLE) from error
        if isinstance(error, OSError):
            print_error({"detail": str(error)}, output)
            raise typer.Exit(ExitCode.FAILED) from error
        raise


def api_command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Register `function(session, …)` as a command with the shared options added to its own."""

    def register(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = inspect.signature(_shared, eval_str=True).parameters.values()

        def command(**values: Any) -> None:
            output = values["output"]
            session = Session(values.pop("server"), values.pop("output"), values.pop("token_file"))
            with reporting(output), closing(session):
                function(session, **values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__doc__ = function.__doc__
        app.command(name, epilog=EPILOG)(command)
        return function

    return register


def _shared(
    output: OutputOption = "table", server: ServerOption = DEFAULT_SERVER, token_file: TokenFileOption = None
) -> None:
    """Carry the signature of the shared options."""


def group(name: str, text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(name=name, help=text, no_args_is_help=True, epilog=EPILOG)
