"""Near and far transfers, gates, privilege changes, software interrupts, the stack."""

import pytest

from emulator.registers import CS, DS, FLAG_IF, SS

CODE_32, DATA, CODE_32_USER, DATA_USER, CODE_64_USER = 8, 0x10, 0x1B, 0x23, 0x33
GDT, IDT, TSS = 0x600, 0x2000, 0x700


def stack(machine, *values, size=4, at=0x7000):
    machine.state.gpr[4] = at
    for n, value in enumerate(values):
        machine.put(at + n * size, value, size)


def gate(machine, vector, raw):
    machine.put(IDT + 8 * vector, raw, 8)


def test_interrupt_from_user_code_takes_the_stack_of_the_tss(lab):
    machine = lab().protected("cd80", user=True)
    gate(machine, 0x80, machine.get(IDT + 8 * 0x80, 8) | 3 << 45)
    machine.state.rflags |= FLAG_IF
    machine.run()
    state = machine.state
    assert (state.cpl, state.segs[CS].selector, state.segs[SS].selector) == (0, CODE_32, DATA)
    assert state.gpr[4] == 0x8000 - 20
    frame = [machine.get(0x8000 - 20 + 4 * n, 4) for n in range(5)]
    assert frame == [0x1002, CODE_32_USER, 2 | FLAG_IF, 0x9000, DATA_USER]
    assert not state.rflags & FLAG_IF


def test_software_interrupt_needs_the_gates_privilege(lab):
    assert lab().protected("cd80", user=True).run().pending() == (13, 0x80 * 8 + 2, None)


def test_absent_gate_is_not_present_and_a_wrong_one_a_protection_fault(lab):
    machine = lab().protected("cd80")
    gate(machine, 0x80, machine.get(IDT + 8 * 0x80, 8) & ~(1 << 47))
    assert machine.run().pending() == (11, 0x80 * 8 + 2, None)
    machine = lab().protected("cd80")
    gate(machine, 0x80, 0x92 << 40)
    assert machine.run().pending() == (13, 0x80 * 8 + 2, None)


def test_trap_gate_leaves_interrupts_enabled(lab):
    machine = lab().protected("cd80")
    gate(machine, 0x80, machine.get(IDT + 8 * 0x80, 8) | 1 << 40)
    machine.state.rflags |= FLAG_IF
    assert machine.run().state.rflags & FLAG_IF


def test_sixteen_bit_gate_pushes_words(lab):
    machine = lab().protected("cd80")
    gate(machine, 0x80, machine.get(IDT + 8 * 0x80, 8) & ~(8 << 40))
    machine.run()
    assert machine.state.gpr[4] == 0x8000 - 6
    assert machine.get(0x8000 - 6, 2) == 0x1002


def test_tss_too_short_for_the_stack_is_an_invalid_tss(lab):
    machine = lab().protected("cd80", user=True)
    gate(machine, 0x80, machine.get(IDT + 8 * 0x80, 8) | 3 << 45)
    machine.state.tr.limit = 8
    assert machine.run().pending() == (10, 0x38, None)
    assert machine.state.cpl == 3


def test_long_mode_aligns_the_stack_and_pushes_five_quadwords(lab):
    machine = lab().long("cd80")
    machine.state.gpr[4] = 0x7FFB
    machine.run()
    assert machine.state.gpr[4] == 0x7FF0 - 40
    assert [machine.get(0x7FF0 - 40 + 8 * n, 8) for n in range(5)] == [0x1002, 0x28, 2, 0x7FFB, DATA]
    assert machine.state.segs[SS].selector == DATA


def test_long_mode_from_user_code_has_a_null_stack_segment_and_ist_wins(lab):
    for ist, top in ((0, 0x8000), (3, 0xA000)):
        machine = lab().long("cd80", user=True)
        machine.put(TSS + 36 + 16, 0xA000, 8)
        low = machine.get(IDT + 16 * 0x80, 8)
        machine.put(IDT + 16 * 0x80, low | 3 << 45 | ist << 32, 8)
        machine.run()
        assert machine.state.gpr[4] == top - 40
        assert (machine.state.segs[SS].selector, machine.state.segs[SS].dpl, machine.state.cpl) == (0, 0, 0)


def test_iret_to_user_code_and_data_segments_it_may_not_keep(lab):
    machine = lab().protected("cf")
    stack(machine, 0x5000, CODE_32_USER, 0x202, 0x9100, DATA_USER)
    machine.run()
    state = machine.state
    assert (state.cpl, state.rip, state.gpr[4], state.rflags) == (3, 0x5000, 0x9100, 0x202)
    assert state.segs[DS].selector == 0
    assert state.segs[DS].unusable


