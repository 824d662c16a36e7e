"""CompatReport: whether a host can hold a machine, and a reason per field where it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from ..errors import Finding, Severity


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


_OF_SEVERITY = {
    Severity.NOTE: Verdict.TRANSLATED,
    Severity.WARNING: Verdict.LOSSY,
    Severity.ERROR: Verdict.IMPOSSIBLE,
}


class CompatReport(BaseModel):
    """The verdict and all findings: error = impossible, warning = lossy, note = translated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> CompatReport:
        """Return the report on these findings."""
        listed = tuple(findings)
        order = list(Verdict)
        worst = max((_OF_SEVERITY[finding.severity] for finding in listed), key=order.index, default=Verdict.EXACT)
        return cls(verdict=worst, findings=listed)
