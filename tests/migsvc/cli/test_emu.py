"""`migsvc emu` in the process of the test, and in one of its own where a terminal or a signal matters."""

from __future__ import annotations

import json
import lzma
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from migsvc.cli import app
from migsvc.cli.emu_machine import parse_size
from migsvc.cli.session import CliError

HELLO = bytes.fromhex("ba f803 b0 48 ee b0 69 ee".replace(" ", ""))  # "Hi" to COM1
EXIT_3 = bytes.fromhex("b003 e6f4")
COUNT = bytes.fromhex("40 ebfd")  # inc ax; jmp


@pytest.fixture
def run(tmp_path):
    """Run the command; images are given as `name=bytes` and put where {name} is in the arguments."""

    def call(*arguments, **images):
        for name, data in images.items():
            (tmp_path / name).write_bytes(data)
        places = {name: str(tmp_path / name) for name in os.listdir(tmp_path)} | {"dir": str(tmp_path)}
        for name, place in places.items():
            arguments = [argument.replace(f"{{{name}}}", place) for argument in arguments]
        return CliRunner().invoke(app, ["emu", *arguments])

    return call


def kernel(code):
    """A multiboot kernel with its addresses in the header; the code begins at 0x100020."""
    flags = 1 << 16
    return (
        struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *[0x100000] * 2, 0, 0, 0x100020)
        + code
    )


def flat(run, code, *options):
    return run("run", "--flat", "{image}@0x7c00", *options, image=code)


def test_the_serial_port_is_standard_output_and_the_guest_chooses_the_status(run):
    result = flat(run, HELLO + EXIT_3)
    assert (result.stdout, result.exit_code) == ("Hi", 7)


@pytest.mark.parametrize(
    ("code", "options", "status", "said"),
    [
        (b"\xf4", [], 0, ""),
        (COUNT, ["--max-instructions", "1000"], 4, "1000 instructions are done"),
        (COUNT, ["--max-instructions", "0"], 4, "0 instructions are done"),
        (bytes.fromhex("0f011e007d 0f0b").ljust(0x100, b"\0"), [], 6, "triple_fault"),
        (bytes.fromhex("b0ff e6f4"), [], 255, ""),
        (bytes.fromhex("31c0 e6f4"), [], 1, ""),
    ],
)
def test_exit_statuses(run, code, options, status, said):
    result = flat(run, code, *options)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr


def test_an_instruction_that_is_not_emulated_is_named(run, monkeypatch):
    from emulator import instruction

    find = instruction.find_block
    monkeypatch.setattr(instruction, "find_block", lambda insn: None if insn.code == b"\x0f\xa2" else find(insn))
    result = flat(run, HELLO + b"\x0f\xa2")
    assert (result.exit_code, result.stdout) == (8, "Hi")
    assert "0f a2" in result.stderr


def test_a_trace_has_a_line_for_each_instruction(run):
    result = flat(run, EXIT_3, "--trace")
    assert [line.split()[2] for line in result.stderr.splitlines()] == ["0000:7c00", "0000:7c02"]
    assert result.exit_code == 7


def test_post_codes_and_the_debug_console_go_to_stderr(run):
    code = bytes.fromhex("b042 e690 b064 e6e9") + EXIT_3
    result = flat(run, code, "--post-port", "0x90")
    assert result.stdout == ""
    assert result.stderr.split() == ["POST", "42", "d"]


def test_a_kernel_is_told_apart_by_its_contents_and_gets_its_command_line(run):
    code = bytes.fromhex("8b7310 ac 84c0 7407 66baf803 ee ebf4 b003 e6f4")
    result = run("run", "{k}", "--append", "a=1", k=kernel(code))
    assert result.exit_code == 7
    assert result.stdout.endswith("k a=1")
    assert run("run", "--multiboot", "{k}", "--cpu", "pentium", "--ram", "2M").exit_code == 7


def test_a_rom_begins_at_the_reset_vector(run):
    rom = b"\x90" * 0xFF0 + (HELLO + EXIT_3).ljust(16, b"\xf4")
    result = run("run", "--bios", "{rom}", "--ram", "1M", rom=rom)
    assert (result.stdout, result.exit_code) == ("Hi", 7)


@pytest.mark.parametrize("entry", ["0x7c03", "7c0:3", "0000:7C03"])
def test_flat_images_begin_at_the_entry(run, entry):
    assert flat(run, b"\xf4" * 3 + EXIT_3, "--entry", entry).exit_code == 7


def test_a_bundled_guest_runs(run):
    result = run("run", "ticker32", "--param", "ticks=3")
    assert "final tick 000003" in result.stdout


