"""INVARIANTS: what is legal, as rows; `check_state` applies them all.

A struct that unpacks can still hold a state that no vCPU is ever in. Errors are states that a kernel refuses or that no
guest can bring about; warnings bind some hosts only, or say that something would not be restored; notes lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import Finding, InvariantError, Severity
from .rules.events import EVENT_RULES
from .rules.extended import EXTENDED_RULES
from .rules.machine import MACHINE_RULES
from .rules.registers import REGISTER_RULES
from .rules.reserved import RESERVED_RULES
from .rules.row import Invariant
from .rules.vm_entry import VM_ENTRY_RULES
from .state import MachineState, VcpuState

__all__ = ["INVARIANTS", "Invariant", "check_state", "errors_of", "require_legal"]

INVARIANTS: tuple[Invariant, ...] = (
    *EVENT_RULES,
    *VM_ENTRY_RULES,
    *REGISTER_RULES,
    *EXTENDED_RULES,
    *MACHINE_RULES,
    *RESERVED_RULES,
)


def check_state(state: VcpuState | MachineState, *, host_vendor: str | None = None) -> list[Finding]:
    """Return every breach of every rule, errors first.

    `host_vendor` is the CPUID vendor of the hardware that is going to run the state: rules of one vendor's hardware are
    errors there, warnings while it is None, and do not apply elsewhere.
    """
    findings: list[Finding] = []
    for rule in INVARIANTS:
        severity = _severity(rule, host_vendor)
        if severity is None:
            continue
        for prefix, subject in _subjects(state, rule):
            findings += [
                Finding(
                    rule=rule.id,
                    severity=severity,
                    where=(prefix + rule.where).rstrip("."),
                    message=f"{rule.text}: {detail}",
                    hint=rule.hint,
                    source=rule.source,
                )
                for detail in rule.check(subject)
            ]
    return sorted(findings, key=lambda finding: list(Severity).index(finding.severity))


def errors_of(findings: list[Finding]) -> list[Finding]:
    """Return those findings for which a state is refused."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def require_legal(state: VcpuState | MachineState, *, host_vendor: str | None = None) -> list[Finding]:
    """Return the findings of a legal state, which are warnings and notes.

    Raises:
        InvariantError: there is an error among the findings; all of them are listed.
    """
    findings = check_state(state, host_vendor=host_vendor)
    if errors_of(findings):
        raise InvariantError(findings)
    return findings


def _severity(rule: Invariant, host_vendor: str | None) -> Severity | None:
    if rule.host_vendor is None or host_vendor is None:
        return rule.severity
    return Severity.ERROR if rule.host_vendor == host_vendor else None


def _subjects(state: VcpuState | MachineState, rule: Invariant) -> Iterator[tuple[str, VcpuState | MachineState]]:
    """Yield what a rule looks at, each with the prefix of its place."""
    if isinstance(state, VcpuState):
        if rule.scope == "vcpu":
            yield "", state
    elif rule.scope == "machine":
        yield "", state
    else:
        for number, vcpu in enumerate(state.vcpus):
            yield f"vcpus.{number}.", vcpu
