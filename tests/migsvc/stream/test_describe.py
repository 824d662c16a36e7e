"""The format stays what it was: its dump equals the one of the last release; its document is up to date."""

import json
from pathlib import Path

import pytest

from migsvc.stream import RECORDS
from migsvc.stream.describe import describe
from migsvc.stream.docs import renew, replace_tables, sections_table, tables
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS

GOLDEN = Path(__file__).parents[2] / "data" / "stream" / "layout-v1.json"


def test_no_record_of_a_released_version_changes():
    golden, now = json.loads(GOLDEN.read_text()), describe()
    apart = {"records", "sections", "schema_version"}
    assert {k: now[k] for k in golden if k not in apart} == {k: v for k, v in golden.items() if k not in apart}
    assert golden["schema_version"] in now["schema_versions_read"]
    for kind in ("records", "sections"):
        by_name = {row["name"]: row for row in now[kind]}
        for row in golden[kind]:
            assert {**by_name[row["name"]], "doc": ""} == {**row, "doc": ""}, "a body never changes: make a new record"


def test_description_is_json(smith):
    assert json.loads(json.dumps(describe())) == describe()
    assert len(describe()["records"]) == len(RECORDS)


def test_tables_of_the_document_are_up_to_date():
    assert renew("migsvc.stream", "FORMAT.md", tables(), []) == 0


def test_every_section_that_travels_in_a_map_is_in_the_table_and_fits_its_record():
    rows = {**VCPU_SECTIONS, **VM_SECTIONS}
    table = sections_table().splitlines()[2:]
    assert [line.split("`")[1] for line in table] == list(rows)
    assert {row["name"] for row in describe()["sections"]} == set(rows)
    bounds = {spec.name: spec.max_body for spec in RECORDS}
    for sections, record in ((VCPU_SECTIONS, "VCPU_STATE"), (VM_SECTIONS, "VM_STATE")):
        assert sum(row.max_bytes + 2 * len(name) for name, row in sections.items()) < bounds[record] // 2


def test_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        replace_tables("no table here", {"records": "x"})


def test_stale_document_is_noticed(capsys):
    assert renew("migsvc.stream", "FORMAT.md", {"records": "something else"}, []) == 1
    assert "out of date" in capsys.readouterr().err
