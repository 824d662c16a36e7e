"""Every kind of change has a pair of exports that differ by it and by nothing else."""

import re
from pathlib import Path

import pytest

from schemas.evolution import KINDS, ChangeClass, compare, render
from schemas.evolution.kinds import KIND_BY_NAME

from .conftest import GONE, edited, field, record, section

REGS, LIST, OUTER = "structs/Regs/fields", "structs/List/tail", "structs/Outer/fields"
PROFILE = "documents/HostProfile"
COPY = {"size": 8, "align": 8, "fields": {"value": field(0, 8, "u64")}}
ROOMY = {"size": 16, "align": 4, "fields": {"values": field(0, 16, "u32[4]", length=4)}}

# kind -> edits of the small layout on the way from OLD to NEW; kinds that come with it
CHANGES = {
    "optional-section-added": ([("sections/more", section("Plain", 8, required=False))], ()),
    "required-section-added": ([("sections/more", section("Plain", 8))], ()),
    "optional-section-removed": ([("sections/extra", GONE)], ()),
    "required-section-removed": ([("sections/list", GONE)], ()),
    "section-made-required": ([("sections/extra/required", True)], ()),
    "section-made-optional": ([("sections/regs/required", False)], ()),
    "section-limit-raised": ([("sections/list/max_bytes", 200)], ()),
    "section-limit-lowered": ([("sections/list/max_bytes", 50)], ()),
    "section-scope-changed": ([("sections/regs/scope", "vm")], ()),
    "section-struct-replaced": ([("sections/extra/struct", "Plain")], ()),
    "section-struct-renamed": ([("structs/Spare", ROOMY), ("sections/extra/struct", "Spare")], ()),
    "section-renamed": ([("sections/list", GONE), ("sections/listing", section("List", 100))], ()),
    "section-access-changed": ([("sections/regs/get_ioctl", "KVM_GET_REGS")], ()),
    "section-reworded": ([("sections/regs/source", "api.rst 4.11")], ()),
    "memory-row-added": ([("sections/slots", section("Plain", 8, scope="memory"))], ()),
    "struct-grown": ([("structs/Extra/size", 20)], ()),
    "struct-shrunk": ([("structs/Extra/size", 12)], ()),
    "field-moved": ([(f"{REGS}/a/offset", 4), (f"{REGS}/b/offset", 0)], ()),
    "field-widened": ([(f"{REGS}/c", field(6, 4, "u32", optional=True))], ()),
    "field-narrowed": ([(f"{REGS}/a", field(0, 2, "u16"))], ()),
    "field-sign-changed": ([(f"{REGS}/a/type", "s32")], ()),
    "field-type-changed": ([(f"{REGS}/a/type", "u8[4]")], ()),
    "field-renamed": ([(f"{REGS}/b", GONE), (f"{REGS}/flag", field(4, 1, "u8"))], ()),
    "field-made-reserved": ([(f"{REGS}/c", GONE), (f"{REGS}/pad", field(6, 2, "u8[2]"))], ()),
    "reserved-bytes-used": (
        [(f"{REGS}/d", field(8, 1, "u8", optional=True)), (f"{REGS}/reserved", field(9, 7, "u8[7]", optional=True))],
        ("reserved-bytes-resized",),
    ),
    "reserved-bytes-used-and-demanded": (
        [(f"{REGS}/d", field(8, 8, "u64")), (f"{REGS}/reserved", GONE)],
        ("reserved-bytes-resized",),
    ),
    "reserved-bytes-resized": ([(f"{REGS}/reserved", field(8, 7, "u8[7]", optional=True))], ()),
    "field-added": ([("structs/Plain/fields/more", field(8, 8, "u64"))], ()),
    "field-removed": ([(f"{REGS}/b", GONE)], ()),
    "field-made-optional": ([(f"{REGS}/a/optional", True)], ()),
    "field-made-required": ([(f"{REGS}/c/optional", False)], ()),
    "array-length-changed": ([("structs/Extra/fields/values", field(0, 12, "u32[3]", length=3))], ()),
    "tail-limit-raised": ([(f"{LIST}/max_entries", 20)], ()),
    "tail-limit-lowered": ([(f"{LIST}/max_entries", 5)], ()),
    "tail-added": (
        [("structs/Plain/tail", {"name": "rest", "type": "u8[]", "element_bytes": 4, "max_entries": 2})],
        (),
    ),
    "tail-removed": ([("structs/List/tail", GONE)], ()),
    "tail-element-changed": ([(f"{LIST}/of", "Plain"), (f"{LIST}/element_bytes", 4)], ()),
    "tail-counter-changed": ([(f"{LIST}/counter", "m")], ()),
    "tail-renamed": ([(f"{LIST}/name", "rows")], ()),
    "union-arms-changed": ([(f"{OUTER}/choice/arms", {"0": "Entry", "1": "Entry", "other": "Plain"})], ()),
    "nested-struct-renamed": ([("structs/Copy", COPY), (f"{OUTER}/inner/of", "Copy")], ()),
    "c-name-changed": ([("structs/Regs/c_name", "kvm_regs2")], ()),
    "field-name-in-c-changed": ([(f"{REGS}/a/in_c", False)], ()),
    "bits-range-widened": ([("packed/Shadow/smm/max", 15)], ()),
    "bits-range-narrowed": ([("packed/Shadow/smm/max", 0)], ()),
    "bits-moved": ([("packed/Shadow/smm/mask", 0x30)], ()),
    "bits-named": ([("packed/Shadow/third", {"mask": 0x40, "max": 1})], ()),
    "bits-unnamed": ([("packed/Shadow/smm", GONE)], ()),
    "bits-renamed": ([("packed/Shadow/smm", GONE), ("packed/Shadow/aside", {"mask": 240, "max": 3})], ()),
    "value-added": ([("enums/State/members/WAITS", 9)], ()),
    "value-removed": ([("enums/State/members/HALTED", GONE)], ()),
    "value-renumbered": ([("enums/State/members/HALTED", 4)], ()),
    "value-renamed": ([("enums/State/members/HALTED", GONE), ("enums/State/members/STOPPED", 3)], ()),
    "flag-added": ([("enums/Flags/members/VALID_SMM_SHADOW", 0x40)], ()),
    "flag-removed": ([("enums/Flags/members/VALID_B", GONE)], ()),
    "flag-renumbered": ([("enums/Flags/members/VALID_B", 4)], ()),
    "flag-renamed": ([("enums/Flags/members/VALID_B", GONE), ("enums/Flags/members/B", 2)], ()),
    "interface-number-added": ([("enums/Ioctl/members/RUN", 9)], ()),
    "interface-number-removed": ([("enums/Ioctl/members/SET_REGS", GONE)], ()),
    "interface-number-changed": ([("enums/Ioctl/members/SET_REGS", 9)], ()),
    "interface-number-renamed": ([("enums/Ioctl/members/SET_REGS", GONE), ("enums/Ioctl/members/PUT", 8)], ()),
    "enum-added": ([("enums/Other", {"role": "value", "members": {"X": 1}})], ()),
    "enum-removed": ([("enums/State", GONE)], ()),
    "enum-role-changed": ([("enums/State/role", "interface")], ()),
    "rule-added": ([("invariants/INV-009", {"severity": "error", "text": "new", "where": "regs.a"})], ()),
    "advice-added": ([("invariants/INV-009", {"severity": "note", "text": "new"})], ()),
    "rule-removed": ([("invariants/INV-001", GONE)], ()),
    "advice-removed": ([("invariants/INV-002", GONE)], ()),
    "rule-tightened-to-error": ([("invariants/INV-002/severity", "error")], ()),
    "rule-loosened-from-error": ([("invariants/INV-001/severity", "warning")], ()),
    "advice-severity-changed": ([("invariants/INV-002/severity", "note")], ()),
    "rule-scope-narrowed": ([("invariants/INV-001/scope", "machine")], ()),
    "rule-bound-to-vendor": ([("invariants/INV-001/host_vendor", "GenuineIntel")], ()),
    "rule-vendor-changed": ([("invariants/INV-003/host_vendor", "AuthenticAMD")], ()),
    "rule-freed-of-vendor": ([("invariants/INV-003/host_vendor", GONE)], ()),
    "rule-reworded": ([("invariants/INV-001/text", "a is very small")], ()),
    "rule-place-changed": ([("invariants/INV-001/where", "regs")], ()),
    "rule-added-on-new-section": (
        [
            ("sections/more", section("Plain", 8, required=False)),
            ("invariants/INV-009", {"severity": "error", "text": "new", "where": "more.bytes"}),
        ],
        ("optional-section-added",),
    ),
    "compat-rule-added": ([("compat_rules/CMP-009", {"severity": "error", "text": "new"})], ()),
    "compat-advice-added": ([("compat_rules/CMP-009", {"severity": "warning", "text": "new"})], ()),
    "compat-rule-removed": ([("compat_rules/CMP-001", GONE)], ()),
    "compat-advice-removed": ([("compat_rules/CMP-002", GONE)], ()),
    "compat-rule-tightened-to-error": ([("compat_rules/CMP-002/severity", "error")], ()),
    "compat-rule-loosened-from-error": ([("compat_rules/CMP-001/severity", "note")], ()),
    "compat-severity-changed": ([("compat_rules/CMP-002/severity", "note")], ()),
    "compat-rule-reworded": ([("compat_rules/CMP-001/text", "schema version")], ()),
    "order-step-added": ([("order/restore/steps/more", {})], ()),
    "order-step-removed": ([("order/restore/steps/list", GONE)], ()),
    "order-constraint-added": ([("order/restore/steps/list/after", ["regs", "extra"])], ()),
    "order-constraint-removed": ([("order/restore/steps/list/after", [])], ()),
    "order-sequence-changed": ([("order/restore/sequence", ["regs", "list", "extra"])], ()),
    "order-reworded": ([("order/restore/steps/regs/reason", "CR8")], ()),
    "mandatory-record-added": ([("stream/records/MORE", record(9))], ()),
    "optional-record-added": ([("stream/records/MORE", record(0x80000009, optional=True))], ()),
    "mandatory-record-removed": ([("stream/records/CONFIG", GONE)], ()),
    "optional-record-removed": ([("stream/records/HINT", GONE)], ()),
    "record-renumbered": ([("stream/records/CONFIG/type", 3)], ()),
    "record-renamed": ([("stream/records/CONFIG", GONE), ("stream/records/SETUP", record(1))], ()),
    "record-limit-raised": ([("stream/records/CONFIG/max_body", 101)], ()),
    "record-limit-lowered": ([("stream/records/CONFIG/max_body", 99)], ()),
    "record-minimum-lowered": ([("stream/records/CONFIG/min_body", 1)], ()),
    "record-minimum-raised": ([("stream/records/CONFIG/min_body", 3)], ()),
    "record-encoding-changed": ([("stream/records/CONFIG/encoding", "MessagePack")], ()),
    "record-reworded": ([("stream/records/CONFIG/text", "what it is")], ()),
    "stream-version-raised": (
        [("stream/version", 2), ("stream/versions_read", [1, 2])],
        ("stream-version-learnt",),
    ),
    "stream-version-apart": (
        [("stream/version", 2), ("stream/versions_read", [2])],
        ("stream-version-dropped", "stream-version-learnt"),
    ),
    "stream-version-learnt": ([("stream/versions_read", [1, 2])], ()),
    "stream-version-dropped": ([("stream/versions_read", [])], ()),
    "stream-constant-changed": ([("stream/constants/MAGIC", "8b4e")], ()),
    "stream-tables-missing": ([("stream", GONE)], ()),
    "message-added": ([("messages/Bye", {"type": 2, "sender": "dialer", "fields": {}})], ()),
    "message-renumbered": ([("messages/Hello/type", 2)], ()),
    "message-field-added": ([("messages/Hello/fields/more", "int")], ()),
    "message-field-removed": ([("messages/Hello/fields/host", GONE)], ()),
    "message-field-type-changed": ([("messages/Hello/fields/host", "int")], ()),
    "message-sender-changed": ([("messages/Hello/sender", "listener")], ()),
    "protocol-versions-changed": ([("protocol_versions", [1, 2])], ()),
    "protocol-versions-apart": ([("protocol_versions", [2])], ()),
    "member-added": ([(f"{PROFILE}/$.more", {"required": False, "form": {}})], ()),
    "demanded-member-added": ([(f"{PROFILE}/$.more", {"required": True, "form": {}})], ()),
    "member-removed": ([(f"{PROFILE}/$.note", GONE)], ()),
    "demanded-member-removed": ([(f"{PROFILE}/$.name", GONE)], ()),
    "member-made-required": ([(f"{PROFILE}/$.note/required", True)], ()),
    "member-made-optional": ([(f"{PROFILE}/$.name/required", False)], ()),
    "member-range-widened": ([(f"{PROFILE}/$.name/form/maxLength", 9)], ()),
    "member-range-narrowed": ([(f"{PROFILE}/$.mode/form/enum", ["a"])], ()),
    "member-type-changed": ([(f"{PROFILE}/$.name/form/type", "integer")], ()),
    "member-null-allowed": ([(f"{PROFILE}/$.name/form/nullable", True)], ()),
    "document-opened": ([(f"{PROFILE}/$/form/closed", False)], ()),
    "document-added": ([("documents/More", {})], ()),
    "document-removed": ([(PROFILE, GONE)], ()),
    "schema-versions-apart": (
        [("schema_version", 3), ("versions/written", 3), ("versions/read", [3])],
        ("schema-version-dropped", "schema-version-learnt"),
    ),
    "schema-version-raised": (
        [("schema_version", 3), ("versions/written", 3), ("versions/read", [1, 2, 3])],
        ("schema-version-learnt",),
    ),
    "schema-version-lowered": (
        [("schema_version", 1), ("versions/written", 1), ("versions/read", [1])],
        ("schema-version-dropped",),
    ),
    "schema-version-lowered-within-reach": ([("schema_version", 1), ("versions/written", 1)], ()),
    "schema-version-dropped": ([("versions/read", [2])], ()),
    "schema-version-learnt": ([("versions/read", [1, 2, 3])], ()),
    "limit-raised": ([("limits/MAX_VCPUS", 9)], ()),
    "limit-lowered": ([("stream/limits/MAX_ROUNDS", 63)], ()),
    "limit-added": ([("limits/MAX_SLOTS", 9)], ()),
    "limit-removed": ([("limits/MAX_VCPUS", GONE)], ()),
}

