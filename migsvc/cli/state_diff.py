"""`migsvc state diff`: what differs between two states, by meaning."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import print_json
from migsvc.cli.session import DEFAULT_SERVER, CliError, ServerOption, Session, TokenFileOption, reporting

if TYPE_CHECKING:
    from migsvc.cli.documents import MachineDocument, StateDocument

DiffFormat = Literal["table", "json", "patch"]
Operand = Annotated[str, typer.Argument(help="stream file, JSON document, raw-dir, - for stdin, or a VM")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff", epilog=f"Exit code 0: no difference; 1: they differ. {EPILOG}")(diff)


def diff(
    old: Operand,
    new: Operand,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="leave out a path (vcpus[*].msrs.MSR_*), or a class: time, counters; repeatable"),
    ] = None,
    vcpu: Annotated[int | None, typer.Option("--vcpu", min=0, help="only this vCPU of both")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="compare guest memory too, of two stream files")] = False,
    output: Annotated[
        DiffFormat,
        typer.Option("--output", "-o", envvar="MIGSVC_OUTPUT", help="lines, JSON, or patch: JSON Patch (RFC 6902)"),
    ] = "table",
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenFileOption = None,
) -> None:
    """Tell what differs between two states by meaning: RFLAGS.IF cleared, CR4.PAE set. Exit code 1 if anything does."""
    from migsvc.cli.state_files import load_operand, misfit
    from schemas.diff import diff_states, json_patch
    from schemas.errors import SchemaError

    session = Session(server, "table" if output == "table" else "json", token_file)
    with reporting(session.output), closing(session):
        if old == new == "-":
            raise CliError("only one of the two can be standard input", ExitCode.USAGE)
        first, second = _alike(load_operand(session, old, vcpu), load_operand(session, new, vcpu))
        states: Any = (first.state, second.state)
        try:
            found = diff_states(*states, ignore=ignore or ())
            pages = _page_runs(first, second) if memory else []
            if output == "patch":
                print_json(json_patch(*states, ignore=ignore or ()))
            elif output == "json":
                equal = found.equal and not pages
                print_json({"equal": equal, **found.model_dump(mode="json"), "memory": _runs_json(pages)})
            else:
                _print_table(found, pages)
        except SchemaError as error:
            raise misfit("--ignore holds no pattern of paths", error, ExitCode.USAGE) from error
        if not found.equal or pages:
            raise typer.Exit(ExitCode.FAILED)


def _alike(first: StateDocument, second: StateDocument) -> tuple[StateDocument, StateDocument]:
    """Return both as machines or both as vCPUs: a machine beside a vCPU is seen as its vCPU of that number."""
    from migsvc.cli.documents import VcpuDocument
    from migsvc.cli.state_files import one_vcpu

    if isinstance(first, VcpuDocument) and not isinstance(second, VcpuDocument):
        return first, one_vcpu(second, first.state.index)
    if isinstance(second, VcpuDocument) and not isinstance(first, VcpuDocument):
        return one_vcpu(first, second.state.index), second
    return first, second


def _print_table(found: Any, pages: list[tuple[int, int, int]]) -> None:
    width = min(max((len(change.path) for change in found.changes), default=0), 48)
    for change in found.changes:
        marks = f"  [{', '.join(change.classes)}]" if change.classes else ""
        typer.echo(f"{change.path.ljust(width)}  {change.text}{marks}")
    for as_id, gpa, count in pages:
        typer.echo(f"memory: {count} page{'s' if count > 1 else ''} of address space {as_id} from {gpa:#x} on")
    ignored = f", {found.ignored} ignored" if found.ignored else ""
    told = len(found.changes) + len(pages)
    typer.echo(f"{told} difference{'' if told == 1 else 's'}{ignored}")


def _page_runs(first: StateDocument, second: StateDocument) -> list[tuple[int, int, int]]:
    """Return the pages that differ as (address space, gpa, count).

    Raises:
        CliError: USAGE, one has no memory, or the maps differ.
    """
    from migsvc.cli.documents import MachineDocument
    from migsvc.cli.stream_files import differing_pages
    from migsvc.stream.memory import Extents
    from migsvc.transport.pages import runs_of

    def memory_of(document: StateDocument) -> MachineDocument:
        if not isinstance(document, MachineDocument) or document.memory is None:
            raise CliError(f"{document.origin} has no guest memory", ExitCode.USAGE, hint="only stream files have it")
        return document

    old, new = memory_of(first), memory_of(second)
    if old.state.memory != new.state.memory or old.memory is None or new.memory is None:
        raise CliError("the memory maps differ: pages cannot be compared", ExitCode.USAGE, hint="leave out --memory")
    extents = Extents(old.state.memory)
    runs = runs_of(differing_pages(old.memory, new.memory))
    return [name for first_page, count in runs for name in extents.name(first_page, count)]


def _runs_json(pages: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [{"as_id": as_id, "gpa": hex(gpa), "pages": count} for as_id, gpa, count in pages]
