"""Segment loads, system registers, MSRs, CPUID, port permission, strings, self-modifying code."""

import pytest

from emulator.registers import CS, DS, ES, FLAG_DF, FS, GS, SS

GDT, TSS = 0x600, 0x700


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        (0x50, None),
        (0, None),
        (0x58, (11, 0x58, None)),
        (0x80, (13, 0x80, None)),
        (0x38, (13, 0x38, None)),
        (0x14, (13, 0x14, None)),
    ],
)
def test_data_segment_load_is_checked(lab, selector, outcome):
    machine = lab().protected("8ed8")
    machine.state.ldtr.unusable = 1
    machine.state.gpr[0] = selector
    assert machine.run().pending() == outcome


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        (0, (13, 0, None)),
        (0x50, (13, 0x50, None)),
        (0x58, (12, 0x58, None)),
        (0x23, (13, 0x20, None)),
        (0x11, (13, 0x10, None)),
    ],
)
def test_stack_segment_load_is_checked_harder(lab, selector, outcome):
    machine = lab().protected("8ed0")
    machine.state.gpr[0] = selector
    assert machine.run().pending() == outcome
    assert machine.state.segs[SS].selector == 0x10


@pytest.mark.parametrize(
    ("selector", "code", "outcome"),
    [
        (0x60, "a1fc0f0000", None),
        (0x60, "a1fd0f0000", (13, 0, None)),
        (0x50, "a300300000", (13, 0, None)),
        (0x50, "a100300000", None),
        (0x68, "a1ff0f0000", (13, 0, None)),
        (0x68, "a100100000", None),
        (0, "a100300000", (13, 0, None)),
        (8, "a100300000", None),
        (8, "a300300000", (13, 0, None)),
    ],
)
def test_access_keeps_to_limit_and_type(lab, selector, code, outcome):
    machine = lab().protected("8ed8" + code)
    machine.state.gpr[0] = selector
    assert machine.run(2).pending() == outcome


def test_limit_of_the_stack_segment_is_a_stack_fault(lab):
    machine = lab().protected("8b4500")
    machine.state.segs[SS].limit = 0x8FFF
    machine.state.segs[SS].refresh()
    machine.state.gpr[5] = 0x8FFD
    assert machine.run().pending() == (12, 0, None)


def test_loading_a_descriptor_marks_it_accessed(lab):
    machine = lab().protected("8ec0")
    machine.put(GDT + 0x50 + 5, 0x90, 1)
    machine.state.gpr[0] = 0x50
    machine.run()
    assert machine.get(GDT + 0x50 + 5, 1) == 0x91
    assert machine.state.segs[ES].type == 1


def test_task_register_becomes_busy_and_is_refused_when_busy(lab):
    machine = lab().protected("0f00d8" * 2)
    machine.put(GDT + 0x38 + 5, 0x89, 1)
    machine.state.gpr[0] = 0x38
    machine.run()
    assert machine.get(GDT + 0x38 + 5, 1) == 0x8B
    assert machine.state.tr.type == 11
    assert machine.run().pending() == (13, 0x38, None)


def test_lar_lsl_verr_verw(lab):
    machine = lab().protected("0f02c8" + "0f03d0" + "0f00e0" + "0f00e8")
    machine.state.gpr[0] = 0x50
    machine.run(2)
    assert (machine.state.gpr[1], machine.state.gpr[2]) == (0x00C09100, 0xFFFFFFFF)
    assert machine.run().state.rflags & 0x40
    assert not machine.run().state.rflags & 0x40
    machine = lab().real("0f02c8")
    assert machine.run().pending() == (6, None, None)


@pytest.mark.parametrize("code", ["f4", "fa", "0f22c0", "0f01163000000000", "0f30", "0f08", "0f06", "0f00d8"])
def test_privileged_instruction_faults_in_user_mode(emulate, code):
    assert emulate("protected", code, user=True).pending() == (13, 0, None)


@pytest.mark.parametrize(("port", "allowed"), [(0x80, False), (0x81, True), (0x88, True), (0x90, False)])
def test_port_bitmap_decides_for_user_code(lab, port, allowed):
    machine = lab().protected(f"e4{port:02x}", user=True)
    machine.state.tr.limit = 0x68 + 0x12
    machine.put(TSS + 0x66, 0x68, 2)
    machine.put(TSS + 0x68 + 0x10, 0x01, 2)
    machine.run()
    assert machine.pending() == (None if allowed else (13, 0, None))


