"""The verdict of a report, declared changes, and the forms in which it is shown."""

import pytest

from schemas.evolution import ChangeClass, EvolutionReport, compare, render

from .conftest import GONE, edited

FORWARD = ("sections/more", {"scope": "vcpu", "struct": "Plain", "required": False, "max_bytes": 8})
BACKWARD = ("sections/extra", GONE)
BREAKING = ("structs/Regs/size", 20)
COMPATIBLE = ("sections/regs/source", "api.rst")


@pytest.mark.parametrize(
    ("edits", "verdict", "forward", "backward"),
    [
        ([], "compatible", True, True),
        ([COMPATIBLE], "compatible", True, True),
        ([COMPATIBLE, FORWARD], "forward-only", True, False),
        ([BACKWARD], "backward-only", False, True),
        ([FORWARD, BACKWARD], "breaking", False, False),
        ([BREAKING], "breaking", False, False),
    ],
)
def test_the_verdict_is_what_all_changes_leave_open(base, edits, verdict, forward, backward):
    report = compare(base, edited(*edits))
    assert (report.verdict, report.forward, report.backward) == (verdict, forward, backward)
    assert report.version_needed == (verdict != "compatible")


def test_changes_come_worst_first_and_in_the_same_order_every_time(base):
    new = edited(COMPATIBLE, FORWARD, BACKWARD, BREAKING)
    report = compare(base, new)
    assert [change.change_class for change in report.changes] == [
        ChangeClass.BREAKING,
        ChangeClass.BACKWARD_ONLY,
        ChangeClass.FORWARD_ONLY,
        ChangeClass.COMPATIBLE,
    ]
    assert compare(base, new) == report
    assert sum(report.counts.values()) == len(report.changes)


NEXT = [("schema_version", 3), ("versions/written", 3), ("versions/read", [1, 2, 3])]


def declared(kind, subject, version=3):
    return ("declared", [{"version": version, "kind": kind, "subject": subject, "reason": "down() leaves it out"}])


@pytest.mark.parametrize(
    ("kind", "subject", "version", "counts"),
    [
        ("optional-section-added", "sections.more", 3, False),
        ("optional-section-added", "sections.*", 3, False),
        ("optional-section-added", "*", 3, False),
        ("optional-section-added", "sections.mo", 3, True),
        ("optional-section-added", "sections.*re", 3, True),
        ("required-section-added", "sections.more", 3, True),
        ("optional-section-added", "sections.more", 2, True),
        ("optional-section-added", "sections.more", 4, True),
    ],
)
def test_a_declaration_covers_its_kind_its_subject_and_its_version(base, kind, subject, version, counts):
    new = edited(*NEXT, FORWARD, declared(kind, subject, version))
    report = compare(base, new)
    assert report.verdict == ("forward-only" if counts else "compatible")
    change = next(change for change in report.changes if change.kind == "optional-section-added")
    assert change.declared == (None if counts else "down() leaves it out")
    assert change.change_class is ChangeClass.FORWARD_ONLY
    assert compare(base, new, strict=True).verdict == "forward-only"


def test_on_the_way_down_the_newer_export_declares(base):
    new = edited(*NEXT, FORWARD, declared("optional-section-removed", "sections.more"))
    change = next(c for c in compare(new, base).changes if c.kind == "optional-section-removed")
    assert change.declared == "down() leaves it out"


def test_within_one_version_nothing_is_declared(base):
    new = edited(FORWARD, declared("optional-section-added", "sections.more", 2))
    assert compare(base, new).verdict == "forward-only"


def test_a_report_reads_back_from_json(base):
    report = compare(base, edited(COMPATIBLE, FORWARD, BACKWARD, BREAKING))
    assert EvolutionReport.model_validate_json(report.model_dump_json()) == report


def test_text_names_the_verdict_the_versions_and_every_change_with_its_reason(base):
    report = compare(base, edited(COMPATIBLE, FORWARD))
    shown = render.text(report)
    assert shown.splitlines()[0] == f"forward-only: {render.MEANING[ChangeClass.FORWARD_ONLY]}"
    assert base.digest in shown
    assert "EVO-101 forward-only sections.more: optional-section-added (none -> Plain): NEW reads" in shown
    assert "EVO-114" not in shown
    assert "EVO-114" in render.text(report, everything=True)
    assert "0 breaking, 0 backward-only, 1 forward-only, 1 compatible" in shown
    assert "raise it" in shown


def test_text_says_what_was_declared_and_whether_it_counts(base):
    new = edited(*NEXT, FORWARD, declared("optional-section-added", "sections.more"))
    assert "[declared: down() leaves it out]" in render.text(compare(base, new))
    assert "not counted in the verdict" in render.text(compare(base, new))
    assert "compatible: OLD and NEW read each other, declared changes apart" in render.text(compare(base, new))
    assert "counted all the same" in render.text(compare(base, new, strict=True))


def test_markdown_is_a_table_whose_cells_stay_in_their_row(base):
    edits = [("limits/A|B\nC", 1), ("invariants/INV-001/severity", "note")]
    lines = render.markdown(compare(base, edited(*edits)), everything=True).splitlines()
    rows = [line for line in lines if line.startswith("| EVO-")]
    assert len(rows) == 2
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    assert lines[0].startswith("**breaking**")


def test_markdown_of_no_change_has_no_table(base):
    assert "|" not in render.markdown(compare(base, base))