# kinds that need an OLD of their own: kind -> (edits of OLD, edits of NEW, kinds that come with it)
GRANULE = {"name": "rest", "type": "u8[]", "element_bytes": 4, "max_entries": 4}
PAIRS = {
    "memory-row-removed": ([("sections/slots", section("Plain", 8, scope="memory"))], [], ()),
    "tail-granule-refined": (
        [("structs/Plain/tail", GRANULE)],
        [("structs/Plain/tail", {**GRANULE, "element_bytes": 2, "max_entries": 8})],
        (),
    ),
    "tail-granule-coarsened": (
        [("structs/Plain/tail", GRANULE)],
        [("structs/Plain/tail", {**GRANULE, "element_bytes": 8, "max_entries": 2})],
        (),
    ),
    "rule-scope-widened": ([("invariants/INV-001/scope", "machine")], [], ()),
    "stream-version-lowered": (
        [("stream/version", 2), ("stream/versions_read", [1, 2])],
        [],
        ("stream-version-dropped",),
    ),
    "stream-version-within-reach": (
        [("stream/versions_read", [1, 2])],
        [("stream/version", 2), ("stream/versions_read", [1, 2])],
        (),
    ),
    "message-removed": ([("messages/Bye", {"type": 2, "sender": "dialer", "fields": {}})], [], ()),
    "member-null-refused": ([(f"{PROFILE}/$.name/form/nullable", True)], [], ()),
    "document-closed": ([(f"{PROFILE}/$/form/closed", False)], [], ()),
    "member-added-to-open-document": (
        [(f"{PROFILE}/$/form/closed", False)],
        [(f"{PROFILE}/$/form/closed", False), (f"{PROFILE}/$.more", {"required": False, "form": {}})],
        (),
    ),
}

