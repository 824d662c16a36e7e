import base64
import json
import re

import pytest

from migsvc.api import examples, hosts

VM = examples.VM


def page(*items):
    return 200, {"items": list(items), "next": None}


@pytest.mark.parametrize(
    ("arguments", "request_line", "body", "answer", "said"),
    [
        (["vm", "run", "web-1"], "POST /v1/vms/web-1/run", None, VM, "VM web-1 is running"),
        (["vm", "pause", "web-1"], "POST /v1/vms/web-1/pause", {"when": "any"}, VM, "after 1200000 instructions"),
        (
            ["vm", "pause", "web-1", "--when", "smm_shadow", "--limit-instructions", "9"],
            "POST /v1/vms/web-1/pause",
            {"when": "smm_shadow", "limit_instructions": 9},
            VM,
            "VM web-1",
        ),
        (
            ["vm", "step", "web-1", "3"],
            "POST /v1/vms/web-1/step",
            {"instructions": 3},
            examples.STEP,
            "1 steps (budget)",
        ),
        (["vm", "smi", "web-1"], "POST /v1/vms/web-1/smi", None, VM, "an SMI is pending"),
        (["vm", "nmi", "web-1"], "POST /v1/vms/web-1/nmi", None, VM, "an NMI is pending"),
        (["vm", "interrupt", "web-1", "32"], "POST /v1/vms/web-1/interrupt", {"vector": 32}, VM, "interrupt 32"),
        (["vm", "delete", "web-1"], "DELETE /v1/vms/web-1", None, b"", "is deleted"),
        (
            ["peer", "add", "host-b", "http://127.0.0.1:7702"],
            "POST /v1/peers",
            {"name": "host-b", "url": "http://127.0.0.1:7702", "token_file": None},
            examples.PEER,
            "peer host-b is http://127.0.0.1:7702",
        ),
        (["peer", "remove", "host-b"], "DELETE /v1/peers/host-b", None, b"", "is forgotten"),
        (["snapshot", "delete", "s"], "DELETE /v1/snapshots/s", None, b"", "is deleted"),
        (
            ["snapshot", "restore", "s", "web-2", "--run"],
            "POST /v1/snapshots/s/restore",
            {"name": "web-2", "run": True},
            VM,
            "VM web-2 is running",
        ),
        (
            ["migrate", "start", "web-1", "host-b", "--pause-when", "smm_shadow", "--on-smm-shadow-loss", "wait"],
            "POST /v1/migrations",
            {"vm": "web-1", "peer": "host-b", "options": {"pause_when": "smm_shadow", "smm_shadow_loss": "wait"}},
            examples.QUEUED_MIGRATION,
            "is queued: host-a owns the VM",
        ),
        (
            ["migrate", "cancel", "m"],
            "POST /v1/migrations/m/cancel",
            None,
            examples.QUEUED_MIGRATION,
            "being cancelled",
        ),
    ],
)
def test_a_command_sends_its_request_and_says_what_was_done(host, run, arguments, request_line, body, answer, said):
    key = request_line.partition("?")[0]
    host.answers[key] = (204 if answer == b"" else 200, answer)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert host.requests[-1][0] == request_line
    assert (host.bodies[-1] if host.bodies else None) == body
    assert said in result.output
    as_json = run(*arguments, "-o", "json")
    assert json.loads(as_json.stdout) == ({} if answer == b"" else answer)


def test_a_post_carries_a_fresh_idempotency_key(host, run):
    host.answers["POST /v1/vms/web-1/run"] = (200, VM)
    run("vm", "run", "web-1")
    run("vm", "run", "web-1")
    keys = [headers["Idempotency-Key"] for _, _, headers in host.requests]
    assert len(set(keys)) == 2


def test_a_vm_is_made_of_a_guest_with_parameters(host, run):
    host.answers["POST /v1/vms"] = (201, VM)
    result = run(
        "vm", "create", "web-1", "--guest", "ticker64", "--param", "ticks=100", "--param", "x=0x10", "--ram-mib", "2"
    )
    assert result.exit_code == 0, result.output
    body = host.bodies[0]
    assert (body["guest_params"], body["ram_bytes"], body["run"]) == ({"ticks": 100, "x": 16}, 2 << 20, False)


def test_a_vm_is_made_of_flat_images(host, run, tmp_path):
    image = tmp_path / "boot@home.bin"
    image.write_bytes(b"\xf4\xeb\xfd")
    host.answers["POST /v1/vms"] = (201, VM)
    assert run("vm", "create", "boot", "--image", f"{image}@0x7c00").exit_code == 0
    assert host.bodies[0]["images"] == [{"gpa": 0x7C00, "data_base64": base64.b64encode(b"\xf4\xeb\xfd").decode()}]