def test_a_machine_goes_on_where_it_was_written(run, tmp_path):
    whole = run("run", "smm_corners")
    first = run("run", "smm_corners", "--snapshot-at", "700", "{dir}/a.migsvc", "--max-instructions", "700")
    assert first.exit_code == 4
    rest = run("run", "{dir}/a.migsvc")
    assert (first.stdout + rest.stdout, rest.exit_code) == (whole.stdout, whole.exit_code)
    both = run("run", "--resume", "{dir}/a.migsvc", "--snapshot-at", "100", "{dir}/b.migsvc")
    assert both.stdout == rest.stdout
    once_more = run("run", "--resume", "{dir}/b.migsvc")
    assert rest.stdout.endswith(once_more.stdout)
    assert once_more.exit_code == whole.exit_code
    assert CliRunner().invoke(app, ["stream", "verify", str(tmp_path / "b.migsvc")]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "nothing to run"),
        (["{rom}", "--bios", "{rom}"], 2, "given together"),
        (["nothing"], 2, "bundled guest is needed"),
        (["--bios", "{dir}/none"], 2, "No such file"),
        (["--bios", "{rom}"], 5, "a ROM of 3 bytes"),
        (["{rom}"], 5, "no multiboot header"),
        (["--flat", "{rom}"], 2, "FILE@ADDRESS"),
        (["--flat", "{rom}@0", "--entry", "here"], 2, "--entry here"),
        (["--flat", "{rom}@0", "--entry", "0x200000"], 2, "real mode"),
        (["--flat", "{rom}@0", "--ram", "7"], 0, ""),
        (["--flat", "{rom}@0", "--ram", "1T"], 2, "--ram 1T"),
        (["--flat", "{rom}@0", "--cpu", "6502"], 5, "6502"),
        (["--flat", "{rom}@0", "--board", "atari"], 2, "atari"),
        (["ticker32", "--cpu", "pentium"], 2, "its own CPU model"),
        (["--resume", "{rom}"], 7, "no sound stream"),
        (["--resume", "{rom}", "--cpu", "pentium"], 2, "keeps its RAM"),
        (["--flat", "{rom}@0", "--board", "pc", "--snapshot-at", "0", "{dir}/x"], 5, "PC board"),
    ],
)
def test_what_cannot_run_is_told_in_words(run, arguments, status, said):
    result = run("run", *arguments, rom=b"\xf4\xf4\xf4")
    assert said in result.stderr
    assert result.exit_code == status


def test_sizes():
    assert [parse_size(text) for text in ("4k", "64", "2M", "1G")] == [4096, 64 << 20, 2 << 20, 1 << 30]
    for text in ("0", "-1", "1.5M", "65G", "x", ""):
        with pytest.raises(CliError):
            parse_size(text)


# Vectors


def vector(name, ax):
    regs = dict.fromkeys(("ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di"), 0)
    init = {"regs": {**regs, "ip": 0x100, "flags": 2}, "ram": [[0x100, 0x40], [0x101, 0xF4]]}
    return {"form": "40", "name": name, "init": init, "final": {"regs": {"ax": ax, "ip": 0x102}}}


def lines(*vectors):
    return "".join(json.dumps(each) + "\n" for each in vectors).encode()


def test_vectors_are_counted_by_form_and_a_failure_is_status_1(run):
    data = lines(vector("inc ax", 1), vector("inc ax wrong", 2))
    result = run("vectors", "{v.jsonl}", "-o", "json", **{"v.jsonl": data})
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["forms"] == [{"form": "40", "passed": 1, "failed": 1, "excluded": 0}]
    assert found["failures"][0]["differences"] == {"ax": {"held": 1, "expected": 2}}
    table = run("vectors", "{v.jsonl}")
    assert table.exit_code == 1
    assert re.search(r"^ +40 +1 +1 +0$", table.stdout, re.M)
    assert "inc ax wrong: ax 0x1 expected 0x2" in table.stdout


def test_vectors_are_excluded_limited_and_decompressed(run):
    data = lzma.compress(lines(vector("inc ax", 1), vector("inc ax wrong", 2)))
    assert run("vectors", "{v.jsonl.xz}", "--limit", "1", **{"v.jsonl.xz": data}).exit_code == 0
    result = run("vectors", "{v.jsonl.xz}", "--exclude", "lock, *wrong")
    assert result.exit_code == 0
    assert "1 passed, 0 failed, 1 excluded" in result.stdout
    assert "stack-overrun" in run("vectors", "--list-exclusions").stdout


def test_either_tier_can_be_asked_for(run):
    data = lines(vector("inc ax", 1))
    assert run("vectors", "{v}", "--tier", "reference", v=data).stderr == ""
    assert flat(run, EXIT_3, "--tier", "reference").exit_code == 7
    assert run("vectors", "{v}", "--tier", "fast", "--cpu", "286").exit_code == 2


