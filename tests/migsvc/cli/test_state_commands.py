"""`migsvc state` on files: show, diff, edit, convert, check."""

import json
import re
import stat
from pathlib import Path

import pytest

from migsvc.api import examples
from migsvc.cli import state_files
from migsvc.cli.documents import load_document
from migsvc.cli.raw_dir import write_raw_dir
from schemas.diff import diff_states
from schemas.edit import edit_state
from schemas.shadow import SmmCarrier, carrier_shadow

SMRAM_BYTE = 0x3FF1A
"""int_shadow of the 32-bit map at SMBASE 0x30000."""


@pytest.fixture
def cli(run, monkeypatch):
    """Run a command without a host; return exit code, stdout, stderr."""

    def invoke(*arguments, **options):
        result = run("state", *map(str, arguments), server=False, **options)
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def other_file(tmp_path, machine_file, cli):
    """The machine with another RIP, RFLAGS.ZF and TSC."""
    file = tmp_path / "other.migsvc"
    file.write_bytes(Path(machine_file).read_bytes())
    sets = ("vcpus[0].regs.rip=5", "vcpus[0].regs.rflags.ZF=1", "vcpus[0].msrs.MSR_IA32_TSC=7")
    code, _, error = cli("edit", file, *(word for text in sets for word in ("--set", text)))
    assert code == 0, error
    return str(file)


def test_a_stream_is_shown_as_a_page(cli, machine_file):
    code, out, _ = cli("show", machine_file)
    assert code == 0
    first, *_ = out.splitlines()
    assert "VM web of host-a, epoch 3, 2023-11-14 22:13:20 UTC" in first
    assert re.search(r"^! interrupt\.shadow\.smm +2 +STI", out, re.MULTILINE)
    assert "xcr0" not in out
    _, everything, _ = cli("show", machine_file, "--all")
    assert len(everything.splitlines()) > 2 * len(out.splitlines())


def test_names_in_a_stream_cannot_steer_the_terminal(cli, machine_file, monkeypatch):
    from migsvc.cli import state_page

    document = load_document(machine_file)
    object.__setattr__(document.stream.config, "vm_name", "a\x1b[31mb\n")
    line = state_page.origin_line(document)
    assert "\x1b" not in line
    assert "\n" not in line


def test_every_form_shows_the_same_document(cli, machine_file, machine, tmp_path):
    document = json.loads(cli("show", machine_file, "-o", "json")[1])
    assert document == machine.model_dump(mode="json")
    code, out, _ = cli("show", machine_file, "-o", "raw-dir", "--to", tmp_path / "d")
    assert (code, out) == (0, f"{tmp_path / 'd'}: {len(list((tmp_path / 'd').rglob('*.*')))} files\n")
    assert json.loads(cli("show", tmp_path / "d", "-o", "json")[1]) == document
    assert json.loads(cli("show", machine_file, "--vcpu", 0, "-o", "json")[1]) == document["vcpus"][0]
    assert json.loads(cli("show", "-", "-o", "json", input=json.dumps(document))[1]) == document


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--vcpu", 3], 3, "no vCPU 3"),
        (["-o", "raw-dir"], 2, "--to DIR"),
        (["--to", "x"], 2, "-o raw-dir"),
    ],
)
def test_show_refuses_what_it_cannot_do(cli, machine_file, arguments, code, what):
    found, _, error = cli("show", machine_file, *arguments)
    assert (found, what in error) == (code, True)


def test_a_path_without_a_file_is_no_vm(cli):
    for name in ("./none", "none.json", "none.migsvc"):
        code, _, error = cli("show", name)
        assert (code, "No such file" in error) == (2, True)


def test_a_vm_is_shown_and_compared(run, host, vcpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    host.answers["GET /v1/vms/web/vcpus/0/state"] = (200, vcpu.model_dump(mode="json"))
    host.answers["GET /v1/vms/web/vcpus/1/state"] = (200, {"regs": {}})
    shown = run("state", "show", "web").stdout
    assert shown.startswith("VM web\n")
    assert "in SMM" in shown
    (tmp_path / "x.json").write_text(edit_state(vcpu, ["regs.rip=5"]).state.model_dump_json())
    result = run("state", "diff", "web", "x.json")
    assert (result.exit_code, "regs.rip  0x8042 -> 0x5" in result.stdout) == (1, True)
    odd = run("state", "show", "web", "--vcpu", "1")
    assert (odd.exit_code, "does not fit the schema" in odd.stderr) == (5, True)


def test_equal_states_are_exit_code_0_and_different_ones_1(cli, machine_file, other_file):
    assert cli("diff", machine_file, machine_file) == (0, "0 differences\n", "")
    code, out, _ = cli("diff", machine_file, other_file)
    assert code == 1
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "vcpus[0].regs.rip 0x8042 -> 0x5",
        "vcpus[0].regs.rflags ZF set (0x2 -> 0x42)",
        "vcpus[0].msrs.MSR_IA32_TSC added as 0x7 [time]",
        "3 differences",
    ]
    assert cli("diff", machine_file, other_file, "--ignore", "time", "--ignore", "regs")[:2] == (
        0,
        "0 differences, 3 ignored\n",
    )


