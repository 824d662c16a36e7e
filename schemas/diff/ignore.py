"""What a diff may leave out: places by pattern, and classes of places that change by themselves.

A pattern is a path in which a part may hold `*` and `?`; it covers the place and everything inside. It may begin at the
vCPU's or the VM's sections: `msrs.MSR_*` is that of every vCPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from ..errors import FieldError, Problem
from ..names.msrs import MsrClass, msr_name, msr_number, msr_row
from ..paths import MAX_PATH_CHARS, Parts
from ..uapi.msrs import KvmMsrs

MAX_PATTERNS = 256


class ClassRow(NamedTuple):
    """Places of one class by a pattern, and why they change by themselves."""

    name: str
    pattern: str
    why: str


_RUNS = "it runs with the clock, whatever the guest does"
_COUNTS = "it counts what the guest has done"

CLASSES: tuple[ClassRow, ...] = (
    ClassRow("time", "tsc_offset", "the host's TSC differs between hosts"),
    ClassRow("time", "lapic.TMCCT", _RUNS),
    ClassRow("time", "clock.clock", _RUNS),
    ClassRow("time", "clock.realtime", _RUNS),
    ClassRow("time", "clock.host_tsc", _RUNS),
    ClassRow("time", "pit2.channels.*.count_load_time", "it is a moment on the host's clock"),
    ClassRow("time", "machine.now_ns", _RUNS),
    ClassRow("counters", "machine.retired_instructions", _COUNTS),
    ClassRow("counters", "serial.tx_bytes", _COUNTS),
    ClassRow("counters", "msrs.MSR_ARCH_PERFMON_PERFCTR*", _COUNTS),
    ClassRow("counters", "msrs.MSR_ARCH_PERFMON_FIXED_CTR?", _COUNTS),
    ClassRow("counters", "msrs.MSR_IA32_PMC*", _COUNTS),
    ClassRow("counters", "msrs.MSR_K7_PERFCTR*", _COUNTS),
    ClassRow("counters", "msrs.MSR_F1?H_*PERF_CTR*", _COUNTS),
)
"""The classes, besides `MSR_CLASSES`. A place that no row names has none."""

MSR_CLASSES: Mapping[str, MsrClass] = {"time": MsrClass.TIME, "counters": MsrClass.COUNTER}
"""Classes that also hold all MSRs of a class of `schemas.names.msrs`."""

CLASS_NAMES = tuple(dict.fromkeys(row.name for row in CLASSES))

Pattern = tuple[str, ...]
_PATTERN = re.compile(r"[\w*?]+(\.[\w*?]+|\[[\w*?]+\])*", re.ASCII)
_HEX = re.compile(r"0[xX][0-9a-fA-F]+")


@lru_cache(maxsize=1024)
def _pattern(text: str) -> Pattern:
    """Return the parts of a pattern; `a[0].b` and `a.0.b` are the same, and hex numbers are as decimal ones."""
    if len(text) > MAX_PATH_CHARS or not _PATTERN.fullmatch(text):
        hint = "e.g. vcpus[*].msrs.MSR_IA32_TSC, or a class: " + ", ".join(CLASS_NAMES)
        raise FieldError([Problem(where=text[:64] or "ignore", message="no pattern of paths", hint=hint)])
    parts = text.replace("[", ".").replace("]", "").split(".")
    return tuple(_plain(part, after) for part, after in zip(parts, ["", *parts], strict=False))


def _plain(part: str, after: str) -> str:
    """Return a part in the one spelling that paths have too: numbers in decimal, MSRs by their name."""
    if "*" in part or "?" in part:
        return part
    if after == "msrs" and part not in KvmMsrs.model_fields:
        return msr_name(msr_number(part))
    return str(int(part, 16)) if _HEX.fullmatch(part) else part


def _words(parts: Parts) -> tuple[str, ...]:
    """Return a path as patterns see it."""
    return tuple(
        msr_name(part) if after == "msrs" and isinstance(part, int) else str(part)
        for part, after in zip(parts, ["", *parts], strict=False)
    )


def _covers(pattern: Pattern, words: tuple[str, ...]) -> bool:
    return len(pattern) <= len(words) and all(map(fnmatchcase, words, pattern))


class Ignore:
    """A set of places."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Take patterns and names of classes.

        Raises:
            FieldError: one is no pattern, or they are more than `MAX_PATTERNS`.
        """
        given = list(patterns)
        if len(given) > MAX_PATTERNS:
            raise FieldError([Problem(where="ignore", message=f"{len(given)} patterns, at most {MAX_PATTERNS}")])
        self._classes = frozenset(given) & frozenset(CLASS_NAMES)
        self._patterns = [_pattern(text) for text in given if text not in self._classes]

    def covers(self, parts: Parts) -> bool:
        """Return whether a place is in the set."""
        if not self._patterns and not self._classes:
            return False
        forms = _forms(parts)
        if any(_covers(pattern, words) for words in forms for pattern in self._patterns):
            return True
        return bool(self._classes) and not self._classes.isdisjoint(classes_of(parts))


def _forms(parts: Parts) -> list[tuple[str, ...]]:
    """Return the path, and the path without the part that says which vCPU or that it is the VM's."""
    words = _words(parts)
    if words[0] == "vcpus" and len(words) > 2:
        return [words, words[2:]]
    return [words, words[1:]] if words[0] == "vm" and len(words) > 1 else [words]


def classes_of(parts: Parts) -> tuple[str, ...]:
    """Return the classes that a place belongs to."""
    forms = _forms(parts)
    found = {row.name for row in CLASSES if any(_covers(_pattern(row.pattern), words) for words in forms)}
    inner = forms[-1]
    if inner[0] == "msrs" and len(inner) > 1 and inner[1] not in KvmMsrs.model_fields:
        row = msr_row(msr_number(inner[1]))
        found |= {name for name, msr_class in MSR_CLASSES.items() if row and row.msr_class is msr_class}
    return tuple(name for name in CLASS_NAMES if name in found)
