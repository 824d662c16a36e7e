"""Keep the tables in FORMAT.md in step with RECORDS: `python -m migsvc.stream.docs [--write]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.resources import as_file, files

from .records import RECORDS


def records_table() -> str:
    """Return the table of record types as Markdown."""
    rows = ["| type | record | body | octets of body | why that limit |", "|---:|---|---|---|---|"]
    for spec in RECORDS:
        size = f"{spec.min_body}" if spec.min_body == spec.max_body else f"{spec.min_body} to {spec.max_body}"
        rows.append(f"| {int(spec.type)} | `{spec.name}` | {spec.doc} ({spec.encoding}) | {size} | {spec.reason} |")
    return "\n".join(rows)


def replace_tables(text: str, tables: Mapping[str, str]) -> str:
    """Return a document with each generated table between its markers renewed.

    Raises:
        ValueError: a table has no markers in the document.
    """
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the document has not exactly one pair of markers for {name}")
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


def renew(package: str, document: str, tables: Mapping[str, str], arguments: list[str]) -> int:
    """Renew a document of a package with `--write`, else say whether it is up to date; return the exit status."""
    with as_file(files(package).joinpath(document)) as path:
        text = path.read_text(encoding="utf-8")
        wanted = replace_tables(text, tables)
        if "--write" in arguments and wanted != text:
            path.write_text(wanted, encoding="utf-8")
            text = wanted
    if text == wanted:
        return 0
    sys.stderr.write(f"{document} is out of date: run python -m {package}.docs --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(renew("migsvc.stream", "FORMAT.md", {"records": records_table()}, sys.argv[1:]))
