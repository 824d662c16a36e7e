"""Keep the tables in FORMAT.md in step with RECORDS and SECTIONS: `python -m migsvc.stream.docs [--write]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.resources import as_file, files

from schemas.uapi import SECTIONS, Section
from schemas.versions import VERSIONS

from .records import RECORDS


def records_table() -> str:
    """Return the table of record types as Markdown."""
    rows = ["| type | record | body | octets of body | why that limit |", "|---:|---|---|---|---|"]
    for spec in RECORDS:
        size = f"{spec.min_body}" if spec.min_body == spec.max_body else f"{spec.min_body} to {spec.max_body}"
        rows.append(f"| {int(spec.type)} | `{spec.name}` | {spec.doc} ({spec.encoding}) | {size} | {spec.reason} |")
    return "\n".join(rows)


def sections_table() -> str:
    """Return the table of the sections that VM_STATE and VCPU_STATE may hold as Markdown."""
    rows = ["| section | of | struct | octets | required | from schema version |", "|---|---|---|---:|---|---:|"]
    for row in SECTIONS:
        if row.scope == "memory":  # slots are in CONFIG, pages in records of their own
            continue
        size = f"{row.model.SIZE}" if row.max_bytes == row.model.SIZE else f"{row.model.SIZE} to {row.max_bytes}"
        required = "yes" if row.required else "no"
        since = _first_version(row)
        rows.append(f"| `{row.name}` | {row.scope} | `{row.model.C_NAME}` | {size} | {required} | {since} |")
    return "\n".join(rows)


def _first_version(section: Section) -> int:
    """Return the first schema version that has a section."""
    return min(row.number for row in VERSIONS if section.name in row.vcpu_sections + row.vm_sections)


def tables() -> dict[str, str]:
    """Return every generated table of FORMAT.md by the name of its markers."""
    return {"records": records_table(), "sections": sections_table()}


def replace_tables(text: str, wanted: Mapping[str, str]) -> str:
    """Return a document with each generated table between its markers renewed.

    Raises:
        ValueError: a table has no markers in the document.
    """
    for name, table in wanted.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the document has not exactly one pair of markers for {name}")
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


def renew(package: str, document: str, generated: Mapping[str, str], arguments: list[str]) -> int:
    """Renew a document of a package with `--write`, else say whether it is up to date; return the exit status."""
    with as_file(files(package).joinpath(document)) as path:
        text = path.read_text(encoding="utf-8")
        wanted = replace_tables(text, generated)
        if "--write" in arguments and wanted != text:
            path.write_text(wanted, encoding="utf-8")
            text = wanted
    if text == wanted:
        return 0
    sys.stderr.write(f"{document} is out of date: run python -m {package}.docs --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(renew("migsvc.stream", "FORMAT.md", tables(), sys.argv[1:]))
