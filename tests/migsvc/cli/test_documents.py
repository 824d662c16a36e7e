"""Files told apart by content, and refused in words whatever is in them."""

import json
from pathlib import Path

import pytest

from migsvc.api import examples
from migsvc.cli.documents import MachineDocument, ProfileDocument, VcpuDocument, load_document, load_state
from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.raw_dir import raw_files, write_raw_dir
from migsvc.cli.session import CliError
from migsvc.cli.stream_files import MAX_MIGRATION_RAM_BYTES, stream_octets
from migsvc.stream import Config, StreamHeader, StreamWriter, zero_batches
from schemas.memory import MemoryMap, MemorySlot
from schemas.uapi import SECTIONS

PAGE = 4096


def test_each_kind_is_told_by_its_content(tmp_path, machine_file, machine, vcpu):
    (tmp_path / "a").write_text(machine.model_dump_json())
    (tmp_path / "b").write_text(vcpu.model_dump_json())
    (tmp_path / "c").write_text(json.dumps(examples.host_profile()))
    write_raw_dir(machine, tmp_path / "d")
    write_raw_dir(vcpu, tmp_path / "e")
    found = [load_document(path) for path in (machine_file, *(tmp_path / name for name in "abcde"))]
    assert [type(document) for document in found] == [
        *(MachineDocument, MachineDocument, VcpuDocument, ProfileDocument, MachineDocument, VcpuDocument)
    ]
    assert [getattr(document, "form", None) for document in found] == [
        *("stream", "json", "json", None, "raw-dir", "raw-dir")
    ]
    assert all(document.state == machine for document in found if isinstance(document, MachineDocument))
    assert all(document.state == vcpu for document in found if isinstance(document, VcpuDocument))


def test_the_memory_of_a_stream_can_be_read_by_address(machine_file):
    memory = load_document(machine_file).memory
    assert memory.read(0, PAGE, 2) == b"\x01\x00"
    assert memory.read(1, 0x30000, 4) == bytes(4)
    assert memory.read(0, PAGE - 1, PAGE + 2) == b"\x00\x01" + bytes(PAGE)
    with pytest.raises(LookupError, match="space 0"):
        memory.read(0, 1 << 40, 1)
    with pytest.raises(LookupError):
        memory.read(0, 0xFFFFF, 2)
    memory.write(0, PAGE - 1, b"abc")
    assert memory.read(0, PAGE - 1, 3) == b"abc"
    with pytest.raises(LookupError):
        memory.write(0, 0xFFFFE, b"abc")
    assert memory.read(0, 0xFFFFE, 2) == bytes(2)


def test_a_stream_is_written_again_octet_by_octet(machine_file):
    assert b"".join(stream_octets(load_document(machine_file).stream)) == Path(machine_file).read_bytes()


@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (b"", ExitCode.USAGE, "neither a stream nor JSON"),
        (b"\x00" * 100, ExitCode.USAGE, "neither"),
        (b"\xff\xfe", ExitCode.USAGE, "neither"),
        (b"[]", ExitCode.USAGE, "no document that migsvc knows"),
        (b"{}", ExitCode.USAGE, "no document"),
        (b"3", ExitCode.USAGE, "no document"),
        (b'{"a": 1}', ExitCode.USAGE, "no document"),
        (b'{"regs": 1, "regs": 2}', ExitCode.USAGE, "twice"),
        (b'{"regs": NaN}', ExitCode.USAGE, "NaN"),
        (b'{"regs":' * 100_000, ExitCode.USAGE, "neither"),
        (b'{"regs": {}}', ExitCode.REFUSED, "vCPU state does not fit"),
        (b'{"vcpus": []}', ExitCode.REFUSED, "machine does not fit"),
        (b'{"cpuid": {}, "vendor": 1}', ExitCode.REFUSED, "host profile does not fit"),
        (b"\x8bMIGSVC\n", ExitCode.INTEGRITY, "no sound stream"),
        (b"\x8bMIGSVC\n" + bytes(200), ExitCode.INTEGRITY, "no sound stream"),
    ],
)
def test_anything_else_is_refused_in_words(tmp_path, content, code, what):
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(CliError, match=what) as caught:
        load_document(file)
    assert caught.value.code == code
    assert str(file) in str(caught.value)