def test_msrs_of_the_model(lab):
    machine = lab().long("0f30" + "0f32")
    machine.state.gpr[:3] = [0x12345678, 0xC0000100, 0]
    machine.run()
    assert machine.state.segs[FS].base == 0x12345678
    machine.state.gpr[0] = 0
    assert machine.run().state.gpr[0] == 0x12345678
    for index, low, high in ((0xC0000100, 0, 0x8000), (0x9E, 0, 0), (0x12345, 0, 0), (0xC0000080, 1 << 3, 0)):
        machine = lab().long("0f30")
        machine.state.gpr[:3] = [low, index, high]
        assert machine.run().pending() == (13, 0, None)


def test_time_stamp_counter_is_the_machines_plus_an_offset_that_a_write_sets(lab):
    machine = lab().long("0f31" + "0f30" + "0f31")
    machine.cpu.read_tsc = lambda: 1000
    machine.run()
    assert machine.state.gpr[0] == 1000
    machine.state.gpr[:3] = [5000, 0x10, 0]
    assert machine.run().state.tsc_offset == 4000
    assert machine.run().state.gpr[0] == 5000


def test_swapgs(lab):
    machine = lab().long("0f01f8")
    machine.state.segs[GS].base, machine.state.msrs[0xC0000102] = 7, 9
    machine.run()
    assert (machine.state.segs[GS].base, machine.state.msrs[0xC0000102]) == (9, 7)


def test_cpuid_tells_the_model(lab):
    machine = lab("pentium").protected("0fa2" + "0fa2")
    machine.run()
    assert (machine.state.gpr[0], machine.state.gpr[3]) == (1, 0x756E6547)
    machine.state.gpr[0] = 0x80000001  # beyond the highest leaf: answers as leaf 1
    assert machine.run().state.gpr[2] & 1 << 29 == 0
    assert lab("pentium").protected("0f44c1").run().pending() == (6, None, None)  # CMOV


@pytest.mark.parametrize(
    ("code", "value", "outcome"),
    [
        ("0f22c0", 0x80000000, (13, 0, None)),
        ("0f22c0", 0x20000011, (13, 0, None)),
        ("0f22e0", 1 << 16, (13, 0, None)),
        ("0f22c8", 0, (6, None, None)),
        ("0f22c0", 0x11, None),
        ("0f23f0", 0, None),
    ],
)
def test_control_register_values_are_checked(lab, code, value, outcome):
    machine = lab().protected(code)
    machine.state.gpr[0] = value
    assert machine.run().pending() == outcome


def test_long_mode_cannot_be_left_from_64_bit_code_and_pae_not_cleared(lab):
    machine = lab().long("0f22c0")
    machine.state.gpr[0] = 0x11
    assert machine.run().pending() == (13, 0, None)
    machine = lab().long("0f22e0")
    assert machine.run().pending() == (13, 0, None)


def test_paging_with_lme_enters_long_mode(lab):
    machine = lab().long("90")
    state = machine.state
    state.cr0, state.efer, state.segs[CS].l, state.segs[CS].db = 0x11, 0x900, 0, 1
    machine.memory.write_bytes(0, 0x1000, bytes.fromhex("0f22c0"))
    state.gpr[0] = 0x80000011
    machine.cpu.state_changed()
    machine.run()
    assert state.efer & 0x400
    assert machine.cpu.bits == 32  # compatibility mode until a far jump


def test_cr8_is_the_task_priority(lab):
    machine = lab().long("440f22c0" + "440f20c1")
    machine.state.gpr[0] = 9
    machine.run(2)
    assert (machine.bus.tpr, machine.state.gpr[1]) == (9, 9)


def test_one_iteration_of_a_repeated_string_is_one_step(lab):
    machine = lab().protected("f3a4" + "90")
    machine.ram[0x3000:0x3004] = b"abcd"
    machine.state.gpr[1], machine.state.gpr[6], machine.state.gpr[7] = 3, 0x3000, 0x3100
    machine.run(2)
    assert (machine.state.rip, machine.state.gpr[1], machine.state.gpr[7]) == (0x1000, 1, 0x3102)
    machine.run()
    assert (machine.state.rip, machine.state.gpr[1]) == (0x1002, 0)
    assert machine.ram[0x3100:0x3104] == b"abc\0"


