"""An export read back: the canonical form, the digest, and input that is none."""

import json

import pytest

from schemas.evolution import EvolutionError, compare, export_of, load_export
from schemas.evolution.document import MAX_DECLARATIONS
from schemas.evolution.reading import BOUNDS

from .conftest import edited, field


def test_an_export_reads_back_as_itself(base):
    assert load_export(base.canonical()) == base
    assert load_export(base.canonical().encode()) == base
    assert export_of(base.as_json()) == base


def test_the_canonical_text_has_sorted_keys_a_line_each_and_ends_with_a_line_feed(base):
    text = base.canonical()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
    assert load_export(json.dumps(json.loads(text), indent=None)).canonical() == text


def test_the_digest_is_of_the_contents_and_of_nothing_else(base):
    assert base.digest == base.computed_digest() == base.sealed().digest
    assert edited(("limits/MAX_VCPUS", 9)).digest != base.digest
    assert edited(("notes", ["once more"])).digest != base.digest


def test_an_edited_export_is_refused(base):
    plain = base.as_json()
    plain["limits"]["MAX_VCPUS"] = 9
    with pytest.raises(EvolutionError, match="edited by hand or damaged"):
        export_of(plain)


def plain_with(base, **members):
    return json.dumps({**base.as_json(), **members})


BAD = {
    "nothing": ("not JSON", lambda base: ""),
    "not JSON": ("not JSON", lambda base: "nope"),
    "not UTF-8": ("not UTF-8", lambda base: b"\xff\xfe\xfa"),
    "a list": ("valid dictionary", lambda base: "[]"),
    "a key twice": ("the name 'format' occurs twice", lambda base: '{"format": 1, "format": 1}'),
    "a nested key twice": (
        "limits: the name 'a' occurs twice",
        lambda base: '{"format": 1, "limits": {"a": 1, "a": 2}}',
    ),
    "NaN": ("format: NaN is no whole number", lambda base: '{"format": NaN}'),
    "a fraction": ("format: 1.0 is no whole number", lambda base: '{"format": 1.0}'),
    "a number of many digits": ("format: a number of 5000 digits", lambda base: '{"format": ' + "9" * 5000 + "}"),
    "deep arrays": ("nested too deeply|nested deeper", lambda base: "[" * 100_000 + "]" * 100_000),
    "deep forms": (
        "nested deeper",
        lambda base: plain_with(base, notes=[], documents={"D": {"$": {"required": True, "form": deep(20)}}}),
    ),
    "too large": ("at most 8388608", lambda base: b" " * (BOUNDS.max_bytes + 1)),
    "another format": ("this program reads 1", lambda base: plain_with(base, format=2)),
    "no format": (
        "format: Field required",
        lambda base: json.dumps({k: v for k, v in base.as_json().items() if k != "format"}),
    ),
    "an unknown member": ("Extra inputs", lambda base: plain_with(base, surprise=1)),
    "a negative size": ("greater than or equal to 0", lambda base: plain_with(base, limits={"a": -1})),
    "a size beyond JSON": ("less than 9007199254740992", lambda base: plain_with(base, limits={"a": 1 << 53})),
    "a bool for a size": (
        "limits.a: Input should be a valid integer",
        lambda base: plain_with(base, limits={"a": True}),
    ),
    "a digest of another form": ("digest: String should match", lambda base: plain_with(base, digest="md5:1")),
    "a section without its struct": (
        "sections.regs.struct: 'Regs' is not among",
        lambda base: plain_with(base, structs={}),
    ),
    "a member without its struct": (
        "structs.Outer.inner: 'Gone'",
        lambda base: edited(("structs/Outer/fields/inner/of", "Gone")).canonical(),
    ),
    "a union's arm without its struct": (
        "structs.Outer.choice: 'Gone'",
        lambda base: edited(("structs/Outer/fields/choice/arms/0", "Gone")).canonical(),
    ),
    "a tail without its struct": (
        "structs.List.entries.of: 'Gone'",
        lambda base: edited(("structs/List/tail/of", "Gone")).canonical(),
    ),
    "a nameless section": (
        "at least 1 character",
        lambda base: plain_with(base, sections={"": base.as_json()["sections"]["regs"]}),
    ),
    "too many declarations": (
        "at most 128 items",
        lambda base: plain_with(
            base, declared=[{"version": 2, "kind": "k", "subject": "s", "reason": "r"}] * (MAX_DECLARATIONS + 1)
        ),
    ),
}


def deep(levels):
    form = {}
    for _ in range(levels):
        form = {"anyOf": [form]}
    return form


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_export_is_refused_with_a_place(base, what):
    message, make = BAD[what]
    with pytest.raises(EvolutionError, match=message) as caught:
        load_export(make(base))
    assert all(problem.where and problem.message for problem in caught.value.problems)
    assert len(str(caught.value)) < 20_000


def test_structs_that_nest_into_an_exponential_tree_take_no_time():
    # Forty structs, each with two members of the next: walked as a tree that is 2^40 members.
    def chain(last):
        fields = lambda k: {n: field(8 * i, 8, "s", of=f"S{k + 1}") for i, n in enumerate("ab")}  # noqa: E731
        edits = [(f"structs/S{k}", {"size": 16, "align": 8, "fields": fields(k)}) for k in range(40)]
        return edited(*edits, ("structs/Outer/fields/inner/of", last))

    kinds = {change.kind for change in compare(chain("S0"), chain("S1")).changes}
    assert kinds == {"field-type-changed"}


def test_structs_that_hold_themselves_are_compared():
    loop = {"size": 8, "align": 8, "fields": {"value": field(0, 8, "s", of="Loop")}}
    old = edited(("structs/Loop", loop), ("structs/Outer/fields/inner/of", "Loop"))
    assert {change.kind for change in compare(old, edited()).changes} == {"field-type-changed"}


def test_members_of_any_claimed_size_take_no_time():
    huge = {f"f{i}": field(i, (1 << 53) - 1, "u8") for i in range(500)}
    new = edited(("structs/Plain/fields", huge))
    assert "field-added" in {change.kind for change in compare(edited(), new).changes}
