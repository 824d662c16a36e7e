"""Call gates of both sizes, inner levels, conforming code, the LDT, and returns outward, with their error codes."""

import pytest

from emulator.registers import CS, DS, ES, FS, GS, SS

GDT, TSS, LDT, STACK_3 = 0x600, 0x700, 0xC00, 0x9000
CODE_0, DATA_0, CODE_3, DATA_3 = 8, 0x10, 0x1B, 0x23
GATE, GATE_16, CODE_1, DATA_1, CONFORMING, ABSENT_CODE = 0x70, 0x78, 0x80, 0x88, 0x90, 0x98
TARGET = 0x4F00
CALL, JMP = "9a00000000", "ea00000000"


def gate(selector, dpl=3, kind=0xC, parameters=0, present=1, target=TARGET):
    high = target >> 16 << 16 | present << 15 | dpl << 13 | kind << 8 | parameters
    return high << 32 | selector << 16 | target & 0xFFFF


@pytest.fixture
def gates(lab):
    """Protected mode with gates, ring-1 segments, conforming code and an LDT behind the usual descriptors."""

    def make(code, user=True, raw=None, values=()):
        machine = lab().protected(code, user=user)
        machine.state.gdtr.limit = 0x9F
        machine.put(GDT + GATE, gate(CODE_0) if raw is None else raw, 8)
        machine.put(GDT + GATE_16, gate(CODE_0, kind=4, parameters=2), 8)
        machine.put(GDT + CODE_1, 0x00CFBB000000FFFF, 8)
        machine.put(GDT + DATA_1, 0x00CFB3000000FFFF, 8)
        machine.put(GDT + CONFORMING, 0x00CF9F000000FFFF, 8)
        machine.put(GDT + ABSENT_CODE, 0x00CF1B000000FFFF, 8)
        machine.put(TSS + 12, 0x8800, 4)
        machine.put(TSS + 16, DATA_1 | 1, 4)
        for n, value in enumerate(values):
            machine.put(machine.state.gpr[4] + 4 * n, value, 4)
        return machine

    return make


def far(code, selector):
    return code + selector.to_bytes(2, "little").hex()


def frame(machine, count, size=4):
    at = machine.state.gpr[4]
    return [machine.get(at + size * n, size) for n in range(count)]


def test_sixteen_bit_gate_copies_words_and_cuts_addresses(gates):
    machine = gates(far(CALL, GATE_16), values=[0x22221111])
    machine.state.gpr[4] = 0x19000
    machine.put(0x19000, 0x22221111, 4)
    machine.run()
    assert (machine.state.rip, machine.state.cpl, machine.state.gpr[4]) == (TARGET, 0, 0x8000 - 12)
    assert frame(machine, 6, 2) == [0x1007, CODE_3, 0x1111, 0x2222, 0x9000, DATA_3]


def test_gate_to_ring_1_takes_the_stack_of_ring_1(gates):
    machine = gates(far(CALL, GATE), raw=gate(CODE_1))
    machine.run()
    state = machine.state
    assert (state.cpl, state.segs[CS].selector, state.segs[SS].selector) == (1, CODE_1 | 1, DATA_1 | 1)
    assert state.gpr[4] == 0x8800 - 16
    assert frame(machine, 4) == [0x1007, CODE_3, STACK_3, DATA_3]


def test_conforming_code_keeps_level_and_stack(gates):
    for code in (far(CALL, GATE), far(CALL, CONFORMING)):
        machine = gates(code, raw=gate(CONFORMING, target=0))
        machine.run()
        state = machine.state
        assert (machine.pending(), state.cpl, state.segs[CS].selector, state.gpr[4]) == (
            None, 3, CONFORMING | 3, STACK_3 - 8)  # fmt: skip
    machine = gates(far(JMP, GATE), raw=gate(CONFORMING))
    assert (machine.run().state.rip, machine.state.cpl) == (TARGET, 3)


def test_gate_at_the_same_level_pushes_the_gates_size(gates):
    machine = gates(far(CALL, GATE), user=False, raw=gate(CODE_0, kind=4)).run()
    assert (machine.state.rip, machine.state.gpr[4]) == (TARGET, 0x8000 - 4)
    assert frame(machine, 2, 2) == [0x1007, CODE_0]


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (gate(CODE_0, dpl=2), (13, GATE, None)),
        (gate(CODE_0, present=0), (11, GATE, None)),
        (gate(0), (13, 0, None)),
        (gate(0xA0), (13, 0xA0, None)),
        (gate(DATA_0), (13, DATA_0, None)),
        (gate(ABSENT_CODE), (11, ABSENT_CODE, None)),
        (gate(4), (13, 4, None)),
        (0x00008E0000080000, (13, GATE, None)),  # an interrupt gate
    ],
)
def test_gate_that_cannot_be_called(gates, raw, outcome):
    machine = gates(far(CALL, GATE), raw=raw)
    machine.state.ldtr.unusable = 1
    assert machine.run().pending() == outcome
    assert (machine.state.cpl, machine.state.gpr[4], machine.state.rip) == (3, STACK_3, 0x1000)