def test_a_vm_is_made_of_a_rom_or_a_kernel(host, run, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"\xf4\xeb\xfd")
    data = base64.b64encode(b"\xf4\xeb\xfd").decode()
    host.answers["POST /v1/vms"] = (201, VM)
    assert run("vm", "create", "boot", "--bios", str(image), "--cpu", "pentium", "--board", "pc").exit_code == 0
    assert host.bodies[0]["boot"] == {"kind": "bios", "data_base64": data, "append": ""}
    assert (host.bodies[0]["cpu_model"], host.bodies[0]["board"]) == ("pentium", "pc")
    assert run("vm", "create", "boot", "--multiboot", str(image), "--append", "a b").exit_code == 0
    assert host.bodies[1]["boot"] == {"kind": "multiboot", "data_base64": data, "append": "a b"}
    assert run("vm", "create", "boot", "--flat", f"{image}@0x7c00", "--entry", "0x7c01").exit_code == 0
    assert (host.bodies[2]["entry"], len(host.bodies[2]["images"])) == (0x7C01, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["vm", "create", "a", "--bios", "x", "--multiboot", "y"],
        ["vm", "create", "a", "--param", "ticks"],
        ["vm", "create", "a", "--image", "boot.bin"],
        ["vm", "create", "a", "--ram-mib", "0"],
        ["vm", "pause", "a", "--when", "lunch"],
        ["vm", "interrupt", "a", "256"],
        ["vm", "step", "a", "0"],
        ["vm", "nonsense"],
        ["vm", "list", "-o", "xml"],
        ["migrate", "start", "a"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_asks_no_host(host, run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert host.requests == []


def test_a_list_is_a_table_with_a_heading_and_follows_the_pages(host, run):
    host.answers["GET /v1/vms"] = [
        (200, {"items": [VM], "next": "c1"}),
        (200, {"items": [{**VM, "name": "b", "status": "stopped", "stop_reason": "debug_exit"}], "next": None}),
    ]
    result = run("vm", "list", "--status", "running", "--status", "stopped")
    lines = result.output.splitlines()
    assert lines[0].split()[:4] == ["NAME", "STATUS", "OWNER", "EPOCH"]
    assert [line.split()[0] for line in lines[1:]] == ["web-1", "b"]
    assert "stopped (debug_exit)" in lines[2]
    assert "16.0 MiB" in lines[1]
    assert host.requests[1][0] == "GET /v1/vms?cursor=c1&status=running&status=stopped"


@pytest.mark.parametrize(
    ("arguments", "path", "item"),
    [
        (["vm", "list"], "/v1/vms", VM),
        (["snapshot", "list", "--vm", "web-1"], "/v1/snapshots", examples.SNAPSHOT),
        (["peer", "list"], "/v1/peers", examples.PEER),
        (["migrate", "list", "--state", "completed"], "/v1/migrations", examples.MIGRATION),
    ],
)
def test_lists_are_exact_as_json(host, run, arguments, path, item):
    host.answers[f"GET {path}"] = page(item, item)
    result = run(*arguments, "-o", "json")
    assert json.loads(result.stdout) == [item, item]
    assert len(run(*arguments).output.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "path", "item"),
    [
        (["vm", "show", "web-1"], "/v1/vms/web-1", VM),
        (["snapshot", "show", "s"], "/v1/snapshots/s", examples.SNAPSHOT),
        (["migrate", "show", "m"], "/v1/migrations/m", examples.MIGRATION),
        (["state", "show", "web-1"], "/v1/vms/web-1/vcpus/0/state", examples.vcpu_state()),
        (["state", "get", "web-1"], "/v1/vms/web-1/vcpus/0/state", examples.vcpu_state()),
    ],
)
def test_one_record_is_exact_as_json_and_readable_as_a_table(host, run, arguments, path, item):
    host.answers[f"GET {path}"] = (200, item)
    assert json.loads(run(*arguments, "-o", "json").stdout) == item
    assert run(*arguments).exit_code == 0


def test_the_shadow_is_shown_in_words(host, run):
    state = examples.vcpu_state()
    state["events"]["interrupt"]["shadow"] = {"current": 1, "smm": 2}
    state["events"]["smi"]["smm"] = 1
    state["events"]["flags"] = 0x7D
    host.answers["GET /v1/vms/web-1/vcpus/0/state"] = (200, state)
    output = run("state", "show", "web-1").output
    assert re.search(r"^ +rip +0*8042", output, re.MULTILINE)
    assert re.search(r"^! interrupt\.shadow +1 +MOV SS", output, re.MULTILINE)
    assert re.search(r"^! interrupt\.shadow\.smm +2 +STI", output, re.MULTILINE)


def test_an_awkward_name_stays_one_path_segment(host, run):
    run("vm", "show", "../../v1/host")
    assert host.requests[0][0] == "GET /v1/vms/..%2F..%2Fv1%2Fhost"


def test_the_console_is_printed_as_it_is(host, run):
    chunk = {"offset": 0, "next_offset": 3, "text": "a\n", "data_base64": base64.b64encode(b"a\n\xff").decode()}
    end = {"offset": 3, "next_offset": 3, "text": "", "data_base64": ""}
    host.answers["GET /v1/vms/web-1/console"] = [(200, chunk), (200, end)]
    result = run("vm", "console", "web-1")
    assert result.stdout_bytes == b"a\n\xff"


def test_a_followed_console_ends_with_the_vm(host, run):
    end = {"offset": 0, "next_offset": 0, "text": "", "data_base64": ""}
    host.answers["GET /v1/vms/web-1/console"] = (200, end)
    host.answers["GET /v1/vms/web-1"] = [(200, VM), (200, {**VM, "status": "stopped"})]
    assert run("vm", "console", "web-1", "-f").exit_code == 0
    assert sum("console" in line for line, _, _ in host.requests) == 2
    assert "wait_s=2" in host.requests[0][0]


def test_a_snapshot_is_awaited(host, run):
    host.answers["POST /v1/snapshots"] = (202, examples.WRITING_SNAPSHOT)
    path = f"GET /v1/snapshots/{examples.SNAPSHOT['id']}"
    host.answers[path] = [(200, examples.WRITING_SNAPSHOT), (200, examples.SNAPSHOT)]
    assert "before-upgrade is ready" in run("snapshot", "create", "web-1").output
    failed = {**examples.SNAPSHOT, "status": "failed", "error": {"detail": "the disk is full"}}
    host.answers[path] = (200, failed)
    result = run("snapshot", "create", "web-1")
    assert (result.exit_code, "the disk is full" in result.stderr) == (1, True)


def test_a_download_is_complete_or_not_there(host, run, tmp_path):
    host.answers["GET /v1/snapshots/s/content"] = (200, b"bytes" * 1000)
    target = tmp_path / "s.migsvc"
    assert run("snapshot", "download", "s", str(target)).exit_code == 0
    assert target.read_bytes() == b"bytes" * 1000
    assert run("snapshot", "download", "none", str(tmp_path / "none")).exit_code == 3
    host.answers["GET /v1/snapshots/cut/content"] = (200, b"half", 4)
    assert run("snapshot", "download", "cut", str(tmp_path / "cut")).exit_code == 6
    assert [path.name for path in tmp_path.iterdir()] == ["s.migsvc"]


def test_an_upload_is_sent_byte_for_byte(host, run, tmp_path, monkeypatch):
    class Fixed:
        hex = "abc"

    monkeypatch.setattr("uuid.uuid4", lambda: Fixed)
    source = tmp_path / "s.migsvc"
    source.write_bytes(b"x" * 3_000_000)
    host.answers["PUT /v1/snapshots/abc/content"] = (201, examples.SNAPSHOT)
    result = run("snapshot", "upload", str(source), "--name", "mine")
    assert result.exit_code == 0, result.output
    line, body, headers = host.requests[0]
    assert (line, body) == ("PUT /v1/snapshots/abc/content?name=mine", b"x" * 3_000_000)
    assert headers["Content-Type"] == "application/octet-stream"


def sse(*events):
    return "".join(f"id: {e['seq']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def event(seq, kind="state", **data):
    return {"seq": seq, "at": "2026-11-22T10:00:00.123456Z", "type": kind, "data": data}


def test_a_watched_migration_is_followed_to_its_end(host, run):
    host.answers["POST /v1/migrations"] = (202, examples.QUEUED_MIGRATION)
    path = f"/v1/migrations/{examples.MIGRATION['id']}"
    host.answers[f"GET {path}/events"] = [
        (200, sse(event(1, state="connecting"), event(2, "round", pages=3)) + b": ping\n\n"),
        (200, sse(event(3, "end", state="completed"))),
    ]
    host.answers[f"GET {path}"] = (200, examples.MIGRATION)
    result = run("migrate", "start", "web-1", "host-b", "--watch")
    assert result.exit_code == 0, result.output
    assert "10:00:00.123  state     state connecting" in result.stderr
    assert "downtime 9.0 ms" in result.stdout
    resumed = [headers["Last-Event-ID"] for line, _, headers in host.requests if line.endswith("/events")]
    assert resumed == ["0", "2"]


def test_a_watched_migration_that_fails_names_the_owner(host, run):
    host.answers["POST /v1/migrations"] = (202, examples.QUEUED_MIGRATION)
    path = f"/v1/migrations/{examples.MIGRATION['id']}"
    host.answers[f"GET {path}/events"] = (200, sse(event(1, "end")))
    error = {
        "type": "/problems/incompatible",
        "detail": "it does not fit",
        "findings": [{"rule": "CMP-004", "message": "m"}],
    }
    failed = {**examples.QUEUED_MIGRATION, "state": "failed", "error": error}
    host.answers[f"GET {path}"] = (200, failed)
    result = run("migrate", "start", "web-1", "host-b", "-w")
    assert result.exit_code == 5
    assert "it does not fit; host-a owns the VM" in result.stderr
    assert "CMP-004: m" in result.stderr


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        (
            "end",
            {"state": "failed", "error": {"type": "/problems/incompatible", "detail": "no fit", "hint": "wait"}},
            "end       state failed: no fit (wait)",
        ),
        (
            "end",
            {"state": "failed", "error": {"detail": "no fit", "findings": [{"rule": "CMP-4", "message": "m"}, {}]}},
            "end       state failed: no fit; CMP-4: m, and 1 more",
        ),
        ("error", {"type": "/problems/peer-failed", "detail": "it is away"}, "error     it is away"),
        ("end", {"state": "completed"}, "end       state completed"),
    ],
)
def test_the_error_in_an_event_is_a_sentence(kind, data, line):
    from migsvc.cli.migrate import event_line

    assert event_line(event(1, kind, **data)) == f"10:00:00.123  {line}"


def test_state_is_put_from_a_file_or_standard_input(host, run, tmp_path):
    state = examples.vcpu_state()
    host.answers["PUT /v1/vms/web-1/vcpus/0/state"] = (200, state)
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state))
    assert run("state", "put", "web-1", str(file)).exit_code == 0
    assert run("state", "put", "web-1", "-", input=json.dumps(state)).exit_code == 0
    assert host.bodies == [state, state]
    file.write_text("{")
    assert run("state", "put", "web-1", str(file)).exit_code == 2
    assert run("state", "put", "web-1", str(tmp_path / "none")).exit_code == 2


