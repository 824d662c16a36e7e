"""Documents: whatever a file holds, told apart by its contents, not by its name.

`load_document` takes the path of a stream file, of a JSON document or of a raw-dir, and `-` for standard input.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.raw_dir import read_raw_dir
from migsvc.cli.session import CliError
from migsvc.cli.stream_files import GuestMemory, StreamMachine, read_stream
from migsvc.stream.records import MAGIC
from schemas.codec.documents import MACHINE_TEXT_BOUNDS, machine_from_value
from schemas.codec.text import loads
from schemas.errors import SchemaError, parse_as
from schemas.state import MachineState, VcpuState

if TYPE_CHECKING:
    from schemas.compat import HostProfile

Form = Literal["stream", "json", "raw-dir", "vm"]
"""How a document is written; "vm": it is none, the state was read from a host."""

JSON_BOUNDS = MACHINE_TEXT_BOUNDS._replace(max_names=1024)
"""The machine's bounds; a host profile has more names: one per KVM capability."""


@dataclass(frozen=True, slots=True)
class MachineDocument:
    """A machine. `stream` is there if the file is a stream: its header, CONFIG and guest memory."""

    origin: str
    form: Form
    state: MachineState
    stream: StreamMachine | None = None

    @property
    def memory(self) -> GuestMemory | None:
        """The guest's RAM, or None: only stream files carry it."""
        return self.stream.memory if self.stream else None


@dataclass(frozen=True, slots=True)
class VcpuDocument:
    """One vCPU, as `state get` writes it."""

    origin: str
    form: Form
    state: VcpuState


@dataclass(frozen=True, slots=True)
class ProfileDocument:
    """What a host can hold, as `host profile` writes it."""

    origin: str
    profile: HostProfile


StateDocument = MachineDocument | VcpuDocument
Document = StateDocument | ProfileDocument


def load_document(source: str | Path) -> Document:
    """Return what a file, a directory or standard input (`-`) holds.

    Raises:
        CliError: USAGE, there is no such file or it is nothing that we know; REFUSED, it does not fit its schema
            (every place is listed); INTEGRITY, it is a damaged stream.
    """
    origin = str(source)
    try:
        if origin == "-":
            return _read(io.BufferedReader(_raw_stdin()), origin)
        path = Path(source)
        if path.is_dir():
            return _from_directory(path)
        with path.open("rb") as file:
            return _read(file, origin)
    except OSError as error:
        raise CliError(f"{origin}: {error.strerror or error}", ExitCode.USAGE, hint="a file is needed") from error


def load_state(source: str | Path) -> StateDocument:
    """Return the machine or the vCPU in a file.

    Raises:
        CliError: as `load_document`; USAGE also for a host profile.
    """
    document = load_document(source)
    if isinstance(document, ProfileDocument):
        raise CliError(f"{source} is a host profile, no state", ExitCode.USAGE, hint="see `migsvc compat check`")
    return document


def _raw_stdin() -> Any:
    """Return standard input in octets; a test may have put a text stream without buffer there."""
    return getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())


def _read(file: BinaryIO | io.BufferedReader, origin: str) -> Document:
    head = file.peek(len(MAGIC))[: len(MAGIC)] if isinstance(file, io.BufferedReader) else b""
    if head[:1] == MAGIC[:1]:
        machine = read_stream(file, origin)
        return MachineDocument(origin, "stream", machine.state, machine)
    return _from_json(_decoded(file.read(JSON_BOUNDS.max_bytes + 1), origin), origin)


def _from_directory(path: Path) -> StateDocument:
    state = read_raw_dir(path)
    if isinstance(state, VcpuState):
        return VcpuDocument(str(path), "raw-dir", state)
    return MachineDocument(str(path), "raw-dir", state)


def _decoded(raw: bytes, origin: str) -> Any:
    """Return the JSON in a file, read strictly: no name twice, no NaN, bounded depth and size."""
    try:
        return loads(raw, JSON_BOUNDS)
    except SchemaError as error:
        raise CliError(
            f"{origin} is neither a stream nor JSON that migsvc reads: {error}",
            ExitCode.USAGE,
            hint="a stream file, a JSON document of a machine, a vCPU or a host profile, or a raw-dir is needed",
        ) from error


KINDS: Mapping[str, frozenset[str]] = {
    "machine": frozenset({"memory", "vm", "vcpus"}),
    "vCPU state": frozenset(VcpuState.model_fields) - {"index"},
    "host profile": frozenset({"vendor", "backends", "schema_versions", "cpuid", "smm_carriers"}),
}
"""What a JSON object can be, and members that only it has."""


def kind_of(value: Any) -> str:
    """Return what decoded JSON looks like, a name in KINDS; "" if it is nothing that we know."""
    counted = {name: len(members & value.keys()) for name, members in KINDS.items()} if isinstance(value, dict) else {}
    kind = max(counted, key=lambda name: counted[name], default="")
    return kind if counted.get(kind) else ""


def _from_json(value: Any, origin: str) -> Document:
    kind = kind_of(value)
    if not kind:
        known = "; ".join(f"{name}: {', '.join(sorted(members)[:3])}, …" for name, members in KINDS.items())
        raise CliError(f"{origin}: JSON, but no document that migsvc knows", ExitCode.USAGE, hint=f"known: {known}")
    try:
        if kind == "machine":
            return MachineDocument(origin, "json", machine_from_value(value))
        if kind == "vCPU state":
            return VcpuDocument(origin, "json", parse_as(VcpuState, value))
        from schemas.compat import HostProfile  # late: most commands need no profile, and it brings all rules along

        return ProfileDocument(origin, parse_as(HostProfile, value))
    except SchemaError as error:
        found = [problem.model_dump(mode="json") for problem in error.problems[:200]]
        raise CliError(f"{origin}: the {kind} does not fit the schema", ExitCode.REFUSED, findings=found) from error
