"""`migsvc state convert --schema-version` and `--force`: files for older hosts."""

import json
from pathlib import Path

import pytest

from migsvc.cli import state_files
from migsvc.cli.documents import load_document
from migsvc.cli.raw_dir import write_raw_dir
from schemas.state import MachineState
from schemas.uapi.ioapic import KvmIrqchipIoapic

SMRAM_BYTE = 0x3FF1A
"""int_shadow of the 32-bit map at SMBASE 0x30000."""

SHADOW_FLAG = 0x40


@pytest.fixture
def cli(run):
    """Run a command without a host; return exit code, stdout, stderr."""

    def invoke(*arguments):
        result = run("state", *map(str, arguments), server=False)
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def lossy_file(machine_file):
    """The machine with an I/O APIC that is set up: version 1 has no section for it."""
    document = load_document(machine_file)
    ioapic = KvmIrqchipIoapic.zero().model_copy(update={"chip_id": 2})
    state = document.state.model_copy(update={"vm": document.state.vm.model_copy(update={"ioapic": ioapic})})
    state_files.save(state_files.with_state(document, state), machine_file)
    return machine_file


def test_a_stream_goes_to_version_1_with_its_shadow_in_smram(cli, run, machine_file, tmp_path):
    out = tmp_path / "old.migsvc"
    code, said, error = cli("convert", machine_file, out, "--schema-version", 1)
    assert code == 0, error
    assert "schema version 2 -> 1" in said
    assert f"SMRAM of vCPU 0: 02 at {SMRAM_BYTE:#x}" in said
    made = load_document(out)
    assert (made.stream.header.schema_version, made.stream.config.schema_version) == (1, 1)
    assert made.memory.read(1, SMRAM_BYTE, 1) == b"\x02"
    events = made.state.vcpus[0].events
    assert (events.flags & SHADOW_FLAG, events.interrupt.shadow.smm) == (0, 0)
    verified = run("stream", "verify", str(out), "-o", "json", server=False)
    assert (verified.exit_code, json.loads(verified.stdout)["summary"]["schema_version"]) == (0, 1)


def test_version_1_up_and_down_again_is_the_same_file(cli, machine_file, tmp_path):
    old, new, again = (tmp_path / name for name in ("old", "new", "again"))
    assert cli("convert", machine_file, old, "--schema-version", 1)[0] == 0
    assert cli("convert", old, new, "--schema-version", 2)[0] == 0
    shadow = load_document(new).state.vcpus[0].events.interrupt.shadow
    assert (shadow.smm, load_document(new).stream.header.schema_version) == (2, 2)
    assert cli("convert", new, again, "--schema-version", 1)[0] == 0
    assert again.read_bytes() == old.read_bytes()
    assert cli("convert", again, "--schema-version", 1)[0] == 0
    assert again.read_bytes() == old.read_bytes()


def test_the_same_version_changes_nothing(cli, machine_file):
    before = Path(machine_file).read_bytes()
    code, out, _ = cli("convert", machine_file, "--schema-version", 2)
    assert (code, "0 changes" in out, "schema version 2, as before" in out) == (0, True, True)
    assert Path(machine_file).read_bytes() == before


def test_a_version_1_file_that_says_more_is_brought_to_what_it_claims(cli, machine, tmp_path):
    from migsvc.stream import Config, StreamHeader, write_machine

    odd = tmp_path / "odd.migsvc"
    config = Config("vm-1", "web", "emulator", None, 3, "host-a", 1, machine.memory, 1)
    sections = machine.to_sections()
    ram = bytearray(machine.memory.ram_bytes)
    odd.write_bytes(
        b"".join(write_machine(StreamHeader(bytes(16), 0, 1), config, ram, [], sections.vm, sections.vcpus))
    )
    code, out, _ = cli("convert", odd, tmp_path / "up", "--schema-version", 2)
    assert (code, "LOSS-025" in out) == (0, True)
    assert load_document(tmp_path / "up").state.vcpus[0].events.interrupt.shadow.smm == 2
    assert cli("convert", odd, "--schema-version", 1)[0] == 0
    made = load_document(odd)
    assert made.stream.header.schema_version == 1
    assert made.state.vcpus[0].events.flags & SHADOW_FLAG == 0
    assert made.memory.read(1, SMRAM_BYTE, 1) == b"\x02"


def test_what_version_1_cannot_say_is_refused_unless_accepted(cli, lossy_file):
    before = Path(lossy_file).read_bytes()
    code, _, error = cli("convert", lossy_file, "--schema-version", 1)
    assert (code, "LOSS-020 error vm.ioapic" in error, "schema version 1 cannot say all" in error) == (5, True, True)
    code, out, _ = cli("convert", lossy_file, "--schema-version", 1, "--dry-run")
    assert (code, "LOSS-020" in out) == (5, True)
    assert Path(lossy_file).read_bytes() == before
    code, out, _ = cli("convert", lossy_file, "--schema-version", 1, "--accept-loss")
    assert (code, "LOSS-020" in out) == (0, True)
    made = load_document(lossy_file)
    assert (made.stream.header.schema_version, made.state.vm.ioapic) == (1, None)


