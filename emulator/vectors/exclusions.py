"""Tests of a 286 that do not apply to later processors, by name."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from .format import Vector

STACK_FAULT, PROTECTION_FAULT, INVALID_OPCODE = 12, 13, 6
STRING_FORMS = frozenset({"6C", "6D", "6E", "6F", "A4", "A5", "A6", "A7", "AA", "AB", "AC", "AD", "AE", "AF"})
_ESCAPE_FORMS = frozenset(f"{opcode:X}" for opcode in range(0xD8, 0xE0))
_MAX_BYTES_286 = 10
_HLT = 0xF4
_NO_REASON = "excluded by its form or name"


class Exclusion(NamedTuple):
    """Which tests they are, and why; with `faulted`, only where the emulator raised that exception."""

    reason: str
    applies: Callable[[Vector], bool]
    faulted: int | None = None


def _instruction_bytes(vector: Vector) -> int:
    """Length up to the HLT behind it."""
    at, length = (vector.registers["cs"] << 4) + vector.registers["ip"], 0
    while length < 15 and vector.memory.get(at + length, _HLT) != _HLT:
        length += 1
    return length


EXCLUSIONS: Mapping[str, Exclusion] = {
    "lock": Exclusion(
        "a LOCK prefix is #UD today on what it cannot lock; a 286 executes it", lambda v: "lock" in v.name
    ),
    "string-overrun": Exclusion(
        "a 286 has moved SI and DI when a string access overruns its segment",
        lambda v: v.exception == PROTECTION_FAULT and v.form in STRING_FORMS,
    ),
    "length": Exclusion(
        "an instruction may have 15 bytes today; a 286 takes #GP above 10",
        lambda v: v.exception == PROTECTION_FAULT and _instruction_bytes(v) > _MAX_BYTES_286,
    ),
    "fs-gs": Exclusion(
        "FS and GS are segment registers today; a 286 takes #UD",
        lambda v: v.form in ("8C", "8E") and v.name.endswith(("fs", "gs")) and v.exception == INVALID_OPCODE,
    ),
    "escape": Exclusion(
        "a coprocessor escape is #UD where the model has none; a 286 without one skips it",
        lambda v: v.form in _ESCAPE_FORMS,
    ),
    "stack-overrun": Exclusion(
        "an overrun of the stack segment is #SS today; a 286 in real mode takes #GP",
        lambda v: v.exception == PROTECTION_FAULT,
        STACK_FAULT,
    ),
}
"""Differences between a 286 and later processors, by name."""


class Excluder:
    """Decides which vectors do not count: by names of EXCLUSIONS, by form, or by patterns of names ("lock *")."""

    def __init__(self, names: Iterable[str]) -> None:
        self._patterns = [name for name in names if name not in EXCLUSIONS]
        self._rules = [EXCLUSIONS[name] for name in names if name in EXCLUSIONS]

    def before(self, vector: Vector) -> str | None:
        """Why a vector need not be run, or None."""
        if any(fnmatchcase(text, pattern) for pattern in self._patterns for text in (vector.form, vector.name)):
            return _NO_REASON
        return next((rule.reason for rule in self._rules if rule.faulted is None and rule.applies(vector)), None)

    def after(self, vector: Vector, faulted: int | None) -> str | None:
        """Why a vector that failed does not count, or None; `faulted` is what the emulator raised first."""
        if faulted is None:
            return None
        rules = (rule for rule in self._rules if rule.faulted == faulted)
        return next((rule.reason for rule in rules if rule.applies(vector)), None)
