"""The row of a rule on state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from ..errors import Severity


class At(NamedTuple):
    """One breach whose place is narrower than the rule's: `where` replaces the rule's."""

    where: str
    text: str


Details = Iterator[str | At]
"""What a check yields: one text for each breach, with the values that are wrong."""

Check = Callable[[Any], Details]

INTEL, AMD = "GenuineIntel", "AuthenticAMD"

HARDWARE: dict[str, str] = {
    INTEL: INTEL, "CentaurHauls": INTEL, "  Shanghai  ": INTEL, AMD: AMD, "HygonGenuine": AMD,
}  # fmt: skip
"""CPUID vendor -> whose virtualization extension it has: VMX or SVM. Source: Linux 6.12 arch/x86/kernel/cpu/{centaur,
zhaoxin,hygon}.c."""

Scope = Literal["vcpu", "machine", "smram"]


class Invariant(NamedTuple):
    """One rule: what must hold, where, why, and the check that yields a text for each breach.

    `scope`: what the check takes: the facts of a vCPU, of a machine, or of a vCPU in SMM with its save area.
    `host_vendor`: the rule binds that vendor's hardware only: `severity` while the host is unknown, `host_severity` on
    such a host, nothing elsewhere. `needs`: an optional section without which there is nothing to check.
    """

    id: str
    severity: Severity
    where: str
    text: str
    hint: str
    source: str
    check: Check
    scope: Scope = "vcpu"
    host_vendor: str | None = None
    host_severity: Severity = Severity.ERROR
    needs: str | None = None
