"""Virtual-8086 mode: in and out, what IOPL guards, VME, and the permission map of ports."""

import pytest

from emulator.registers import CR4_PVI, CR4_VME, CS, DS, ES, FLAG_IF, FLAG_IOPL, FLAG_VIF, FLAG_VIP, FLAG_VM, FS, GS, SS

CODE_32, DATA, TSS, IDT, GDT = 8, 0x10, 0x700, 0x2000, 0x600
V86_IP, V86_SP, RING_0_SP = 0x200, 0x1000, 0x8000
CODE_SEGMENT, STACK_SEGMENT = 0x1000, 0x1800
FRAME = (V86_IP, CODE_SEGMENT, 2 | FLAG_VM, V86_SP, STACK_SEGMENT, 0x1111, 0x2222, 0x3333, 0x4444)


@pytest.fixture
def v86(lab):
    """A CPU that IRET has just brought into virtual-8086 mode, at `code`."""

    def make(code, iopl=0, flags=0, model="x86-64", cr4=0):
        machine = lab(model).protected("cf")
        machine.state.cr4 = cr4
        frame = list(FRAME)
        frame[2] |= iopl << 12 | flags
        machine.state.gpr[4] = 0x7000
        for n, value in enumerate(frame):
            machine.put(0x7000 + 4 * n, value, 4)
        machine.memory.write_bytes(0, CODE_SEGMENT * 16 + V86_IP, bytes.fromhex(code))
        machine.put(TSS + 0x66, 0x68, 2)
        machine.state.tr.limit = 0x200
        machine.run()
        return machine

    return make


def vm_stack(machine, n=0):
    """Word `n` of the virtual machine's stack."""
    return machine.get(STACK_SEGMENT * 16 + (machine.state.gpr[4] & 0xFFFF) + 2 * n, 2)


def test_iret_enters_with_six_flat_segments_at_ring_3(v86):
    machine = v86("90")
    state = machine.state
    assert (state.cpl, machine.cpu.bits, state.rip, state.gpr[4]) == (3, 16, V86_IP, V86_SP)
    wanted = {CS: CODE_SEGMENT, SS: STACK_SEGMENT, ES: 0x1111, DS: 0x2222, FS: 0x3333, GS: 0x4444}
    for index, selector in wanted.items():
        seg = state.segs[index]
        assert (seg.selector, seg.base, seg.limit, seg.dpl, seg.type) == (selector, selector * 16, 0xFFFF, 3, 3)


def test_entry_beyond_64_kib_is_refused(lab):
    machine = lab().protected("cf")
    for n, value in enumerate((0x10000, *FRAME[1:])):
        machine.put(0x8000 + 4 * n, value, 4)
    assert machine.run().pending() == (13, 0, None)
    assert not machine.state.rflags & FLAG_VM


def test_ring_3_cannot_enter(lab):
    machine = lab().protected("cf", user=True)
    for n, value in enumerate((0x1500, 0x1B, 2 | FLAG_VM)):
        machine.put(0x9000 + 4 * n, value, 4)
    machine.run()
    assert (machine.pending(), machine.state.rip) == (None, 0x1500)
    assert not machine.state.rflags & FLAG_VM


def test_segment_loads_and_far_jumps_are_the_8086s(v86):
    machine = v86("b83412" + "8ed8" + "ea00030020")
    machine.run(3)
    state = machine.state
    assert (state.segs[DS].selector, state.segs[DS].base, state.segs[DS].limit) == (0x1234, 0x12340, 0xFFFF)
    assert (state.segs[CS].selector, state.segs[CS].base, state.rip, state.cpl) == (0x2000, 0x20000, 0x300, 3)


def test_far_call_and_return_push_words(v86):
    machine = v86("9a00030020")
    machine.memory.write_bytes(0, 0x20300, bytes.fromhex("cb"))
    machine.run()
    assert (vm_stack(machine), vm_stack(machine, 1)) == (V86_IP + 5, CODE_SEGMENT)
    machine.run()
    assert (machine.state.segs[CS].selector, machine.state.rip) == (CODE_SEGMENT, V86_IP + 5)


@pytest.mark.parametrize("code", ["fa", "fb", "9c", "9d", "cd20", "cf", "669c", "669d", "66cf", "f4", "0f06", "0f20c0",
                                  "0f011e0000", "e480", "0f32"])  # fmt: skip
