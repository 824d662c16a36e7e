"""What tells the CPU models apart: instruction sets, flags, registers, and the ways of the 8086 and the 286."""

import pytest

from emulator.bridge import load_sections, save_sections
from emulator.config import MachineConfig, ram_slots
from emulator.cpu_model import MODELS, Quirks
from emulator.exceptions import UnsupportedInstruction
from emulator.machine import Machine, StopReason
from emulator.registers import CS, DS, ES, FLAG_AC, FLAG_ID, RAX, RBX, RCX, RDX, RSI, RSP

ORDER = ("8086", "286", "386", "486", "pentium", "x86-64")
FIRST_WITH = {
    "60": "286",  # pusha (a conditional jump on an 8086)
    "c1e002": "286",  # shl ax, 2
    "0f01e0": "286",  # smsw ax
    "0f20c0": "386",  # mov eax, cr0
    "6640": "386",  # inc eax
    "0fb6c0": "386",  # movzx ax, al
    "8ee0": "386",  # mov fs, ax
    "0fc8": "486",  # bswap ax
    "0fc1c0": "486",  # xadd ax, ax
    "0f08": "486",  # invd
    "0fa2": "pentium",  # cpuid
    "0f31": "pentium",  # rdtsc
    "0f20e0": "pentium",  # mov eax, cr4
    "0f44c0": "x86-64",  # cmove ax, ax
    "0f1fc0": "x86-64",  # nop ax
    "f30fb8c0": "x86-64",  # popcnt ax, ax
}


@pytest.mark.parametrize("model", ORDER[1:])
@pytest.mark.parametrize("code", FIRST_WITH)
def test_instruction_is_undefined_before_the_model_that_brought_it(lab, model, code):
    machine = lab(model).real(code).run()
    exists = ORDER.index(model) >= ORDER.index(FIRST_WITH[code])
    assert machine.pending() == (None if exists else (6, None, None))


def test_there_are_six_models_and_only_two_have_quirks():
    assert set(MODELS) == set(ORDER)
    assert {name for name, model in MODELS.items() if model.quirks != Quirks()} == {"8086", "286"}


@pytest.mark.parametrize(
    ("model", "expected"), [("8086", 0xFFD7), ("286", 0x0FD7), ("386", 0x7FD7), ("486", 0x7FD7), ("x86-64", 0x7FD7)]
)
def test_flags_that_popf_can_set_in_real_mode_and_pushf_shows(lab, model, expected):
    machine = lab(model).real("9d" + "9c")
    machine.state.gpr[RSP] = 0x7000
    machine.put(0x7000, 0xFEFF, 2)  # but for TF
    machine.run(2)
    assert machine.get(0x7000, 2) == expected & ~0x100


@pytest.mark.parametrize(("model", "expected"), [("386", 0), ("486", FLAG_AC), ("pentium", FLAG_AC | FLAG_ID)])
def test_flags_by_which_programs_tell_386_486_and_pentium(lab, model, expected):
    machine = lab(model).protected("9d")
    machine.put(0x8000, 0x240002, 4)
    assert machine.run().state.rflags == 2 | expected


def test_only_the_8086_pushes_the_lowered_stack_pointer(lab):
    for model in ORDER:
        machine = lab(model).real("54").run()
        assert machine.get(0x7FFE, 2) == (0x7FFE if model == "8086" else 0x8000)


@pytest.mark.parametrize(("model", "expected"), [("8086", 0), ("286", 1)])
def test_only_the_8086_shifts_as_often_as_cl_says(lab, model, expected):
    for code, masked in (("d3e0", expected), ("d3e8", expected)):
        machine = lab(model).real(code)
        machine.state.gpr[RAX], machine.state.gpr[RCX] = 1, 32
        assert machine.run().state.gpr[RAX] == masked
    machine = lab(model).real("d3c8")  # ror ax, 32: a whole number of turns
    machine.state.gpr[RAX], machine.state.gpr[RCX] = 0x1234, 32
    assert machine.run().state.gpr[RAX] == 0x1234


