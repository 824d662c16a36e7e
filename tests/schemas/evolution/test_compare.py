"""Changes that are more than one edit, and edits that must not be told twice or taken for another change."""

import pytest

from schemas.evolution import compare

from .conftest import GONE, edited, field

PROFILE = "documents/HostProfile"


def kinds(old, new):
    return sorted((change.kind, change.subject) for change in compare(old, new).changes)


def test_nothing_changed(base):
    assert compare(base, edited()).changes == ()


def test_a_nested_struct_that_grows_is_told_once_and_moves_what_follows(base):
    new = edited(
        ("structs/Entry/size", 16),
        ("structs/Entry/fields/more", field(8, 8, "u64")),
        ("structs/Outer/size", 32),
        ("structs/Outer/fields/inner/size", 16),
        ("structs/Outer/fields/choice/offset", 24),
        ("structs/List/tail/element_bytes", 16),
    )
    assert kinds(base, new) == [
        ("field-added", "structs.Entry.more"),
        ("field-moved", "structs.Outer.choice"),
        ("struct-grown", "structs.Entry"),
        ("struct-grown", "structs.Outer"),
        ("tail-element-changed", "structs.List.entries"),
    ]


def test_the_shadow_byte_given_a_second_meaning_is_forward_only_and_no_new_field():
    # The change that this program is about: bits that were 0 carry something, under a flag of their own.
    old = edited(("packed/Shadow/smm/max", 0))
    new = edited(("enums/Flags/members/VALID_SMM_SHADOW", 0x40))
    assert kinds(old, new) == [
        ("bits-range-widened", "packed.Shadow.smm"),
        ("flag-added", "enums.Flags.VALID_SMM_SHADOW"),
    ]
    assert compare(old, new).verdict == "forward-only"
    assert compare(new, old).verdict == "backward-only"


def test_triple_fault_taken_from_reserved_bytes_as_linux_6_0_did(base):
    old = edited(("structs/Regs/fields/reserved", field(8, 8, "u8[8]", optional=True)))
    new = edited(
        ("structs/Regs/fields/triple_fault", field(8, 1, "u8", optional=True)),
        ("structs/Regs/fields/reserved", field(9, 7, "u8[7]", optional=True)),
    )
    report = compare(old, new)
    surfaces = {change.kind: change.surfaces for change in report.changes}
    assert surfaces == {
        "reserved-bytes-used": {"stream": "forward-only", "documents": "forward-only"},
        "reserved-bytes-resized": {"documents": "breaking"},
    }


def test_a_member_beside_reserved_bytes_and_not_in_them_is_new(base):
    new = edited(("structs/Regs/size", 24), ("structs/Regs/fields/d", field(12, 8, "u64")))
    assert ("field-added", "structs.Regs.d") in kinds(base, new)


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ((("maximum", 9), ("maximum", 10)), ["member-range-widened"]),
        ((("maximum", 9), ("maximum", 8)), ["member-range-narrowed"]),
        ((("minimum", 1), ("minimum", 0)), ["member-range-widened"]),
        ((("minimum", 1), ("minimum", 2)), ["member-range-narrowed"]),
        ((("maximum", 9), None), ["member-range-widened"]),
        ((None, ("minimum", 1)), ["member-range-narrowed"]),
        ((("maximum", "0xffffffffffffffff"), ("maximum", 1)), ["member-range-narrowed"]),
        ((("enum", ["a"]), ("enum", ["a", "b"])), ["member-range-widened"]),
        ((("enum", ["a"]), ("enum", ["b"])), ["member-range-narrowed", "member-range-widened"]),
        ((("const", "a"), ("enum", ["a", "b"])), ["member-range-widened"]),
        ((("enum", ["a"]), None), ["member-range-widened"]),
        ((None, ("const", "a")), ["member-range-narrowed"]),
        ((("pattern", "a"), ("pattern", "b")), ["member-type-changed"]),
    ],
)
def test_ranges_of_members(bounds, wanted):
    was, is_ = ({"type": "integer", **(dict([bound]) if bound else {})} for bound in bounds)
    old, new = edited((f"{PROFILE}/$.name/form", was)), edited((f"{PROFILE}/$.name/form", is_))
    assert [kind for kind, _ in kinds(old, new)] == wanted