def test_guarded_instruction_is_for_the_monitor(v86, code):
    machine = v86(code)
    machine.put(TSS + 0x68 + 0x10, 0x01, 2)  # port 0x80
    assert machine.run().pending() == (13, 0, None)
    assert (machine.state.rip, machine.state.gpr[4]) == (V86_IP, V86_SP)


@pytest.mark.parametrize(
    "code", ["0f00c0", "0f00c8", "0f00d0", "0f00d8", "0f00e0", "0f00e8", "0f02c0", "0f03c0", "63c0"]
)
def test_selector_instruction_is_undefined(v86, code):
    assert v86(code).run().pending() == (6, None, None)


def test_iopl_3_allows_cli_sti_pushf_popf_iret_but_not_iopl_or_vm(v86):
    machine = v86("fb" + "9c" + "9d" + "fa" + "669c", iopl=3)
    state = machine.state
    machine.run(2)
    assert vm_stack(machine) == 2 | FLAG_IF | FLAG_IOPL
    machine.put(STACK_SEGMENT * 16 + (state.gpr[4] & 0xFFFF), 1, 2)
    machine.run()
    assert state.rflags == 3 | FLAG_IOPL | FLAG_VM
    machine.run(2)
    assert machine.get(STACK_SEGMENT * 16 + (state.gpr[4] & 0xFFFF), 4) == 3 | FLAG_IOPL
    machine = v86("cf", iopl=3)
    for n, value in enumerate((0x333, 0x1700, 0x0045)):
        machine.put(STACK_SEGMENT * 16 + V86_SP + 2 * n, value, 2)
    machine.run()
    state = machine.state
    assert (state.rip, state.segs[CS].selector, state.gpr[4]) == (0x333, 0x1700, V86_SP + 6)
    assert state.rflags == 0x47 | FLAG_IOPL | FLAG_VM


@pytest.mark.parametrize("gate_size", [4, 2])
def test_interrupt_leaves_with_nine_words_and_iret_comes_back(v86, gate_size):
    machine = v86("cd80", iopl=3)
    raw = machine.get(IDT + 8 * 0x80, 8) | 3 << 45
    machine.put(IDT + 8 * 0x80, raw if gate_size == 4 else raw & ~(8 << 40), 8)
    machine.run()
    state = machine.state
    assert (state.cpl, state.segs[CS].selector, state.segs[SS].selector) == (0, CODE_32, DATA)
    assert state.gpr[4] == RING_0_SP - 9 * gate_size
    frame = [machine.get(state.gpr[4] + gate_size * n, gate_size) for n in range(9)]
    mask = (1 << 8 * gate_size) - 1
    assert frame == [V86_IP + 2, CODE_SEGMENT, (2 | FLAG_VM | FLAG_IOPL) & mask, V86_SP, *FRAME[4:]]
    assert not state.rflags & FLAG_VM
    for index in (DS, ES, FS, GS):
        assert (state.segs[index].selector, state.segs[index].unusable) == (0, 1)
    if gate_size == 4:
        machine.memory.write_bytes(0, state.rip, bytes.fromhex("cf"))
        machine.run()
        assert (state.rip, state.segs[GS].selector, state.cpl, machine.cpu.v86) == (V86_IP + 2, 0x4444, 3, True)


def test_fault_leaves_with_its_error_code(v86):
    machine = v86("f4").run(2)
    assert machine.in_handler() == 13
    assert [machine.get(machine.state.gpr[4] + 4 * n, 4) for n in range(3)] == [0, V86_IP, CODE_SEGMENT]


def test_handler_must_be_ring_0_and_not_conforming(v86):
    for descriptor in (0x00CFFB000000FFFF, 0x00CF9F000000FFFF):
        machine = v86("cd80", iopl=3)
        machine.put(IDT + 8 * 0x80, machine.get(IDT + 8 * 0x80, 8) | 3 << 45, 8)
        machine.put(GDT + CODE_32, descriptor, 8)
        assert machine.run().pending() == (13, CODE_32, None)


