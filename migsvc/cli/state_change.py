"""`migsvc state edit`, and what every change has in common: it is checked before it is written, and told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.output import Format, finding_line
from migsvc.cli.session import CliError, OutputOption, reporting

if TYPE_CHECKING:
    from migsvc.cli.documents import StateDocument
    from schemas.state import VcpuState

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="stream file, JSON document, raw-dir, or - for stdin")
]
ForceOption = Annotated[bool, typer.Option("--force", help="write even what the rules call illegal")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="only tell what would change, with the exit code")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("edit", epilog=EPILOG)(edit)


@dataclass
class Plan:
    """What is to be written where, and what is to be told about it."""

    document: StateDocument
    target: str
    output: Format
    write: bool
    force: bool = False
    refused: bool = False
    notes: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)


def edit(
    file: FileArgument,
    assignments: Annotated[
        list[str], typer.Option("--set", help="path=value, e.g. vcpus[0].events.interrupt.shadow.smm=sti; repeatable")
    ],
    to: Annotated[str | None, typer.Option("--to", help="where to write, - is stdout; else FILE itself")] = None,
    force: ForceOption = False,
    dry_run: DryOption = False,
    output: OutputOption = "table",
) -> None:
    """Change values by path. The rules are asked before anything is written; exit code 5 if the result is illegal."""
    from migsvc.cli.documents import load_state
    from migsvc.cli.state_files import misfit
    from schemas.edit import edit_state
    from schemas.errors import SchemaError

    with reporting(output):
        document = load_state(file)
        try:
            made = edit_state(document.state, assignments)
        except SchemaError as error:
            raise misfit(f"{file} is not changed: a path or a value is wrong", error) from error
        plan = Plan(document, to or file, output, write=not dry_run, force=force, notes=list(made.notes))
        _follow_in_smram(plan, made.state)
        finish(plan, made.state)


def _follow_in_smram(plan: Plan, state: Any) -> None:
    """Put a shadow that was edited in the events into SMRAM too, if the memory is at hand: RSM reads it there."""
    from schemas.errors import SchemaError
    from schemas.shadow import SmmCarrier, convert_carrier

    memory = getattr(plan.document, "memory", None)
    pairs = zip(getattr(plan.document.state, "vcpus", ()), getattr(state, "vcpus", ()), strict=True)
    edited = {new.index for old, new in pairs if _put_aside(old) != _put_aside(new)}
    if memory is None or not edited:
        return
    try:
        writes = convert_carrier(state, SmmCarrier.SMRAM, memory, source=SmmCarrier.EVENTS_NIBBLE).smram_writes
    except SchemaError:  # bits that no shadow has: the rules tell, and refuse
        return
    for write in writes:
        if write.vcpu in edited:
            memory.write(write.as_id, write.gpa, write.data)
            plan.notes.append(f"SMRAM of vCPU {write.vcpu}: {write.data.hex()} at {write.gpa:#x} as well, for RSM")


def _put_aside(vcpu: VcpuState) -> int:
    return vcpu.events.interrupt.shadow.smm


def finish(plan: Plan, state: Any) -> None:
    """Check the new state, write it, and tell what changed.

    Raises:
        CliError: REFUSED, it is illegal and `force` is not set; nothing is written.
        typer.Exit: REFUSED, a dry run has told of what would be refused.
    """
    from migsvc.cli.state_files import legality, save, with_state
    from schemas.diff import diff_states

    found = legality(state, memory=getattr(plan.document, "memory", None))
    illegal = [finding for finding in found.as_json() if finding["severity"] == "error"]
    if illegal and plan.write and not plan.force:
        text = f"{plan.document.origin} is not changed: the result is illegal by {found.errors} rules"
        raise CliError(text, ExitCode.REFUSED, hint="--force writes it all the same", findings=illegal)
    if plan.write:
        plan.notes += save(with_state(plan.document, state), plan.target)
    changes = [change.model_dump(mode="json") for change in diff_states(plan.document.state, state).changes]
    _tell(plan, changes, found.as_json())
    if plan.refused or (illegal and not plan.force):
        raise typer.Exit(ExitCode.REFUSED)


def _tell(plan: Plan, changes: list[dict[str, Any]], legal: list[dict[str, Any]]) -> None:
    """Print the report; on stderr if the state itself goes to stdout."""
    aside = plan.write and plan.target == "-"
    findings = plan.findings + [finding for finding in legal if finding["severity"] != "note"]
    if plan.output == "json":
        document = {"file": plan.target, "written": plan.write, "changes": changes, "notes": plan.notes}
        typer.echo(json.dumps({**document, "findings": findings}, indent=2, ensure_ascii=False), err=aside)
        return
    for change in changes:
        typer.echo(f"{change['path']}: {change['text']}", err=aside)
    for note in plan.notes:
        typer.echo(f"note: {note}", err=aside)
    for finding in findings:
        typer.echo(finding_line(finding), err=aside)
    told = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
    typer.echo(f"{plan.target}: {told}, {'written' if plan.write else 'not written'}", err=aside)
