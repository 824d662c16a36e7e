"""`build_export`: the schemas of this program as a `SchemaExport`. The stream's tables come from whoever knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from .. import memory, state
from ..compat import COMPAT_RULES, HostProfile, MachineSummary
from ..invariants import INVARIANTS
from ..ordering import RESTORE_ORDER, SAVE_ORDER, OrderStep
from ..state import SCHEMA_VERSION, MachineState
from ..uapi import SECTIONS, Section, structs
from ..versions import SUPPORTED_SCHEMA_VERSIONS
from .declared import DECLARATIONS
from .document import (
    EXPORT_FORMAT,
    Member,
    MessageExport,
    OrderExport,
    RuleExport,
    SchemaExport,
    SectionExport,
    StepExport,
    StreamExport,
    VersionsExport,
)
from .members import members_of
from .structs import enum_exports, packed_export, packed_models, struct_export

DOCUMENTS = (HostProfile, MachineSummary, MachineState)
"""Models that leave the program as documents beside the raw sections: in a migration's first messages, in the API."""


def build_export(
    *,
    stream: StreamExport | None = None,
    protocol_versions: tuple[int, ...] = (),
    messages: Mapping[str, MessageExport] | None = None,
) -> SchemaExport:
    """Return the export of the present schemas, with its digest.

    `stream`, `protocol_versions` and `messages`: the record table and the conversation of a migration, which the
    schemas do not know.
    """
    models = structs()
    names = frozenset(model.__name__ for model in models)
    packed = {model.__name__: packed_export(model) for model in packed_models(models)}
    return SchemaExport(
        format=EXPORT_FORMAT,
        schema_version=SCHEMA_VERSION,
        sections={row.name: _section(row) for row in SECTIONS},
        structs={model.__name__: struct_export(model) for model in models},
        packed=packed,
        enums=enum_exports(models),
        limits=_limits(),
        invariants=_rules(INVARIANTS),
        compat_rules=_rules(COMPAT_RULES),
        order={"save": _order(SAVE_ORDER), "restore": _order(RESTORE_ORDER)},
        documents={model.__name__: _document(model, names | packed.keys()) for model in DOCUMENTS},
        versions=VersionsExport(written=SCHEMA_VERSION, read=SUPPORTED_SCHEMA_VERSIONS),
        stream=stream,
        protocol_versions=protocol_versions,
        messages=dict(messages or {}),
        declared=tuple(row for row in DECLARATIONS if row.version <= SCHEMA_VERSION),
    ).sealed()


def _document(model: type[BaseModel], structs_known: frozenset[str]) -> dict[str, Member]:
    """Return a document's members; the sections of a machine are left out, SECTIONS has them."""
    members = members_of(model, structs_known)
    if model is not MachineState:
        return members
    return {path: member for path, member in members.items() if "struct" not in member.form}


def _section(row: Section) -> SectionExport:
    return SectionExport(
        scope=row.scope,
        struct=row.model.__name__,
        required=row.required,
        max_bytes=row.max_bytes,
        get_ioctl=None if row.get_ioctl is None else row.get_ioctl.name,
        set_ioctl=None if row.set_ioctl is None else row.set_ioctl.name,
        capability=None if row.capability is None else row.capability.name,
        since=row.since,
        source=row.source,
    )


def _limits() -> dict[str, int]:
    """Return the bounds of a machine beyond those of its structs."""
    return {
        "MAX_VCPUS": state.MAX_VCPUS,
        "MAX_SLOTS": memory.MAX_SLOTS,
        "MAX_RAM_BYTES": memory.MAX_RAM_BYTES,
        "GPA_LIMIT": memory.GPA_LIMIT,
    }


def _rules(rows: Iterable[Any]) -> dict[str, RuleExport]:
    """Return rules by id; rows of either table."""
    return {
        row.id: RuleExport(
            severity=row.severity.value,
            text=row.text,
            source=row.source,
            where=getattr(row, "where", ""),
            scope=getattr(row, "scope", None),
            host_vendor=getattr(row, "host_vendor", None),
        )
        for row in rows
    }


def _order(rows: tuple[OrderStep, ...]) -> OrderExport:
    steps = {row.name: StepExport(after=tuple(sorted(row.after)), reason=row.reason, source=row.source) for row in rows}
    return OrderExport(sequence=tuple(row.name for row in rows), steps=steps)
