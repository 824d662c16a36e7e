"""Difference: one thing that two exports do not have in common, before its meaning is looked up in KINDS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

V = TypeVar("V")

MAX_VALUE_CHARS = 200
"""How much of an old or new value a report shows."""


class Difference(NamedTuple):
    """A kind by its name, what it is about by its path in the export, and both values as text."""

    kind: str
    subject: str
    old: str = ""
    new: str = ""


Differences = Iterator[Difference]


def differs(kind: str, subject: str, old: Any = "", new: Any = "") -> Difference:
    """Return a difference with both values as short texts."""
    return Difference(kind, subject, _text(old), _text(new))


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def gone(old: Mapping[str, V], new: Mapping[str, V]) -> dict[str, V]:
    """Return what only OLD has, by name in order."""
    return {name: old[name] for name in sorted(old.keys() - new.keys())}


def kept(old: Mapping[str, V], new: Mapping[str, V]) -> Iterator[tuple[str, V, V]]:
    """Yield (name, old, new) of what both have and what is not the same, in order."""
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield name, old[name], new[name]


def bounds(kinds: str, subject: str, old: int, new: int) -> Differences:
    """Yield `<kinds>-raised` or `<kinds>-lowered` if a bound moved."""
    if old != new:
        yield differs(f"{kinds}-{'raised' if new > old else 'lowered'}", subject, old, new)


def limits(prefix: str, old: Mapping[str, int], new: Mapping[str, int]) -> Differences:
    """Yield how named bounds differ."""
    for name, value in gone(old, new).items():
        yield differs("limit-removed", f"{prefix}.{name}", value, "none")
    for name, value in gone(new, old).items():
        yield differs("limit-added", f"{prefix}.{name}", "none", value)
    for name, before, after in kept(old, new):
        yield from bounds("limit", f"{prefix}.{name}", before, after)