def test_8086_takes_cs_from_the_stack_and_from_a_register(lab):
    for code in ("0f", "8ec8"):
        machine = lab("8086").real(code)
        machine.put(0x8000, 0x200, 2)
        machine.state.gpr[RAX] = 0x200
        machine.run()
        assert (machine.state.segs[CS].selector, machine.state.segs[CS].base) == (0x200, 0x2000)
        machine.memory.write_bytes(0, 0x2000 + machine.state.rip, b"\x40")
        assert machine.run().state.gpr[RAX] == 0x201


@pytest.mark.parametrize(
    ("code", "alias"),
    [("6002", "7002"), ("7402", "6402"), ("c0", "c2"), ("c1", "c3"), ("fff1", "fff6"), ("f19090", "f09090")],
)
def test_8086_takes_unknown_opcodes_for_others(lab, code, alias):
    states = []
    for text in (code, alias):
        machine = lab("8086").real(text + "0400")
        machine.put(0x8000, 0x1234, 2)
        machine.run()
        states.append((machine.state.rip, machine.state.gpr[RSP], machine.get(0x7FFE, 2), machine.pending()))
    assert states[0] == states[1]
    assert states[0][3] is None


def test_8086_instruction_that_nobody_describes_is_ours_to_report(lab):
    for code in ("fef8", "d0f0"):
        with pytest.raises(UnsupportedInstruction):
            lab("8086").real(code).run()


def test_286_loadall_is_ours_to_report(lab):
    with pytest.raises(UnsupportedInstruction):
        lab("286").real("0f05").run()
    assert lab("386").real("0f05").run().pending() == (6, None, None)


def test_8086_words_wrap_within_their_segment(lab):
    machine = lab("8086").real("8b07" + "8907" + "ad" + "50")
    state = machine.state
    for seg in (state.segs[DS], state.segs[2]):
        seg.load_real(0x2000)
    machine.put(0x2FFFF, 0x34, 1)
    machine.put(0x20000, 0x12, 1)
    state.gpr[RBX] = state.gpr[RSI] = 0xFFFF
    state.gpr[RSP] = 1
    assert machine.run().state.gpr[RAX] == 0x1234
    state.gpr[RAX] = 0x5678
    machine.run()
    assert (machine.get(0x2FFFF, 1), machine.get(0x20000, 1)) == (0x78, 0x56)
    machine.run()
    assert (state.gpr[RAX], state.gpr[RSI]) == (0x5678, 1)
    machine.run()
    assert (state.gpr[RSP], machine.get(0x2FFFF, 1), machine.get(0x20000, 1)) == (0xFFFF, 0x78, 0x56)
    assert machine.pending() is None
    machine = lab("286").real("8b07")
    machine.state.gpr[RBX] = 0xFFFF
    assert machine.run().pending() == (13, 0, None)


def test_8086_far_pointer_and_interrupt_frame_wrap_too(lab):
    machine = lab("8086").real("c407" + "cd20")
    state = machine.state
    state.segs[DS].load_real(0x2000)
    state.segs[2].load_real(0x2000)
    for at, byte in ((0x2FFFE, 0x11), (0x2FFFF, 0x22), (0x20000, 0x33), (0x20001, 0x44)):
        machine.put(at, byte, 1)
    state.gpr[RBX], state.gpr[RSP] = 0xFFFE, 3
    machine.run()
    assert (state.gpr[RAX], state.segs[ES].selector) == (0x2211, 0x4433)
    machine.run()
    assert (state.gpr[RSP], machine.get(0x20001, 2)) == (0xFFFD, 0xF002)
    assert (machine.get(0x2FFFD, 2), machine.get(0x2FFFF, 1), machine.get(0x20000, 1)) == (0x1004, 0, 0)


