"""`migsvc compat` and `host profile --backend`: operands of every kind, three forms of output, exit codes for CI."""

import json
from pathlib import Path

import pytest

from migsvc.api import examples
from migsvc.cli import operands
from migsvc.cli.compat import MEANINGS
from migsvc.errors import InputError
from schemas.compat import HostProfile

SERVER = ["--server", "http://127.0.0.1:9"]


@pytest.fixture
def files(tmp_path, vcpu):
    """Paths of profiles and of a vCPU state by name."""
    profile = HostProfile.model_validate(examples.host_profile())
    found = {}
    for name, changes in {
        "a": {},
        "b": {"name": "host-c"},
        "fewer-sections": {"vcpu_sections": profile.vcpu_sections[:-1], "name": "fewer"},
        "less-memory": {"max_ram_bytes": 1 << 20, "name": "less"},
        "one-shadow": {"smm_carriers": (), "event_flags": 0x3F, "name": "none"},
    }.items():
        path = tmp_path / f"{name}.json"
        path.write_text(profile.model_copy(update=changes).model_dump_json())
        found[name] = str(path)
    state = tmp_path / "state.json"
    state.write_text(vcpu.model_dump_json())
    (tmp_path / "text.json").write_text("{}")
    return {**found, "state": str(state), "text": str(tmp_path / "text.json"), "none": str(tmp_path / "none.json")}


@pytest.mark.parametrize(
    ("a", "b", "code", "verdict"),
    [
        ("a", "b", 0, "exact"),
        ("a", "less-memory", 1, "lossy"),
        ("a", "fewer-sections", 2, "impossible"),
        ("state", "one-shadow", 2, "impossible"),
        ("one-shadow", "state", 2, "impossible"),
    ],
)
def test_the_exit_code_is_the_verdict_and_no_agent_is_asked(host, run, files, a, b, code, verdict):
    result = run("compat", "check", files[a], files[b])
    assert (result.exit_code, host.requests) == (code, [])
    assert result.stdout.startswith(f"{verdict}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "a"],
        ["check", "a", "none"],
        ["check", "a", "text"],
        ["check", "a", "b", "-o", "xml"],
        ["check", "a", "vm:"],
        ["check", "a", "backend:xen"],
        ["check", "a", "web-1"],
        ["check", "a", "http://127.0.0.1:9"],
        ["baseline"],
        ["baseline", "state"],
        ["baseline", "a", "web-1"],
        ["matrix", "none"],
    ],
)
def test_what_could_not_be_checked_is_exit_code_3(run, files, arguments):
    command, *rest = arguments
    result = run("compat", command, *[files.get(argument, argument) for argument in rest], *SERVER, server=False)
    assert result.exit_code == 3, result.output


def test_a_bug_does_not_read_as_lossy(run, files, monkeypatch):
    monkeypatch.setattr("schemas.compat.check_pair", lambda *_: 1 / 0)
    result = run("compat", "check", files["a"], files["b"])
    assert result.exit_code == 3
    assert "ZeroDivisionError" in result.stderr


def test_findings_have_rule_both_values_why_and_how_to_mend(run, files):
    document = json.loads(run("compat", "check", files["a"], files["fewer-sections"], "-o", "json").stdout)
    assert (document["a"], document["b"], document["verdict"]) == ("host-b", "fewer", "impossible")
    (finding,) = document["findings"]
    assert all(
        finding[key] for key in ("rule", "severity", "where", "message", "guest", "host", "why", "hint", "source")
    )
    text = run("compat", "check", files["a"], files["fewer-sections"]).stdout
    assert all(part in text for part in ("CMP-007", "why: ", "mend: "))
    markdown = run("compat", "check", files["a"], files["fewer-sections"], "-o", "markdown").stdout
    assert markdown.startswith("## host-b on fewer: **impossible**")
    assert "| CMP-007 | error |" in markdown