def test_iret_in_user_mode_cannot_enable_interrupts_or_change_iopl(lab):
    machine = lab().protected("cf", user=True)
    stack(machine, 0x5000, CODE_32_USER, 0x3202)
    assert machine.run().state.rflags == 2


def test_iret_in_64_bit_mode_always_takes_the_stack(lab):
    machine = lab().long("48cf")
    stack(machine, 0x5000, 0x28, 0x2, 0x9100, DATA, size=8)
    machine.run()
    assert (machine.state.rip, machine.state.gpr[4], machine.cpu.bits) == (0x5000, 0x9100, 64)


def test_iret_to_compatibility_mode(lab):
    machine = lab().long("48cf")
    stack(machine, 0x5000, CODE_32_USER, 0x2, 0x9100, DATA_USER, size=8)
    machine.run()
    assert (machine.cpu.bits, machine.state.cpl) == (32, 3)


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [(0, (13, 0, None)), (DATA, (13, DATA, None)), (0x88, (13, 0x88, None)), (0x0C, (13, 0x0C, None))],
)
def test_iret_refuses_what_is_no_code_segment(lab, selector, outcome):
    machine = lab().protected("cf")
    stack(machine, 0x5000, selector, 2)
    assert machine.run().pending() == outcome
    assert machine.state.gpr[4] == 0x7000


def test_far_call_and_return_at_one_level(lab):
    machine = lab().protected("9a00500000" + "0800")
    machine.memory.write_bytes(0, 0x5000, bytes.fromhex("ca0400"))  # retf 4
    machine.run()
    assert machine.state.rip == 0x5000
    assert [machine.get(0x7FF8, 4), machine.get(0x7FFC, 4)] == [0x1007, CODE_32]
    machine.run()
    assert (machine.state.rip, machine.state.gpr[4]) == (0x1007, 0x8004)


def test_call_gate_to_an_inner_level_copies_parameters_and_returns(lab):
    machine = lab().protected("9a00000000" + "7300", user=True)
    machine.memory.write_bytes(0, 0x4F00, bytes.fromhex("ca0800"))
    stack(machine, 0x111, 0x222, at=0x9000)
    machine.run()
    assert (machine.state.rip, machine.state.cpl) == (0x4F00, 0)
    assert machine.state.gpr[4] == 0x8000 - 24
    frame = [machine.get(0x8000 - 24 + 4 * n, 4) for n in range(6)]
    assert frame == [0x1007, CODE_32_USER, 0x111, 0x222, 0x9000, DATA_USER]
    machine.run()
    assert (machine.state.rip, machine.state.cpl, machine.state.gpr[4]) == (0x1007, 3, 0x9008)


def test_far_jump_to_inner_code_is_refused(lab):
    assert lab().protected("ea00500000" + "0800", user=True).run().pending() == (13, 8, None)


def test_branch_beyond_the_segment_faults_at_the_branch(lab):
    machine = lab().protected("e9fb2f0000")
    machine.state.segs[CS].limit = 0x3FFF
    machine.run()
    assert (machine.pending(), machine.state.rip) == ((13, 0, None), 0x1000)


def test_call_to_a_bad_target_pushes_nothing(lab):
    machine = lab().long("ffd0")
    machine.state.gpr[0] = 1 << 47
    machine.run()
    assert machine.pending() == (13, 0, None)
    assert machine.state.gpr[4] == 0x8000


@pytest.mark.parametrize(("code", "taken"), [("e202", True), ("e102", False), ("e002", True), ("e302", False)])
def test_loops_count_and_look_at_zf(emulate, code, taken):
    machine = emulate("protected", code, registers={1: 2})
    assert machine.state.rip == (0x1004 if taken else 0x1002)


def test_loop_counts_in_the_address_size(emulate):
    machine = emulate("long", "67e202", registers={1: 0x1_0000_0001})
    assert machine.state.rip == 0x1003
    assert machine.state.gpr[1] == 0


def test_int3_into_and_bound(lab):
    machine = lab().protected("cc").run()
    assert machine.in_handler() == 3
    assert machine.get(machine.state.gpr[4], 4) == 0x1001
    machine = lab().protected("ce90")
    machine.state.rflags |= 0x800
    assert machine.run().in_handler() == 4
    machine = lab().protected("6203")
    machine.state.gpr[0], machine.state.gpr[3] = 5, 0x3000
    machine.put(0x3004, 4, 4)
    assert machine.run().pending() == (5, None, None)


