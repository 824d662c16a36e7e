"""baseline: the largest set of CPUID, MSRs, XSAVE and the rest that every host of a fleet can hold.

The result is a profile itself: a machine created within it can go to every host, which `check_compat(baseline, host)`
says as well. What a host gives up for it is `check_compat(host, baseline)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import FieldError, Problem
from ..model import Model
from .baseline_cpuid import common_cpuid
from .baseline_msrs import common_feature_msrs
from .check import check_compat
from .profile import HostProfile, LapicSupport, MemorySupport, NestedSupport
from .report import CompatFinding, Verdict
from .rules.msrs import held_msrs

T = TypeVar("T")

MAX_HOSTS = 256
"""Profiles that a baseline or a matrix takes."""


class GivesUp(Model):
    """What one host gives up: the findings of its largest machine against the baseline."""

    host: str
    verdict: Verdict
    """Of the baseline on this host; exact or translated, unless no common machine exists."""
    blocked_by: tuple[CompatFinding, ...]
    """Why a machine of the baseline would not fit this host; empty if it fits."""
    gives_up: tuple[CompatFinding, ...]


class Baseline(Model):
    """A profile that all hosts can hold, and what it costs each."""

    profile: HostProfile
    hosts: tuple[GivesUp, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of the baseline on any of the hosts."""
        return max((host.verdict for host in self.hosts), key=lambda verdict: verdict.rank)


def check_count(profiles: Sequence[HostProfile]) -> None:
    """Refuse none, or too many.

    Raises:
        FieldError: there are no profiles, or more than 256.
    """
    if not 1 <= len(profiles) <= MAX_HOSTS:
        message = f"{len(profiles)} profiles, expected 1 to {MAX_HOSTS}"
        raise FieldError([Problem(where="profiles", message=message, hint="give the profiles of a fleet in parts")])


def distinct_names(profiles: Sequence[HostProfile]) -> tuple[str, ...]:
    """Return the hosts' names; a name that several have gets a number."""
    seen: dict[str, int] = {}
    names = []
    for profile in profiles:
        seen[profile.name] = seen.get(profile.name, 0) + 1
        names.append(profile.name if seen[profile.name] == 1 else f"{profile.name} ({seen[profile.name]})")
    return tuple(names)


def baseline(profiles: Sequence[HostProfile], name: str = "baseline") -> Baseline:
    """Return the largest profile that all hosts can hold.

    Raises:
        FieldError: there are no profiles, or more than 256.
    """
    check_count(profiles)
    common = _common(profiles, name)
    hosts = []
    for host, profile in zip(distinct_names(profiles), profiles, strict=True):
        fits = check_compat(common, profile)
        blocked = fits.findings if fits.verdict.rank >= Verdict.LOSSY.rank else ()
        given = check_compat(profile, common).findings
        hosts.append(GivesUp(host=host, verdict=fits.verdict, blocked_by=blocked, gives_up=given))
    return Baseline(profile=common, hosts=tuple(hosts))


def _all(profiles: Sequence[HostProfile], pick: Callable[[HostProfile], Iterable[T]]) -> tuple[T, ...]:
    """Return what every host has, in the order of the first."""
    rest = [frozenset(pick(profile)) for profile in profiles[1:]]
    return tuple(item for item in pick(profiles[0]) if all(item in held for held in rest))


def _bits(values: Iterable[int]) -> int:
    found = list(values)
    common = found[0]
    for value in found[1:]:
        common &= value
    return common


def _known(profiles: Sequence[HostProfile], field: str, combine: Callable[[list[Any]], Any]) -> Any:
    """Combine a field that profiles may leave out; None if one does."""
    values = [getattr(profile, field) for profile in profiles]
    return None if any(value is None for value in values) else combine(values)


def _equal_or(default: T) -> Callable[[list[T]], T]:
    return lambda values: values[0] if all(value == values[0] for value in values) else default