def test_8086_code_runs_round_its_segment_and_addresses_round_a_mebibyte(lab):
    machine = lab("8086").real("")
    machine.state.segs[CS].load_real(0x3000)
    machine.memory.write_bytes(0, 0x3FFFE, bytes.fromhex("b834"))
    machine.memory.write_bytes(0, 0x30000, bytes.fromhex("1240"))
    machine.state.rip = 0xFFFE
    machine.cpu.state_changed()
    machine.run(2)
    assert (machine.state.gpr[RAX], machine.state.rip) == (0x1235, 2)
    machine = lab("8086").real("a01000")
    machine.state.segs[DS].load_real(0xFFFF)
    machine.put(0, 0x5A, 1)
    assert machine.run().state.gpr[RAX] == 0x5A
    machine = lab("286").real("a01000")
    machine.state.segs[DS].load_real(0xFFFF)
    assert machine.run().state.gpr[RAX] == 0xFF  # no memory at 1 MiB


@pytest.mark.parametrize(("model", "ip"), [("8086", 0x1002), ("286", 0x1000), ("x86-64", 0x1000)])
def test_divide_error_returns_behind_the_division_on_an_8086(lab, model, ip):
    machine = lab(model).real("f6f1").run(2)
    assert machine.in_handler() == 0
    assert machine.get(machine.state.gpr[RSP], 2) == ip


@pytest.mark.parametrize("model", ["8086", "286"])
def test_coprocessor_instruction_without_a_coprocessor_does_nothing(lab, model):
    for code in ("d9c0", "df5e10", "9bdbe3"):
        machine = lab(model).real(code).run(2 if code[:2] == "9b" else 1)
        assert (machine.pending(), machine.state.rip) == (None, 0x1000 + len(code) // 2)


def test_286_emulates_a_coprocessor_where_the_status_word_says_so(lab):
    machine = lab("286").real("d9c0")
    machine.state.cr0 |= 4
    assert machine.run().pending() == (7, None, None)
    machine = lab("286").real("0f01e0").run()
    assert machine.state.gpr[RAX] >> 4 == 0xFFF


def test_286_takes_ten_bytes_and_lock_before_anything(lab):
    for code, outcome in (("2e" * 9 + "90", None), ("2e" * 10 + "90", (13, 0, None)), ("f090", None)):
        assert lab("286").real(code).run().pending() == outcome
    assert lab("x86-64").real("f090").run().pending() == (6, None, None)


def test_stack_overrun_in_real_mode(lab):
    for model, vector in (("286", 13), ("386", 12)):
        machine = lab(model).real("50")
        machine.state.gpr[RSP] = 1
        assert machine.run().pending() == (vector, 0, None)


def test_386_has_fewer_bits_of_cr0(lab):
    for model, expected in (("386", 0x3F), ("486", 0x6005003F)):
        machine = lab(model).real("0f22c0")
        machine.state.gpr[RAX] = 0x6005003F
        assert machine.run().state.cr0 & ~0x30 == expected & ~0x30


@pytest.mark.parametrize("model", ORDER)
def test_reset_and_migration_of_each_model(model):
    def make():
        return Machine(MachineConfig(ram_bytes=1 << 20, slots=ram_slots(1 << 20), cpu_model=model))

    machine, other = make(), make()
    machine.memory.write_bytes(0, 0xFFFF0, bytes.fromhex("b8341240f4"))
    if model != "8086":  # its addresses end at 1 MiB
        machine.cpu.state.segs[CS].base = 0xF0000
        machine.cpu.state_changed()
    assert machine.cpu.state.gpr[RDX] == MODELS[model].reset_rdx
    machine.run(1)
    other.memory.write_bytes(0, 0, bytes(machine.memory.ram))
    load_sections(other, *save_sections(machine))
    for each in (machine, other):
        assert each.run(5).reason is StopReason.HALTED
        assert each.cpu.state.gpr[RAX] == 0x1235
    assert save_sections(machine) == save_sections(other)


def test_smi_reaches_only_models_with_smm(lab):
    for model in ORDER:
        machine = lab(model).real("90")
        machine.cpu.request_smi()
        assert machine.state.smi_pending == (model in ("pentium", "x86-64"))