@pytest.mark.parametrize(
    ("errors", "code"),
    [([{"where": "regs.rip", "message": "too large", "kind": "state"}], 5), ([{"where": "vcpu", "kind": "int"}], 2)],
)
def test_a_state_that_does_not_fit_the_schema_is_refused(host, run, tmp_path, errors, code):
    problem = {"type": "/problems/invalid-request", "status": 422, "detail": "no state", "errors": errors}
    host.answers["PUT /v1/vms/web-1/vcpus/0/state"] = (422, problem)
    file = tmp_path / "state.json"
    file.write_text(json.dumps({"regs": {"rip": -1}}))
    result = run("state", "put", "web-1", str(file))
    assert (result.exit_code, "no state" in result.stderr, errors[0]["where"] in result.stderr) == (code, True, True)


@pytest.mark.parametrize("kind", ["machine", "host profile"])
def test_a_document_of_another_kind_is_not_put(host, run, tmp_path, machine, kind):
    document = machine.model_dump(mode="json") if kind == "machine" else examples.host_profile()
    file = tmp_path / "other.json"
    file.write_text(json.dumps(document))
    result = run("state", "put", "web-1", str(file), "--vcpu", "0")
    assert (result.exit_code, kind in result.stderr, host.requests) == (2, True, [])
    assert "Field required" not in result.stderr
    assert kind != "machine" or f"migsvc state show {file} --vcpu 0 -o json" in result.stderr


def test_the_bundled_guests_are_listed_with_their_parameters(host, run):
    host.answers["GET /v1/host"] = (200, hosts.EXAMPLE)
    line = run("host", "guests").output.splitlines()[1]
    assert line.startswith("ticker64")
    assert line.endswith("ticks=500")
    assert json.loads(run("host", "guests", "-o", "json").stdout) == hosts.EXAMPLE["guests"]
    assert "profile" not in run("host", "show").output
