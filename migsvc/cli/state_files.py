"""States in and out of commands: a file or a VM as a document, and a changed document back into a file."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from migsvc.cli.documents import MachineDocument, StateDocument, VcpuDocument, load_state
from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.raw_dir import raw_files, write_raw_dir
from migsvc.cli.session import CliError, Session
from migsvc.cli.stream_files import StreamMachine, stream_octets
from migsvc.cli.vm import path as vm_path
from schemas.errors import Finding, SchemaError, parse_as
from schemas.invariants import check_state
from schemas.rules.row import HARDWARE
from schemas.shadow import SmramAccess
from schemas.state import SCHEMA_VERSION, MachineState, VcpuState
from schemas.versions import foreign_sections, version_row

FILE_SUFFIXES = (".json", ".migsvc", ".bin")
"""Operands that end so, or hold a slash, are files even if there is none of the name."""


def load_operand(session: Session, operand: str, vcpu: int | None) -> StateDocument:
    """Return what an operand names: a file, `-`, or a VM of the host (its vCPU `vcpu`, 0 unless given).

    Raises:
        CliError: as `documents.load_state`; NOT_FOUND, the machine has no such vCPU.
    """
    if operand == "-" or os.sep in operand or operand.endswith(FILE_SUFFIXES) or Path(operand).exists():
        document = load_state(operand)
        return document if vcpu is None else one_vcpu(document, vcpu)
    raw = session.client.get(vm_path(operand, "vcpus", str(vcpu or 0), "state"))
    try:
        return VcpuDocument(f"VM {operand}", "vm", parse_as(VcpuState, raw))
    except SchemaError as error:
        raise misfit(f"the host's state of VM {operand} does not fit the schema", error) from error


def one_vcpu(document: StateDocument, vcpu: int) -> VcpuDocument:
    """Return one vCPU of a document.

    Raises:
        CliError: NOT_FOUND, there is no such vCPU.
    """
    held = document.state.vcpus if isinstance(document.state, MachineState) else [document.state]
    for state in held:
        if state.index == vcpu:
            return VcpuDocument(document.origin, document.form, state)
    there = ", ".join(str(state.index) for state in held[:8])
    raise CliError(f"{document.origin} has no vCPU {vcpu}", ExitCode.NOT_FOUND, hint=f"there is {there}")


def misfit(text: str, error: SchemaError, code: ExitCode = ExitCode.REFUSED) -> CliError:
    """Return a schema error as a failure of the command, all problems listed."""
    return CliError(text, code, findings=[problem.model_dump(mode="json") for problem in error.problems[:200]])


@dataclass(frozen=True, slots=True)
class Legality:
    """What the rules say of a state."""

    findings: list[Finding]

    @property
    def errors(self) -> int:
        """How many rules make it illegal."""
        return sum(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the findings as JSON values."""
        return [finding.model_dump(mode="json") for finding in self.findings]


def legality(
    state: VcpuState | MachineState, host_vendor: str | None = None, memory: SmramAccess | None = None
) -> Legality:
    """Check a state against all rules, with guest memory also against those on the save area of a vCPU in SMM."""
    return Legality(check_state(state, host_vendor=host_vendor, memory=memory))


def with_state(document: StateDocument, state: Any) -> StateDocument:
    """Return the document with another state in it."""
    if isinstance(document, MachineDocument):
        stream = document.stream and replace(document.stream, state=state)
        return replace(document, state=state, stream=stream)
    return replace(document, state=state)


def save(document: StateDocument, target: str) -> list[str]:
    """Write a document in its own form to a file, a directory or `-`; return notes on what was done besides.

    A file is replaced in one step: whoever reads it sees the old one or the new one.

    Raises:
        CliError: USAGE, a directory cannot be written to `-`; CONFLICT, a new directory is not empty.
        OSError: the disk is full or may not be written.
    """
    if document.form == "raw-dir":
        return _save_directory(document, target)
    if isinstance(document, MachineDocument) and document.stream is not None:
        stream, notes = _of_version(document.stream)
        _write(target, stream_octets(stream))
        return notes
    text = json.dumps(document.state.model_dump(mode="json"), indent=2) + "\n"
    _write(target, [text.encode()])
    return []