def test_breakpoint_needs_the_gates_privilege_not_iopl(v86):
    assert v86("cc").run().pending() == (13, 3 * 8 + 2, None)
    machine = v86("cc")
    machine.put(IDT + 8 * 3, machine.get(IDT + 8 * 3, 8) | 3 << 45, 8)
    assert machine.run().in_handler() == 3


def test_port_map_decides_whatever_iopl_says(v86):
    for iopl in (0, 3):
        machine = v86("e480e481", iopl=iopl)
        machine.put(TSS + 0x68 + 0x10, 0x02, 2)
        assert machine.run().pending() is None
        assert machine.run().pending() == (13, 0, None)


def test_task_switch_may_begin_a_virtual_machine(lab):
    machine = lab().protected("ea000000007800")
    machine.state.gdtr.limit = 0x7F
    machine.put(GDT + 0x78, 0x0000890000000067 | 0xB00 << 16, 8)
    machine.put(GDT + 0x3D, 0x8B, 1)
    fields = [
        0,
        0x8000,
        DATA,
        0,
        0,
        0,
        0,
        0,
        V86_IP,
        2 | FLAG_VM,
        *[0] * 4,
        V86_SP,
        *[0] * 3,
        1,
        CODE_SEGMENT,
        2,
        3,
        4,
        5,
    ]
    for n, value in enumerate(fields):
        machine.put(0xB00 + 4 * n, value, 4)
    machine.run()
    state = machine.state
    assert (machine.cpu.v86, state.cpl, state.rip, state.segs[CS].base) == (True, 3, V86_IP, CODE_SEGMENT * 16)
    assert [seg.base for seg in state.segs] == [0x10, CODE_SEGMENT * 16, 0x20, 0x30, 0x40, 0x50]


# ---- CR4.VME: the model "pentium" has it ----


def vme(v86, code, flags=0, redirected=()):
    machine = v86(code, flags=flags, model="pentium", cr4=CR4_VME)
    machine.put(TSS + 0x66, 0x88, 2)
    for vector in redirected:
        machine.put(TSS + 0x68 + vector // 8, 1 << vector % 8, 1)
    return machine


def test_vme_interrupt_stays_inside_unless_the_map_sends_it_out(v86):
    machine = vme(v86, "cd20", flags=FLAG_VIF)
    machine.put(4 * 0x20, 0x1900 << 16 | 0x44, 4)
    machine.run()
    state = machine.state
    assert (state.segs[CS].selector, state.rip, machine.cpu.v86) == (0x1900, 0x44, True)
    assert [vm_stack(machine, n) for n in range(3)] == [V86_IP + 2, CODE_SEGMENT, 2 | FLAG_IF | FLAG_IOPL]
    assert not state.rflags & FLAG_VIF
    assert vme(v86, "cd20", redirected=[0x20]).run().pending() == (13, 0, None)


def test_vme_works_on_the_virtual_interrupt_flag(v86):
    machine = vme(v86, "fb" + "9c" + "fa" + "9d")
    state = machine.state
    machine.run()
    assert state.rflags & (FLAG_VIF | FLAG_IF) == FLAG_VIF
    machine.run()
    assert vm_stack(machine) == 2 | FLAG_IF | FLAG_IOPL
    assert not machine.run().state.rflags & FLAG_VIF
    machine.run()
    assert state.rflags & (FLAG_VIF | FLAG_IF | FLAG_IOPL) == FLAG_VIF


@pytest.mark.parametrize("code", ["fb", "9d", "cf", "669c", "669d"])
def test_vme_asks_the_monitor_while_an_interrupt_waits(v86, code):
    machine = vme(v86, code, flags=FLAG_VIP)
    for n, value in enumerate((FLAG_IF, FLAG_IF, FLAG_IF)):
        machine.put(STACK_SEGMENT * 16 + V86_SP + 2 * n, value, 2)
    assert machine.run().pending() == (13, 0, None)
    assert machine.state.gpr[4] == V86_SP


def test_pvi_gives_ring_3_its_own_interrupt_flag(lab):
    machine = lab("pentium").protected("fbfa", user=True)
    machine.state.cr4 = CR4_PVI
    assert machine.run().state.rflags & (FLAG_VIF | FLAG_IF) == FLAG_VIF
    assert not machine.run().state.rflags & FLAG_VIF
    machine = lab("pentium").protected("fb", user=True)
    assert machine.run().pending() == (13, 0, None)
