"""CompatReport: whether a host can hold a machine, and a reason per field where it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ..errors import Finding, Severity
from ..model import Model

MAX_FINDINGS = 512
"""A report lists no more: a hostile summary could break every rule on every vCPU."""


class Verdict(StrEnum):
    """The worst that any rule says."""

    EXACT = "exact"
    """Every bit arrives as it is."""
    TRANSLATED = "translated"
    """Something travels in another form; nothing is lost."""
    LOSSY = "lossy"
    """The machine would run, but something would be lost; the findings say what."""
    IMPOSSIBLE = "impossible"
    """The host cannot hold it."""

    @property
    def rank(self) -> int:
        """Return how bad it is, 0 for `exact`."""
        return list(Verdict).index(self)


VERDICTS = {
    Severity.NOTE: Verdict.TRANSLATED,
    Severity.WARNING: Verdict.LOSSY,
    Severity.ERROR: Verdict.IMPOSSIBLE,
}
"""What a finding of each severity makes of the verdict, the mildest first."""


class CompatFinding(Finding):
    """A finding with both sides of the comparison as text, and what follows from it."""

    guest: str = ""
    """What the machine has, or would need."""
    host: str = ""
    """What the host has."""
    why: str = ""
    """What would happen to the guest."""


class CompatReport(Model):
    """The verdict and the findings, the worst first: error = impossible, warning = lossy, note = translated."""

    verdict: Verdict
    findings: tuple[CompatFinding, ...]
    omitted: int = 0
    """Findings beyond the first 512; they count in the verdict."""

    @classmethod
    def of(cls, findings: Iterable[CompatFinding]) -> CompatReport:
        """Return the report on these findings."""
        kept: dict[Severity, list[CompatFinding]] = {severity: [] for severity in reversed(VERDICTS)}
        found = 0
        for finding in findings:
            found += 1
            if len(kept[finding.severity]) < MAX_FINDINGS:
                kept[finding.severity].append(finding)
        worst = next((VERDICTS[severity] for severity, some in kept.items() if some), Verdict.EXACT)
        listed = [finding for some in kept.values() for finding in some][:MAX_FINDINGS]
        return cls(verdict=worst, findings=tuple(listed), omitted=found - len(listed))
