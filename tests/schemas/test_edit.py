"""Changes by path: values in every spelling, what follows them, all or nothing."""

import pytest

from schemas.edit import EVENT_FLAGS, MAX_ASSIGNMENTS, MSR_COPIES, edit_state, parse_assignment
from schemas.errors import FieldError
from schemas.paths import get
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.sregs2 import KvmSregs2


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("regs.rip", "0xfff0", 0xFFF0),
        ("regs.rip", "12", 12),
        ("regs.rip", "0b101", 5),
        ("regs.rflags.IF", "1", 1),
        ("regs.rflags.IOPL", "3", 3),
        ("events.interrupt.shadow.smm", "sti", 2),
        ("events.interrupt.shadow.smm", "MOV_SS", 1),
        ("events.interrupt.shadow.current", "both", 3),
        ("events.interrupt.shadow.current", "none", 0),
        ("events.interrupt.shadow.current", "2", 2),
        ("mp_state.mp_state", "halted", 3),
        ("lapic.LVTT.TIMER", "periodic", 1),
        ("msrs.MSR_LSTAR", "0xffffffff81000000", 0xFFFFFFFF81000000),
        ("msrs.MSR_IA32_SMBASE", "null", None),
        ("xsave.XMM1", "00112233445566778899aabbccddeeff", bytes.fromhex("00112233445566778899aabbccddeeff")),
        ("xsave.region[3]", "255", 255),
        ("debugregs.db[0]", "0x1000", 0x1000),
        ("sregs.cs.selector", "0x8", 8),
    ],
)
def test_a_value_is_read_as_the_place_wants_it(legal_vcpu, path, text, value):
    made = edit_state(legal_vcpu, [f"{path}={text}"]).state
    assert get(made, path) == value
    assert legal_vcpu.regs.rip == 0xFFF0