def test_requested_privilege_counts_at_the_gate(gates):
    machine = gates(far(CALL, GATE | 3), user=False, raw=gate(CODE_0, dpl=2))
    assert machine.run().pending() == (13, GATE, None)


def test_jump_through_a_gate_does_not_go_inward(gates):
    assert gates(far(JMP, GATE)).run().pending() == (13, CODE_0, None)


def test_target_beyond_the_inner_segment(gates):
    machine = gates(far(CALL, GATE))
    machine.put(GDT + CODE_0, 0x00409B0000004EFF, 8)
    assert machine.run().pending() == (13, 0, None)
    assert machine.state.cpl == 3


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        (0, (10, 0, None)),
        (DATA_3, (10, 0x20, None)),
        (0x50, (10, 0x50, None)),
        (CODE_0, (10, CODE_0, None)),
        (0x58, (12, 0x58, None)),
        (0xA0, (10, 0xA0, None)),
    ],
)
def test_stack_of_the_tss_is_checked(gates, selector, outcome):
    machine = gates(far(CALL, GATE))
    machine.put(TSS + 8, selector, 4)
    assert machine.run().pending() == outcome
    assert (machine.state.cpl, machine.state.segs[SS].selector) == (3, DATA_3)


def test_inner_stack_without_room_is_a_stack_fault_with_its_selector(gates):
    machine = gates(far(CALL, GATE))
    machine.put(TSS + 4, 0x1010, 4)
    machine.put(GDT + DATA_0, 0x0040930000000FFF, 8)
    assert machine.run().pending() == (12, DATA_0, None)


def test_code_and_gate_may_lie_in_the_ldt(gates):
    machine = gates(far(CALL, 0x07 | 8))
    machine.state.ldtr.base, machine.state.ldtr.limit, machine.state.ldtr.unusable = LDT, 0x17, 0
    machine.put(LDT + 8, gate(0x14), 8)
    machine.put(LDT + 16, 0x00CF9B000000FFFF, 8)
    machine.run()
    assert (machine.state.cpl, machine.state.segs[CS].selector) == (0, 0x14)
    machine.state.ldtr.limit = 0xF
    machine = gates(far(CALL, 0x17))
    machine.state.ldtr.base, machine.state.ldtr.limit, machine.state.ldtr.unusable = LDT, 0xF, 0
    assert machine.run().pending() == (13, 0x14, None)


def test_return_outward_drops_parameters_on_both_stacks_and_inner_data_segments(gates):
    machine = gates("ca0800", user=False, values=[0x5000, CODE_3, 1, 2, 0x9100, DATA_3])
    state = machine.state
    for index, selector in ((DS, DATA_0), (ES, DATA_3 & ~3), (FS, CONFORMING), (GS, DATA_1)):
        raw = machine.get(GDT + selector, 8)
        seg = state.segs[index]
        seg.selector, seg.dpl, seg.type = selector, raw >> 45 & 3, raw >> 40 & 15
    machine.run()
    assert (state.cpl, state.rip, state.gpr[4], state.segs[SS].selector) == (3, 0x5000, 0x9108, DATA_3)
    selectors = [state.segs[index].selector for index in (DS, ES, FS, GS)]
    assert selectors == [0, DATA_3 & ~3, CONFORMING, 0]
    assert [state.segs[index].unusable for index in (DS, ES, FS, GS)] == [1, 0, 0, 1]


@pytest.mark.parametrize("code", ["cb", "cf"])
@pytest.mark.parametrize(
    ("cs", "ss", "outcome"),
    [
        (CODE_3, 0, (13, 0, None)),
        (CODE_3, DATA_0 | 3, (13, DATA_0, None)),
        (CODE_3, 0x20, (13, 0x20, None)),
        (CODE_3, 0x58 | 3, (13, 0x58, None)),
        (CODE_0 | 3, DATA_3, (13, CODE_0, None)),
        (CODE_1, DATA_3, (13, CODE_1, None)),
        (ABSENT_CODE, DATA_0, (11, ABSENT_CODE, None)),
        (CONFORMING | 3, DATA_3, None),
    ],
)
def test_return_outward_is_checked(gates, code, cs, ss, outcome):
    values = [0x5000, cs, 2, 0x9100, ss] if code == "cf" else [0x5000, cs, 0x9100, ss]
    machine = gates(code, user=False, values=values).run()
    assert machine.pending() == outcome
    if outcome is not None:
        assert (machine.state.gpr[4], machine.state.cpl, machine.state.rip) == (0x8000, 0, 0x1000)


