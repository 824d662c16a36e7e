"""`compare`: what a change of the schemas breaks, by meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .compare_documents import document_differences
from .compare_stream import message_differences, stream_differences
from .compare_structs import struct_differences
from .compare_tables import enum_differences, order_differences, rule_differences
from .difference import Difference, Differences, bounds, differs, gone, kept, limits
from .document import Declaration, SchemaExport, SectionExport
from .kinds import KIND_BY_NAME
from .report import Change, EvolutionReport
from .shapes import Shapes

MEMORY_SCOPE = "memory"
"""Scope of rows that name what the stream's memory records carry; they are in no map of sections."""


def compare(old: SchemaExport, new: SchemaExport, *, strict: bool = False) -> EvolutionReport:
    """Return every change from `old` to `new` with its meaning, the worst first.

    A change that the newer of the two exports declares does not count against the verdict, unless `strict`.
    """
    declared = _declarations(old, new)
    found = [_change(row, declared) for part in COMPARERS for row in part(old, new)]
    return EvolutionReport.of(old, new, found, strict=strict)


def _declarations(old: SchemaExport, new: SchemaExport) -> list[Declaration]:
    """Return what the newer export declares about the versions between the two."""
    low, high = sorted((old, new), key=lambda export: export.schema_version)
    return [row for row in high.declared if low.schema_version < row.version <= high.schema_version]


def _change(row: Difference, declared: Iterable[Declaration]) -> Change:
    kind = KIND_BY_NAME[row.kind]
    reason = next((d.reason for d in declared if d.kind == row.kind and matches(row.subject, d.subject)), None)
    return Change.of(kind, row.subject, row.old, row.new, reason)


def matches(subject: str, pattern: str) -> bool:
    """Return whether a declaration's subject, which may end with `*`, covers a subject."""
    return subject.startswith(pattern[:-1]) if pattern.endswith("*") else subject == pattern


def _version_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the versions that are written and read differ."""
    were, are = old.versions, new.versions
    if were.written != are.written:
        if were.written in are.read:
            raised = are.written > were.written
            kind = "schema-version-raised" if raised else "schema-version-lowered-within-reach"
        else:
            kind = "schema-version-lowered" if are.written in were.read else "schema-versions-apart"
        yield differs(kind, "versions.written", were.written, are.written)
    if dropped := sorted(set(were.read) - set(are.read)):
        yield differs("schema-version-dropped", "versions.read", dropped, "")
    if learnt := sorted(set(are.read) - set(were.read)):
        yield differs("schema-version-learnt", "versions.read", "", learnt)


def _limit_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the bounds of a machine differ."""
    yield from limits("limits", old.limits, new.limits)


def _section_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the table of sections differs."""
    lost, found = gone(old.sections, new.sections), gone(new.sections, old.sections)
    for rows, kind in ((lost, "memory-row-removed"), (found, "memory-row-added")):
        for name in [name for name, row in rows.items() if row.scope == MEMORY_SCOPE]:
            yield differs(kind, f"sections.{name}", "", rows.pop(name).struct)
    renamed = dict(_section_renames(lost, found))
    for name, other in renamed.items():
        yield differs("section-renamed", f"sections.{name}", name, other)
    for name, row in lost.items():
        if name not in renamed:
            kind = "required-section-removed" if row.required else "optional-section-removed"
            yield differs(kind, f"sections.{name}", row.struct, "none")
    for name, row in found.items():
        if name not in renamed.values():
            kind = "required-section-added" if row.required else "optional-section-added"
            yield differs(kind, f"sections.{name}", "none", row.struct)
    before, after = Shapes(old), Shapes(new)
    for name, was, is_ in kept(old.sections, new.sections):
        if was.struct != is_.struct:
            same = before.of(was.struct) == after.of(is_.struct)
            kind = "section-struct-renamed" if same else "section-struct-replaced"
            yield differs(kind, f"sections.{name}", was.struct, is_.struct)
        yield from _section(f"sections.{name}", was, is_)


def _section_renames(
    lost: Mapping[str, SectionExport], found: Mapping[str, SectionExport]
) -> Iterable[tuple[str, str]]:
    """Yield (old name, new name) where exactly one section of a struct went and exactly one came."""
    went, came = _by_struct(lost), _by_struct(found)
    for key, names in went.items():
        if len(names) == len(came.get(key, ())) == 1:
            yield names[0], came[key][0]


def _by_struct(sections: Mapping[str, SectionExport]) -> dict[tuple[str, str], list[str]]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, row in sections.items():
        grouped.setdefault((row.struct, row.scope), []).append(name)
    return grouped


def _section(subject: str, was: SectionExport, is_: SectionExport) -> Differences:
    if was.scope != is_.scope:
        yield differs("section-scope-changed", subject, was.scope, is_.scope)
    if was.required != is_.required:
        yield differs("section-made-required" if is_.required else "section-made-optional", subject)
    yield from bounds("section-limit", subject, was.max_bytes, is_.max_bytes)
    access = [(row.get_ioctl, row.set_ioctl, row.capability) for row in (was, is_)]
    if access[0] != access[1]:
        yield differs("section-access-changed", subject, *access)
    if (was.since, was.source) != (is_.since, is_.source):
        yield differs("section-reworded", subject, was.source, is_.source)


COMPARERS: tuple[Callable[[SchemaExport, SchemaExport], Differences], ...] = (
    _version_differences,
    _section_differences,
    struct_differences,
    enum_differences,
    _limit_differences,
    rule_differences,
    order_differences,
    stream_differences,
    message_differences,
    document_differences,
)
"""What is compared; every part of an export has its row."""
