"""The form of a compatibility rule, and the case that it judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from ..errors import Severity
from .cpuid_view import CpuidView
from .profile import HostProfile
from .summary import MachineSummary, VcpuSummary

_LISTED = 16
"""How many names a message lists before it says how many more there are."""


class Mismatch(NamedTuple):
    """One thing that does not fit; `severity` and `hint` None: the rule's own."""

    where: str
    detail: str
    guest: str = ""
    host: str = ""
    severity: Severity | None = None
    hint: str | None = None


Mismatches = Iterator[Mismatch]


class Case:
    """A machine and a host, with what rules ask of them again and again."""

    def __init__(self, machine: MachineSummary, host: HostProfile) -> None:
        """Prepare the case."""
        self.machine = machine
        self.host = host

    @cached_property
    def cpu(self) -> CpuidView:
        """The host's CPUID."""
        return CpuidView(self.host.cpuid)

    @cached_property
    def guests(self) -> list[tuple[str, CpuidView, VcpuSummary]]:
        """Each distinct CPUID of the guest once: ("vcpus.0", table, the first vCPU that is shown it)."""
        first: dict[int, VcpuSummary] = {}
        for vcpu in self.machine.vcpus:
            first.setdefault(vcpu.cpuid_id, vcpu)
        return [(f"vcpus.{vcpu.index}", self.cpuid_of(vcpu), vcpu) for vcpu in first.values()]

    @cached_property
    def msr_values(self) -> list[tuple[str, dict[int, int], CpuidView]]:
        """Each distinct set of checked MSR values once, with the CPUID of its first vCPU."""
        first: dict[int, VcpuSummary] = {}
        for vcpu in self.machine.vcpus:
            first.setdefault(vcpu.msr_values_id, vcpu)
        rows = self.machine.msr_values
        return [
            (f"vcpus.{vcpu.index}.msrs", dict(rows[number].values), self.cpuid_of(vcpu))
            for number, vcpu in first.items()
        ]

    def cpuid_of(self, vcpu: VcpuSummary) -> CpuidView:
        """Return what CPUID tells a vCPU."""
        return self._views[vcpu.cpuid_id]

    def sections_of(self, vcpu: VcpuSummary) -> tuple[str, ...]:
        """Return the names of a vCPU's sections."""
        return self.machine.section_lists[vcpu.sections_id]

    def before_linux(self, major: int, minor: int, found: Mismatches) -> Mismatches:
        """Yield of `found`, what does not fit a Linux older than that, what the host's kernel makes of it.

        Nothing on a newer kernel, and on a host without KVM, which does not depend on its kernel; where the release of
        a KVM is not known, a warning that says so in place of each.
        """
        version = self.host.kernel_version
        if not self.host.is_kvm or (version is not None and version >= (major, minor)):
            return
        for mismatch in found:
            what = f"whether its kernel is Linux {major}.{minor} or newer"
            yield mismatch if version is not None else unsaid(mismatch.where, mismatch.guest, what)

    @cached_property
    def _views(self) -> list[CpuidView]:
        return [CpuidView(cpuid) for cpuid in self.machine.cpuids]


class CompatRule(NamedTuple):
    """One rule: `check` yields what does not fit.

    `text` names the subject, `why` says what would happen to the guest, `hint` how to mend it.
    """

    id: str
    severity: Severity
    text: str
    why: str
    hint: str
    source: str
    check: Callable[[Case], Mismatches]


def listed(names: Iterable[str]) -> str:
    """Return names in one line; beyond the first 16 only their number."""
    found = list(names)
    shown = ", ".join(found[:_LISTED])
    return shown + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def hexes(numbers: Iterable[int]) -> str:
    """Return numbers in hexadecimal in one line."""
    return listed(f"{number:#x}" for number in numbers)


UNKNOWN_HINT = "make the host's profile anew with `migsvc host profile`"


def unsaid(where: str, guest: str, what: str, severity: Severity = Severity.WARNING) -> Mismatch:
    """Return the mismatch for a need of which the host's profile says nothing: not exact, but not refused as such.

    A note where even the worst answer would lose nothing.
    """
    return Mismatch(where, f"the profile does not say {what}", guest, "not known", severity, UNKNOWN_HINT)


def per_vcpu(
    machine: MachineSummary, differs: Callable[[VcpuSummary], bool], name: str
) -> Iterator[tuple[str, VcpuSummary]]:
    """Yield where and which, for the vCPUs that differ."""
    for vcpu in machine.vcpus:
        if differs(vcpu):
            yield f"vcpus.{vcpu.index}.{name}", vcpu
