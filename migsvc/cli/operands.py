"""Operands of `migsvc compat`: files, VMs and hosts, told apart by how they are written.

FILE or -           stream, JSON of a machine, a vCPU or a host profile, raw-dir: read here, no agent is asked
http://host:port    the agent there, asked for its profile
backend:NAME        what a backend of this machine could hold (emulator, kvm); no agent is asked
host:               the agent of --server itself
peer:NAME           a peer of that agent
vm:NAME or NAME     a VM of that agent
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.session import CliError, Session, read_token

if TYPE_CHECKING:
    from schemas.compat import HostProfile
    from schemas.state import MachineState, VcpuState

FORMS = "a file, -, a VM's name, vm:NAME, host:, peer:NAME, backend:NAME or the URL of an agent"


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand: `subject` if it was read here, else `remote`, the member by which the agent finds it."""

    text: str
    name: str
    subject: MachineState | VcpuState | HostProfile | None = None
    remote: tuple[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The operand as a request to the agent says it."""
        from schemas.compat import HostProfile
        from schemas.state import MachineState

        if self.remote is not None:
            return dict([self.remote])
        if self.subject is None:
            return {}
        kinds = ((HostProfile, "profile"), (MachineState, "machine"))
        kind = next((name for model, name in kinds if isinstance(self.subject, model)), "vcpu")
        return {kind: self.subject.model_dump(mode="json")}


def read_operand(session: Session, text: str) -> Operand:
    """Return what an operand names; files, backends and URLs are read at once.

    Raises:
        CliError: it names nothing, or what it names cannot be read.
    """
    prefix, colon, rest = text.partition(":")
    if text.startswith(("http://", "https://")):
        profile = _agent_profile(session, text)
        return Operand(text, profile.name, profile)
    if colon and prefix in ("host", "peer", "vm", "backend"):
        return _prefixed(text, prefix, rest)
    if text == "-" or Path(text).exists() or "/" in text or text.endswith((".json", ".migsvc")):
        return _from_file(text)
    return Operand(text, text, remote=("vm", text))


def read_profile(session: Session, text: str) -> Operand:
    """Return the host that an operand names; a bare name is a peer.

    Raises:
        CliError: it names no host, or its profile cannot be read.
    """
    from schemas.compat import HostProfile

    found = read_operand(session, text)
    if found.remote is not None and found.remote[0] == "vm":
        hint = "a file, peer:NAME, host:, backend:NAME or a URL"
        raise CliError(f"{text!r} is no file and no host", ExitCode.USAGE, hint=hint)
    if found.subject is not None and not isinstance(found.subject, HostProfile):
        raise CliError(f"{text} is a state, no host profile", ExitCode.USAGE, hint="see `migsvc host profile`")
    return found


def fetch_profile(session: Session, operand: Operand) -> HostProfile:
    """Return the profile of a host operand, asking the agent if need be.

    Raises:
        CliError: the answer is no profile.
    """
    from schemas.compat import HostProfile

    if isinstance(operand.subject, HostProfile):
        return operand.subject
    if operand.remote == ("this_host", True):
        return _parsed(session.client.get("/v1/host")["profile"], operand.text)
    answer = session.client.post("/v1/compat/baseline", {"hosts": [operand.body]})
    return _parsed({**answer["profile"], "name": operand.name}, operand.text)


def backend_profile(name: str, host_name: str = "") -> HostProfile:
    """Return what a backend of this machine can hold; no agent is asked.

    Raises:
        CliError: there is no such backend, or it cannot be used here.
    """
    from migsvc.backends.profiles import PROFILES
    from migsvc.errors import InputError

    if name not in PROFILES:
        raise CliError(f"no backend {name[:64]!r}", ExitCode.USAGE, hint=f"known: {', '.join(PROFILES)}")
    try:
        return PROFILES[name](host_name or name)
    except InputError as error:
        raise CliError(error.detail, ExitCode.FAILED, hint=error.hint) from error


def _prefixed(text: str, prefix: str, rest: str) -> Operand:
    if prefix == "backend":
        return Operand(text, rest, backend_profile(rest))
    if prefix == "host":
        return Operand(text, "the agent", remote=("this_host", True))
    if not rest:
        raise CliError(f"{text!r} names nothing", ExitCode.USAGE, hint=FORMS)
    return Operand(text, rest, remote=(prefix, rest))


def _from_file(text: str) -> Operand:
    from migsvc.cli.documents import ProfileDocument, load_document

    document = load_document(text)
    if isinstance(document, ProfileDocument):
        return Operand(text, document.profile.name or text, document.profile)
    return Operand(text, text, document.state)


def _agent_profile(session: Session, url: str) -> HostProfile:
    """Ask the agent at a URL; its token is taken to be the same as that of --server."""
    from migsvc.client import Client

    with Client(url, read_token(session.token_file)) as other:
        return _parsed(other.get("/v1/host").get("profile"), url)


def _parsed(document: Any, origin: str) -> HostProfile:
    from schemas.compat import HostProfile
    from schemas.errors import SchemaError, parse_as

    try:
        return parse_as(HostProfile, document)
    except SchemaError as error:
        found = [problem.model_dump(mode="json") for problem in error.problems[:64]]
        raise CliError(f"{origin}: the profile cannot be read", ExitCode.REFUSED, findings=found) from error
