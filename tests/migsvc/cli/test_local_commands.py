"""Commands that need no host: `stream verify|describe`, `state check`."""

import json

import pytest

from migsvc.api import examples
from migsvc.stream import Config, StreamHeader, write_machine
from schemas.memory import MemoryMap, MemorySlot
from schemas.uapi import VCPU_SECTIONS

PAGE = 4096


def test_the_layout_is_described_as_json(run):
    assert json.loads(run("stream", "describe", server=False).stdout)["record_header_bytes"] == 32


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"GIF89a", b"\x8bMIGSVC\n" + bytes(100)])
def test_what_is_no_stream_is_exit_code_7_with_the_rule(run, tmp_path, content):
    file = tmp_path / "x.migsvc"
    file.write_bytes(content)
    result = run("stream", "verify", str(file), server=False)
    assert result.exit_code == 7
    assert result.output.startswith("STR-")
    assert result.output.rstrip().endswith("findings")
    document = json.loads(run("stream", "verify", str(file), "-o", "json", server=False).stdout)
    assert document["valid"] is False
    assert document["findings"]


def test_a_missing_file_is_told(run, tmp_path):
    result = run("stream", "verify", str(tmp_path / "none"), server=False)
    assert (result.exit_code, "none" in result.stderr) == (1, True)


@pytest.fixture
def stream_bytes():
    slot = MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=4 * PAGE, backing_offset_bytes=0)
    memory = MemoryMap(slots=(slot,), ram_bytes=4 * PAGE)
    config = Config("vm-1", "web", "emulator", None, 3, "host-a", 1, memory, 1, {"tsc_khz": 1_000_000})
    header = StreamHeader(bytes(range(16)), 1_700_000_000_000_000_000, 1)
    ram = bytearray(4 * PAGE)
    ram[PAGE] = 1
    vcpu = {name: bytes(row.model.SIZE) for name, row in VCPU_SECTIONS.items() if row.required}
    return b"".join(write_machine(header, config, ram, [(1, 1)], {}, [vcpu]))


def test_a_good_stream_is_valid(run, tmp_path, stream_bytes):
    file = tmp_path / "good.migsvc"
    file.write_bytes(stream_bytes)
    result = run("stream", "verify", str(file), server=False)
    assert (result.exit_code, result.output) == (0, f"{file}: valid, 0 findings\n")
    file.write_bytes(stream_bytes[:-1])
    assert run("stream", "verify", str(file), server=False).exit_code == 7


@pytest.fixture
def document():
    return examples.vcpu_state()


def check(run, tmp_path, document, *options):
    file = tmp_path / "state.json"
    file.write_text(json.dumps(document))
    return run("state", "check", str(file), *options, server=False)


def test_an_illegal_state_is_exit_code_5_with_every_rule(run, tmp_path, document):
    document["events"]["interrupt"]["shadow"] = {"current": 0, "smm": 2}
    result = check(run, tmp_path, document)
    assert result.exit_code == 5
    assert "INV-" in result.output
    listed = json.loads(check(run, tmp_path, document, "-o", "json").stdout)
    assert listed["legal"] is False
    assert sum(f["severity"] == "error" for f in listed["findings"]) >= 2


def test_a_document_that_does_not_fit_lists_every_place(run, tmp_path, document):
    document["regs"]["rax"] = "0x1" + "0" * 16
    del document["sregs"]
    result = check(run, tmp_path, document)
    assert result.exit_code == 5
    assert "regs.rax" in result.stderr
    assert "sregs" in result.stderr


def test_a_legal_state_is_exit_code_0(run, tmp_path, document):
    result = check(run, tmp_path, document)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("state.json: legal\n")
    listed = json.loads(check(run, tmp_path, document, "-o", "json").stdout)
    assert listed["legal"] is True
    assert [f for f in listed["findings"] if f["severity"] == "error"] == []
