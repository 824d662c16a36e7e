"""matrix: every pair of a fleet's hosts, from where machines could move to where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..model import Model
from .baseline import check_count, distinct_names
from .check import check_compat, summary_of
from .profile import HostProfile
from .report import Verdict


class Cell(Model):
    """One pair: what becomes of a machine that uses all of the source, on the target."""

    source: str
    target: str
    verdict: Verdict
    rules: dict[str, int]
    """Findings by rule id."""


class Matrix(Model):
    """All pairs, row by row: the source's name, then the targets in the order of `hosts`."""

    hosts: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of any pair."""
        return max((cell.verdict for row in self.cells for cell in row), key=lambda verdict: verdict.rank)


def matrix(profiles: Sequence[HostProfile]) -> Matrix:
    """Return the verdict of every pair, each host with itself included.

    Raises:
        FieldError: there are no profiles, or more than 256.
    """
    check_count(profiles)
    names = distinct_names(profiles)
    rows = []
    for name, source in zip(names, profiles, strict=True):
        machine = summary_of(source)
        row = []
        for other, target in zip(names, profiles, strict=True):
            report = check_compat(machine, target)
            rules = Counter(finding.rule for finding in report.findings)
            row.append(Cell(source=name, target=other, verdict=report.verdict, rules=dict(sorted(rules.items()))))
        rows.append(tuple(row))
    return Matrix(hosts=names, cells=tuple(rows))
