"""The values of feature MSRs that every host of a fleet can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_, or_

from ..uapi.msrs import KvmMsrs
from .profile import HostProfile
from .rules.msr_values import ARCH_CAP_WEAKNESSES, ARCH_CAPABILITIES, DE_CFG, PERF_CAP_LBR_FORMAT, PERF_CAPABILITIES
from .rules.vmx_msrs import CONTROLS, FEATURES, FIXED

_LOW = 0xFFFFFFFF

Combine = Callable[[list[int]], int]


def _and(values: list[int]) -> int:
    return reduce(and_, values)


def _or(values: list[int]) -> int:
    return reduce(or_, values)


def _arch_capabilities(values: list[int]) -> int:
    """Immunities and controls that all have, weaknesses that one has."""
    return _and(values) & ~ARCH_CAP_WEAKNESSES | _or(values) & ARCH_CAP_WEAKNESSES


def _perf_capabilities(values: list[int]) -> int:
    formats = {value & PERF_CAP_LBR_FORMAT for value in values}
    return _and(values) if len(formats) == 1 else _and(values) & ~PERF_CAP_LBR_FORMAT


def _vmx_controls(values: list[int]) -> int:
    """Must be 1 where one host demands it, may be 1 where all allow it."""
    return _or(values) & _LOW | _and(values) & ~_LOW


COMBINE: dict[int, Combine] = {
    ARCH_CAPABILITIES: _arch_capabilities,
    PERF_CAPABILITIES: _perf_capabilities,
    DE_CFG: _and,
    **dict.fromkeys(CONTROLS, _vmx_controls),
    **dict.fromkeys(FIXED, _or),
    **dict.fromkeys(FEATURES, _and),
}
"""How values combine; of the other MSRs only equal values are common."""


def common_feature_msrs(profiles: Sequence[HostProfile]) -> KvmMsrs | None:
    """Return the values that all hosts can hold; None if a profile does not say its own."""
    tables = [profile.feature_msrs.values_by_index() for profile in profiles if profile.feature_msrs is not None]
    if len(tables) < len(profiles):
        return None
    found = {}
    for index in tables[0]:
        values = [table[index] for table in tables if index in table]
        if len(values) == len(tables):
            if index in COMBINE:
                found[index] = COMBINE[index](values)
            elif len(set(values)) == 1:
                found[index] = values[0]
    return KvmMsrs.of(found)