def _write(target: str, pieces: Iterable[bytes]) -> None:
    if target == "-":
        out = typer.get_binary_stream("stdout")
        for piece in pieces:
            out.write(piece)
        out.flush()
        return
    with replacing(Path(target)) as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """Open a file beside `path` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        CliError: USAGE, `path` is a directory, or its own is missing.
        OSError: the disk is full or may not be written.
    """
    given, path = path, path.resolve()
    if path.is_dir():
        raise CliError(f"{given} is a directory", ExitCode.USAGE, hint="name a file in it")
    if not path.parent.is_dir():
        raise CliError(f"{given}: there is no directory {path.parent}", ExitCode.USAGE, hint="make it first")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    except OSError as error:  # it names the temporary file, which nobody has heard of
        raise type(error)(error.errno, error.strerror, str(given)) from error
    made = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), _mode(path))
            os.fsync(file.fileno())
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """Return the permissions of the file that is replaced, or those of a new one."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _save_directory(document: StateDocument, target: str) -> list[str]:
    """Write a raw-dir; in its own directory only the files that differ, one by one."""
    if target == "-":
        raise CliError("a raw-dir cannot be written to standard output", ExitCode.USAGE, hint="name a directory")
    directory = Path(target)
    if directory.resolve() != Path(document.origin).resolve():
        write_raw_dir(document.state, directory)
        return []
    files = raw_files(document.state)
    for name, contents in files.items():
        path = directory / name
        if not path.is_file() or path.read_bytes() != contents:
            with replacing(path) as file:
                file.write(contents)
    for path in [*directory.glob("*.bin"), *directory.glob("vm/*.bin"), *directory.glob("vcpus/*/*.bin")]:
        if str(path.relative_to(directory)) not in files:
            path.unlink()
    return []


def require_vendor(name: str | None) -> None:
    """Refuse a CPUID vendor that no rule knows: a misspelt one would switch off the rules of every vendor.

    Raises:
        CliError: USAGE.
    """
    if name is not None and name not in HARDWARE and name != "emulated":
        known = ", ".join(repr(vendor) for vendor in (*HARDWARE, "emulated"))
        raise CliError(f"{name!r} is no CPUID vendor that migsvc knows", ExitCode.USAGE, hint=f"known: {known}")


def version_of(document: StateDocument, target: int) -> int:
    """Return the schema version in which a document is to be read when it is converted to `target`.

    JSON and raw-dir name none: they are of the present one. A stream is of the version in its header, unless it stays
    there or goes below and says what only a later one has (migsvc 0.1 wrote such files): then of the present one.
    """
    stream = document.stream if isinstance(document, MachineDocument) else None
    if stream is None or (target <= stream.header.schema_version and _foreign(stream)):
        return SCHEMA_VERSION
    return stream.header.schema_version


def with_version(document: StateDocument, version: int) -> tuple[StateDocument, str]:
    """Return the document with another schema version in its header, and a note on that; only streams have one."""
    if not isinstance(document, MachineDocument) or document.stream is None:
        return document, f"a document of form {document.form} names no schema version: it fits {version}"
    old = document.stream.header.schema_version
    said = f"schema version {old}, as before" if old == version else f"schema version {old} -> {version}"
    return replace(document, stream=_versioned(document.stream, version)), said


def _versioned(stream: StreamMachine, version: int) -> StreamMachine:
    return replace(
        stream,
        header=replace(stream.header, schema_version=version),
        config=replace(stream.config, schema_version=version),
    )


def _foreign(stream: StreamMachine) -> set[str]:
    """Return what the state says that the stream's own schema version cannot say."""
    version = stream.header.schema_version
    sections = stream.state.to_sections()
    foreign = set(foreign_sections(set(sections.vm), "vm", version))
    for vcpu in sections.vcpus:
        foreign |= set(foreign_sections(set(vcpu), "vcpu", version))
    flags = version_row(version).event_flags
    return foreign | {
        f"event flags {vcpu.events.flags & ~flags:#x}" for vcpu in stream.state.vcpus if vcpu.events.flags & ~flags
    }


def _of_version(stream: StreamMachine) -> tuple[StreamMachine, list[str]]:
    """Return the stream in the schema version that its state needs: its own, or the present one."""
    version = stream.header.schema_version
    foreign = set() if version == SCHEMA_VERSION else _foreign(stream)
    if not foreign:
        return stream, []
    what = ", ".join(sorted(foreign))
    note = f"written as schema version {SCHEMA_VERSION}: version {version} has no {what}"
    return _versioned(stream, SCHEMA_VERSION), [note]