def test_a_diff_is_json_and_json_patch_too(cli, machine_file, other_file):
    code, out, _ = cli("diff", machine_file, other_file, "-o", "json", "--ignore", "time")
    document = json.loads(out)
    assert (code, document["equal"], document["ignored"]) == (1, False, 1)
    assert document["changes"][0] == {
        "path": "vcpus[0].regs.rip", "kind": "changed", "text": "0x8042 -> 0x5", "old": "0x8042", "new": "0x5",
        "classes": [],
    }  # fmt: skip
    patch = json.loads(cli("diff", machine_file, other_file, "-o", "patch", "--ignore", "time")[1])
    assert patch[0] == {"op": "replace", "path": "/vcpus/0/regs/rip", "value": "0x5"}
    assert json.loads(cli("diff", machine_file, machine_file, "-o", "patch")[1]) == []


def test_a_machine_is_compared_with_a_vcpu(cli, machine_file, vcpu, tmp_path):
    file = tmp_path / "v.json"
    file.write_text(vcpu.model_dump_json())
    assert cli("diff", machine_file, file)[0] == 0
    assert cli("diff", file, machine_file)[0] == 0
    file.write_text(vcpu.model_copy(update={"index": 1}).model_dump_json())
    code, _, error = cli("diff", file, machine_file)
    assert (code, "no vCPU 1" in error) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["--ignore", "!"], "no pattern"), (["--memory"], "has no guest memory")],
)
def test_a_diff_that_cannot_be_made_is_exit_code_2(cli, machine, tmp_path, arguments, what):
    file = tmp_path / "m.json"
    file.write_text(machine.model_dump_json())
    code, _, error = cli("diff", file, file, *arguments)
    assert (code, what in error) == (2, True)
    assert cli("diff", "-", "-")[0] == 2


def test_guest_memory_is_compared_by_page(cli, machine_file, tmp_path):
    document = load_document(machine_file)
    document.memory.write(0, 0x5FFF, b"\x01\x02")
    document.memory.write(0, 0x9000, b"\x01")
    changed = tmp_path / "changed.migsvc"
    state_files.save(document, str(changed))
    assert cli("diff", machine_file, changed)[0] == 0
    code, out, _ = cli("diff", machine_file, changed, "--memory")
    assert (code, out.splitlines()[:2]) == (
        1,
        [
            "memory: 2 pages of address space 0 from 0x5000 on",
            "memory: 1 page of address space 0 from 0x9000 on",
        ],
    )
    pages = json.loads(cli("diff", machine_file, changed, "--memory", "-o", "json")[1])["memory"]
    assert pages == [{"as_id": 0, "gpa": "0x5000", "pages": 2}, {"as_id": 0, "gpa": "0x9000", "pages": 1}]


def test_an_edited_stream_is_sound_and_says_what_was_asked(cli, run, machine_file, machine):
    path = "vcpus[0].events.interrupt.shadow.smm"
    code, out, _ = cli("edit", machine_file, "--set", f"{path}=mov_ss")
    assert code == 0
    assert f"{path}: sti -> mov_ss" in out
    assert run("stream", "verify", machine_file, server=False).exit_code == 0
    made = load_document(machine_file)
    assert [change.path for change in diff_states(machine, made.state).changes] == [path]
    assert made.memory.read(1, SMRAM_BYTE, 1) == b"\x01"  # RSM reads it there
    assert made.memory.read(0, 4096, 1) == b"\x01"


@pytest.mark.parametrize("form", ["json", "raw-dir", "vcpu"])
def test_every_form_is_written_as_it_was(cli, machine, vcpu, tmp_path, form):
    target = tmp_path / "x"
    path = "regs.rip" if form == "vcpu" else "vcpus[0].regs.rip"
    if form == "raw-dir":
        write_raw_dir(machine, target)
        (target / "README").write_text("mine")
    else:
        target.write_text((vcpu if form == "vcpu" else machine).model_dump_json())
        target.chmod(0o640)
    assert cli("edit", target, "--set", f"{path}=0x77", "--set", f"{path[:-8]}sregs2=null")[0] == 0
    document = load_document(target)
    assert cli("show", target, "-o", "json")[1].count('"0x77"') == 1
    assert document.form == ("raw-dir" if form == "raw-dir" else "json")
    if form == "raw-dir":
        assert (target / "README").read_text() == "mine"
    else:
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_section_that_is_taken_out_has_no_file_left(cli, machine, tmp_path):
    write_raw_dir(machine, tmp_path / "x")
    assert (tmp_path / "x/vm/clock.bin").exists()
    assert cli("edit", tmp_path / "x", "--set", "vm.clock=null")[0] == 0
    assert not (tmp_path / "x/vm/clock.bin").exists()


