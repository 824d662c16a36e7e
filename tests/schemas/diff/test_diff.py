"""Differences by meaning, complete and in a stable order."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.diff import ChangeKind, diff_states
from schemas.diff.compare import SPECIAL
from schemas.memory import MemoryMap
from schemas.paths import get, locate, parse
from schemas.state import VcpuState
from schemas.uapi import SECTIONS, VCPU_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.regs import KvmRegs
from schemas.uapi.xsave import KvmXsave
from tests.schemas.diff.conftest import entry


def put(state, **changes):
    for path, value in changes.items():
        state = locate(state, path.replace("__", ".")).replace(value)
    return state


def texts(old, new, **options):
    return [(change.path, change.text) for change in diff_states(old, new, **options).changes]


def test_equal_states_have_no_differences(machine, vcpu):
    assert diff_states(machine, machine).equal
    assert diff_states(vcpu, VcpuState.from_sections(vcpu.to_sections())).equal


@pytest.mark.parametrize(
    ("path", "value", "shown", "text"),
    [
        ("regs.rip", 0x10, "regs.rip", "0xfff0 -> 0x10"),
        ("regs.rflags", 0x202, "regs.rflags", "IF set (0x2 -> 0x202)"),
        ("regs.rflags", 0x3008003, "regs.rflags", "CF set, reserved 0x3008000 set (0x2 -> 0x3008003)"),
        ("regs.rflags", 0x3002, "regs.rflags", "IOPL 0 -> 3 (0x2 -> 0x3002)"),
        ("sregs.cr4", 0x20, "sregs.cr4", "PAE set (0x0 -> 0x20)"),
        ("sregs.cr0", 0x10, "sregs.cr0", "NW cleared, CD cleared (0x60000010 -> 0x10)"),
        ("sregs.cs.type", 11, "sregs.cs.type", "reserved 0 -> TSS busy (0x0 -> 0xb)"),
        ("sregs.cs.selector", 8, "sregs.cs.selector", "0x0 -> 0x8"),
        ("sregs.cs.dpl", 3, "sregs.cs.dpl", "0 -> 3"),
        ("sregs.gdt.limit", 0xFFFF, "sregs.gdt.limit", "0x0 -> 0xffff"),
        ("sregs.interrupt_bitmap[1]", 1, "sregs.interrupt_bitmap[1]", "0x0 -> 0x1"),
        ("events.interrupt.shadow.smm", 2, "events.interrupt.shadow.smm", "none -> sti"),
        ("events.interrupt.shadow.current", 3, "events.interrupt.shadow.current", "none -> both"),
        ("events.interrupt.shadow.current", 4, "events.interrupt.shadow.current", "none -> 4"),
        ("events.flags", 0x3D, "events.flags", "VALID_SMM_SHADOW cleared (0x7d -> 0x3d)"),
        ("events.smi.smm", 1, "events.smi.smm", "0 -> 1"),
        ("events.reserved", b"\1" + bytes(25), "events.reserved[0]", "1 byte: 00 -> 01"),
        ("mp_state.mp_state", 3, "mp_state.mp_state", "runnable -> halted"),
        ("mp_state.mp_state", 77, "mp_state.mp_state", "runnable -> 77"),
        ("debugregs.dr7", 0x401, "debugregs.dr7", "L0 set (0x400 -> 0x401)"),
        ("debugregs.db[2]", 9, "debugregs.db[2]", "0x0 -> 0x9"),
        ("xcrs.xcr0", 3, "xcrs.xcr0", "YMM cleared (0x7 -> 0x3)"),
        ("xcrs.nr_xcrs", 0, "xcrs.nr_xcrs", "1 -> 0"),
        ("xcrs.xcrs[5].value", 1, "xcrs.xcrs[5].value", "FP set (0x0 -> 0x1)"),
        ("msrs.MSR_IA32_SMBASE", 0x7000, "msrs.MSR_IA32_SMBASE", "0x30000 -> 0x7000"),
        ("msrs.MSR_EFER", 0x500, "msrs.MSR_EFER", "LME set, LMA set (0x0 -> 0x500)"),
        ("msrs.MSR_LSTAR", 0x500, "msrs.MSR_LSTAR", "added as 0x500"),
        ("msrs.MSR_IA32_SMBASE", None, "msrs.MSR_IA32_SMBASE", "removed, was 0x30000"),
        ("msrs[0x99999]", 1, "msrs[0x99999]", "added as 0x1"),
        ("msrs.pad", 1, "msrs.pad", "0x0 -> 0x1"),
        ("cpuid2.avx2", 0, "cpuid2[0x7][0].ebx", "lost avx2 (0x20 -> 0x0)"),
        ("cpuid2[7].ebx", 0x28, "cpuid2[0x7][0].ebx", "gained bmi1 (0x20 -> 0x28)"),
        ("cpuid2[0xd][0].ebx", 0x28, "cpuid2[0xd][0].ebx", "0x340 -> 0x28"),
        ("cpuid2[7].flags", 0, "cpuid2[0x7][0].flags", "SIGNIFCANT_INDEX cleared (0x1 -> 0x0)"),
        ("lapic.LVTT", 0x20031, "lapic.LVTT", "VECTOR 0 -> 0x31, TIMER one-shot -> periodic (0x0 -> 0x20031)"),
        ("lapic.TMICT", 7, "lapic.TMICT", "0x0 -> 0x7"),
        ("lapic.IRR1", 0x20001, "lapic.IRR", "vectors added 0x20 0x31"),
        ("lapic.regs[4]", 7, "lapic.regs[4]", "1 byte: 00 -> 07"),
        ("xsave.MXCSR", 0x8000, "xsave.MXCSR", "FTZ set (0x0 -> 0x8000)"),
        ("xsave.XSTATE_BV", 5, "xsave.XSTATE_BV", "FP in use, YMM in use (0x0 -> 0x5)"),
        ("xsave.XMM3", bytes(15) + b"\xab", "xsave.XMM3", f"{'0' * 32} -> ab{'0' * 30}"),
        ("xsave.region[580]", 7, "xsave.YMM", "1 of 256 bytes differ, at +0x4: 00 -> 07"),
        ("xsave.region[42]", 7, "xsave.region[42]", "1 byte: 00 -> 07"),
        ("xsave.region[900]", 7, "xsave.region[900]", "1 byte: 00 -> 07"),
        ("tsc_khz.tsc_khz", 5, "tsc_khz.tsc_khz", "1000000 -> 5"),
        ("nested_state.flags", 1, "nested_state.flags", "GUEST_MODE set (0x0 -> 0x1)"),
        ("nested_state.hdr.vmx.smm.flags", 5, "nested_state.hdr.vmx.smm.flags",
         "GUEST_MODE set, STI_BLOCKING set (0x0 -> 0x5)"),
        ("sregs2.pdptrs[0]", 0x1001, "sregs2.pdptrs[0]", "0x0 -> 0x1001"),
        ("sregs2.cr4", 0x20, "sregs2.cr4", "PAE set (0x0 -> 0x20)"),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_its_meaning(vcpu, path, value, shown, text):
    new = locate(vcpu, path).replace(value)
    assert texts(vcpu, new) == [(shown, text)]
    if "bytes differ" not in text:
        get(new, shown)  # a path that can be followed


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("vm.clock.flags", 2, "TSC_STABLE set (0x0 -> 0x2)"),
        ("vm.clock.clock", 2, "0x0 -> 0x2"),
        ("vm.pic_master.chip.pic.imr", 255, "0 -> 255"),
        ("vm.pit2.channels[1].mode", 2, "0 -> 2"),
        ("vm.ioapic.chip.ioapic.redirtbl[3]", 0x10031, "VECTOR 0 -> 0x31, MASKED set (0x0 -> 0x10031)"),
        ("vm.machine.now_ns", 2, "0 -> 2"),
        ("memory.slots[1].flags", 2, "READONLY set (0x0 -> 0x2)"),
        ("memory.slots[1].backing_offset_bytes", 4096, "0 -> 4096"),
        ("memory.ram_bytes", 1 << 21, "1024 KiB -> 2048 KiB"),
    ],
)
def test_a_difference_of_the_vm_is_told_by_its_meaning(machine, path, value, text):
    assert texts(machine, locate(machine, path).replace(value)) == [(path, text)]


def test_sregs2_says_nothing_that_sregs_said(vcpu, changed):
    new = changed(vcpu, {"sregs.cr4": 0x20, "sregs2.cr4": 0x20, "sregs2.cr3": 0x1000})
    assert [path for path, _ in texts(vcpu, new)] == ["sregs.cr4", "sregs2.cr3"]
    assert [path for path, _ in texts(vcpu, new, ignore=["sregs"])] == ["sregs2.cr3", "sregs2.cr4"]


def test_a_section_may_come_and_go(vcpu, changed):
    without = changed(vcpu, {"sregs2": None})
    (gone,) = diff_states(vcpu, without).changes
    (come,) = diff_states(without, vcpu).changes
    assert (gone.path, gone.kind, gone.new) == ("sregs2", ChangeKind.REMOVED, None)
    assert (come.path, come.kind, come.old) == ("sregs2", ChangeKind.ADDED, None)
    assert come.new["cr0"] == "0x60000010"


def test_vcpus_may_come_and_go(machine):
    one = machine.model_copy(update={"vcpus": machine.vcpus[:1]})
    assert texts(machine, one) == [("vcpus[1]", "vCPU removed, was at rip 0xfff0")]
    assert texts(one, machine) == [("vcpus[1]", "vCPU added, at rip 0xfff0")]


def test_slots_may_come_go_and_change_places(machine):
    both = machine.memory
    one = machine.model_copy(update={"memory": MemoryMap(slots=both.slots[:1], ram_bytes=both.ram_bytes)})
    swapped = machine.model_copy(update={"memory": MemoryMap(slots=both.slots[::-1], ram_bytes=both.ram_bytes)})
    slot = "slot 0 of address space 1, 1024 KiB at 0x0"
    assert texts(machine, one) == [("memory.slots[1]", f"removed: {slot}")]
    assert texts(one, machine) == [("memory.slots[1]", f"added: {slot}")]
    assert texts(machine, swapped) == [("memory.slots", "the slots stand in another order")]


def test_the_order_of_a_list_counts(vcpu, changed):
    swapped = changed(vcpu, {"msrs.entries": vcpu.msrs.entries[::-1]})
    ((path, text),) = texts(vcpu, swapped)
    assert path == "msrs.entries"
    assert "the order differs from MSR_IA32_SMBASE on" in text
    turned = changed(vcpu, {"cpuid2.entries": vcpu.cpuid2.entries[::-1]})
    assert texts(vcpu, turned)[0][0] == "cpuid2.entries"


def test_a_list_with_an_entry_twice_is_compared_entry_by_entry(vcpu, changed):
    twice = (*vcpu.msrs.entries, vcpu.msrs.entries[0])
    new = changed(vcpu, {"msrs": KvmMsrs(nmsrs=4, entries=twice)})
    assert texts(vcpu, new) == [("msrs.nmsrs", "3 -> 4"), ("msrs.entries[3]", "added index=0x9e data=0x30000")]
    assert texts(new, vcpu)[1] == ("msrs.entries[3]", "removed index=0x9e data=0x30000")
    double = KvmCpuid2(nent=2, entries=(entry(7), entry(7, eax=1)))
    assert len(texts(changed(vcpu, {"cpuid2": double}), changed(vcpu, {"cpuid2.entries": double.entries}))) == 1


def test_cpuid_leaves_may_come_and_go(vcpu, changed):
    entries = vcpu.cpuid2.entries[:-1]
    less = changed(vcpu, {"cpuid2": KvmCpuid2(nent=len(entries), entries=entries)})
    assert texts(vcpu, less) == [("cpuid2[0xd][2]", "removed, was eax=0x100 ebx=0x240 ecx=0x0 edx=0x0")]
    assert texts(less, vcpu) == [("cpuid2[0xd][2]", "added: eax=0x100 ebx=0x240 ecx=0x0 edx=0x0")]


def test_a_component_is_named_only_where_both_have_it_at_one_place(vcpu, changed):
    moved = changed(vcpu, {"cpuid2.entries.3.ebx": 640, "xsave": put(vcpu, **{"xsave__region[580]": 7}).xsave})
    assert [path for path, _ in texts(vcpu, moved)] == ["xsave.region[580]", "cpuid2[0xd][2].ebx"]


def test_xsave_areas_of_different_size(vcpu, changed):
    longer = changed(vcpu, {"xsave": KvmXsave(region=bytes(4096), extra=bytes(8))})
    assert texts(vcpu, longer) == [("xsave.extra", "0 -> 8 bytes")]


def test_changes_are_in_the_order_of_sections(machine):
    new = machine
    for path in (
        "vm.clock.clock",
        "vcpus.1.regs.rax",
        "vcpus.0.tsc_khz.tsc_khz",
        "memory.ram_bytes",
        "vcpus.0.msrs.pad",
    ):
        new = locate(new, path).replace(1 << 21)
    found = [change.path for change in diff_states(machine, new).changes]
    assert found == [
        *("vcpus[0].msrs.pad", "vcpus[0].tsc_khz.tsc_khz", "vcpus[1].regs.rax", "vm.clock.clock", "memory.ram_bytes")
    ]


def section_of(path):
    return next(part for part in parse(re.sub(r"^(vm|vcpus)\.?", "", path)) if isinstance(part, str))


RANK = {row.name: n for n, row in enumerate(SECTIONS)}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_difference_is_found_and_only_that(vcpu, data):
    raw = vcpu.to_sections()
    names = data.draw(st.lists(st.sampled_from(sorted(raw)), min_size=1, max_size=4, unique=True))
    new = dict(raw)
    for name in names:
        body = bytearray(new[name])
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] ^= data.draw(st.integers(1, 255))
        if any(at in range(*place) for place in COUNTS.get(name, ())):
            continue
        new[name] = bytes(body)
    changed = {name for name in raw if raw[name] != new[name]}
    made = VcpuState.from_sections(new, index=0)
    found = diff_states(vcpu, made)
    told = [section_of(change.path) for change in found.changes]
    repeated = {"sregs2"} if {"sregs", "sregs2"} <= changed else set()  # sregs may have said it all
    assert changed - repeated <= set(told) <= changed
    assert [RANK[name] for name in told] == sorted(RANK[name] for name in told)


COUNTS = {"msrs": [(0, 4)], "cpuid2": [(0, 4)], "nested_state": [(2, 8)]}
"""Bytes that a struct's length has to agree with."""


