"""SchemaExport: the whole layout of one schema version as a document that two tools can compare without the code.

The canonical form is JSON with sorted keys, one space of indent and a line feed at the end, so that a merge touches
only the lines that a change touches. `digest` is SHA-256 over the same document without that member, keys sorted and
no white space; a document whose digest is wrong was edited by hand or damaged, and is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from ..model import Model

EXPORT_FORMAT = 1
"""Version of the form of the export itself. A reader refuses any other."""

MAX_DECLARATIONS = 128
"""Every change is held against every declaration."""

Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=0, lt=1 << 53, strict=True)]
"""A size, an offset or a limit; below 2^53, so that every JSON reader keeps it."""


class SectionExport(Model):
    """A row of SECTIONS. `struct` names an entry of `structs`; bounds are bytes of the raw section."""

    scope: Name
    struct: Name
    required: bool
    max_bytes: Count
    get_ioctl: Name | None = None
    set_ioctl: Name | None = None
    capability: Name | None = None
    since: Text = ""
    source: Text = ""


class FieldExport(Model):
    """One member of a struct: its bytes, and the form that it has in JSON.

    `type` is the C type; `of` names the struct or packed byte behind it, `arms` those of a union by the value of `by`.
    `optional`: a JSON document may leave it out. `in_c` False: the bytes have no name in C.
    """

    offset: Count
    size: Count
    type: Name
    of: Name | None = None
    by: Name | None = None
    arms: dict[Name, Name] = Field(default_factory=dict)
    length: Count | None = None
    optional: bool = False
    in_c: bool = True


class TailExport(Model):
    """The flexible member at the end of a struct; `counter` names the field that counts its elements."""

    name: Name
    type: Name
    of: Name | None = None
    element_bytes: Count
    max_entries: Count
    counter: Name | None = None


class StructExport(Model):
    """One struct: size in bytes without the flexible tail, members by name."""

    c_name: Name | None = None
    size: Count
    align: Count
    fields: dict[Name, FieldExport]
    tail: TailExport | None = None


class PackedPart(Model):
    """A named part of a byte: its bits, and the largest value that it may have."""

    mask: Count
    max: Count


class EnumExport(Model):
    """Named numbers: a field holds one (`value`) or a set (`flags`), or KVM alone is told them (`interface`)."""

    role: Literal["value", "flags", "interface"]
    members: dict[Name, int | Name]


class RuleExport(Model):
    """A row of INVARIANTS or of COMPAT_RULES; the latter have no place, scope and vendor."""

    severity: Literal["error", "warning", "note"]
    text: Text
    source: Text = ""
    where: Text = ""
    scope: Name | None = None
    host_vendor: Name | None = None


class StepExport(Model):
    """A step of the save or the restore order."""

    after: tuple[Name, ...] = ()
    reason: Text = ""
    source: Text = ""


class OrderExport(Model):
    """A whole order: the sequence, and what each step needs before it."""

    sequence: tuple[Name, ...]
    steps: dict[Name, StepExport]


class RecordExport(Model):
    """A record of the stream; `type` includes bit 31 where it is optional. Bounds are octets of the body."""

    type: Count
    optional: bool
    min_body: Count
    max_body: Count
    encoding: Text
    text: Text = ""


class StreamExport(Model):
    """The stream format: versions, numbers that never move, bounds, flags of the file header, records."""

    version: Count
    versions_read: tuple[Count, ...]
    constants: dict[Name, Count | Name] = Field(default_factory=dict)
    limits: dict[Name, Count] = Field(default_factory=dict)
    flags: dict[Name, int | Name] = Field(default_factory=dict)
    records: dict[Name, RecordExport]


class MessageExport(Model):
    """A message of a migration's conversation: exactly these fields, name -> type."""

    type: Count
    sender: Name
    fields: dict[Name, Text]


class Member(Model):
    """A member of a JSON document, by its path; `form` is its JSON schema without texts, references resolved."""

    required: bool
    form: dict[str, Any]


class VersionsExport(Model):
    """Which schema versions are written and read; both between which converters exist."""

    written: Count
    read: tuple[Count, ...]


class Declaration(Model):
    """A change that was made on purpose, and how state crosses it all the same.

    It holds for `kind` on `subject` (a `*` at its end stands for anything) between versions below `version` and it.
    """

    version: Count
    kind: Name
    subject: Name
    reason: Text


class SchemaExport(Model):
    """Everything that two versions of the schemas can differ in."""

    format: Literal[1]
    schema_version: Count
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] = "sha256:" + "0" * 64
    notes: tuple[Text, ...] = ()
    sections: dict[Name, SectionExport]
    structs: dict[Name, StructExport]
    packed: dict[Name, dict[Name, PackedPart]] = Field(default_factory=dict)
    enums: dict[Name, EnumExport]
    limits: dict[Name, Count] = Field(default_factory=dict)
    invariants: dict[Name, RuleExport]
    compat_rules: dict[Name, RuleExport]
    order: dict[Name, OrderExport]
    documents: dict[Name, dict[str, Member]] = Field(default_factory=dict)
    versions: VersionsExport
    stream: StreamExport | None = None
    protocol_versions: tuple[Count, ...] = ()
    messages: dict[Name, MessageExport] = Field(default_factory=dict)
    declared: Annotated[tuple[Declaration, ...], Field(max_length=MAX_DECLARATIONS)] = ()

    def sealed(self) -> SchemaExport:
        """Return the export with its digest."""
        return self.model_copy(update={"digest": self.computed_digest()})

    def computed_digest(self) -> str:
        """Return the digest that the export must have."""
        plain = self.as_json()
        del plain["digest"]
        compact = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(compact.encode("ascii")).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object; members that say nothing beyond their default are left out."""
        document: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        document["digest"] = self.digest
        return document

    def canonical(self) -> str:
        """Return the canonical text."""
        return json.dumps(self.as_json(), sort_keys=True, indent=1, ensure_ascii=True) + "\n"
