"""`migsvc state convert`: a file in another schema version, the shadow put aside by an SMI in another carrier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from migsvc.cli.exit_codes import EPILOG, ExitCode
from migsvc.cli.session import CliError, OutputOption, reporting
from migsvc.cli.state_change import DryOption, FileArgument, ForceOption, Plan, finish

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.errors import Finding
    from schemas.shadow import SmmCarrier, SmramWrite

SourceName = Literal["events_nibble", "smram", "nested_flags", "smi_substruct"]
CarrierName = Literal[SourceName, "none"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert", epilog=EPILOG)(convert)


class Wish(NamedTuple):
    """What is asked for; None where the caller leaves it open."""

    version: int | None
    carrier: CarrierName | None
    source: SourceName | None
    vendor: str | None

    @property
    def target(self) -> SmmCarrier | None:
        """Where the shadow is to be: by default in the events, or in SMRAM if the version has no place there."""
        from schemas.shadow import SmmCarrier
        from schemas.versions import version_row

        if self.carrier is not None:
            return None if self.carrier == "none" else SmmCarrier(self.carrier)
        nibble = self.version is None or version_row(self.version).smm_nibble
        return SmmCarrier.EVENTS_NIBBLE if nibble else SmmCarrier.SMRAM

    def __str__(self) -> str:
        """Return what it leads to, in words."""
        version = "" if self.version is None else f"schema version {self.version}"
        carrier = self.carrier or ("" if version else "events_nibble")
        return " with carrier ".join(word for word in (version, carrier) if word)


def convert(
    file: FileArgument,
    to: Annotated[
        str | None, typer.Argument(metavar="[OUT]", help="where to write, - is stdout; else FILE itself")
    ] = None,
    schema_version: Annotated[
        int | None, typer.Option("--schema-version", metavar="N", help="the version to write, for an older host")
    ] = None,
    carrier: Annotated[
        CarrierName | None,
        typer.Option(
            "--carrier",
            help="where the shadow put aside by an SMI is to be; none: nowhere "
            "[default: events_nibble, smram if the version has no such nibble]",
        ),
    ] = None,
    source: Annotated[
        SourceName | None, typer.Option("--source", help="the carrier that counts, where two say different things")
    ] = None,
    vendor: Annotated[str | None, typer.Option(help="CPUID vendor of the target's processor")] = None,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="write although something is lost")] = False,
    force: ForceOption = False,
    dry_run: DryOption = False,
    output: OutputOption = "table",
) -> None:
    """Convert a file to another schema version, or the shadow that an SMI put aside to another carrier.

    Exit code 5 if something would be lost.
    """
    from migsvc.cli.documents import load_state
    from migsvc.cli.state_files import misfit, require_vendor
    from schemas.errors import SchemaError

    with reporting(output):
        require_vendor(vendor)
        wish = Wish(schema_version, carrier, source, vendor)
        _require_possible(wish)
        plan = Plan(load_state(file), to or file, output, write=not dry_run, force=force)
        work = _Work(plan, wish)
        try:
            work.run()
        except SchemaError as error:
            raise misfit(f"{file} is not converted", error) from error
        lost = any(finding["severity"] == "error" for finding in plan.findings)
        plan.refused = lost and not accept_loss
        if plan.refused and plan.write:
            text = f"{file} is not converted: {wish} cannot say all of it"
            raise CliError(text, ExitCode.REFUSED, hint="--accept-loss writes it all the same", findings=plan.findings)
        finish(plan, work.state)


def _require_possible(wish: Wish) -> None:
    """Refuse a version that there is not, and a carrier that it does not have.

    Raises:
        CliError: USAGE.
    """
    from schemas.shadow import SmmCarrier, best_carrier
    from schemas.versions import version_row

    if wish.version is None:
        return
    try:
        flags = version_row(wish.version).event_flags
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    if wish.target is not None and best_carrier([wish.target], flags, wish.version) is None:
        known = [carrier for carrier in SmmCarrier if best_carrier([carrier], flags, wish.version)]
        text = f"schema version {wish.version} has no carrier {wish.target}"
        raise CliError(text, ExitCode.USAGE, hint=f"it has {', '.join((*known, 'none'))}")


class _Work:
    """One conversion: `state` as it stands, what it says goes into the plan.

    Guest memory is a private copy until the file is written, so that every step finds in SMRAM what the one before
    has put there, in a dry run too.
    """

    def __init__(self, plan: Plan, wish: Wish) -> None:
        self._plan = plan
        self._wish = wish
        self._memory = getattr(plan.document, "memory", None)
        self.state: Any = plan.document.state

    def run(self) -> None:
        """Take all steps.

        Raises:
            SchemaError: the state has no meaning that could be converted.
        """
        from migsvc.cli.state_files import version_of, with_version

        wish, target = self._wish, self._wish.version
        if target is None:
            self._to_carrier()
            return
        version = version_of(self._plan.document, target)
        if target < version and wish.source is not None:
            self._to_carrier()  # first: later the other carriers are gone
        self._to_version(version, target)
        if target >= version and (wish.carrier or wish.source or wish.vendor):
            self._to_carrier()
        self._plan.document, note = with_version(self._plan.document, target)
        self._plan.notes.append(note)

    def _to_carrier(self) -> None:
        from schemas.shadow import SmmCarrier, convert_carrier

        wish = self._wish
        source = None if wish.source is None else SmmCarrier(wish.source)
        done = convert_carrier(self.state, wish.target, self._memory, source=source, vendor=wish.vendor)
        self.state = done.state
        self._take(done.smram_writes, (*done.losses, *done.notes))

    def _to_version(self, source: int, target: int) -> None:
        from schemas.state import MachineSections, MachineState, VcpuState
        from schemas.versions.converters import convert_version

        state, wish = self.state, self._wish
        alone = isinstance(state, VcpuState)
        sections = MachineSections({}, [state.to_sections()]) if alone else state.to_sections()
        done = convert_version(
            sections, source=source, target=target, memory=self._memory, carrier=wish.target, vendor=wish.vendor
        )
        writes, found = done.smram_writes, (*done.losses, *done.notes)
        if alone:  # the converter counts vCPUs from 0; this one knows its number
            self.state = VcpuState.from_sections(done.sections.vcpus[0], index=state.index)
            writes = tuple(write._replace(vcpu=state.index) for write in writes)
            here = f"vcpus.{state.index}."
            found = tuple(f.model_copy(update={"where": here + f.where.removeprefix("vcpus.0.")}) for f in found)
        else:
            made = MachineState.from_sections(state.memory, done.sections.vm, done.sections.vcpus)
            numbers = zip(made.vcpus, state.vcpus, strict=True)
            vcpus = [new.model_copy(update={"index": old.index}) for new, old in numbers]
            self.state = made.model_copy(update={"vcpus": vcpus})
        self._take(writes, found)

    def _take(self, writes: Iterable[SmramWrite], findings: Iterable[Finding]) -> None:
        self._plan.findings += [finding.model_dump(mode="json") for finding in findings]
        for write in writes:
            if self._memory is None:
                where = f"{write.gpa:#x} of address space {write.as_id}"
                note = f"vCPU {write.vcpu}: write {write.data.hex()} to {where} before it runs"
            else:
                self._memory.write(write.as_id, write.gpa, write.data)
                note = f"SMRAM of vCPU {write.vcpu}: {write.data.hex()} at {write.gpa:#x}"
            if note not in self._plan.notes:
                self._plan.notes.append(note)
