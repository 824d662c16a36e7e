"""Reports, baselines and matrices as text for terminals and as Markdown for pull requests and tickets; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .baseline import Baseline
from .matrix import Matrix
from .report import CompatFinding, CompatReport, Verdict

Style = Literal["text", "markdown"]

MARKS = {Verdict.EXACT: "=", Verdict.TRANSLATED: "~", Verdict.LOSSY: "!", Verdict.IMPOSSIBLE: "x"}
"""One character for each verdict in a matrix."""

MEANINGS = {
    Verdict.EXACT: "every bit arrives as it is",
    Verdict.TRANSLATED: "something travels in another form, nothing is lost",
    Verdict.LOSSY: "it would run, but something would be lost",
    Verdict.IMPOSSIBLE: "the host cannot hold it",
}


def report_lines(report: CompatReport, subject: str, host: str, style: Style = "text") -> list[str]:
    """Return a report as lines, the verdict first."""
    if style == "markdown":
        head = f"## {_cell(subject)} on {_cell(host)}: **{report.verdict}**"
        rows = [_markdown_row(finding) for finding in report.findings]
        lines = [head, "", f"{MEANINGS[report.verdict].capitalize()}."]
        return lines + (["", *_FINDING_HEAD, *rows] if rows else []) + _omitted(report)
    lines = [f"{report.verdict}: {subject} on {host} ({MEANINGS[report.verdict]})"]
    for finding in report.findings:
        lines += _text(finding)
    return lines + _omitted(report)


def baseline_lines(baseline: Baseline, style: Style = "text") -> list[str]:
    """Return a baseline as lines: what it is, then what each host gives up."""
    markdown = style == "markdown"
    profile = baseline.profile
    facts = (
        f"{len(profile.cpuid.entries)} CPUID leaves, {len(profile.msr_indices)} MSRs, XCR0 {profile.xcr0_mask:#x}, "
        f"vendor {profile.vendor}, {'SMM' if profile.smm else 'no SMM'}"
    )
    lines = [f"## Baseline of {len(baseline.hosts)} hosts", "", facts] if markdown else [f"baseline: {facts}"]
    for host in baseline.hosts:
        title = f"{host.host}: {host.verdict}, gives up {len(host.gives_up)}"
        lines += ["", f"### {_cell(title)}"] if markdown else [title]
        found = [*host.blocked_by, *host.gives_up]
        if markdown:
            lines += ["", *_FINDING_HEAD, *map(_markdown_row, found)] if found else []
        else:
            lines += [f"  - {finding.rule} {finding.where}: {finding.message}" for finding in found]
    return lines


def matrix_lines(matrix: Matrix, style: Style = "text") -> list[str]:
    """Return a matrix as a table, a row for each source; in text with a legend and the reasons of each pair."""
    rows = [[matrix.hosts[i], *(str(cell.verdict) for cell in row)] for i, row in enumerate(matrix.cells)]
    if style == "markdown":
        head = ["from \\ to", *matrix.hosts]
        return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]
    numbers = [str(n) for n in range(1, len(matrix.hosts) + 1)]
    width = max(len(name) for name in matrix.hosts)
    lines = [" " * (width + 5) + " ".join(number.rjust(3) for number in numbers)]
    for number, name, row in zip(numbers, matrix.hosts, matrix.cells, strict=True):
        marks = " ".join(MARKS[cell.verdict].rjust(3) for cell in row)
        lines.append(f"{number.rjust(3)}  {name.ljust(width)}{marks}")
    lines.append(
        "from the row's host to the column's: " + ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
    )
    for row in matrix.cells:
        for cell in row:
            if cell.rules:
                rules = ", ".join(f"{rule} x{count}" if count > 1 else rule for rule, count in cell.rules.items())
                lines.append(f"{cell.source} -> {cell.target}: {cell.verdict}: {rules}")
    return lines


def _text(finding: CompatFinding) -> list[str]:
    lines = [f"  - {finding.rule} {finding.severity} {finding.where}: {finding.message}"]
    if finding.why:
        lines.append(f"      why:  {finding.why}")
    if finding.hint:
        lines.append(f"      mend: {finding.hint}")
    return lines


_FINDING_COLUMNS = ("rule", "severity", "where", "what", "guest", "host", "why", "how to mend")


def _markdown_row(finding: CompatFinding) -> str:
    return _row([
        finding.rule, finding.severity, f"`{finding.where}`", finding.message, finding.guest, finding.host,
        finding.why, finding.hint,
    ])  # fmt: skip


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Return text that cannot end a table's cell or its row: host names come from files."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


_FINDING_HEAD = (_row(_FINDING_COLUMNS), _row(["---"] * len(_FINDING_COLUMNS)))


def _omitted(report: CompatReport) -> list[str]:
    return [f"and {report.omitted} more findings"] if report.omitted else []
