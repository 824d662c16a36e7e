"""A report as lines for people and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from .kinds import KINDS, ChangeClass
from .report import Change, EvolutionReport

MEANING = {
    ChangeClass.COMPATIBLE: "OLD and NEW read each other",
    ChangeClass.FORWARD_ONLY: "NEW reads what OLD wrote; OLD does not read everything that NEW writes",
    ChangeClass.BACKWARD_ONLY: "OLD reads what NEW writes; NEW does not read everything that OLD wrote",
    ChangeClass.BREAKING: "neither reads everything of the other",
}
"""One line for each verdict."""


def text(report: EvolutionReport, *, everything: bool = False) -> str:
    """Return the report as lines; compatible changes are counted only, unless `everything`."""
    return "\n".join(_lines(report, everything))


def _lines(report: EvolutionReport, everything: bool) -> Iterator[str]:
    yield f"{report.verdict}: {_verdict(report)}"
    for name, side in (("OLD", report.old), ("NEW", report.new)):
        yield f"  {name}: schema version {side.schema_version}, {side.digest}"
    for change in report.changes:
        if everything or change.change_class is not ChangeClass.COMPATIBLE:
            yield f"  - {_line(change)}"
    yield "  " + ", ".join(f"{count} {name}" for name, count in report.counts.items())
    yield from (f"  {note}" for note in notes(report))


def _verdict(report: EvolutionReport) -> str:
    apart = not report.strict and any(change.declared for change in report.changes)
    return MEANING[report.verdict] + (", declared changes apart" if apart else "")


def _line(change: Change) -> str:
    line = f"{change.id} {change.change_class} {change.subject}: {change.kind}{_values(change)}: {change.reason}"
    return f"{line} [declared: {change.declared}]" if change.declared else line


def _values(change: Change) -> str:
    return f" ({change.old or '-'} -> {change.new or '-'})" if change.old or change.new else ""


def notes(report: EvolutionReport) -> list[str]:
    """Return what a reader of the verdict has to know besides."""
    found = []
    declared = sum(change.declared is not None for change in report.changes)
    if declared:
        counted = "counted all the same" if report.strict else "shown, and not counted in the verdict"
        found.append(f"{declared} changes are declared: {counted}")
    if report.version_needed:
        found.append(f"both say schema version {report.new.schema_version}: raise it, or undo what is not compatible")
    return found


def markdown(report: EvolutionReport, *, everything: bool = False) -> str:
    """Return the report as Markdown: the verdict, a table of changes, notes."""
    lines = [
        f"**{report.verdict}**: {_verdict(report)}",
        "",
        f"Schema version {report.old.schema_version} (`{report.old.digest}`) to "
        f"{report.new.schema_version} (`{report.new.digest}`).",
        "",
    ]
    shown = [c for c in report.changes if everything or c.change_class is not ChangeClass.COMPATIBLE]
    if shown:
        lines += ["| rule | class | where | change | why | declared |", "|---|---|---|---|---|---|"]
    for change in shown:
        cells = (
            change.id, change.change_class, f"`{change.subject}`", change.kind + _values(change), change.reason,
            change.declared or "",
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    if shown:
        lines.append("")
    lines.append(", ".join(f"{count} {name}" for name, count in report.counts.items()) + ".")
    lines += [f"- {note}" for note in notes(report)]
    return "\n".join(lines)


def _cell(value: str) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def kinds_table() -> str:
    """Return every kind of change as a Markdown table; an empty cell stands for compatible."""
    rows = ["| id | change | stream | documents | conversation | class | why |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        held = (
            "" if one is ChangeClass.COMPATIBLE else one for one in (kind.stream, kind.documents, kind.conversation)
        )
        rows.append("| " + " | ".join((kind.id, kind.name, *held, kind.change_class, kind.reason)) + " |")
    return "\n".join(rows)
