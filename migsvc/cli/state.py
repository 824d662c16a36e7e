"""`migsvc state`: look at, save, change and check the architectural state of a vCPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import finding_line, print_done, print_json, print_rows
from migsvc.cli.session import CliError, OutputOption, Session, api_command, group, read_json, reporting
from migsvc.cli.vm import VmArgument, path
from migsvc.units import shadow_text

app = group("state", "The architectural state of a vCPU.")

VcpuOption = Annotated[int, typer.Option("--vcpu", min=0, help="index of the vCPU")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON document as `state get` writes it; - is stdin")
]

GENERAL_REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
)
CONTROL_REGISTERS = ("cr0", "cr2", "cr3", "cr4", "efer")


def _state(session: Session, vm: str, vcpu: int) -> dict[str, Any]:
    document: dict[str, Any] = session.client.get(path(vm, "vcpus", str(vcpu), "state"))
    return document


@api_command(app, "show")
def show(session: Session, vm: VmArgument, vcpu: VcpuOption = 0) -> None:
    """Show registers, interrupt shadow and SMM of a vCPU."""
    state = _state(session, vm, vcpu)
    if session.output == "json":
        print_json(state)
        return
    print_rows(("register", "value"), rows_of(state))


def rows_of(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what people want to see first: registers, then events."""
    regs, sregs, events = state["regs"], state["sregs"], state["events"]
    rows = [(name, str(regs[name])) for name in GENERAL_REGISTERS]
    rows += [(name, str(sregs[name])) for name in CONTROL_REGISTERS if name in sregs]
    shadow, smi = events["interrupt"]["shadow"], events["smi"]
    rows.append(("shadow", shadow_text(shadow["current"])))
    rows.append(("smm", "yes" if smi["smm"] else "no"))
    rows.append(("smm shadow", shadow_text(shadow["smm"])))
    rows.append(("smi pending", "yes" if smi["pending"] else "no"))
    return rows


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
    """Replace the state of a paused VM's vCPU; illegal state is refused, nothing is applied."""
    state = session.client.put(path(vm, "vcpus", str(vcpu), "state"), read_json(file))
    print_done(state, f"vCPU {vcpu} of {vm} has the state of {file}", session.output)


@app.command("check", epilog=EPILOG)
def check(file: FileArgument, output: OutputOption = "table") -> None:
    """Check a JSON document against the rules; no host is needed. Exit code 5 if it is illegal."""
    with reporting(output):
        findings = check_document(read_json(file))
        illegal = sum(finding["severity"] == "error" for finding in findings)
        if output == "json":
            print_json({"legal": not illegal, "findings": findings})
        else:
            for finding in findings:
                typer.echo(finding_line(finding))
            typer.echo(f"{file}: illegal by {illegal} rules" if illegal else f"{file}: legal")
        if illegal:
            raise typer.Exit(ExitCode.REFUSED)


def check_document(document: Any) -> list[dict[str, Any]]:
    """Return every finding on a vCPU state document.

    Raises:
        CliError: it does not fit the schema.
    """
    from pydantic import ValidationError

    from schemas.errors import SchemaError, problems_of
    from schemas.invariants import check_state
    from schemas.state import VcpuState

    try:
        return [finding.model_dump(mode="json") for finding in check_state(VcpuState.model_validate(document))]
    except (ValidationError, SchemaError) as error:
        problems = error.problems if isinstance(error, SchemaError) else problems_of(error)
        found = [problem.model_dump(mode="json") for problem in problems]
        raise CliError("the document does not fit the schema", ExitCode.REFUSED, findings=found) from error