def test_absent_stack_of_the_outer_level_is_a_stack_fault(gates):
    machine = gates("cb", user=False, values=[0x5000, CODE_3, 0x9100, DATA_3])
    machine.put(GDT + (DATA_3 & ~3), 0x00CF73000000FFFF, 8)
    assert machine.run().pending() == (12, DATA_3 & ~3, None)


def test_return_does_not_go_inward(gates):
    assert gates("cb", values=[0x5000, CODE_0]).run().pending() == (13, CODE_0, None)


# ---- long mode: 16-byte gates ----


@pytest.fixture
def long_gates(lab):
    def make(low, upper=0, limit=0x9F):
        machine = lab().long("ff18", user=True)  # call far [rax]
        machine.state.gdtr.limit, machine.state.gpr[0] = limit, 0x3000
        machine.put(0x3004, GATE, 2)
        machine.put(GDT + GATE, low, 8)
        machine.put(GDT + GATE + 8, upper, 8)
        return machine

    return make


def test_call_gate_in_long_mode_pushes_quadwords_and_leaves_a_null_stack_segment(long_gates):
    machine = long_gates(gate(0x28)).run()
    state = machine.state
    assert (state.cpl, state.rip, state.segs[SS].selector, state.segs[SS].unusable) == (0, TARGET, 0, 1)
    assert state.gpr[4] == 0x8000 - 32
    assert frame(machine, 4, 8) == [0x1002, 0x33, STACK_3, DATA_3]


@pytest.mark.parametrize(
    ("low", "upper", "limit", "outcome"),
    [
        (gate(0x28), 1 << 40, 0x9F, (13, GATE, None)),
        (gate(0x28), 0, GATE + 7, (13, GATE, None)),
        (gate(CODE_0), 0, 0x9F, (13, CODE_0, None)),
        (gate(0x28, kind=4), 0, 0x9F, (13, GATE, None)),
        (gate(0x28), 0x8000, 0x9F, (13, 0, None)),
    ],
)
def test_call_gate_in_long_mode_is_checked(long_gates, low, upper, limit, outcome):
    assert long_gates(low, upper, limit).run().pending() == outcome


@pytest.mark.parametrize(
    ("selector", "user", "lar", "lsl"),
    [
        (0, False, None, None),
        (CODE_3 & ~3, True, 0x00CFFB00, 0xFFFFFFFF),
        (DATA_0, True, None, None),
        (DATA_0 | 3, False, None, None),
        (CONFORMING, True, 0x00CF9F00, 0xFFFFFFFF),
        (0x38, False, 0x00008B00, 0x67),
        (0x58, False, 0x00CF1300, 0xFFFFFFFF),
        (GATE, True, 0x0000EC00, None),
        (0xA0, False, None, None),
        (0x04, False, None, None),
    ],
)
def test_lar_and_lsl_answer_by_type_and_privilege(gates, selector, user, lar, lsl):
    machine = gates("0f02c8" + "0f03d0", user=user)
    machine.state.ldtr.unusable = 1
    machine.state.gpr[:3] = [selector, 0x55, 0x55]
    for number, answer in ((1, lar), (2, lsl)):
        machine.run()
        expected = 0x55 if answer is None else answer & (0x00F0FF00 if number == 1 else 0xFFFFFFFF)
        assert machine.state.gpr[number] == expected
        assert bool(machine.state.rflags & 0x40) == (answer is not None)


@pytest.mark.parametrize(
    ("selector", "readable", "writable"),
    [
        (DATA_3, True, True),
        (DATA_0, False, False),
        (0x50, False, False),
        (CODE_3, True, False),
        (CONFORMING, True, False),
        (GATE, False, False),
        (0, False, False),
    ],
)
def test_verr_and_verw(gates, selector, readable, writable):
    machine = gates("0f00e0" + "0f00e8")
    machine.state.gpr[0] = selector
    assert bool(machine.run().state.rflags & 0x40) == readable
    assert bool(machine.run().state.rflags & 0x40) == writable


@pytest.mark.parametrize(("target", "source", "result", "zf"), [(8, 3, 11, True), (11, 2, 11, False), (9, 1, 9, False)])
def test_arpl(gates, target, source, result, zf):
    machine = gates("63c8")
    machine.state.gpr[0], machine.state.gpr[1] = target, source
    machine.run()
    assert (machine.state.gpr[0], bool(machine.state.rflags & 0x40)) == (result, zf)
