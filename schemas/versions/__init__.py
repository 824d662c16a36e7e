"""The versions of the set of sections and of what their bodies may say.

Source: FORMAT.md "Compatibility and extension": a new section, or a new body of a section, is a new schema version.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
"""The version that is written: a stream names the version that it was written with."""

SUPPORTED_SCHEMA_VERSIONS = (1, 2)
"""The versions that are read, ascending; a host says which it reads."""
