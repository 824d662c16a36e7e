"""Whether a host can hold a machine: asked before anything moves, answered with a reason per field."""

from __future__ import annotations

from ..errors import Finding
from ..state import MachineState
from .profile import HostProfile, MachineSummary, VcpuSummary
from .report import CompatReport, Verdict
from .rules import COMPAT_RULES, CompatRule

__all__ = [
    "COMPAT_RULES",
    "CompatReport",
    "CompatRule",
    "HostProfile",
    "MachineSummary",
    "VcpuSummary",
    "Verdict",
    "check_compat",
]


def check_compat(state: MachineState | MachineSummary, host: HostProfile) -> CompatReport:
    """Return whether the host can hold the machine: the worst verdict and all findings."""
    machine = MachineSummary.of(state) if isinstance(state, MachineState) else state
    return CompatReport.of(
        Finding(
            rule=rule.id,
            severity=severity or rule.severity,
            where=where,
            message=f"{rule.text}: {message}",
            hint=rule.hint,
            source=rule.source,
        )
        for rule in COMPAT_RULES
        for where, message, severity in rule.check(machine, host)
    )
