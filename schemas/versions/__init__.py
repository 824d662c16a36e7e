"""The versions of the set of sections and of what their bodies may say.

`rows.VERSIONS` has a row per version; `converters.convert_version` leads from one to another and says what that loses.
Source: FORMAT.md "Compatibility and extension": a new section, or a new body of a section, is a new schema version.
"""

from __future__ import annotations

from .rows import VERSIONS, SchemaVersion, foreign_sections, version_row

__all__ = [
    "SCHEMA_VERSION",
    "SUPPORTED_SCHEMA_VERSIONS",
    "VERSIONS",
    "SchemaVersion",
    "foreign_sections",
    "version_row",
]

SCHEMA_VERSION = 2
"""The version that is written: a stream names the version that it was written with."""

SUPPORTED_SCHEMA_VERSIONS = tuple(row.number for row in VERSIONS)
"""The versions that are read, ascending; a host says which it reads."""