def _common(profiles: Sequence[HostProfile], name: str) -> HostProfile:
    msrs = [held_msrs(profile) for profile in profiles]
    cpuid = common_cpuid(profiles)
    xcr0 = _bits(profile.xcr0_mask for profile in profiles)
    leaf_d = cpuid.leaf(0xD, 0)
    if leaf_d is not None:
        xcr0 &= leaf_d.eax | leaf_d.edx << 32
    oldest = min(profiles, key=lambda profile: profile.kernel_version or (0, 0) if profile.is_kvm else (1 << 16, 0))
    return HostProfile(
        name=name,
        vendor=_equal_or("mixed")([profile.vendor for profile in profiles]),
        backends=_all(profiles, lambda profile: profile.backends),
        schema_versions=_all(profiles, lambda profile: profile.schema_versions),
        stream_versions=_all(profiles, lambda profile: profile.stream_versions),
        smm=all(profile.smm for profile in profiles),
        smm_carriers=_all(profiles, lambda profile: profile.smm_carriers),
        event_flags=_bits(profile.event_flags for profile in profiles),
        vcpu_sections=_all(profiles, lambda profile: profile.vcpu_sections),
        vm_sections=_all(profiles, lambda profile: profile.vm_sections),
        max_vcpus=min(profile.max_vcpus for profile in profiles),
        max_ram_bytes=min(profile.max_ram_bytes for profile in profiles),
        cpuid=cpuid,
        msr_indices=tuple(sorted(frozenset.intersection(*msrs) & _listed(profiles))),
        msrs_unlisted=tuple(sorted(frozenset.intersection(*msrs) - _listed(profiles))),
        xcr0_mask=xcr0,
        xsave_bytes=min(profile.xsave_bytes for profile in profiles),
        tsc_khz_min=max(profile.tsc_khz_min for profile in profiles),
        tsc_khz_max=min(profile.tsc_khz_max for profile in profiles),
        kernel_release=oldest.kernel_release,
        hyperv_cpuid=None,
        feature_msrs=common_feature_msrs(profiles),
        **_optional(profiles),
    )


def _listed(profiles: Sequence[HostProfile]) -> frozenset[int]:
    return frozenset().union(*(profile.msr_indices for profile in profiles))


def _optional(profiles: Sequence[HostProfile]) -> dict[str, Any]:
    """Return the fields that a profile may leave out."""
    bits = ("clock_flags", "mxcsr_mask", "xcr0_guest_permitted", "mce_capabilities")
    least = ("tsc_tolerance_ppm", "max_vcpu_id", "mce_banks")
    found: dict[str, Any] = {name: _known(profiles, name, _bits) for name in bits}
    found |= {name: _known(profiles, name, min) for name in least}
    return found | {
        "tsc_khz": _known(profiles, "tsc_khz", _equal_or(None)),
        "tsc_scaling": _known(profiles, "tsc_scaling", all),
        "kvm_capabilities": _known(profiles, "kvm_capabilities", _capabilities),
        "nested": _known(profiles, "nested", _nested),
        "lapic": _known(profiles, "lapic", _lapic),
        "memory": _known(profiles, "memory", _memory),
    }


MASK_CAPABILITIES = frozenset({
    "KVM_CAP_ADJUST_CLOCK", "KVM_CAP_X2APIC_API", "KVM_CAP_X86_DISABLE_EXITS", "KVM_CAP_DISABLE_QUIRKS2",
    "KVM_CAP_XEN_HVM", "KVM_CAP_EXIT_HYPERCALL", "KVM_CAP_SYNC_REGS", "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
})  # fmt: skip
"""Capabilities whose value is a set of bits; of the others the least counts."""


def _capabilities(values: list[dict[str, int]]) -> dict[str, int]:
    common = {
        name: _bits(found) if name in MASK_CAPABILITIES else min(found)
        for name in values[0]
        if (found := [value.get(name, 0) for value in values])
    }
    return {name: value for name, value in common.items() if value}


def _nested(values: list[NestedSupport]) -> NestedSupport:
    return NestedSupport(
        vmx=all(value.vmx for value in values),
        svm=all(value.svm for value in values),
        state_bytes=min(value.state_bytes for value in values),
        evmcs=all(value.evmcs for value in values),
    )


def _lapic(values: list[LapicSupport]) -> LapicSupport:
    return LapicSupport(
        in_kernel=all(value.in_kernel for value in values),
        x2apic_32bit_ids=all(value.x2apic_32bit_ids for value in values),
        tsc_deadline=all(value.tsc_deadline for value in values),
        bus_cycle_ns=values[0].bus_cycle_ns,
        bus_cycle_settable=all(value.bus_cycle_settable for value in values),
    )


def _memory(values: list[MemorySupport]) -> MemorySupport:
    return MemorySupport(
        slots=min(value.slots for value in values),
        address_spaces=min(value.address_spaces for value in values),
        readonly=all(value.readonly for value in values),
    )
