"""KINDS: every kind of change that two exports can differ by, and what it means for state that crosses.

OLD and NEW are the two versions. *Forward* is the way of an upgrade: state that OLD wrote is read by NEW. *Backward* is
the way back: state that NEW wrote is read by OLD. Each kind says so for three surfaces: the stream (raw sections in
snapshots and migrations), documents (JSON for the API, the CLI and host profiles) and the conversation of a migration.
The class of a change is what holds on all three.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class ChangeClass(StrEnum):
    """Which ways stay open."""

    COMPATIBLE = "compatible"
    """Both ways."""
    FORWARD_ONLY = "forward-only"
    """NEW reads what OLD wrote; OLD refuses or misreads some of what NEW writes."""
    BACKWARD_ONLY = "backward-only"
    """OLD reads what NEW writes; NEW refuses or misreads some of what OLD wrote."""
    BREAKING = "breaking"
    """Neither way."""

    @property
    def forward(self) -> bool:
        """Return whether NEW reads everything that OLD wrote."""
        return self in (ChangeClass.COMPATIBLE, ChangeClass.FORWARD_ONLY)

    @property
    def backward(self) -> bool:
        """Return whether OLD reads everything that NEW writes."""
        return self in (ChangeClass.COMPATIBLE, ChangeClass.BACKWARD_ONLY)

    @classmethod
    def of(cls, *, forward: bool, backward: bool) -> ChangeClass:
        """Return the class in which exactly these ways are open."""
        if forward:
            return cls.COMPATIBLE if backward else cls.FORWARD_ONLY
        return cls.BACKWARD_ONLY if backward else cls.BREAKING

    def __and__(self, other: ChangeClass) -> ChangeClass:
        """Return the class of two changes together: a way is open if both leave it open."""
        return ChangeClass.of(forward=self.forward and other.forward, backward=self.backward and other.backward)


class Kind(NamedTuple):
    """One kind of change; a surface that is not given is not touched."""

    id: str
    name: str
    reason: str
    stream: ChangeClass = ChangeClass.COMPATIBLE
    documents: ChangeClass = ChangeClass.COMPATIBLE
    conversation: ChangeClass = ChangeClass.COMPATIBLE

    @property
    def change_class(self) -> ChangeClass:
        """Return what holds on all surfaces."""
        return self.stream & self.documents & self.conversation


_C, _F, _B, _X = ChangeClass

_SECTIONS: tuple[Kind, ...] = (
    Kind(
        "EVO-101", "optional-section-added",
        "NEW reads state without it; OLD refuses a section that it does not know, so only machines without it go back",
        _F, _F,
    ),
    Kind(
        "EVO-102", "required-section-added",
        "NEW demands what OLD never wrote, and OLD refuses a section that it does not know", _X, _X,
    ),
    Kind(
        "EVO-103", "optional-section-removed",
        "NEW refuses a section that it no longer knows; OLD does without it", _B, _B,
    ),
    Kind(
        "EVO-104", "required-section-removed",
        "OLD demands what NEW no longer writes, and NEW refuses what OLD wrote", _X, _X,
    ),
    Kind("EVO-105", "section-made-required", "NEW demands it, and OLD may have left it out", _B, _B),
    Kind("EVO-106", "section-made-optional", "OLD demands it, and NEW may leave it out", _F, _F),
    Kind("EVO-107", "section-limit-raised", "OLD refuses the larger ones that NEW may write", _F),
    Kind("EVO-108", "section-limit-lowered", "NEW refuses the larger ones that OLD may have written", _B),
    Kind("EVO-109", "section-scope-changed", "each looks for it where the other does not write it", _X, _X),
    Kind("EVO-110", "section-struct-replaced", "the same bytes mean something else", _X, _X),
    Kind("EVO-111", "section-struct-renamed", "the layout is the same and the name of the class does not travel"),
    Kind("EVO-112", "section-renamed", "sections are found by name: each refuses the other's as unknown", _X, _X),
    Kind(
        "EVO-113", "section-access-changed",
        "the ioctl or the capability by which KVM is asked does not travel; backends have to follow",
    ),
    Kind("EVO-114", "section-reworded", "texts and sources do not travel"),
    Kind("EVO-115", "memory-row-added", "it names what the memory records carry, and those are compared by themselves"),
    Kind("EVO-116", "memory-row-removed", "the memory records are compared by themselves; they lose a name"),
)  # fmt: skip

_STRUCTS: tuple[Kind, ...] = (
    Kind("EVO-201", "struct-grown", "a section has exactly its struct's size: each refuses the other's", _X),
    Kind("EVO-202", "struct-shrunk", "a section has exactly its struct's size: each refuses the other's", _X),
    Kind("EVO-203", "field-moved", "each reads other bytes under the same name", _X),
    Kind(
        "EVO-204", "field-widened", "the bytes behind it moved or changed owner, and OLD cannot hold the large values",
        _X, _F,
    ),
    Kind(
        "EVO-205", "field-narrowed", "the bytes behind it moved or changed owner, and NEW cannot hold the large values",
        _X, _B,
    ),
    Kind("EVO-206", "field-sign-changed", "the upper half of the values means other numbers", _X, _X),
    Kind(
        "EVO-207", "field-type-changed", "the raw bytes are the same, but their form in JSON is another", _C, _X
    ),
    Kind(
        "EVO-208", "field-renamed",
        "the raw bytes are the same; documents name their members, and each refuses the other's name", _C, _X,
    ),
    Kind(
        "EVO-209", "field-made-reserved",
        "NEW carries the bytes without their meaning; OLD reads the zeros that NEW writes there", _B, _X,
    ),
    Kind(
        "EVO-210", "reserved-bytes-used",
        "OLD wrote zeros there, which NEW reads as nothing; OLD carries what NEW writes without acting on it", _F, _F,
    ),
    Kind(
        "EVO-211", "reserved-bytes-used-and-demanded",
        "as reserved-bytes-used in the stream; documents of OLD lack a member that NEW demands", _F, _X,
    ),
    Kind(
        "EVO-212", "reserved-bytes-resized",
        "the raw bytes are the same; documents spell the run out, and each demands its own length", _C, _X,
    ),
    Kind("EVO-213", "field-added", "OLD has no such bytes, and its documents refuse the name", _X, _X),
    Kind("EVO-214", "field-removed", "NEW has no such bytes, and its documents refuse the name", _X, _X),
    Kind("EVO-215", "field-made-optional", "documents of NEW may leave it out, and OLD demands it", _C, _F),
    Kind("EVO-216", "field-made-required", "documents of OLD may leave it out, and NEW demands it", _C, _B),
    Kind("EVO-217", "array-length-changed", "the bytes behind it moved, and documents demand their own length", _X, _X),
    Kind("EVO-218", "tail-limit-raised", "OLD refuses the longer ones that NEW may write", _F, _F),
    Kind("EVO-219", "tail-limit-lowered", "NEW refuses the longer ones that OLD may have written", _B, _B),
    Kind("EVO-220", "tail-added", "OLD refuses a struct longer than its size; one without a tail goes back", _F, _F),
    Kind("EVO-221", "tail-removed", "NEW refuses a struct that is longer than its size", _B, _B),
    Kind("EVO-222", "tail-element-changed", "each cuts the tail into other elements", _X, _X),
    Kind("EVO-223", "tail-granule-refined", "OLD refuses lengths that are no multiple of its granule", _F, _F),
    Kind("EVO-224", "tail-granule-coarsened", "NEW refuses lengths that are no multiple of its granule", _B, _B),
    Kind("EVO-225", "tail-counter-changed", "each finds the number of elements in another field", _X, _X),
    Kind(
        "EVO-226", "tail-renamed",
        "the raw bytes are the same; documents name their members, and each refuses the other's name", _C, _X,
    ),
    Kind(
        "EVO-227", "union-arms-changed",
        "the raw bytes are the same; documents show some values of the union in another form", _C, _X,
    ),
    Kind("EVO-228", "nested-struct-renamed", "the layout is the same and the name of the class does not travel"),
    Kind("EVO-229", "c-name-changed", "the tag in C does not travel; the layout probe has to follow"),
    Kind("EVO-230", "field-name-in-c-changed", "whether C has a name for the bytes matters to the layout probe only"),
    Kind("EVO-251", "bits-range-widened", "OLD refuses or ignores the values that NEW may write", _F, _F),
    Kind("EVO-252", "bits-range-narrowed", "NEW refuses or ignores the values that OLD may have written", _B, _B),
    Kind("EVO-253", "bits-moved", "each reads other bits under the same name", _X),
    Kind("EVO-254", "bits-named", "OLD ignores the bits, and its documents refuse the name", _F, _F),
    Kind("EVO-255", "bits-unnamed", "NEW ignores the bits, and its documents refuse the name", _B, _B),
    Kind(
        "EVO-256", "bits-renamed",
        "the bits are the same; documents name their members, and each refuses the other's name", _C, _X,
    ),
)  # fmt: skip

_NUMBERS: tuple[Kind, ...] = (
    Kind("EVO-301", "value-added", "OLD does not know the value that NEW may write", _F, _F),
    Kind("EVO-302", "value-removed", "NEW does not know the value that OLD may have written", _B, _B),
    Kind("EVO-303", "value-renumbered", "the same name means another number: each misreads the other", _X, _X),
    Kind("EVO-304", "value-renamed", "numbers travel, names do not"),
    Kind("EVO-305", "flag-added", "OLD refuses or ignores the flag, and what it makes valid is lost", _F, _F),
    Kind("EVO-306", "flag-removed", "NEW refuses or ignores the flag, and what it makes valid is lost", _B, _B),
    Kind("EVO-307", "flag-renumbered", "the same bit means something else: each misreads the other", _X, _X),
    Kind("EVO-308", "flag-renamed", "bits travel, names do not"),
    Kind("EVO-309", "interface-number-added", "what is only told to KVM does not travel"),
    Kind("EVO-310", "interface-number-removed", "what is only told to KVM does not travel"),
    Kind("EVO-311", "interface-number-changed", "the kernel never changes one: OLD or NEW talks past it", _X),
    Kind("EVO-312", "interface-number-renamed", "names do not travel"),
    Kind("EVO-313", "enum-added", "numbers that were there before have got names"),
    Kind("EVO-314", "enum-removed", "the numbers are read as before, without names"),
    Kind("EVO-315", "enum-role-changed", "the same numbers are used in another way; what may be held is said by rules"),
)  # fmt: skip

_RULES: tuple[Kind, ...] = (
    Kind("EVO-401", "rule-added", "NEW refuses state that OLD found legal", _B, _B),
    Kind("EVO-402", "advice-added", "a warning or a note refuses nothing"),
    Kind("EVO-403", "rule-removed", "OLD refuses state that NEW finds legal", _F, _F),
    Kind("EVO-404", "advice-removed", "a warning or a note refused nothing"),
    Kind("EVO-405", "rule-tightened-to-error", "NEW refuses what OLD only remarked on", _B, _B),
    Kind("EVO-406", "rule-loosened-from-error", "OLD refuses what NEW only remarks on", _F, _F),
    Kind("EVO-407", "advice-severity-changed", "neither severity refuses anything"),
    Kind("EVO-408", "rule-scope-widened", "NEW applies the rule to a vCPU alone, OLD to whole machines only", _B, _B),
    Kind("EVO-409", "rule-scope-narrowed", "OLD applies the rule to a vCPU alone, NEW to whole machines only", _F, _F),
    Kind("EVO-410", "rule-bound-to-vendor", "OLD refuses everywhere what NEW refuses on one vendor only", _F, _F),
    Kind("EVO-411", "rule-freed-of-vendor", "NEW refuses everywhere what OLD refused on one vendor only", _B, _B),
    Kind("EVO-412", "rule-vendor-changed", "each refuses on its vendor what the other takes there", _X, _X),
    Kind("EVO-413", "rule-reworded", "an id keeps its meaning; a rule that means something else has a new id"),
    Kind("EVO-414", "rule-place-changed", "where a finding points does not decide what is refused"),
    Kind("EVO-415", "rule-added-on-new-section", "OLD wrote no such section, so nothing that it wrote is refused"),
    Kind("EVO-451", "compat-rule-added", "hosts with NEW refuse machines that hosts with OLD took", _C, _C, _B),
    Kind("EVO-452", "compat-advice-added", "it refuses no machine"),
    Kind("EVO-453", "compat-rule-removed", "hosts with OLD refuse machines that hosts with NEW take", _C, _C, _F),
    Kind("EVO-454", "compat-advice-removed", "it refused no machine"),
    Kind("EVO-455", "compat-rule-tightened-to-error", "hosts with NEW refuse what OLD called lossy", _C, _C, _B),
    Kind("EVO-456", "compat-rule-loosened-from-error", "hosts with OLD refuse what NEW calls lossy", _C, _C, _F),
    Kind("EVO-457", "compat-severity-changed", "neither severity makes a migration impossible"),
    Kind("EVO-458", "compat-rule-reworded", "an id keeps its meaning; a rule that means something else has a new id"),
)  # fmt: skip

_DRIVER = "the order binds who drives KVM and does not travel; backends have to follow"
_ORDER: tuple[Kind, ...] = (
    Kind("EVO-501", "order-step-added", _DRIVER),
    Kind("EVO-502", "order-step-removed", _DRIVER),
    Kind("EVO-503", "order-constraint-added", _DRIVER),
    Kind("EVO-504", "order-constraint-removed", "a driver may do more; every state that OLD's order restores still is"),
    Kind("EVO-505", "order-sequence-changed", _DRIVER),
    Kind("EVO-506", "order-reworded", "reasons and sources do not travel"),
)  # fmt: skip

_STREAM: tuple[Kind, ...] = (
    Kind("EVO-601", "mandatory-record-added", "OLD refuses a stream with a record that it does not know", _F),
    Kind("EVO-602", "optional-record-added", "OLD skips a record that has bit 31 set, and says so"),
    Kind("EVO-603", "mandatory-record-removed", "OLD waits for it, and NEW refuses the record of OLD", _X),
    Kind("EVO-604", "optional-record-removed", "NEW skips a record that has bit 31 set, and says so"),
    Kind("EVO-605", "record-renumbered", "records are told by number: each takes it for another or for none", _X),
    Kind("EVO-606", "record-renamed", "numbers travel, names do not"),
    Kind("EVO-607", "record-limit-raised", "OLD refuses the larger bodies that NEW may write", _F),
    Kind("EVO-608", "record-limit-lowered", "NEW refuses the larger bodies that OLD may have written", _B),
    Kind("EVO-609", "record-minimum-lowered", "OLD refuses the smaller bodies that NEW may write", _F),
    Kind("EVO-610", "record-minimum-raised", "NEW refuses the smaller bodies that OLD may have written", _B),
    Kind("EVO-611", "record-encoding-changed", "a record's body never changes: each misreads the other's", _X),
    Kind("EVO-612", "record-reworded", "texts do not travel"),
    Kind("EVO-613", "stream-version-raised", "OLD does not read the version that NEW writes", _F),
    Kind("EVO-614", "stream-version-lowered", "NEW does not write, and may not read, what OLD wrote", _B),
    Kind("EVO-615", "stream-version-within-reach", "each reads the version that the other writes"),
    Kind("EVO-616", "stream-version-dropped", "NEW refuses streams of a version that OLD reads and may have kept", _B),
    Kind("EVO-617", "stream-version-learnt", "NEW reads more streams than OLD"),
    Kind("EVO-618", "stream-constant-changed", "what never moves has moved: each takes the other's for damage", _X),
    Kind("EVO-619", "stream-version-apart", "neither reads the version that the other writes", _X),
    Kind("EVO-620", "stream-tables-missing", "one of the two exports says nothing about the stream: not compared"),
    Kind("EVO-651", "message-added", "sent to OLD it ends the conversation", conversation=_X),
    Kind("EVO-652", "message-removed", "sent by OLD it ends the conversation, or OLD waits for it", conversation=_X),
    Kind("EVO-653", "message-renumbered", "messages are told by number", conversation=_X),
    Kind("EVO-654", "message-field-added", "a message has exactly its fields: OLD refuses it", conversation=_X),
    Kind("EVO-655", "message-field-removed", "a message has exactly its fields: OLD refuses it", conversation=_X),
    Kind("EVO-656", "message-field-type-changed", "each refuses or misreads the other's", conversation=_X),
    Kind("EVO-657", "message-sender-changed", "each refuses it from the other side", conversation=_X),
    Kind("EVO-658", "protocol-versions-changed", "a migration needs one version in common, and there is one"),
    Kind("EVO-659", "protocol-versions-apart", "a migration needs one version in common", conversation=_X),
)  # fmt: skip

_DOCUMENTS: tuple[Kind, ...] = (
    Kind("EVO-701", "member-added", "OLD refuses a member that it does not know", _C, _F, _F),
    Kind("EVO-702", "demanded-member-added", "NEW demands what OLD never wrote, and OLD refuses it", _C, _X, _X),
    Kind("EVO-703", "member-removed", "NEW refuses a member that it no longer knows", _C, _B, _B),
    Kind("EVO-704", "demanded-member-removed", "OLD demands what NEW no longer writes, NEW refuses it", _C, _X, _X),
    Kind("EVO-705", "member-made-required", "NEW demands it, and documents of OLD may lack it", _C, _B, _B),
    Kind("EVO-706", "member-made-optional", "OLD demands it, and documents of NEW may lack it", _C, _F, _F),
    Kind("EVO-707", "member-range-widened", "OLD refuses the values that NEW may write", _C, _F, _F),
    Kind("EVO-708", "member-range-narrowed", "NEW refuses the values that OLD may have written", _C, _B, _B),
    Kind("EVO-709", "member-type-changed", "each refuses or misreads the other's form", _C, _X, _X),
    Kind("EVO-710", "member-null-allowed", "OLD refuses null", _C, _F, _F),
    Kind("EVO-711", "member-null-refused", "NEW refuses the null that OLD may have written", _C, _B, _B),
    Kind("EVO-712", "document-opened", "NEW skips members that it does not know; what both know is unchanged"),
    Kind("EVO-713", "document-closed", "NEW refuses unknown members, which OLD let pass", _C, _B, _B),
    Kind("EVO-714", "member-added-to-open-document", "OLD skips members that it does not know"),
    Kind("EVO-715", "document-added", "nobody sends it to OLD"),
    Kind("EVO-716", "document-removed", "NEW reads no such document, and OLD waits for one", _C, _X, _X),
)  # fmt: skip

_VERSIONS: tuple[Kind, ...] = (
    Kind("EVO-801", "schema-version-raised", "NEW reads OLD's version, and converts to it for a peer with no other"),
    Kind("EVO-802", "schema-versions-apart", "NEW does not read OLD's version, nor OLD that of NEW", _X, _X),
    Kind("EVO-803", "schema-version-lowered", "NEW does not read what OLD wrote", _B, _B),
    Kind("EVO-804", "schema-version-lowered-within-reach", "each reads the version that the other writes"),
    Kind("EVO-805", "schema-version-dropped", "NEW refuses state that OLD reads and may have kept", _B, _B),
    Kind("EVO-806", "schema-version-learnt", "NEW reads more versions than OLD"),
    Kind("EVO-851", "limit-raised", "OLD refuses the larger machines that NEW may write", _F, _F, _F),
    Kind("EVO-852", "limit-lowered", "NEW refuses the larger machines that OLD may have written", _B, _B, _B),
    Kind("EVO-853", "limit-added", "NEW bounds what OLD did not", _B, _B, _B),
    Kind("EVO-854", "limit-removed", "NEW names no bound where OLD has one", _F, _F, _F),
)  # fmt: skip

KINDS: tuple[Kind, ...] = (
    *_SECTIONS,
    *_STRUCTS,
    *_NUMBERS,
    *_RULES,
    *_ORDER,
    *_STREAM,
    *_DOCUMENTS,
    *_VERSIONS,
)
"""Every kind; a test demands a pair of exports for each that differ by it."""

KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