def test_an_illegal_result_is_not_written(cli, machine_file):
    before = Path(machine_file).read_bytes()
    code, _, error = cli("edit", machine_file, "--set", "vcpus[0].regs.rflags=0")
    assert (code, "INV-050" in error) == (5, True)
    assert Path(machine_file).read_bytes() == before
    code, out, _ = cli("edit", machine_file, "--set", "vcpus[0].regs.rflags=0", "--dry-run")
    assert (code, "INV-050" in out) == (5, True)
    assert cli("edit", machine_file, "--set", "vcpus[0].regs.rflags=0", "--dry-run", "--force")[0] == 0
    assert cli("edit", machine_file, "--set", "vcpus[0].regs.rip=5", "--dry-run")[0] == 0
    assert Path(machine_file).read_bytes() == before
    assert cli("edit", machine_file, "--set", "vcpus[0].regs.rflags=0", "--force")[0] == 0
    assert cli("check", machine_file)[0] == 5


def test_wrong_paths_and_values_are_told_together(cli, machine_file):
    before = Path(machine_file).read_bytes()
    code, _, error = cli("edit", machine_file, "--set", "vcpus[0].regs.foo=1", "--set", "vcpus[0].regs.rip=x")
    assert code == 5
    assert "regs.foo" in error
    assert "regs.rip" in error
    assert Path(machine_file).read_bytes() == before


def test_an_edit_goes_to_another_file_or_to_stdout(cli, machine_file, vcpu, tmp_path):
    before = Path(machine_file).read_bytes()
    assert cli("edit", machine_file, "--set", "vcpus[0].regs.rip=1", "--to", tmp_path / "new")[0] == 0
    assert Path(machine_file).read_bytes() == before
    assert load_document(tmp_path / "new").state.vcpus[0].regs.rip == 1
    code, out, error = cli("edit", "-", "--set", "regs.rip=1", input=vcpu.model_dump_json())
    assert code == 0
    assert json.loads(out)["regs"]["rip"] == "0x1"
    assert "regs.rip: 0x8042 -> 0x1" in error


def test_the_report_of_an_edit_is_json_too(cli, machine_file):
    report = json.loads(cli("edit", machine_file, "--set", "vcpus[0].regs.rip=1", "-o", "json")[1])
    assert (report["written"], report["changes"][0]["path"], report["notes"]) == (True, "vcpus[0].regs.rip", [])


def test_a_full_disk_leaves_the_old_file(cli, machine_file, monkeypatch):
    before = Path(machine_file).read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_files.os, "fsync", full)
    code, _, error = cli("edit", machine_file, "--set", "vcpus[0].regs.rip=1")
    assert (code, "No space left" in error) == (1, True)
    assert Path(machine_file).read_bytes() == before
    assert len(list(Path(machine_file).parent.iterdir())) == 1


def test_what_an_older_version_cannot_say_is_written_in_the_present_one(cli, tmp_path, machine, run):
    old = tmp_path / "old.migsvc"
    plain = edit_state(machine, ["vcpus[0].events.interrupt.shadow.smm=none", "vcpus[0].events.flags=0x3d"]).state
    write_version_1(old, plain)
    assert "schema version" not in cli("edit", old, "--set", "vcpus[0].regs.rip=1")[1]
    assert load_document(old).stream.header.schema_version == 1
    code, out, _ = cli("edit", old, "--set", "vcpus[0].events.interrupt.shadow.smm=sti")
    assert (code, "written as schema version 2: version 1 has no event flags 0x40" in out) == (0, True)
    assert load_document(old).stream.header.schema_version == 2
    assert run("stream", "verify", str(old), server=False).exit_code == 0


def write_version_1(path, state):
    from migsvc.stream import Config, StreamHeader, write_machine

    config = Config("vm-1", "web", "emulator", None, 3, "host-a", 1, state.memory, 1)
    sections = state.to_sections()
    ram = bytearray(state.memory.ram_bytes)
    pieces = write_machine(StreamHeader(bytes(16), 0, 1), config, ram, [], sections.vm, sections.vcpus)
    path.write_bytes(b"".join(pieces))