def test_every_cut_of_a_stream_is_told(machine_file, tmp_path):
    raw = Path(machine_file).read_bytes()
    file = tmp_path / "cut"
    for size in {1, 63, 64, 100, len(raw) // 2, len(raw) - 1}:
        file.write_bytes(raw[:size])
        with pytest.raises(CliError, match="stream"):
            load_document(file)
    damaged = bytearray(raw)
    damaged[len(raw) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CliError, match="stream") as caught:
        load_document(file)
    assert caught.value.problem["findings"][0]["rule"].startswith("STR-")


def test_a_stream_that_would_clear_much_memory_is_refused(tmp_path):
    size = MAX_MIGRATION_RAM_BYTES * 2
    slot = MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=size, backing_offset_bytes=0)
    config = Config("i", "n", "emulator", None, 1, "h", 2, MemoryMap(slots=(slot,), ram_bytes=size), 1)
    writer = StreamWriter(StreamHeader(bytes(16), 0, 2))
    pieces = [writer.header(), writer.config(config)]
    pieces += [writer.zero(batch) for batch in zero_batches(writer.extents, [(0, size // PAGE)])]
    file = tmp_path / "x"
    file.write_bytes(b"".join(pieces))
    assert file.stat().st_size < 1000
    with pytest.raises(CliError, match="no snapshot") as caught:
        load_document(file)
    assert caught.value.code == ExitCode.REFUSED


def test_a_missing_file_and_an_empty_directory(tmp_path):
    for path, what in ((tmp_path / "none", "No such file"), (tmp_path, "without state")):
        with pytest.raises(CliError, match=what) as caught:
            load_document(path)
        assert caught.value.code == ExitCode.USAGE


def test_a_profile_is_no_state(tmp_path):
    file = tmp_path / "p.json"
    file.write_text(json.dumps(examples.host_profile()))
    with pytest.raises(CliError, match="host profile, no state"):
        load_state(file)


def test_a_raw_dir_has_a_file_per_struct(tmp_path, machine, vcpu):
    names = write_raw_dir(machine, tmp_path / "m")
    assert {name for name in names if name.endswith(".bin")} == {
        *(f"vm/{name}.bin" for name in machine.to_sections().vm),
        *(f"vcpus/0/{name}.bin" for name in vcpu.to_sections()),
    }
    assert (tmp_path / "m/vcpus/0/regs.bin").read_bytes() == vcpu.regs.pack()
    assert set(raw_files(vcpu)) == {f"{row.name}.bin" for row in SECTIONS if row.name in vcpu.to_sections()}
    with pytest.raises(CliError, match="not empty"):
        write_raw_dir(vcpu, tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "contents", "what"),
    [
        ("vcpus/0/foo.bin", b"", "no struct of this name"),
        ("vcpus/0/regs.bin", b"1", "1 bytes, expected 144"),
        ("vcpus/0/msrs.bin", bytes(1 << 20), "1048576 bytes, expected 8 to"),
        ("vcpus/0/msrs.bin", b"\1" + bytes(7), "nmsrs"),
        ("vcpus/0/regs.bin", None, "required section is missing"),
        ("vcpus/2/regs.bin", bytes(144), "in sequence"),
        ("vcpus/x/regs.bin", bytes(144), "in sequence"),
        ("vm/clock.bin", b"", "0 bytes, expected 48"),
        ("memory.json", b"{}", "slots"),
        ("memory.json", b"", "memory.json"),
        ("memory.json", None, "No such file"),
        ("memory.json", b'{"slots": [], "slots": [], "ram_bytes": 0}', "occurs twice"),
        ("memory.json", b" " * (2 << 20), "at most 1048576"),
        ("regs.bin", bytes(144), "beside a machine"),
    ],
)
def test_a_raw_dir_with_something_wrong_is_refused(tmp_path, machine, name, contents, what):
    write_raw_dir(machine, tmp_path / "m")
    path = tmp_path / "m" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink() if contents is None else path.write_bytes(contents)
    with pytest.raises(CliError) as caught:
        load_document(tmp_path / "m")
    assert caught.value.code == ExitCode.REFUSED
    assert what in json.dumps(caught.value.problem["findings"])


@pytest.mark.parametrize("target", ["/nonexistent", "regs.bin"])
def test_links_that_lead_nowhere_are_told_by_name(tmp_path, machine, target):
    write_raw_dir(machine, tmp_path / "m")
    link = tmp_path / "m/vcpus/0/regs.bin"
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(CliError) as caught:
        load_document(tmp_path / "m")
    assert caught.value.code == ExitCode.REFUSED
    assert "vcpus/0/regs.bin" in json.dumps(caught.value.problem["findings"])


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, machine):
    write_raw_dir(machine, tmp_path / "m")
    (tmp_path / "m/vm").rename(tmp_path / "aside")
    (tmp_path / "m/vm").write_bytes(b"")
    with pytest.raises(CliError) as caught:
        load_document(tmp_path / "m")
    assert caught.value.problem["findings"][0]["where"] == "vm/"
