"""check_compat: run every rule on a machine and a host."""

from __future__ import annotations

from collections.abc import Iterator

from ..state import MachineState, VcpuState
from .profile import HostProfile
from .report import CompatFinding, CompatReport
from .row import Case
from .rules import COMPAT_RULES
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