def test_repeated_string_can_be_interrupted_and_goes_on(lab):
    machine = lab().protected("f3aa" + "90")
    machine.memory.write_bytes(0, 0x4000 + 8 * 0x40, b"\xcf")
    machine.state.gpr[0], machine.state.gpr[1], machine.state.gpr[7] = 0x41, 4, 0x3000
    machine.state.rflags |= 0x200
    machine.run(2)
    machine.cpu.interrupt_line = True
    machine.run()
    assert machine.state.gpr[1] == 2
    machine.run(2)
    assert (machine.ram[0x3000:0x3005], machine.state.rip) == (b"AAAA\0", 0x1002)


def test_fault_in_a_repeated_string_keeps_what_was_done(lab):
    machine = lab().protected("f3aa")
    machine.state.segs[ES].limit = 0x3001
    machine.state.segs[ES].refresh()
    machine.state.gpr[1], machine.state.gpr[7] = 9, 0x3000
    machine.run(3)
    assert machine.pending() == (13, 0, None)
    assert (machine.state.gpr[1], machine.state.gpr[7], machine.state.rip) == (7, 0x3002, 0x1000)


@pytest.mark.parametrize(("prefix", "left"), [("f3", 1), ("f2", 2)])
def test_comparing_strings_end_by_zf(lab, prefix, left):
    machine = lab().protected(prefix + "ae" + "90")
    machine.ram[0x3000:0x3004] = b"aab\0" if prefix == "f3" else b"bac\0"
    machine.state.gpr[0], machine.state.gpr[1], machine.state.gpr[7] = ord("a"), 4, 0x3000
    machine.run(4)
    assert machine.state.gpr[1] == left


def test_strings_go_down_with_df_and_ports_are_reached(lab):
    machine = lab().protected("6e" + "6d")
    machine.state.rflags |= FLAG_DF
    machine.ram[0x3000] = 0x77
    machine.state.gpr[2], machine.state.gpr[6], machine.state.gpr[7] = 0x99, 0x3000, 0x3100
    machine.run(2)
    assert machine.bus.written == [(0x99, 1, 0x77)]
    assert (machine.state.gpr[6], machine.state.gpr[7]) == (0x2FFF, 0x30FC)
    assert machine.get(0x3100, 4) == 0x11223344


def test_code_that_changes_itself_is_decoded_again(lab):
    # INC EAX runs once, then the MOV behind it turns it into INC EBX and the JMP goes back to it.
    machine = lab().protected("40" + "c6050010000043" + "ebf6")
    machine.run(4)
    assert (machine.state.gpr[0], machine.state.gpr[3]) == (1, 1)


def test_code_changed_on_its_second_page_is_decoded_again(lab):
    machine = lab().protected("90")
    machine.memory.write_bytes(0, 0x1FFE, bytes.fromhex("b811000000"))  # mov eax, 0x11 across 0x2000
    machine.state.rip = 0x1FFE
    machine.run()
    assert machine.state.gpr[0] == 0x11
    machine.put(0x1FFF, 0x22, 1)
    machine.put(0x2000, 0x33, 1)
    machine.state.rip = 0x1FFE
    machine.run()
    assert machine.state.gpr[0] == 0x3322


def test_segment_override_and_address_size(lab):
    machine = lab().protected("64a100000000" + "67a10030")
    machine.state.segs[FS].base = 0x3000
    machine.put(0x3000, 0xABCD, 4)
    assert machine.run().state.gpr[0] == 0xABCD
    machine.state.gpr[0] = 0
    assert machine.run().state.gpr[0] == 0xABCD


def test_lgdt_with_a_16_bit_operand_takes_24_bits_of_base(lab):
    machine = lab().real("0f01160003" + "660f01160003")
    machine.memory.write_bytes(0, 0x300, bytes.fromhex("ff00785634 12"))
    machine.run()
    assert (machine.state.gdtr.limit, machine.state.gdtr.base) == (0xFF, 0x345678)
    assert machine.run().state.gdtr.base == 0x12345678
    assert machine.state.segs[DS].base == 0