def test_a_fast_tier_that_is_not_installed_is_told_of(run, monkeypatch):
    compiled = pytest.importorskip("emulator.fast.compiled")

    def missing():
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(compiled, "compiled", missing)
    for arguments in (["vectors", "{v}"], ["run", "--flat", "{v}@0"]):
        result = run(*arguments, "--tier", "fast", v=lines(vector("inc ax", 1)))
        assert (result.exit_code, "migsvc[fast]" in result.stderr) == (2, True)


def test_masks_of_flags_lie_beside_the_vectors_or_are_named(run):
    wrong = vector("inc ax", 1)
    wrong["final"]["regs"]["flags"] = 3
    assert run("vectors", "{v}", v=lines(wrong)).exit_code == 1
    assert run("vectors", "{v}", "--flags", "{m}", m=b'{"40": "0xfffe"}').exit_code == 0
    assert run("vectors", "{v}", **{"defined_flags.json": b'{"40": "0xfffe"}'}).exit_code == 0
    assert run("vectors", "{v}", "--flags", "{m}", m=b"[]").exit_code == 2


@pytest.mark.parametrize("data", [b"x\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\n", b"a" * (5 << 20)])
def test_what_is_no_vector_is_wrong_usage(run, data):
    result = run("vectors", "{v}", v=data)
    assert result.exit_code == 2
    assert "line 1" in result.stderr


def test_a_damaged_archive_and_an_unknown_model_are_wrong_usage(run):
    assert run("vectors", "{v.xz}", **{"v.xz": b"no archive"}).exit_code == 2
    assert run("vectors", "{dir}/none").exit_code == 2
    assert run("vectors", "{v}", "--cpu", "6502", v=lines(vector("inc ax", 1))).exit_code == 2


# In a process of its own

# lsr: mov dx,3fd; in al,dx; test al,1; jz lsr; mov dl,f8; in al,dx; out dx,al; cmp al,'q'; jnz lsr; exit
ECHO = bytes.fromhex("bafd03 ec a801 74f8 b2f8 ec ee 3c71 75f0") + EXIT_3


@pytest.fixture
def start(tmp_path):
    made = []

    def begin(code, *options):
        (tmp_path / "image").write_bytes(code)
        command = [sys.executable, "-m", "migsvc", "emu", "run", "--flat", f"{tmp_path}/image@0x7c00", *options]
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return made[-1]

    yield begin
    for process in made:
        process.kill()
        process.communicate()


def test_standard_input_is_the_serial_port(start):
    process = start(ECHO)
    out, _ = process.communicate(b"hello, this is longer than the FIFO q", timeout=120)
    assert (out, process.returncode) == (b"hello, this is longer than the FIFO q", 7)


def test_a_halted_guest_that_listens_is_woken_by_input(start):
    # IVT 0Ch -> handler: in al,dx; out dx,al; exit. mov dx,3f9; mov al,1; out; unmask IRQ 4; sti; hlt
    setup = "c70630000000 c70632000000 b011 e620 b008 e621 b004 e621 b001 e621 b0ef e621 baf903 b001 ee fb f4"
    code = bytes.fromhex(setup)
    handler = bytes.fromhex("baf803 ec ee b003 e6f4")
    code = bytes.fromhex(f"c7063000{struct.pack('<H', 0x7C00 + len(code)).hex()}") + code[6:] + handler
    process = start(code)
    time.sleep(1)
    assert process.poll() is None
    out, _ = process.communicate(b"k", timeout=120)
    assert (out, process.returncode) == (b"k", 7)


def test_ctrl_c_ends_a_guest(start):
    process = start(HELLO + COUNT)
    assert process.stdout.read(2) == b"Hi"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"migsvc: interrupted\n")


def _packet(text):
    return b"$" + text + b"#%02x" % (sum(text) & 0xFF)


def test_a_debugger_steps_and_lets_the_guest_end(start):
    process = start(b"\x40" * 4 + EXIT_3, "--gdb", "0")
    line = process.stderr.readline().decode()
    port = int(line.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answers = connection.makefile("rb")

        def ask(text):
            connection.sendall(_packet(text))
            assert answers.read(1) == b"+"
            data = b""
            while not data.endswith(b"#"):
                data += answers.read(1)
            answers.read(2)
            return data[1:-1]

        assert ask(b"vCont;s:1") == b"T05thread:1;"
        assert ask(b"p0")[:2] == b"01"
        assert ask(b"Z0,7c03,1") == b"OK"
        assert ask(b"c") == b"T05thread:1;swbreak:;"
        assert ask(b"p0")[:2] == b"03"
        assert ask(b"c") == b"W07"
    process.communicate(timeout=60)
    assert process.returncode == 7
