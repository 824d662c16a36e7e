import json
import subprocess
import sys

import pytest

from migsvc import __version__
from migsvc.api.errors import PROBLEMS
from migsvc.cli.exit_codes import BY_PROBLEM, MEANINGS, ExitCode


@pytest.mark.parametrize("row", PROBLEMS, ids=lambda row: row.slug)
def test_each_kind_of_problem_has_its_exit_code(host, run, row):
    problem = {
        "type": row.uri,
        "title": row.title,
        "status": row.status,
        "detail": "what is wrong",
        "hint": "what to do",
    }
    host.answers["POST /v1/vms/a/run"] = (row.status, problem)
    result = run("vm", "run", "a")
    assert result.exit_code == BY_PROBLEM.get(row.slug, ExitCode.FAILED)
    assert result.stderr == "migsvc: what is wrong (what to do)\n"
    assert result.stdout == ""
    as_json = run("vm", "run", "a", "-o", "json")
    assert json.loads(as_json.stderr) == problem
    assert as_json.stdout == ""


def test_exit_codes_name_known_problems_only():
    assert set(BY_PROBLEM) <= {row.slug for row in PROBLEMS}


def test_every_finding_is_printed(host, run):
    findings = [
        {"rule": "INV-001", "severity": "error", "where": "events", "message": "first", "hint": "do this"},
        {"rule": "STR-002", "offset": 7, "text": "second"},
    ]
    problem = {"type": "/problems/illegal-state", "detail": "2 rules", "findings": findings}
    host.answers["POST /v1/vms/a/run"] = (422, problem)
    assert run("vm", "run", "a").stderr.splitlines() == [
        "migsvc: 2 rules",
        "  - INV-001 error events: first (do this)",
        "  - STR-002: second",
    ]


def test_an_answer_that_is_no_problem_document_is_told_by_its_status(host, run):
    host.answers["POST /v1/vms/a/run"] = (502, b"<html>bad gateway</html>")
    result = run("vm", "run", "a")
    assert (result.exit_code, result.stderr) == (1, "migsvc: HTTP status 502\n")


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "nonsense", "http://", "http://[::1"])
def test_a_host_that_cannot_be_reached_is_exit_code_6(run, server):
    result = run("vm", "list", "--server", server, server=False)
    assert result.exit_code == 6, result.output
    assert "is `migsvc serve` running there?" in result.stderr


def test_the_token_is_sent_and_a_missing_file_is_told(host, run, tmp_path):
    host.answers["GET /v1/peers"] = (200, {"items": [], "next": None})
    token = tmp_path / "token"
    token.write_text("secret-secret-secret\n")
    assert run("peer", "list", "--token-file", str(token)).exit_code == 0
    assert host.requests[0][2]["Authorization"] == "Bearer secret-secret-secret"
    result = run("peer", "list", "--token-file", str(tmp_path / "none"))
    assert (result.exit_code, "token file" in result.stderr) == (2, True)


def test_the_server_and_the_format_come_from_the_environment(host, run):
    host.answers["GET /v1/peers"] = (200, {"items": [], "next": None})
    result = run("peer", "list", server=False, env={"MIGSVC_SERVER": host.url, "MIGSVC_OUTPUT": "json"})
    assert result.stdout == "[]\n"


COMMANDS = """
serve  demo
vm: create list show run pause step smi nmi interrupt console delete
snapshot: create list show restore download upload delete
migrate: start list show events cancel
peer: add list remove
state: show get put check
host: show profile guests
stream: verify describe
schema: list export kinds
"""


def commands():
    for line in COMMANDS.strip().splitlines():
        group, colon, rest = line.partition(":")
        for name in (rest if colon else group).split():
            yield [group, name] if colon else [name]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_has_help_that_names_the_exit_codes(run, command):
    result = run(*command, "--help", server=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Exit codes" in result.output
    assert "0 done" in result.output


def test_the_root_help_lists_every_exit_code(run):
    output = " ".join(run("--help", server=False, env={"COLUMNS": "200"}).output.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in output


def test_the_version_is_told(run):
    assert run("--version", server=False).output == f"migsvc {__version__}\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys, migsvc.cli\n"
        "heavy = {'fastapi', 'uvicorn', 'pydantic', 'sqlalchemy', 'httpx2', 'numpy', 'rich', 'emulator', 'schemas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
