"""`migsvc state`: look at, save, change, compare, convert and check architectural state, of files and of VMs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from migsvc.cli import state_change, state_convert, state_diff
from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import finding_line, print_done, print_json
from migsvc.cli.session import (
    DEFAULT_SERVER,
    CliError,
    OutputOption,
    ServerOption,
    Session,
    TokenFileOption,
    api_command,
    group,
    read_json,
    reporting,
)
from migsvc.cli.vm import VmArgument, path

app = group("state", "Architectural state: of a vCPU, a machine, a stream file.")

VcpuOption = Annotated[int, typer.Option("--vcpu", min=0, help="index of the vCPU")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON document as `state get` writes it; - is stdin")
]
AnyFileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="stream file, JSON document, raw-dir, or - for stdin")
]
OperandArgument = Annotated[
    str,
    typer.Argument(metavar="FILE|VM", help="stream file, JSON document, raw-dir, - for stdin, or a VM"),
]
ShowFormat = Literal["table", "json", "raw-dir"]


def _state(session: Session, vm: str, vcpu: int) -> dict[str, Any]:
    document: dict[str, Any] = session.client.get(path(vm, "vcpus", str(vcpu), "state"))
    return document


@app.command("show", epilog=EPILOG)
def show(
    operand: OperandArgument,
    vcpu: Annotated[int | None, typer.Option("--vcpu", min=0, help="only this vCPU")] = None,
    everything: Annotated[bool, typer.Option("--all", help="everything, not only what is unusual")] = False,
    output: Annotated[
        ShowFormat, typer.Option("--output", "-o", envvar="MIGSVC_OUTPUT", help="a page, JSON, or one file per struct")
    ] = "table",
    to: Annotated[Path | None, typer.Option("--to", help="new directory for -o raw-dir")] = None,
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenFileOption = None,
) -> None:
    """Show a state as a page with decoded bits: the core registers, and what is unusual."""
    from migsvc.cli.raw_dir import write_raw_dir
    from migsvc.cli.state_files import load_operand
    from migsvc.cli.state_page import print_page

    session = Session(server, "json" if output == "json" else "table", token_file)
    with reporting(session.output), closing(session):
        if (output == "raw-dir") != (to is not None):
            raise CliError("-o raw-dir and --to DIR go together", ExitCode.USAGE)
        document = load_operand(session, operand, vcpu)
        if to is not None:
            files = write_raw_dir(document.state, to)
            typer.echo(f"{to}: {len(files)} files")
        elif output == "json":
            print_json(document.state.model_dump(mode="json"))
        else:
            print_page(document, everything=everything)


@api_command(app, "get")
def get(
    session: Session,
    vm: VmArgument,
    file: Annotated[Path | None, typer.Argument(help="file to write; standard output if none")] = None,
    vcpu: VcpuOption = 0,
) -> None:
    """Write the state as a JSON document that `state put` and `state check` read."""
    import json

    state = _state(session, vm, vcpu)
    if file is None:
        print_json(state)
        return
    file.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    print_done({"file": str(file)}, f"{file}: state of vCPU {vcpu} of {vm}", session.output)


@api_command(app, "put")
def put(session: Session, vm: VmArgument, file: FileArgument, vcpu: VcpuOption = 0) -> None:
    """Replace the state of a paused VM's vCPU; illegal state is refused, nothing is applied.

    Exit code 5 also if the document does not fit the schema.
    """
    from migsvc.client import ApiError

    document = read_json(file)
    _require_vcpu(document, file, vm, vcpu)
    try:
        state = session.client.put(path(vm, "vcpus", str(vcpu), "state"), document)
    except ApiError as error:
        misfits = error.problem.get("errors") or ()
        if error.slug == "invalid-request" and any(one.get("kind") == "state" for one in misfits):
            raise CliError(f"{file}: {error}", ExitCode.REFUSED, findings=misfits) from error
        raise
    print_done(state, f"vCPU {vcpu} of {vm} has the state of {file}", session.output)


def _require_vcpu(document: Any, file: Path, vm: str, vcpu: int) -> None:
    """Refuse a document that is whole and of another kind, before the host lists all that a vCPU's would have.

    Raises:
        CliError: USAGE.
    """
    from migsvc.cli.documents import kind_of

    kind = kind_of(document)
    if kind == "machine":
        take = (
            f"put one of them: migsvc state show {file} --vcpu {vcpu} -o json | migsvc state put {vm} - --vcpu {vcpu}"
        )
        raise CliError(f"{file} is a whole machine, the state of one vCPU is needed", ExitCode.USAGE, hint=take)
    if kind == "host profile":
        hint = "`migsvc state get` writes what is needed"
        raise CliError(f"{file} is a host profile, no state", ExitCode.USAGE, hint=hint)


@app.command("check", epilog=EPILOG)
def check(
    file: AnyFileArgument,
    host_vendor: Annotated[
        str | None, typer.Option(help="CPUID vendor of the host that is to run it, e.g. GenuineIntel")
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Check a file against the rules; no host is needed. Exit code 5 if it is illegal, 7 if a stream is damaged."""
    from migsvc.cli.documents import MachineDocument, ProfileDocument, load_document
    from migsvc.cli.state_files import legality, require_vendor

    with reporting(output):
        require_vendor(host_vendor)
        document = load_document(file)
        if isinstance(document, ProfileDocument):
            print_done(
                {"legal": True, "findings": []}, f"{file}: a host profile that fits its schema, no state", output
            )
            return
        memory = document.memory if isinstance(document, MachineDocument) else None
        found = legality(document.state, host_vendor, memory)
        if output == "json":
            print_json({"legal": not found.errors, "findings": found.as_json()})
        else:
            for finding in found.as_json():
                typer.echo(finding_line(finding))
            typer.echo(f"{file}: illegal by {found.errors} rules" if found.errors else f"{file}: legal")
        if found.errors:
            raise typer.Exit(ExitCode.REFUSED)


state_diff.register(app)
state_change.register(app)
state_convert.register(app)