def test_the_shadow_put_aside_goes_to_smram_and_back(cli, machine_file, machine, run):
    code, out, _ = cli("convert", machine_file, "--carrier", "smram")
    assert (code, "LOSS-012" in out) == (0, True)
    moved = load_document(machine_file)
    assert moved.memory.read(1, SMRAM_BYTE, 1) == b"\x02"
    assert carrier_shadow(moved.state.vcpus[0], SmmCarrier.EVENTS_NIBBLE) is None
    assert run("stream", "verify", machine_file, server=False).exit_code == 0
    assert cli("convert", machine_file, "--carrier", "events_nibble")[0] == 0
    assert load_document(machine_file).state == machine


def test_a_shadow_that_would_be_lost_is_refused_unless_accepted(cli, machine_file):
    before = Path(machine_file).read_bytes()
    code, _, error = cli("convert", machine_file, "--carrier", "none")
    assert (code, "LOSS-001" in error) == (5, True)
    assert Path(machine_file).read_bytes() == before
    code, out, _ = cli("convert", machine_file, "--carrier", "none", "--dry-run")
    assert (code, "LOSS-001" in out) == (5, True)
    assert cli("convert", machine_file, "--carrier", "none", "--dry-run", "--accept-loss")[0] == 0
    assert Path(machine_file).read_bytes() == before
    code, out, _ = cli("convert", machine_file, "--carrier", "none", "--accept-loss", "-o", "json")
    report = json.loads(out)
    assert (code, [f["rule"] for f in report["findings"] if f["severity"] == "error"]) == (0, ["LOSS-001"])
    assert load_document(machine_file).state.vcpus[0].events.interrupt.shadow.smm == 0


def test_without_memory_the_write_to_smram_is_told(cli, vcpu, tmp_path):
    file = tmp_path / "v.json"
    file.write_text(vcpu.model_dump_json())
    code, out, _ = cli("convert", file, tmp_path / "out.json", "--carrier", "smram")
    assert (code, "write 02 to 0x3ff1a of address space 1 before it runs" in out) == (0, True)
    assert load_document(tmp_path / "out.json").state.events.interrupt.shadow.smm == 0
    assert load_document(file).state == vcpu


def test_every_kind_of_file_can_be_checked(cli, machine, machine_file, vcpu, tmp_path):
    (tmp_path / "m.json").write_text(machine.model_dump_json())
    (tmp_path / "v.json").write_text(vcpu.model_dump_json())
    (tmp_path / "p.json").write_text(json.dumps(examples.host_profile()))
    write_raw_dir(machine, tmp_path / "d")
    for path in (machine_file, *(tmp_path / name for name in ("m.json", "v.json", "d"))):
        code, out, error = cli("check", path)
        assert (code, out.endswith(": legal\n")) == (0, True), error
    assert "host profile" in cli("check", tmp_path / "p.json")[1]
    Path(machine_file).write_bytes(Path(machine_file).read_bytes()[:-1])
    assert cli("check", machine_file)[0] == 7


def test_the_save_area_of_a_stream_in_smm_is_checked_too(cli, machine_file):
    assert "INV-171" not in cli("check", machine_file)[1]
    document = load_document(machine_file)
    document.memory.write(1, SMRAM_BYTE, b"\x06")
    state_files.save(document, machine_file)
    code, out, _ = cli("check", machine_file)
    assert (code, "INV-171" in out) == (0, True)


def test_the_vendor_of_the_host_decides_about_its_rules(cli, vcpu, tmp_path):
    file = tmp_path / "v.json"
    file.write_text(vcpu.model_dump_json())
    unknown = json.loads(cli("check", file, "-o", "json")[1])["findings"]
    intel = json.loads(cli("check", file, "-o", "json", "--host-vendor", "GenuineIntel")[1])["findings"]
    assert {f["severity"] for f in unknown} <= {"warning", "note"}
    assert unknown != intel


@pytest.mark.parametrize("words", [("check", "--host-vendor"), ("convert", "--dry-run", "--vendor")])
def test_a_misspelt_vendor_is_refused_and_does_not_switch_rules_off(cli, machine_file, words):
    command, *options = words
    code, _, error = cli(command, machine_file, *options, "GenuineIntl")
    assert (code, "AuthenticAMD" in error) == (2, True)
    assert cli(command, machine_file, *options, "GenuineIntel")[0] != 2


def test_no_carrier_is_a_target_and_no_source(cli, machine_file):
    assert cli("convert", machine_file, "--source", "none", "--dry-run")[0] == 2