@pytest.mark.parametrize(
    ("code", "steps", "expected"),
    [
        ("54", 1, 0x8000),  # push esp
        ("6aff", 1, 0xFFFFFFFF),
        ("60", 1, 0),  # pusha: edi last
        ("1e", 1, 0xAAAA0010),  # push ds writes two bytes
    ],
)
def test_pushes(lab, code, steps, expected):
    machine = lab().protected(code)
    machine.put(0x7FFC, 0xAAAAAAAA, 4)
    machine.run(steps)
    assert machine.get(machine.state.gpr[4], 4) == expected


def test_pop_into_memory_addressed_by_esp_uses_the_new_value(lab):
    machine = lab().protected("8f0424")
    stack(machine, 0x55, 0)
    machine.run()
    assert machine.get(0x7004, 4) == 0x55


def test_fault_in_the_middle_of_pusha_and_enter_leaves_the_stack_pointer(lab):
    for code in ("60", "c8100003"):
        machine = lab().protected(code)
        machine.state.segs[SS].limit = 0x7FF3
        machine.state.segs[SS].refresh()
        machine.state.gpr[4] = machine.state.gpr[5] = 0x8000
        machine.run()
        assert machine.pending() == (12, 0, None)
        assert (machine.state.gpr[4], machine.state.gpr[5]) == (0x8000, 0x8000)


def test_enter_copies_the_outer_frames_and_leave_drops_them(lab):
    machine = lab().protected("c8100003" + "c9")
    machine.state.gpr[5] = 0x7100
    machine.put(0x70FC, 0xA1, 4)
    machine.put(0x70F8, 0xA2, 4)
    machine.run()
    assert [machine.get(0x7FF0 + 4 * n, 4) for n in range(4)] == [0x7FFC, 0xA2, 0xA1, 0x7100]
    assert (machine.state.gpr[5], machine.state.gpr[4]) == (0x7FFC, 0x7FF0 - 0x10)
    machine.run()
    assert (machine.state.gpr[5], machine.state.gpr[4]) == (0x7100, 0x8000)


@pytest.mark.parametrize(("user", "iopl", "expected"), [(False, 0, 0x3202), (True, 0, 2), (True, 3, 0x3202)])
def test_popf_writes_what_the_privilege_allows(lab, user, iopl, expected):
    machine = lab().protected("9d", user=user)
    machine.state.rflags |= iopl << 12
    stack(machine, 0x3202)
    assert machine.run().state.rflags == expected


def test_stack_of_16_bits_wraps_and_keeps_the_upper_half(lab):
    machine = lab().protected("50")
    machine.state.segs[SS].db = 0
    machine.state.gpr[4] = 0x12340000
    machine.cpu.state_changed()
    machine.run()
    assert machine.state.gpr[4] == 0x1234FFFC


def test_syscall_and_sysret(lab):
    machine = lab().long("0f05", user=True)
    machine.state.msrs |= {0xC0000081: 0x23 << 48 | 0x28 << 32, 0xC0000082: 0x5000, 0xC0000084: 0x200}
    machine.state.efer |= 1
    machine.state.rflags |= FLAG_IF
    machine.memory.write_bytes(0, 0x5000, bytes.fromhex("480f07"))
    machine.run()
    state = machine.state
    assert (state.rip, state.cpl, state.gpr[1], state.gpr[11]) == (0x5000, 0, 0x1002, 0x202)
    assert not state.rflags & FLAG_IF
    machine.run()
    assert (state.rip, state.cpl, state.segs[CS].selector, state.rflags) == (0x1002, 3, CODE_64_USER, 0x202)
    assert lab().long("0f05").run().pending() == (6, None, None)  # EFER.SCE is clear


def test_sysenter_and_sysexit(lab):
    machine = lab().protected("0f34", user=True)
    machine.state.msrs |= {0x174: CODE_32, 0x175: 0x7800, 0x176: 0x5000}
    machine.memory.write_bytes(0, 0x5000, bytes.fromhex("0f35"))
    machine.run()
    assert (machine.state.rip, machine.state.gpr[4], machine.state.cpl) == (0x5000, 0x7800, 0)
    machine.state.gpr[2], machine.state.gpr[1] = 0x1002, 0x9000
    machine.run()
    assert (machine.state.rip, machine.state.gpr[4], machine.state.cpl) == (0x1002, 0x9000, 3)
