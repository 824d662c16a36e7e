"""Hardware task switches: by JMP, CALL, IRET, task gates and events, with 16- and 32-bit TSSs, and their faults."""

import pytest

from emulator.registers import CR0_TS, CS, DS, FLAG_NT, GS, SS

CODE_32, DATA, CODE_32_USER, DATA_USER, TSS_SELECTOR = 8, 0x10, 0x1B, 0x23, 0x38
GDT, IDT, TSS = 0x600, 0x2000, 0x700
OTHER, OTHER_TSS, GATE, LDT_SELECTOR, LDT = 0x78, 0xB00, 0x80, 0x88, 0xC00
LEGACY, LEGACY_TSS = 0x90, 0xD00
NEW_IP, NEW_SP = 0x5000, 0x6000
NEW_GPRS = [0xA0000000 + n for n in range(8)]
JMP, CALL = "ea00000000", "9a00000000"


def tss_32(machine, at=OTHER_TSS, cs=CODE_32, ss=DATA, data=DATA, flags=2, trap=0, ldt=0):
    fields = [0, 0x8000, DATA, 0, 0, 0, 0, 0, NEW_IP, flags, *NEW_GPRS[:4], NEW_SP, *NEW_GPRS[5:]]
    fields += [data, cs, ss, data, data, data, ldt]
    for n, value in enumerate(fields):
        machine.put(at + 4 * n, value, 4)
    machine.put(at + 0x64, trap, 2)


def tss_16(machine, at=LEGACY_TSS):
    fields = [0, 0x8000, DATA, 0, 0, 0, 0, NEW_IP, 2, *(value & 0xFFFF for value in NEW_GPRS[:4]), NEW_SP]
    fields += [*(value & 0xFFFF for value in NEW_GPRS[5:]), DATA, CODE_32, DATA, DATA, 0]
    for n, value in enumerate(fields):
        machine.put(at + 2 * n, value, 2)


@pytest.fixture
def tasks(lab):
    """A machine with a second 32-bit task, a third 16-bit one, a task gate to the second and an LDT."""

    def make(code, user=False, dpl=0, **options):
        machine = lab().protected(code, user=user)
        machine.state.gdtr.limit = 0x97
        machine.put(GDT + OTHER, 0x0000890000000067 | OTHER_TSS << 16 | dpl << 45, 8)
        machine.put(GDT + GATE, 0x0000850000000000 | OTHER << 16 | dpl << 45, 8)
        machine.put(GDT + LDT_SELECTOR, 0x000082000000001F | LDT << 16, 8)
        machine.put(GDT + LEGACY, 0x000081000000002B | LEGACY_TSS << 16 | dpl << 45, 8)
        machine.put(GDT + TSS_SELECTOR + 5, 0x8B, 1)
        tss_32(machine, **options)
        tss_16(machine)
        machine.memory.write_bytes(0, NEW_IP, bytes.fromhex("cf"))  # iret
        return machine

    return make


def kind(machine, selector):
    return machine.get(GDT + selector + 5, 1) & 15


def far(code, selector):
    return code + selector.to_bytes(2, "little").hex()


@pytest.mark.parametrize("selector", [OTHER, GATE])
def test_jump_leaves_the_old_task_and_enters_the_new_one(tasks, selector):
    machine = tasks(far(JMP, selector))
    machine.state.gpr[0], machine.state.gpr[7] = 0x11, 0x77
    machine.run()
    state = machine.state
    assert (state.rip, state.gpr[4], state.gpr[0], state.gpr[7]) == (NEW_IP, NEW_SP, NEW_GPRS[0], NEW_GPRS[7])
    assert (state.tr.selector, state.tr.base, state.tr.type) == (OTHER, OTHER_TSS, 11)
    assert (kind(machine, TSS_SELECTOR), kind(machine, OTHER)) == (9, 11)
    assert (machine.get(TSS + 0x20, 4), machine.get(TSS + 0x28, 4), machine.get(TSS + 0x44, 4)) == (0x1007, 0x11, 0x77)
    assert (machine.get(TSS + 0x4C, 2), machine.get(TSS + 0x50, 2)) == (CODE_32, DATA)
    assert state.cr0 & CR0_TS
    assert not state.rflags & FLAG_NT
    assert machine.get(OTHER_TSS, 2) == 0


