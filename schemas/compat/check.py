"""check_compat: run every rule on a machine and a host."""

from __future__ import annotations

from collections.abc import Iterator

from ..state import MachineState, VcpuState
from .profile import HostProfile
from .report import CompatFinding, CompatReport
from .row import Case
from .rules import COMPAT_RULES
from .smallest import smallest_host
from .summary import MachineSummary

Subject = MachineState | VcpuState | MachineSummary | HostProfile


def summary_of(subject: Subject) -> MachineSummary:
    """Return what a machine, a vCPU, or a host's largest machine needs of a host."""
    if isinstance(subject, MachineState):
        return MachineSummary.of(subject)
    if isinstance(subject, VcpuState):
        return MachineSummary.of_vcpu(subject)
    return MachineSummary.of_profile(subject) if isinstance(subject, HostProfile) else subject


def check_compat(subject: Subject, host: HostProfile) -> CompatReport:
    """Return whether the host can hold the machine: the worst verdict and all findings.

    For a profile as subject: whether it can hold every machine that the other host can, whatever it uses.
    """
    return CompatReport.of(_findings(Case(summary_of(subject), host)))


def check_pair(a: Subject, b: Subject) -> CompatReport:
    """Return whether a fits b, whatever they are.

    A machine and a host, in either order: whether the host can hold the machine. Two hosts: whether b can hold every
    machine of a. Two machines: whether every host that holds b holds a.
    """
    if isinstance(b, HostProfile):
        return check_compat(a, b)
    return check_compat(b, a) if isinstance(a, HostProfile) else check_compat(a, smallest_host(summary_of(b)))


def _findings(case: Case) -> Iterator[CompatFinding]:
    for rule in COMPAT_RULES:
        for mismatch in rule.check(case):
            yield CompatFinding(
                rule=rule.id,
                severity=mismatch.severity or rule.severity,
                where=mismatch.where,
                message=f"{rule.text}: {mismatch.detail}",
                hint=rule.hint if mismatch.hint is None else mismatch.hint,
                source=rule.source,
                guest=mismatch.guest,
                host=mismatch.host,
                why=rule.why,
            )