def test_a_difference_tells_the_same_backwards(machine):
    new = machine
    for path, value in (("vcpus[0].regs.rip", 5), ("vcpus[0].msrs.MSR_LSTAR", 9)):
        new = locate(new, path).replace(value)
    there, back = diff_states(machine, new).changes, diff_states(new, machine).changes
    assert [change.path for change in there] == [change.path for change in back]
    assert [(change.old, change.new) for change in there] == [(change.new, change.old) for change in back]


def test_vcpus_of_different_index(vcpu):
    assert texts(vcpu, vcpu.model_copy(update={"index": 3})) == [("index", "vCPU 0 -> vCPU 3")]


def test_every_section_can_differ(machine):
    """A section whose struct the comparison does not understand would be told as bytes; none is."""
    for name, row in VCPU_SECTIONS.items():
        other = row.model.unpack(bytes(len(getattr(machine.vcpus[0], name).pack()))) if not COUNTS.get(name) else None
        if other is None or other.pack() == getattr(machine.vcpus[0], name).pack():
            continue
        new = machine.vcpus[0].model_copy(update={name: other})
        found = diff_states(machine.vcpus[0], new).changes
        assert found
        assert all("." in change.path or "[" in change.path for change in found), name


def test_a_reserved_part_of_an_msr_entry_counts(vcpu):
    new = locate(vcpu, "msrs.entries[1].reserved").replace(5)
    assert texts(vcpu, new) == [("msrs.entries[1].reserved", "0x0 -> 0x5")]


def test_what_a_comparison_does_not_tell_is_told_as_bytes(vcpu, monkeypatch):
    monkeypatch.setitem(SPECIAL, KvmRegs, lambda *_: None)
    assert texts(vcpu, locate(vcpu, "regs.rip").replace(1)) == [("regs[128]", "2 bytes: f0ff -> 0100")]