TABLE = {
    **{kind: ([], edits, others) for kind, (edits, others) in CHANGES.items()},
    **PAIRS,
}


def test_every_kind_has_a_pair():
    assert {kind.name for kind in KINDS} == set(TABLE)
    assert len(KINDS) >= 40


@pytest.mark.parametrize("kind", sorted(TABLE))
def test_a_pair_differs_by_its_kind_and_by_nothing_else(kind):
    old, new, others = TABLE[kind]
    found = {change.kind for change in compare(edited(*old), edited(*new)).changes}
    assert found == {kind, *others}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_class_of_a_change_is_that_of_its_kind(kind):
    old, new, _ = TABLE[kind.name]
    change = next(c for c in compare(edited(*old), edited(*new)).changes if c.kind == kind.name)
    assert (change.id, change.change_class, change.reason) == (kind.id, kind.change_class, kind.reason)
    assert change.declared is None
    assert ChangeClass.COMPATIBLE not in change.surfaces.values()


# kind and the kind that leads back: what was forward-only one way is backward-only the other
MIRRORS = [
    ("optional-section-added", "optional-section-removed"),
    ("required-section-added", "required-section-removed"),
    ("section-made-required", "section-made-optional"),
    ("section-limit-raised", "section-limit-lowered"),
    ("field-made-optional", "field-made-required"),
    ("tail-limit-raised", "tail-limit-lowered"),
    ("tail-added", "tail-removed"),
    ("tail-granule-refined", "tail-granule-coarsened"),
    ("bits-range-widened", "bits-range-narrowed"),
    ("bits-named", "bits-unnamed"),
    ("value-added", "value-removed"),
    ("flag-added", "flag-removed"),
    ("rule-removed", "rule-added"),
    ("rule-loosened-from-error", "rule-tightened-to-error"),
    ("rule-scope-narrowed", "rule-scope-widened"),
    ("rule-bound-to-vendor", "rule-freed-of-vendor"),
    ("compat-rule-removed", "compat-rule-added"),
    ("record-limit-raised", "record-limit-lowered"),
    ("record-minimum-lowered", "record-minimum-raised"),
    ("stream-version-raised", "stream-version-lowered"),
    ("member-added", "member-removed"),
    ("member-made-optional", "member-made-required"),
    ("member-range-widened", "member-range-narrowed"),
    ("member-null-allowed", "member-null-refused"),
    ("limit-raised", "limit-lowered"),
    ("limit-removed", "limit-added"),
]