def test_call_nests_and_iret_goes_back(tasks):
    machine = tasks(far(CALL, OTHER))
    machine.state.rflags |= 1
    machine.run()
    assert (kind(machine, TSS_SELECTOR), kind(machine, OTHER)) == (11, 11)
    assert machine.get(OTHER_TSS, 2) == TSS_SELECTOR
    assert machine.state.rflags & FLAG_NT
    machine.run()
    state = machine.state
    assert (state.rip, state.gpr[4], state.rflags, state.tr.selector) == (0x1007, 0x8000, 3, TSS_SELECTOR)
    assert (kind(machine, TSS_SELECTOR), kind(machine, OTHER)) == (11, 9)
    assert not machine.get(OTHER_TSS + 0x24, 4) & FLAG_NT
    assert machine.get(OTHER_TSS + 0x20, 4) == NEW_IP + 1


def test_sixteen_bit_task_keeps_words(tasks):
    machine = tasks(far(CALL, LEGACY))
    machine.run()
    state = machine.state
    assert (state.rip, state.gpr[4], state.gpr[0]) == (NEW_IP, NEW_SP, NEW_GPRS[0] & 0xFFFF)
    assert (kind(machine, LEGACY), state.tr.type, state.segs[GS].selector) == (3, 3, 0)
    machine.run()
    assert (state.rip, state.tr.selector, kind(machine, LEGACY)) == (0x1007, TSS_SELECTOR, 1)
    assert machine.get(LEGACY_TSS + 0x0E, 2) == NEW_IP + 1


def test_exception_through_a_task_gate_brings_its_error_code(tasks):
    machine = tasks("cd81")  # a gate that is absent: #NP with an error code
    machine.put(IDT + 8 * 0x81, 0, 8)
    machine.put(IDT + 8 * 13, 0x85 << 40 | OTHER << 16, 8)
    machine.run()
    assert machine.pending() == (13, 0x81 * 8 + 2, None)
    machine.memory.write_bytes(0, NEW_IP, bytes.fromhex("58cf"))  # pop eax; iret
    machine.run()
    assert machine.state.gpr[0] == 0x81 * 8 + 2
    assert machine.state.gpr[4] == NEW_SP
    machine.run()
    assert (machine.state.rip, machine.state.tr.selector) == (0x1000, TSS_SELECTOR)


def test_software_interrupt_through_a_task_gate_returns_behind_it(tasks):
    machine = tasks("cd80")
    machine.put(IDT + 8 * 0x80, 0x85 << 40 | OTHER << 16, 8)
    machine.run(2)
    assert machine.state.rip == 0x1002


def test_new_task_of_ring_3_with_an_ldt(tasks):
    machine = tasks(far(JMP, OTHER), cs=0xF, ss=0x17, data=0x17, ldt=LDT_SELECTOR)
    machine.put(LDT + 8, 0x00CFFB000000FFFF, 8)
    machine.put(LDT + 16, 0x00CFF3000000FFFF, 8)
    machine.run()
    state = machine.state
    assert (machine.pending(), state.cpl, state.ldtr.base, state.segs[DS].dpl) == (None, 3, LDT, 3)


def test_new_page_directory_is_loaded_with_paging(tasks):
    machine = tasks(far(JMP, OTHER))
    for at in (0x20000, 0x21000):
        machine.put(at, 0x83, 4)
    machine.state.cr0, machine.state.cr3, machine.state.cr4 = 0x80000011, 0x20000, 0x10
    machine.put(OTHER_TSS + 0x1C, 0x21000, 4)
    machine.cpu.state_changed()
    assert machine.run().state.cr3 == 0x21000


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"cs": 0}, (10, 0, None)),
        ({"cs": DATA}, (10, DATA, None)),
        ({"cs": CODE_32_USER & ~3}, (10, 0x18, None)),
        ({"cs": 0x98}, (10, 0x98, None)),
        ({"ss": 0}, (10, 0, None)),
        ({"ss": DATA_USER}, (10, 0x20, None)),
        ({"ss": 0x58}, (12, 0x58, None)),
        ({"data": 0x58}, (11, 0x58, None)),
        ({"data": TSS_SELECTOR}, (10, TSS_SELECTOR, None)),
        ({"ldt": DATA}, (10, DATA, None)),
        ({"ldt": 4}, (10, 4, None)),
    ],
)
def test_fault_in_the_new_task_is_its_own(tasks, options, outcome):
    machine = tasks(far(JMP, OTHER), **options)
    machine.run()
    assert machine.pending() == outcome
    assert (machine.state.rip, machine.state.gpr[4], machine.state.tr.selector) == (NEW_IP, NEW_SP, OTHER)
    assert (kind(machine, TSS_SELECTOR), kind(machine, OTHER)) == (9, 11)