def test_the_whole_shadow_byte_can_be_set(legal_vcpu):
    made = edit_state(legal_vcpu, ["events.interrupt.shadow=0x21"]).state
    assert (made.events.interrupt.shadow.current, made.events.interrupt.shadow.smm) == (1, 2)


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("regs.rip", "write path=value"),
        ("regs.rip=", "a number"),
        ("regs.rip=abc", "a number"),
        ("regs.rip=0x10000000000000000", "a number"),
        ("regs.rip=-1", "regs.rip"),
        ("regs.rip=18446744073709551616", "regs.rip"),
        ("regs.rip=1_000", "a number"),
        ("regs.rip=null", "regs.rip"),
        ("regs.rflags.IF=2", "does not fit 1 bit"),
        ("regs=1", "set one of its fields: rax"),
        ("debugregs.db=1", r"debugregs\.db\[0\]"),
        ("xsave.region=00", "8192 hex digits"),
        ("xsave.region[0]=256", "no byte"),
        ("xsave.MXCSR=0x100000000", "4 bytes"),
        ("events.interrupt.shadow.smm=yes", "mov_ss, sti"),
        ("events.interrupt.shadow.smm=16", "smm"),
        ("events.nmi.pending=256", r"events\.nmi\.pending"),
        ("msrs.nmsrs=9", "nmsrs"),
        ("regs=null", "regs"),
        ("index=1024", "index"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(legal_vcpu, assignment, what):
    with pytest.raises(FieldError, match=what):
        edit_state(legal_vcpu, [assignment])


def test_all_problems_are_told_and_nothing_is_done(legal_vcpu):
    with pytest.raises(FieldError) as caught:
        edit_state(legal_vcpu, ["regs.rax=1", "regs.foo=1", "regs.rbx=x", "vcpus[4].regs.rip=1"])
    assert [problem.where for problem in caught.value.problems] == ["regs.foo", "regs.rbx", "vcpus[4]"]


def test_edits_are_bounded(legal_vcpu):
    with pytest.raises(FieldError, match="at most"):
        edit_state(legal_vcpu, ["regs.rax=1"] * (MAX_ASSIGNMENTS + 1))
    with pytest.raises(FieldError, match="hex digits"):
        edit_state(legal_vcpu, ["xsave.region=" + "0" * (1 << 20)])


@pytest.mark.parametrize(
    "pair",
    [
        ("regs.rax=1", "regs.rax=2"),
        ("regs.rax=1", "vcpus[0].regs.rax=1"),
        ("msrs.MSR_LSTAR=1", "msrs[0xc0000082]=2"),
        ("regs.rflags.IF=1", "regs.rflags[9]=0"),
        ("events.interrupt.shadow.smm=sti", "events.interrupt.shadow.smm=none"),
    ],
)
def test_two_values_for_one_place_are_refused_and_both_are_named(legal_vcpu, pair):
    with pytest.raises(FieldError, match="assigned twice") as caught:
        edit_state(legal_vcpu, ["regs.rip=1", *pair])
    [problem] = caught.value.problems
    assert f"{pair[0].split('=')[0]}=" in problem.message
    assert problem.message.endswith(f"{pair[1]}")


def test_a_bit_may_be_set_after_its_register_and_beside_another(legal_vcpu):
    made = edit_state(legal_vcpu, ["regs.rflags=2", "regs.rflags.IF=1", "regs.rflags[0]=1"]).state
    assert made.regs.rflags == 0x203


@pytest.mark.parametrize("row", EVENT_FLAGS, ids=lambda row: ".".join(row.field))
def test_a_field_that_counts_with_a_flag_gets_it(legal_vcpu, changed, row):
    vcpu = changed(legal_vcpu, {"events.flags": 0})
    field = {"smi": "smi.pending", "triple_fault": "triple_fault.pending"}.get(row.field[0], ".".join(row.field))
    made, notes = edit_state(vcpu, [f"events.{field}=1"])
    assert made.events.flags == row.flag
    assert row.flag.name in notes[0]
    kept, notes = edit_state(vcpu, [f"events.{field}=1", "events.flags.VALID_SHADOW=0"])
    assert kept.events.flags == 0  # the caller sets the flags
    assert notes == ()


def test_a_register_is_copied_to_sregs2_and_to_its_msr(legal_vcpu, changed):
    sregs2 = KvmSregs2.unpack(legal_vcpu.sregs.pack()[:280] + bytes(40))
    vcpu = changed(legal_vcpu, {"sregs2": sregs2})
    made, notes = edit_state(vcpu, ["sregs.efer.SCE=1", "sregs.cr4.PAE=1", "sregs.cs.base=0x1000"])
    assert (made.sregs2.efer, made.sregs2.cr4, made.sregs2.cs.base) == (1, 0x20, 0x1000)
    assert made.msrs.values_by_index()[0xC0000080] == 1
    assert len(notes) == 4
    back, notes = edit_state(made, ["sregs2.cr4.PAE=0", "sregs2.cr4.PSE=1"])
    assert back.sregs.cr4 == 0x10
    assert len(notes) == 1


@pytest.mark.parametrize(("register", "number"), MSR_COPIES)
def test_an_msr_is_copied_to_the_register_that_it_shows(legal_vcpu, changed, register, number):
    vcpu = changed(legal_vcpu, {"msrs": KvmMsrs.of({number: 0})})
    made, notes = edit_state(vcpu, [f"msrs[{number:#x}]=0x800"])
    assert get(made, ("sregs", *register)) == 0x800
    assert len(notes) == 1
    made, notes = edit_state(vcpu, [f"sregs.{'.'.join(register)}=0x800"])
    assert made.msrs.values_by_index() == {number: 0x800}


def test_an_optional_section_can_be_taken_out_and_not_put_in(legal_vcpu, changed):
    sregs2 = KvmSregs2.unpack(legal_vcpu.sregs.pack()[:280] + bytes(40))
    vcpu = changed(legal_vcpu, {"sregs2": sregs2})
    assert edit_state(vcpu, ["sregs2=null"]).state == legal_vcpu
    assert edit_state(legal_vcpu, ["sregs2=null"]).state == legal_vcpu
    with pytest.raises(FieldError, match="sregs2"):
        edit_state(legal_vcpu, ["sregs2=1"])


def test_an_msr_that_is_not_there_is_not_made_by_its_register(legal_vcpu, changed):
    vcpu = changed(legal_vcpu, {"msrs": KvmMsrs.of({})})
    made, notes = edit_state(vcpu, ["sregs.efer.SCE=1"])
    assert (made.msrs.nmsrs, notes) == (0, ())


def test_both_of_two_copies_can_be_given(legal_vcpu):
    made, notes = edit_state(legal_vcpu, ["sregs.efer=1", "msrs.MSR_EFER=0x101"])
    assert (made.sregs.efer, made.msrs.values_by_index()[0xC0000080], notes) == (1, 0x101, ())


def test_a_machine_is_edited_by_vcpu(legal_machine):
    made, notes = edit_state(legal_machine, ["vcpus[0].events.interrupt.shadow.current=sti", "vm.clock.clock=5"])
    assert made.vcpus[0].events.interrupt.shadow.current == 2
    assert made.vm.clock.clock == 5
    assert notes == ()  # the flag was there


def test_a_memory_map_is_checked_as_a_whole(legal_machine):
    with pytest.raises(FieldError, match="4096"):
        edit_state(legal_machine, ["memory.slots[0].gpa=1"])


def test_an_assignment_may_have_spaces_and_an_equals_sign_in_the_value():
    assert parse_assignment(" regs.rip = 0x1=2") == (("regs", "rip"), "0x1=2")
