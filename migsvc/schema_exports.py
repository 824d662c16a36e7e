"""Schema exports: the present one, made from the code, and those of released versions, kept beside it.

`python -m migsvc.schema_exports [--write]` says whether the kept export of the present version is that of the code, or
renews it; `make schema-export` does the latter. Exports of earlier versions never change.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from functools import cache
from importlib.resources import as_file, files

from migsvc.errors import NotFoundError
from migsvc.protocol.events import EVENTS, PROTOCOL_VERSIONS
from migsvc.stream import records
from schemas.evolution import SchemaExport, build_export, load_export
from schemas.evolution.document import MessageExport, RecordExport, StreamExport
from schemas.state import SCHEMA_VERSION

PRESENT = "present"
"""Name of the export of the code that runs; a released version goes by its number."""

RELEASED: dict[int, str] = {
    1: "sha256:d6254b7cf0dd48dd3ebac76f444adf2b75c0a98c9dd62848dcce8023d4f931e7",
}
"""Digests of the exports that never change again. Releasing a version adds its row; a change then needs a new one."""

_FOLDER = files("schemas.versions").joinpath("exports")
_LIMITS = (
    *("MAX_SEQUENCE", "MAX_PAGES_PER_RECORD", "MAX_RUNS_PER_MEMORY", "MAX_RUNS_PER_ZERO", "MAX_VCPUS", "MAX_ROUNDS"),
    *("MAX_MSGPACK_DEPTH", "MAX_MSGPACK_VALUES", "MAX_OPTIONAL_BODY"),
)
_CONSTANTS = (
    *("FILE_HEADER_BYTES", "RECORD_HEADER_BYTES", "PAGE_BYTES", "OPTIONAL_BIT", "CONTROL_BIT"),
    *("DIGEST_CHUNK_BYTES", "DIGEST_ALGORITHM"),
)


@cache
def present() -> SchemaExport:
    """Return the export of the schemas, the stream and the conversation of this program."""
    return build_export(stream=_stream(), protocol_versions=PROTOCOL_VERSIONS, messages=_messages())


def _stream() -> StreamExport:
    return StreamExport(
        version=records.STREAM_VERSION,
        versions_read=records.STREAM_VERSIONS_READ,
        constants={"MAGIC": records.MAGIC.hex(), **{name: getattr(records, name) for name in _CONSTANTS}},
        limits={name: getattr(records, name) for name in _LIMITS},
        flags={flag.name: flag.value for flag in records.StreamFlag if flag.name},
        records={
            spec.name: RecordExport(
                type=int(spec.type),
                optional=bool(spec.type & records.OPTIONAL_BIT),
                min_body=spec.min_body,
                max_body=spec.max_body,
                encoding=spec.encoding,
                text=spec.doc,
            )
            for spec in records.RECORDS
        },
    )


def _messages() -> dict[str, MessageExport]:
    return {
        spec.cls.__name__: MessageExport(
            type=spec.number,
            sender=str(spec.sender.value),
            fields={field.name: str(field.type) for field in fields(spec.cls)},
        )
        for spec in EVENTS
    }


@cache
def kept_versions() -> tuple[int, ...]:
    """Return the schema versions whose exports are kept, ascending."""
    names = (entry.name for entry in _FOLDER.iterdir())
    return tuple(sorted(int(name[1:-5]) for name in names if name.startswith("v") and name.endswith(".json")))


@cache
def kept(version: int) -> SchemaExport:
    """Return the export of a released version.

    Raises:
        NotFoundError: no export of this version is kept.
    """
    if version not in kept_versions():
        listed = ", ".join(map(str, kept_versions()))
        raise NotFoundError(f"no export of schema version {version} is kept", hint=f"kept: {listed}, {PRESENT}")
    return load_export(kept_text(version))


def kept_text(version: int) -> str:
    """Return the canonical text of a released version's export, as it is kept."""
    return _FOLDER.joinpath(f"v{version}.json").read_text(encoding="ascii")


def named(name: str) -> SchemaExport:
    """Return the export that a name stands for: `present`, `2` or `v2`.

    Raises:
        NotFoundError: there is no export of this name.
    """
    if name == PRESENT:
        return present()
    digits = name.removeprefix("v")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise NotFoundError(f"{name[:80]!r} names no export", hint=f"a version number such as 1, or {PRESENT}")
    return kept(int(digits))


def renew(arguments: list[str]) -> int:
    """Renew the kept export of the present version with `--write`, else say whether it is up to date."""
    text = present().canonical()
    with as_file(_FOLDER) as folder:
        path = folder / f"v{SCHEMA_VERSION}.json"
        if path.exists() and path.read_text(encoding="ascii") == text:
            return 0
        if SCHEMA_VERSION in RELEASED:
            sys.stderr.write(f"schema version {SCHEMA_VERSION} was released and the code differs: raise it\n")
            return 1
        if "--write" not in arguments:
            sys.stderr.write(f"{path.name} is not the export of the code: run make schema-export\n")
            return 1
        path.write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(renew(sys.argv[1:]))
