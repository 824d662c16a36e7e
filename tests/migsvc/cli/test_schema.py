import json

import pytest

from migsvc import schema_exports
from migsvc.cli.schema import EXIT_OF_CLASS, MEANINGS, SchemaExit
from schemas.evolution import KINDS, ChangeClass, load_export, render


@pytest.fixture
def offline(run):
    return lambda *arguments, **more: run("schema", *arguments, server=False, **more)


@pytest.fixture
def variant(tmp_path):
    """Write a copy of the present export after a change, sealed again."""

    def write(**update):
        path = tmp_path / f"variant{len(list(tmp_path.iterdir()))}.json"
        path.write_text(schema_exports.present().model_copy(update=update).sealed().canonical())
        return str(path)

    return write


def sections_without(*names):
    return {name: row for name, row in schema_exports.present().sections.items() if name not in names}


def test_export_prints_the_canonical_text(offline):
    result = offline("export")
    assert result.exit_code == 0
    assert result.stdout == schema_exports.present().canonical()
    assert offline("export", "--version", "1").stdout == schema_exports.kept_text(1)


def test_export_writes_a_file_and_says_the_digest(offline, tmp_path):
    file = tmp_path / "v1.json"
    result = offline("export", "--version", "v1", str(file))
    assert (result.exit_code, schema_exports.kept(1).digest in result.stdout) == (0, True)
    assert load_export(file.read_bytes()) == schema_exports.kept(1)
    as_json = json.loads(offline("export", str(file), "-o", "json").stdout)
    assert as_json["digest"] == schema_exports.present().digest


def test_export_of_a_version_that_is_not_kept_is_exit_code_3(offline):
    result = offline("export", "--version", "9")
    assert (result.exit_code, "kept: 1, 2, present" in result.stderr) == (3, True)


def test_list_names_every_kept_version_and_the_present(offline):
    rows = json.loads(offline("list", "-o", "json").stdout)
    assert [row["name"] for row in rows] == ["v1", "v2", "present"]
    assert rows[-1]["digest"] == schema_exports.present().digest


def test_kinds_lists_every_kind(offline):
    rows = json.loads(offline("kinds", "-o", "json").stdout)
    assert [row["id"] for row in rows] == [kind.id for kind in KINDS]
    assert "EVO-305  flag-added" in offline("kinds").stdout
    assert offline("kinds", "-o", "markdown").stdout == render.kinds_table() + "\n"


def test_the_four_exit_codes_of_check(offline, variant):
    more = {**schema_exports.present().sections, "x": schema_exports.present().sections["sregs2"]}
    assert offline("check", "present", "present").exit_code == 0
    assert offline("check", "present", variant(sections=more)).exit_code == 1
    assert offline("check", "present", variant(sections=sections_without("sregs2"))).exit_code == 1
    assert offline("check", "present", variant(sections=sections_without("regs"))).exit_code == 2
    assert offline("check", "present", "nowhere.json").exit_code == 3


def test_a_release_checked_against_the_next_is_compatible_by_declared_changes(offline):
    result = offline("check", "1", "2")
    assert (result.exit_code, "[declared: " in result.stdout) == (0, True)
    assert offline("check", "1", "2", "--strict").exit_code == 2


@pytest.mark.parametrize("arguments", [(), ("1",), ("1", "2", "3"), ("1", "2", "--bogus"), ("1", "2", "-o", "yaml")])
def test_a_wrong_command_line_is_not_checked_and_not_breaking(offline, arguments):
    assert offline("check", *arguments).exit_code == SchemaExit.NOT_CHECKED


@pytest.mark.parametrize("content", [b"", b"nope", b"[]", b"{}", b"\xff", b"[" * 10_000])
def test_a_file_that_is_no_export_is_told_with_every_problem(offline, tmp_path, content):
    file = tmp_path / "file.json"
    file.write_bytes(content)
    result = offline("check", "1", str(file))
    assert result.exit_code == 3
    assert result.stderr.startswith(f"migsvc: {file} is no schema export\n  - ")
    problem = json.loads(offline("check", "1", str(file), "-o", "json").stderr)
    assert problem["findings"]


@pytest.mark.parametrize("name", ["9" * 5000, "x" * 5000, "v", "nowhere/file.json"])
def test_a_name_that_nothing_has_is_told(offline, name):
    result = offline("check", "1", name)
    assert (result.exit_code, result.stderr.startswith("migsvc: ")) == (3, True)


def test_a_directory_is_told(offline, tmp_path):
    assert offline("check", "1", str(tmp_path)).exit_code == 3


def test_an_operand_may_be_standard_input(offline):
    result = offline("check", "-", "1", input=schema_exports.kept_text(1))
    assert result.exit_code == 0


def test_a_file_wins_over_a_version_of_the_same_name(offline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").write_text(schema_exports.kept_text(2))
    assert json.loads(offline("check", "1", "2", "-o", "json").stdout)["old"]["schema_version"] == 2


def test_output_as_json_markdown_and_text(offline, variant):
    new = variant(sections=sections_without("sregs2"))
    report = json.loads(offline("check", "present", new, "-o", "json").stdout)
    assert report["verdict"] == "backward-only"
    assert [change["subject"] for change in report["changes"]] == ["sections.sregs2"]
    assert (
        "| EVO-103 | backward-only | `sections.sregs2` |" in offline("check", "present", new, "-o", "markdown").stdout
    )
    text = offline("check", "present", new).stdout
    assert "EVO-103 backward-only sections.sregs2" in text
    assert "raise it, or undo" in text


def test_help_says_the_exit_codes(offline):
    output = " ".join(offline("check", "--help", env={"COLUMNS": "300"}).output.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in output


def test_every_verdict_has_an_exit_code():
    assert set(EXIT_OF_CLASS) == set(ChangeClass)
