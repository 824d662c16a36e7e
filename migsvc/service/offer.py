"""What a source offers: the machine's configuration, what it needs of a host, and how the source can be asked later.

The `summary` of an Offer is a map of four: `machine` (schemas' MachineSummary as JSON text), `source_address`
(`host:port` of the source's migration listener), `source_host_id`, and `answer_token`, a secret of this migration
that lets the destination ask the source for the outcome although it has no token of that host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migsvc.errors import InputError
from migsvc.stream import STREAM_VERSION, Config, config_map
from schemas.codec.text import TextBounds, decode_json
from schemas.compat import HostProfile, MachineSummary, check_compat
from schemas.errors import SchemaError, Severity
from schemas.state import MachineState

UNSAID_SHADOW = "CMP-602"
"""In SMM without the flag: whether a shadow is put aside is not in the events."""

SUMMARY_BOUNDS = TextBounds(max_bytes=1 << 20, max_values=1 << 19)
"""A frame of the conversation holds 1 MiB."""
MAX_ADDRESS_CHARS = 300
ANSWER_TOKEN_CHARS = 32


@dataclass(frozen=True, slots=True)
class OfferSummary:
    """The summary of an Offer, read."""

    machine: MachineSummary
    source_address: str
    source_host_id: str
    answer_token: str


def make_summary(
    config: Config, state: MachineState, *, source_address: str, source_host_id: str, answer_token: str
) -> dict[str, Any]:
    """Return the summary for a machine."""
    return {
        "machine": machine_summary(config, state).model_dump_json(),
        "source_address": source_address,
        "source_host_id": source_host_id,
        "answer_token": answer_token,
    }


def machine_summary(config: Config, state: MachineState) -> MachineSummary:
    """Return what the machine of a CONFIG needs of a host."""
    summary = MachineSummary.of(state, backend=config.backend, stream_version=STREAM_VERSION)
    return summary.model_copy(update={"schema_version": config.schema_version})


def offered_config(config: Config) -> dict[str, Any]:
    """Return the configuration as it travels in an Offer."""
    return config_map(config)


def read_summary(raw: Mapping[str, Any]) -> OfferSummary:
    """Return the summary that a peer sent.

    Raises:
        InputError: it is not one; every problem is named.
    """
    wanted = ("machine", "source_address", "source_host_id", "answer_token")
    wrong = [name for name in wanted if not isinstance(raw.get(name), str)]
    if wrong or raw.keys() != set(wanted):
        raise InputError(f"the Offer's summary must have {', '.join(wanted)} and no more; see {', '.join(wrong)}")
    if len(raw["source_address"]) > MAX_ADDRESS_CHARS or len(raw["answer_token"]) != ANSWER_TOKEN_CHARS:
        raise InputError("the Offer's summary has an address that is too long, or a token of the wrong length")
    try:
        machine = decode_json(MachineSummary, raw["machine"], SUMMARY_BOUNDS)
    except SchemaError as error:
        text = "; ".join(str(problem) for problem in error.problems[:16])
        raise InputError(f"the Offer's machine summary is not legal: {text}") from error
    return OfferSummary(machine, raw["source_address"], raw["source_host_id"], raw["answer_token"])


def refusals(summary: MachineSummary, config: Config, profile: HostProfile) -> list[dict[str, Any]]:
    """Return a finding per reason for which this host cannot hold the machine exactly; none: it can.

    What would be lost is a refusal as well: nobody has agreed to lose it. Only of a shadow that may be put aside the
    source alone can tell, which has seen SMRAM and its operator's word.
    """
    report = check_compat(summary, profile)
    found = []
    if any(finding.severity is not Severity.NOTE and finding.rule != UNSAID_SHADOW for finding in report.findings):
        found = [finding.model_dump(mode="json") for finding in report.findings]
    claims = (
        ("ram_bytes", summary.ram_bytes, config.memory.ram_bytes),
        ("vcpus", len(summary.vcpus), config.vcpus),
        ("backend", summary.backend, config.backend),
        ("schema_version", summary.schema_version, config.schema_version),
    )
    found += [
        refusal(
            f"summary.{name}",
            f"the summary says {claimed}, the configuration {actual}",
            "the source contradicts itself",
        )
        for name, claimed, actual in claims
        if claimed != actual
    ]
    if config.schema_version not in profile.schema_versions:
        text = f"schema version {config.schema_version}, this host reads {list(profile.schema_versions)}"
        found.append(refusal("config.schema_version", text, "bring this host up to date"))
    return found


def refusal(where: str, message: str, hint: str) -> dict[str, Any]:
    """Return a refusal that is no matter of the state, in the form of the schemas' findings."""
    return {"rule": "HOST", "severity": "error", "where": where, "message": message, "hint": hint, "source": ""}