def test_vms_and_peers_are_compared_by_the_agent(host, run, files):
    host.answers["POST /v1/compat/check"] = (200, {"verdict": "translated", "findings": [], "omitted": 0})
    for a, b, body in (
        ("web-1", "peer:host-b", {"a": {"vm": "web-1"}, "b": {"peer": "host-b"}}),
        ("vm:web-1", "host:", {"a": {"vm": "web-1"}, "b": {"this_host": True}}),
    ):
        result = run("compat", "check", a, b)
        assert result.exit_code == 0, result.output
        assert host.bodies[-1] == body
    run("compat", "check", "web-1", files["a"])
    assert HostProfile.model_validate(host.bodies[-1]["b"]["profile"]).name == "host-b"
    run("compat", "check", files["state"], "peer:host-b")
    assert set(host.bodies[-1]["a"]) == {"vcpu"}
    host.answers["POST /v1/compat/check"] = (200, {"verdict": "fine"})
    assert run("compat", "check", "web-1", "peer:host-b").exit_code == 3


def test_the_url_of_an_agent_stands_for_its_profile(host, run, files):
    host.answers["GET /v1/host"] = (200, {"name": "host-b", "profile": examples.host_profile()})
    result = run("compat", "check", files["a"], host.url)
    assert (result.exit_code, result.stdout.split("\n")[0]) == (
        0,
        "exact: host-b on host-b (every bit arrives as it is)",
    )
    host.answers["GET /v1/host"] = (200, {"name": "host-b", "profile": {"name": "x"}})
    assert run("compat", "check", files["a"], host.url).exit_code == 3


def test_a_baseline_is_a_profile_that_can_be_kept(host, run, files, tmp_path):
    kept = tmp_path / "fleet.json"
    result = run("compat", "baseline", files["a"], files["less-memory"], "--name", "fleet", "--to", str(kept))
    assert result.exit_code == 0, result.output
    assert "less: exact, gives up 0" in result.stdout
    assert HostProfile.model_validate_json(kept.read_text()).max_ram_bytes == 1 << 20
    assert run("compat", "check", str(kept), files["a"]).exit_code == 0
    document = json.loads(run("compat", "baseline", files["a"], files["less-memory"], "-o", "json").stdout)
    assert [entry["host"] for entry in document["hosts"]] == ["host-b", "less"]
    host.answers["GET /v1/host"] = (200, {"profile": examples.host_profile()})
    assert run("compat", "baseline", "host:", files["a"]).exit_code == 0


def test_a_matrix_shows_every_pair(run, files):
    result = run("compat", "matrix", files["a"], files["fewer-sections"])
    assert result.exit_code == 2
    assert "host-b -> fewer: impossible: CMP-007" in result.stdout
    rows = run("compat", "matrix", files["a"], files["fewer-sections"], "-o", "markdown").stdout.splitlines()
    assert rows[2] == "| host-b | exact | impossible |"
    document = json.loads(run("compat", "matrix", files["a"], files["b"], "-o", "json").stdout)
    assert {cell["verdict"] for row in document["cells"] for cell in row} == {"exact"}


@pytest.mark.parametrize("command", ["check", "baseline", "matrix"])
def test_help_names_the_exit_codes(run, command):
    output = " ".join(run("compat", command, "--help", server=False, env={"COLUMNS": "250"}).output.split())
    assert all(f"{code.value} {meaning}" in output for code, meaning in MEANINGS.items())


def test_the_profile_of_a_backend_needs_no_agent(host, run, monkeypatch):
    result = run("host", "profile", "--backend", "emulator", "--name", "here")
    assert HostProfile.model_validate_json(result.stdout).name == "here"
    assert host.requests == []
    assert run("host", "profile", "--backend", "xen").exit_code == 2

    def absent(name):
        raise InputError("/dev/kvm: No such file or directory", hint="is the module loaded?")

    monkeypatch.setattr("migsvc.backends.profiles.PROFILES", {"kvm": absent})
    result = run("host", "profile", "--backend", "kvm")
    assert (result.exit_code, "is the module loaded?" in result.stderr) == (1, True)


def test_the_forms_of_operands_are_documented():
    text = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
    assert all(form in text for form in ("vm:NAME", "peer:NAME", "host:", "backend:NAME"))
    assert all(form in operands.__doc__ for form in ("vm:NAME", "peer:NAME", "host:", "backend:NAME"))