@pytest.mark.parametrize("form", ["machine", "vcpu", "raw-dir"])
def test_every_form_is_converted(cli, machine, vcpu, tmp_path, form):
    file, out = tmp_path / "in", tmp_path / "out"
    vcpu = vcpu.model_copy(update={"index": 3})
    if form == "raw-dir":
        write_raw_dir(machine, file)
    else:
        file.write_text((vcpu if form == "vcpu" else machine).model_dump_json())
    code, said, error = cli("convert", file, out, "--schema-version", 1)
    assert code == 0, error
    number = 3 if form == "vcpu" else 0
    assert f"vCPU {number}: write 02 to {SMRAM_BYTE:#x} of address space 1 before it runs" in said
    assert f"vcpus.{number}.events" in said
    made = load_document(out)
    state = made.state.vcpus[0] if isinstance(made.state, MachineState) else made.state
    assert (state.index, state.events.flags & SHADOW_FLAG, state.events.interrupt.shadow.smm) == (number, 0, 0)
    back = cli("convert", out, tmp_path / "back", "--schema-version", 2)[1]
    assert "0 changes" in back


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (("--schema-version", 3), 2, "there is no schema version 3; known are 1, 2"),
        (("--schema-version", 1, "--carrier", "events_nibble"), 2, "schema version 1 has no carrier events_nibble"),
        (("--schema-version", 1, "--carrier", "nested_flags"), 2, "it has smram, none"),
        (("--schema-version", 1, "--carrier", "none"), 5, "LOSS-001"),
    ],
)
def test_a_version_and_a_carrier_must_go_together(cli, machine_file, options, code, what):
    before = Path(machine_file).read_bytes()
    found, _, error = cli("convert", machine_file, *options)
    assert (found, what in error) == (code, True), error
    assert Path(machine_file).read_bytes() == before


def test_a_version_and_a_carrier_in_one_go(cli, machine_file, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    assert cli("convert", machine_file, old, "--schema-version", 1, "--carrier", "smram")[0] == 0
    assert cli("convert", old, new, "--schema-version", 2, "--carrier", "smram")[0] == 0
    made = load_document(new)
    assert (made.stream.header.schema_version, made.state.vcpus[0].events.interrupt.shadow.smm) == (2, 0)
    assert made.memory.read(1, SMRAM_BYTE, 1) == b"\x02"


def test_the_source_decides_on_the_way_down_too(cli, machine_file, tmp_path):
    document = load_document(machine_file)
    document.memory.write(1, SMRAM_BYTE, b"\x01")
    state_files.save(document, machine_file)
    for source, byte in (("events_nibble", b"\x02"), ("smram", b"\x01")):
        out = tmp_path / source
        code, _, error = cli("convert", machine_file, out, "--schema-version", 1, "--source", source)
        assert code == 0, error
        assert load_document(out).memory.read(1, SMRAM_BYTE, 1) == byte


def test_a_state_that_is_illegal_for_another_reason_can_be_forced(cli, machine_file, tmp_path):
    assert cli("edit", machine_file, "--set", "vcpus[0].regs.rflags=0", "--force")[0] == 0
    out = tmp_path / "out"
    for options in (("--carrier", "smram"), ("--schema-version", 1)):
        code, _, error = cli("convert", machine_file, out, *options)
        assert (code, "INV-050" in error, "--force" in error, out.exists()) == (5, True, True, False)
        code, said, _ = cli("convert", machine_file, out, *options, "--force")
        assert (code, "INV-050" in said) == (0, True)
        assert load_document(out).state.vcpus[0].regs.rflags == 0
        out.unlink()
    code, _, error = cli("convert", machine_file, out, "--carrier", "none", "--force")
    assert (code, "LOSS-001" in error, out.exists()) == (5, True, False)  # a loss is another question


@pytest.mark.parametrize(
    "command", [("edit", "--set", "vcpus[0].regs.rip=1", "--to"), ("convert",)], ids=lambda c: c[0]
)
def test_a_target_that_is_no_file_is_told_by_its_own_name(cli, machine_file, tmp_path, command):
    name, *options = command
    (tmp_path / "dir").mkdir()
    for target, what in ((tmp_path / "dir", "is a directory"), (tmp_path / "none/out", "there is no directory")):
        code, _, error = cli(name, machine_file, *options, target)
        assert (code, f"{target}" in error, what in error) == (2, True, True), error
        assert "/." not in error
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dir", "machine.migsvc"]


def test_a_folder_that_may_not_be_written_is_told_without_the_temporary_name(cli, machine_file, tmp_path, monkeypatch):
    def refuse(**_named):
        raise PermissionError(13, "Permission denied", "/secret/.out.x1y2")

    monkeypatch.setattr(state_files.tempfile, "mkstemp", refuse)
    code, _, error = cli("edit", machine_file, "--set", "vcpus[0].regs.rip=1", "--to", tmp_path / "out")
    assert (code, f"Permission denied: '{tmp_path / 'out'}'" in error, "x1y2" in error) == (1, True, False)


def test_two_values_for_one_place_are_refused(cli, machine_file):
    before = Path(machine_file).read_bytes()
    sets = ("vcpus[0].regs.rip=1", "vcpus[0].regs.rip=2")
    code, _, error = cli("edit", machine_file, *(word for text in sets for word in ("--set", text)))
    assert (code, " and ".join(sets) in error) == (5, True)
    assert Path(machine_file).read_bytes() == before


def test_a_wrong_memory_map_is_told_in_our_words(cli, machine, tmp_path):
    document = machine.model_dump(mode="json")
    document["memory"]["ram_bytes"] = "0x10"
    (tmp_path / "m.json").write_text(json.dumps(document))
    code, _, error = cli("check", tmp_path / "m.json")
    assert (code, "ram_bytes 0x10 must be" in error, "Value error" in error) == (5, True, False)
