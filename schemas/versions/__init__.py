"""The version of the set of sections and their bodies. Converters between versions come here when there are two."""

SCHEMA_VERSION = 1
"""A stream names the version that it was written with; a host says which it reads."""
