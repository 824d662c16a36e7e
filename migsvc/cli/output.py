"""What commands print: tables for people, exact JSON for programs, errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import typer

Format = Literal["table", "json"]

Column = tuple[str, str | Callable[[Mapping[str, Any]], Any]]
"""Heading, and the member of the record or a function of it."""


def print_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_records(records: Iterable[Mapping[str, Any]], columns: Sequence[Column], output: Format) -> None:
    """Print a list of records."""
    found = list(records)
    if output == "json":
        print_json(found)
        return
    rows = [[cell(_pick(record, source)) for _, source in columns] for record in found]
    print_rows([heading for heading, _ in columns], rows)


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; numbers to the right. Nothing is cut: a terminal wraps, a pipe gets all."""
    widths = [max(len(heading), *(len(row[i]) for row in rows), 0) for i, heading in enumerate(headings)]
    right = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    typer.secho(line([heading.upper() for heading in headings]), bold=True)
    for row in rows:
        typer.echo(line(row))


def print_record(record: Mapping[str, Any], output: Format) -> None:
    """Print one record, a member a line."""
    if output == "json":
        print_json(record)
        return
    width = max((len(key) for key in record), default=0)
    for key, value in record.items():
        typer.echo(f"{key.ljust(width)}  {cell(value)}")


def print_done(record: Mapping[str, Any] | None, sentence: str, output: Format) -> None:
    """Say in one sentence what was done, or print the record as JSON."""
    if output == "json":
        print_json({} if record is None else record)
    else:
        typer.echo(sentence)


def print_error(problem: Mapping[str, Any], output: Format) -> None:
    """Print one clear paragraph on stderr, or the problem document."""
    if output == "json":
        typer.echo(json.dumps(dict(problem), indent=2), err=True)
        return
    text = f"migsvc: {problem.get('detail') or problem.get('title')}"
    if hint := problem.get("hint"):
        text += f" ({hint})"
    typer.echo(text, err=True)
    for finding in problem.get("findings") or problem.get("errors") or ():
        typer.echo("  - " + finding_line(finding), err=True)


def finding_line(finding: Mapping[str, Any]) -> str:
    """Return a finding in one line: rule, where, what, and the way out."""
    head = " ".join(str(finding[key]) for key in ("rule", "severity", "where", "field") if finding.get(key))
    text = str(finding.get("message") or finding.get("text") or finding.get("detail") or "")
    hint = f" ({finding['hint']})" if finding.get("hint") else ""
    return f"{head}: {text}{hint}" if head else text + hint


def cell(value: Any) -> str:
    """Return a value as text of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else "-"
    return str(value)


def _pick(record: Mapping[str, Any], source: str | Callable[[Mapping[str, Any]], Any]) -> Any:
    return record.get(source) if isinstance(source, str) else source(record)


def _numeric(text: str) -> bool:
    return text == "-" or text.partition(" ")[0].replace(".", "", 1).isdigit()