@pytest.mark.parametrize(("there", "back"), MIRRORS)
def test_the_way_back_is_the_mirror(there, back):
    one, other = KIND_BY_NAME[there], KIND_BY_NAME[back]
    for surface in ("stream", "documents", "conversation"):
        here, yonder = getattr(one, surface), getattr(other, surface)
        assert (here.forward, here.backward) == (yonder.backward, yonder.forward), surface


@pytest.mark.parametrize(("there", "back"), MIRRORS)
def test_a_pair_turned_round_differs_by_the_mirror(there, back):
    old, new, _ = TABLE[there]
    assert back in {change.kind for change in compare(edited(*new), edited(*old)).changes}


def test_ids_are_unique_and_of_one_form():
    ids = [kind.id for kind in KINDS]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"EVO-\d{3}", one) for one in ids)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.reason for kind in KINDS)


@pytest.mark.parametrize("one", ChangeClass)
@pytest.mark.parametrize("other", ChangeClass)
def test_two_changes_leave_open_what_both_leave_open(one, other):
    both = one & other
    assert both.forward == (one.forward and other.forward)
    assert both.backward == (one.backward and other.backward)
    assert ChangeClass.of(forward=both.forward, backward=both.backward) is both


def test_the_guide_lists_every_kind_as_it_is():
    guide = (Path(__file__).parents[3] / "docs" / "schema-evolution.md").read_text()
    table = guide.partition("<!-- begin kinds -->\n")[2].partition("\n<!-- end kinds -->")[0]
    assert table == render.kinds_table(), "replace it by what `migsvc schema kinds -o markdown` prints"
    assert len(table.splitlines()) == len(KINDS) + 2
