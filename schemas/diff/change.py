"""What a diff consists of: changes, and the collector that leaves out what is to be ignored."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ..model import Model
from ..paths import Parts, format_path
from .ignore import Ignore, classes_of


class ChangeKind(StrEnum):
    """What happened to the thing that a path names."""

    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class Change(Model):
    """One thing that differs, in words and as values; `old` and `new` are in their JSON form, None where absent."""

    path: str
    """As `schemas.paths` reads it, except where a run of bytes or an order is meant."""
    kind: ChangeKind
    text: str
    """In words: "IF cleared", "0x1000 -> 0x2000", "sti -> none"."""
    old: Any = None
    new: Any = None
    classes: tuple[str, ...] = ()
    """Classes of `schemas.diff.ignore` that the place belongs to: "time", "counters"."""

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.path}: {self.text}"


class Found:
    """Collects changes in the order in which they are found; what `ignore` covers is counted and left out."""

    def __init__(self, ignore: Ignore) -> None:
        """Begin with nothing."""
        self.ignore = ignore
        self.changes: list[Change] = []
        self.ignored = 0

    def covered(self, parts: Parts) -> bool:
        """Return whether this place is to be ignored, and count it if so."""
        covered = self.ignore.covers(parts)
        self.ignored += covered
        return covered

    def say(self, parts: Parts, text: str, old: Any = None, new: Any = None) -> None:
        """Add a change of a value."""
        self._add(parts, ChangeKind.CHANGED, text, old, new)

    def added(self, parts: Parts, text: str, new: Any = None) -> None:
        """Add the appearance of something."""
        self._add(parts, ChangeKind.ADDED, text, None, new)

    def removed(self, parts: Parts, text: str, old: Any = None) -> None:
        """Add the disappearance of something."""
        self._add(parts, ChangeKind.REMOVED, text, old, None)

    def _add(self, parts: Parts, kind: ChangeKind, text: str, old: Any, new: Any) -> None:
        if not self.covered(parts):
            self.changes.append(
                Change(path=format_path(parts), kind=kind, text=text, old=old, new=new, classes=classes_of(parts))
            )