def test_fault_in_a_new_task_that_an_exception_called_has_ext_set(tasks):
    machine = tasks("0f0b", data=0x58)
    machine.put(IDT + 8 * 6, 0x85 << 40 | OTHER << 16, 8)
    machine.run(2)
    assert machine.in_handler() == 11
    assert machine.get(machine.state.gpr[4], 4) == 0x58 | 1


def refused(machine, outcome):
    before = machine.state.tr.selector, list(machine.state.gpr), bytes(machine.ram[TSS : TSS + 0x68])
    machine.run()
    assert machine.pending() == outcome
    assert machine.state.rip == 0x1000
    assert (machine.state.tr.selector, machine.state.gpr, bytes(machine.ram[TSS : TSS + 0x68])) == before


def test_switch_refused_leaves_the_old_task_as_it_is(tasks):
    refused(tasks(far(JMP, TSS_SELECTOR)), (13, TSS_SELECTOR, None))  # busy
    refused(tasks(far(JMP, OTHER), user=True), (13, OTHER, None))  # privilege
    machine = tasks(far(JMP, OTHER))
    machine.put(GDT + OTHER + 5, 0x09, 1)
    refused(machine, (11, OTHER, None))
    machine = tasks(far(CALL, OTHER))
    machine.put(GDT + OTHER, 0x66, 1)
    refused(machine, (10, OTHER, None))
    machine = tasks(far(JMP, GATE))
    machine.put(GDT + GATE + 2, DATA, 2)
    refused(machine, (13, DATA, None))
    machine = tasks(far(JMP, GATE))
    machine.put(GDT + GATE + 5, 0x05, 1)
    refused(machine, (11, GATE, None))
    machine = tasks(far(JMP, OTHER))
    machine.state.tr.limit = 0x66
    refused(machine, (10, TSS_SELECTOR, None))


@pytest.mark.parametrize(
    ("link", "outcome"), [(OTHER, (10, OTHER, None)), (0, (10, 0, None)), (0x3C, (10, 0x3C, None))]
)
def test_back_link_must_name_a_busy_task(tasks, link, outcome):
    machine = tasks("cf")
    machine.state.rflags |= FLAG_NT
    machine.put(TSS, link, 2)
    refused(machine, outcome)


def test_user_code_may_call_a_task_through_a_gate_that_allows_it(tasks):
    machine = tasks(far(CALL, GATE | 3), user=True, dpl=3)
    machine.run()
    assert (machine.state.tr.selector, machine.state.cpl) == (OTHER, 0)
    machine.run()
    assert (machine.state.rip, machine.state.cpl, machine.state.segs[SS].selector) == (0x1007, 3, DATA_USER)


def test_trap_bit_stops_before_the_first_instruction(tasks):
    machine = tasks(far(JMP, OTHER), trap=1)
    machine.run()
    assert machine.pending() == (1, None, 1 << 15)
    assert machine.state.rip == NEW_IP
    machine.run()
    assert machine.in_handler() == 1
    assert machine.state.dr6 & 1 << 15


def test_double_fault_task_with_the_trap_bit_is_no_triple_fault(tasks):
    machine = tasks("0f0b", trap=1)
    machine.put(IDT + 8 * 8, 0x85 << 40 | OTHER << 16, 8)
    machine.put(IDT + 8 * 6, 0, 8)
    machine.put(IDT + 8 * 13, 0, 8)
    machine.run(2)
    assert machine.in_handler() == 1
    assert machine.state.tr.selector == OTHER
    assert not machine.state.triple_fault


def test_switch_clears_the_local_breakpoints(tasks):
    machine = tasks(far(JMP, OTHER))
    machine.state.dr[0], machine.state.dr7 = 0x12345, 0x503
    machine.cpu.state_changed()
    assert machine.run().state.dr7 == 0x402


def test_page_fault_on_the_new_tss_is_the_old_tasks(tasks):
    machine = tasks(far(JMP, OTHER))
    machine.put(0x20000, 0x21003, 4)
    for page in range(256):
        machine.put(0x21000 + 4 * page, page << 12 | 3, 4)
    machine.put(0x21000 + 4 * 0x30, 0, 4)
    machine.put(GDT + OTHER, 0x0000890300000067 & ~0xFFFFFF0000 | 0x30000 << 16, 8)
    machine.state.cr0, machine.state.cr3 = 0x80000011, 0x20000
    machine.cpu.state_changed()
    machine.run()
    assert machine.pending() == (14, 0, 0x3001C)
    assert (machine.state.rip, machine.state.tr.selector, machine.state.segs[CS].selector) == (
        0x1000,
        TSS_SELECTOR,
        CODE_32,
    )
