"""INVARIANTS: what is legal, as rows; `check_state` applies them all.

A struct that unpacks can still hold a state that no vCPU is ever in. Errors are states that a kernel refuses or that no
guest can bring about; warnings bind some hosts only, or say that something would not be restored; notes lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from .errors import Finding, InvariantError, Severity
from .rules.cpuid import CPUID_RULES
from .rules.devices import DEVICE_RULES
from .rules.events import EVENT_RULES
from .rules.facts import MachineFacts, VcpuFacts
from .rules.features import FEATURE_RULES
from .rules.lapic import LAPIC_RULES
from .rules.machine import MACHINE_RULES
from .rules.msrs import MSR_RULES
from .rules.nested import NESTED_RULES
from .rules.nested_svm import NESTED_SVM_RULES
from .rules.registers import REGISTER_RULES
from .rules.reserved import RESERVED_RULES
from .rules.row import HARDWARE, At, Invariant, Scope
from .rules.segments import SEGMENT_RULES
from .rules.smm import SMM_RULES
from .rules.smram import SMRAM_RULES, save_area
from .rules.vm_entry import VM_ENTRY_RULES
from .rules.xstate import XSTATE_RULES
from .state import MachineState, VcpuState

if TYPE_CHECKING:
    from .shadow import SmramAccess

__all__ = ["INVARIANTS", "Invariant", "check_state", "errors_of", "require_legal"]

INVARIANTS: tuple[Invariant, ...] = tuple(
    sorted(
        (
            *SMM_RULES,
            *EVENT_RULES,
            *VM_ENTRY_RULES,
            *SEGMENT_RULES,
            *REGISTER_RULES,
            *FEATURE_RULES,
            *XSTATE_RULES,
            *MSR_RULES,
            *LAPIC_RULES,
            *CPUID_RULES,
            *NESTED_RULES,
            *NESTED_SVM_RULES,
            *MACHINE_RULES,
            *DEVICE_RULES,
            *SMRAM_RULES,
            *RESERVED_RULES,
        ),
        key=lambda rule: rule.id,
    )
)
"""Every rule, in the order of the ids."""

_ORDER = {severity: number for number, severity in enumerate(Severity)}


def check_state(
    state: VcpuState | MachineState, *, host_vendor: str | None = None, memory: SmramAccess | None = None
) -> list[Finding]:
    """Return every breach of every rule, errors first.

    `host_vendor` is the CPUID vendor of the hardware that is going to run the state: rules of one vendor's hardware
    have their full severity there, are warnings while it is None, and do not apply elsewhere. With `memory` the SMRAM
    save area of a vCPU in SMM is checked too.
    """
    if isinstance(state, VcpuState):
        findings = _check_vcpu(VcpuFacts(state), "", host_vendor, memory)
    else:
        machine = MachineFacts(state)
        findings = list(_apply("machine", host_vendor, machine, ""))
        for number, vcpu in enumerate(machine.vcpus):
            findings += _check_vcpu(vcpu, f"vcpus.{number}.", host_vendor, memory)
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    """Return those findings for which a state is refused."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def require_legal(
    state: VcpuState | MachineState, *, host_vendor: str | None = None, memory: SmramAccess | None = None
) -> list[Finding]:
    """Return the findings of a legal state, which are warnings and notes.

    Raises:
        InvariantError: there is an error among the findings; all of them are listed.
    """
    findings = check_state(state, host_vendor=host_vendor, memory=memory)
    if errors_of(findings):
        raise InvariantError(findings)
    return findings


def _check_vcpu(vcpu: VcpuFacts, prefix: str, host_vendor: str | None, memory: SmramAccess | None) -> list[Finding]:
    findings = list(_apply("vcpu", host_vendor, vcpu, prefix))
    saved = save_area(vcpu, memory) if memory is not None else None
    return findings if saved is None else findings + list(_apply("smram", host_vendor, saved, prefix))


def _apply(scope: Scope, host_vendor: str | None, subject: object, prefix: str) -> Iterator[Finding]:
    for rule, severity in _rules(scope, host_vendor):
        if rule.needs is not None and getattr(subject, rule.needs) is None:
            continue
        for breach in rule.check(subject):
            where, text = breach if isinstance(breach, At) else (rule.where, breach)
            yield Finding(
                rule=rule.id,
                severity=severity,
                where=(prefix + where).rstrip("."),
                message=f"{rule.text}: {text}",
                hint=rule.hint,
                source=rule.source,
            )


@cache
def _rules_of(scope: Scope, hardware: str | None, *, known: bool) -> tuple[tuple[Invariant, Severity], ...]:
    """Return the rules that bind on this hardware, each with its severity there."""
    found = []
    for rule in INVARIANTS:
        if rule.scope != scope:
            continue
        if rule.host_vendor is None or not known:
            found.append((rule, rule.severity))
        elif rule.host_vendor == hardware:
            found.append((rule, rule.host_severity))
    return tuple(found)


def _rules(scope: Scope, host_vendor: str | None) -> tuple[tuple[Invariant, Severity], ...]:
    return _rules_of(scope, HARDWARE.get(host_vendor or ""), known=host_vendor is not None)