def test_both_bounds_may_move(base):
    old = edited((f"{PROFILE}/$.name/form", {"minimum": 1, "maximum": 5}))
    new = edited((f"{PROFILE}/$.name/form", {"minimum": 2, "maximum": 6}))
    assert [kind for kind, _ in kinds(old, new)] == ["member-range-narrowed", "member-range-widened"]


def test_what_is_inside_a_new_member_is_not_told_again(base):
    new = edited(
        (f"{PROFILE}/$.memory", {"required": False, "form": {"type": "array"}}),
        (f"{PROFILE}/$.memory[]", {"required": True, "form": {"type": "object", "closed": True}}),
        (f"{PROFILE}/$.memory[].slots", {"required": True, "form": {}}),
    )
    assert kinds(base, new) == [("member-added", "documents.HostProfile.memory")]
    assert kinds(new, base) == [("member-removed", "documents.HostProfile.memory")]


WARNING = {"severity": "warning", "text": "t", "where": "regs.a"}
INTEL = {**WARNING, "host_vendor": "GenuineIntel"}


@pytest.mark.parametrize(
    ("was", "is_", "kind"),
    [
        (WARNING, INTEL, "rule-tightened-to-error"),
        (INTEL, WARNING, "rule-loosened-from-error"),
        (GONE, INTEL, "rule-added"),
        (INTEL, GONE, "rule-removed"),
        (GONE, WARNING, "advice-added"),
    ],
)
def test_a_warning_of_one_vendor_refuses_on_that_vendor(was, is_, kind):
    place = "invariants/INV-001"
    assert [name for name, _ in kinds(edited((place, was)), edited((place, is_)))] == [kind]


def test_a_new_rule_on_an_old_section_is_told_from_one_on_a_new_section(base):
    more = ("sections/more", {"scope": "vcpu", "struct": "Plain", "required": False, "max_bytes": 8})
    rule = {"severity": "error", "text": "t"}
    new = edited(more, ("invariants/A", {**rule, "where": "regs.a"}), ("invariants/B", {**rule, "where": "more.bytes"}))
    assert {kind: subject for kind, subject in kinds(base, new) if kind.startswith("rule")} == {
        "rule-added": "invariants.A",
        "rule-added-on-new-section": "invariants.B",
    }


def test_two_sections_of_one_struct_that_swap_are_not_taken_for_one_that_was_renamed():
    twins = [
        (f"sections/{name}", {"scope": "vm", "struct": "Plain", "required": False, "max_bytes": 8}) for name in "ab"
    ]
    others = [(f"sections/{name}", value) for name, (_, value) in zip("cd", twins, strict=True)]
    assert [kind for kind, _ in kinds(edited(*twins), edited(*others))] == [
        *["optional-section-added"] * 2,
        *["optional-section-removed"] * 2,
    ]


def test_a_record_that_is_renamed_and_changed_is_told_both():
    new = edited(
        ("stream/records/CONFIG", GONE),
        (
            "stream/records/SETUP",
            {"type": 1, "optional": False, "min_body": 2, "max_body": 200, "encoding": "fixed"},
        ),
    )
    assert kinds(edited(), new) == [
        ("record-limit-raised", "stream.records.SETUP"),
        ("record-renamed", "stream.records.CONFIG"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ((2, [1, 2]), (3, [1, 2, 3]), "schema-version-raised"),
        ((2, [1, 2]), (3, [3]), "schema-versions-apart"),
        ((2, [1, 2]), (1, [1, 2]), "schema-version-lowered-within-reach"),
        ((2, [1, 2]), (1, [1]), "schema-version-lowered"),
        ((2, [2]), (1, [1]), "schema-versions-apart"),
    ],
)
def test_versions(old, new, kind):
    one, other = (
        edited(("schema_version", written), ("versions", {"written": written, "read": read}))
        for written, read in (old, new)
    )
    assert kind in [name for name, _ in kinds(one, other)]
