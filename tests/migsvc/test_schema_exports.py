"""The kept exports against the code. This is the check that a change of the layout cannot pass unnoticed."""

import pytest

from migsvc import schema_exports
from migsvc.errors import NotFoundError
from migsvc.protocol.events import EVENTS
from migsvc.stream.records import RECORDS, STREAM_VERSION
from schemas.evolution import ChangeClass, compare, load_export
from schemas.evolution.comparison import matches
from schemas.evolution.declared import DECLARATIONS
from schemas.versions import SCHEMA_VERSION, VERSIONS


def told(changes):
    return [f"{change.id} {change.change_class} {change.subject}: {change.kind}" for change in changes]


def test_the_kept_export_of_the_present_version_is_that_of_the_code():
    kept, present = schema_exports.kept(SCHEMA_VERSION), schema_exports.present()
    changes = told(compare(kept, present).changes)
    assert changes == [], "run `make schema-export`; if the version was released, raise SCHEMA_VERSION"
    assert schema_exports.kept_text(SCHEMA_VERSION) == present.canonical()
    assert schema_exports.renew([]) == 0


def test_every_version_that_is_read_has_its_export():
    assert schema_exports.kept_versions() == tuple(row.number for row in VERSIONS)


@pytest.mark.parametrize("version", schema_exports.kept_versions())
def test_a_kept_export_is_canonical_and_of_its_version(version):
    text = schema_exports.kept_text(version)
    export = load_export(text)
    assert export.canonical() == text
    assert (export.schema_version, export.versions.written) == (version, version)


@pytest.mark.parametrize("version", schema_exports.RELEASED)
def test_a_released_export_never_changes(version):
    assert schema_exports.kept(version).digest == schema_exports.RELEASED[version]


@pytest.mark.parametrize("version", [row.number for row in VERSIONS if row.number < SCHEMA_VERSION])
def test_what_a_released_version_cannot_cross_is_declared(version):
    report = compare(schema_exports.kept(version), schema_exports.present())
    undeclared = [c for c in report.changes if c.declared is None and c.change_class is not ChangeClass.COMPATIBLE]
    assert told(undeclared) == [], "undo it, or add a row to schemas/evolution/declared.py that says how state crosses"
    assert report.verdict is ChangeClass.COMPATIBLE


def test_every_declaration_is_of_a_change_that_there_is():
    for row in DECLARATIONS:
        report = compare(schema_exports.kept(row.version - 1), schema_exports.present())
        found = [c for c in report.changes if c.kind == row.kind and matches(c.subject, row.subject)]
        assert found, row
        assert any(c.change_class is not ChangeClass.COMPATIBLE for c in found), row
        assert row.reason


@pytest.mark.parametrize("row", VERSIONS, ids=lambda row: f"v{row.number}")
def test_an_export_says_what_the_converters_take_the_version_for(row):
    export = schema_exports.kept(row.number)
    named = {scope: {n for n, s in export.sections.items() if s.scope == scope} for scope in ("vcpu", "vm")}
    assert named == {"vcpu": set(row.vcpu_sections), "vm": set(row.vm_sections)}
    assert sum(export.enums["VcpuEventFlags"].members.values()) == row.event_flags
    assert bool(export.packed["InterruptShadow"]["smm"].max) == row.smm_nibble


def test_records_and_messages_of_the_code_are_in_the_present_export():
    present = schema_exports.present()
    assert present.stream.version == STREAM_VERSION
    assert {name: row.type for name, row in present.stream.records.items()} == {r.name: int(r.type) for r in RECORDS}
    assert {name: row.type for name, row in present.messages.items()} == {e.cls.__name__: e.number for e in EVENTS}


@pytest.mark.parametrize(("name", "version"), [("1", 1), ("v1", 1), ("v2", 2), ("present", SCHEMA_VERSION)])
def test_exports_go_by_number_or_by_present(name, version):
    assert schema_exports.named(name).schema_version == version


@pytest.mark.parametrize("name", ["0", "3", "v", "", "-1", "v1.json", "../v1", "1" * 5000, "²", "v１"])
def test_other_names_are_told_with_those_that_there_are(name):
    with pytest.raises(NotFoundError) as caught:
        schema_exports.named(name)
    assert "present" in caught.value.hint
    assert len(caught.value.detail) < 200


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(schema_exports, "_FOLDER", tmp_path)
    return tmp_path


def test_renew_writes_the_export_when_it_is_asked_to(folder, capsys):
    path = folder / f"v{SCHEMA_VERSION}.json"
    assert schema_exports.renew([]) == 1
    assert "make schema-export" in capsys.readouterr().err
    assert not path.exists()
    assert schema_exports.renew(["--write"]) == 0
    assert path.read_text() == schema_exports.present().canonical()
    assert schema_exports.renew([]) == 0


def test_renew_leaves_a_released_export_alone(folder, monkeypatch, capsys):
    path = folder / f"v{SCHEMA_VERSION}.json"
    path.write_text("as it was released")
    monkeypatch.setitem(schema_exports.RELEASED, SCHEMA_VERSION, "sha256:" + "0" * 64)
    assert schema_exports.renew(["--write"]) == 1
    assert "raise it" in capsys.readouterr().err
    assert path.read_text() == "as it was released"
