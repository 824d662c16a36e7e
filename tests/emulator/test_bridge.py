"""Saving and restoring: nothing lost, nothing applied of what is refused."""

import pytest

from emulator.bridge import (
    cpuid_of,
    host_profile,
    load_sections,
    memory_map,
    restore_state,
    save_sections,
    save_state,
)
from emulator.cpu_model import MODELS
from emulator.guests import GUESTS
from emulator.machine import Machine, StopReason
from schemas.compat import check_compat
from schemas.errors import InvariantError, SchemaError
from schemas.invariants import check_state, errors_of
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS

FOREVER = 1 << 40


@pytest.fixture
def machine():
    """The ticker in 64-bit mode, in full swing."""
    made = Machine(GUESTS["ticker64"].config({"ticks": 30, "pit_count": 2000, "working_set_pages": 4}))
    made.run(30_000)
    return made


def twin_of(machine, ram=None):
    made = Machine(machine.config, ram=bytearray(machine.memory.ram) if ram is None else ram, load_images=False)
    load_sections(made, *save_sections(machine))
    return made


def with_vcpu(state, **parts):
    return state.model_copy(update={"vcpus": [state.vcpus[0].model_copy(update=parts)]})


def with_vm(state, **parts):
    return state.model_copy(update={"vm": state.vm.model_copy(update=parts)})


def test_what_is_saved_is_legal_at_every_boundary_and_comes_back_bit_by_bit():
    machine = Machine(GUESTS["smm_corners"].config())
    twin = Machine(machine.config, load_images=False)
    while machine.run(1).reason == StopReason.BUDGET:
        state = save_state(machine)
        assert not errors_of(check_state(state))
        twin.memory.ram[:] = machine.memory.ram
        sections = state.to_sections()
        load_sections(twin, *sections)
        assert save_sections(twin) == sections


def test_saving_changes_nothing(machine, machine_state):
    twin = twin_of(machine)
    for _ in range(50):
        save_state(machine)
        machine.run(13)
        twin.run(13)
    assert machine_state(machine)[:2] == machine_state(twin)[:2]


def test_a_restored_machine_ends_as_the_other(machine, machine_state):
    twin = twin_of(machine)
    printed = machine.console_bytes()
    machine.run(FOREVER)
    twin.run(FOREVER)
    assert twin.exit_code == machine.exit_code == 0
    assert machine_state(twin)[:2] == machine_state(machine)[:2]
    assert printed + twin.console_bytes() == machine.console_bytes()


def test_the_state_survives_json_and_raw_sections(machine):
    state = save_state(machine)
    assert MachineState.model_validate_json(state.model_dump_json()).to_sections() == state.to_sections()
    vm, vcpus = state.to_sections()
    assert MachineState.from_sections(memory_map(machine.memory), vm, vcpus).to_sections() == state.to_sections()


def test_a_machine_restored_over_a_running_one_forgets_what_it_did(machine, machine_state):
    other = Machine(machine.config)
    other.run(71_234)
    other.memory.ram[:] = machine.memory.ram
    load_sections(other, *save_sections(machine))
    machine.run(20_000)
    other.run(20_000)
    assert machine_state(other)[:2] == machine_state(machine)[:2]


def test_an_illegal_state_is_refused_with_every_finding_and_nothing_is_applied(machine):
    state = save_state(machine)
    vcpu = state.vcpus[0]
    regs = vcpu.regs.model_copy(update={"rax": 0x1234, "rflags": 0})
    held = vcpu.events.interrupt.shadow.model_copy(update={"current": 7})
    events = vcpu.events.model_copy(
        update={
            "interrupt": vcpu.events.interrupt.model_copy(update={"shadow": held}),
            "nmi": vcpu.events.nmi.model_copy(update={"pending": 9}),
        }
    )
    before = save_sections(machine)
    with pytest.raises(InvariantError) as caught:
        restore_state(machine, with_vcpu(state, regs=regs, events=events))
    assert {"INV-050", "INV-006", "INV-020"} <= {finding.rule for finding in caught.value.findings}
    assert save_sections(machine) == before


def test_what_this_machine_cannot_hold_is_refused_with_every_reason(machine):
    state = save_state(machine)
    vcpu = state.vcpus[0]
    msrs = vcpu.msrs.model_copy(
        update={
            "nmsrs": vcpu.msrs.nmsrs + 1,
            "entries": (*vcpu.msrs.entries, vcpu.msrs.entries[0].model_copy(update={"index": 0x1234})),
        }
    )
    foreign = with_vcpu(
        state,
        msrs=msrs,
        cpuid2=cpuid_of(MODELS["pentium"]),
        tsc_khz=vcpu.tsc_khz.model_copy(update={"tsc_khz": 3}),
        mp_state=vcpu.mp_state.model_copy(update={"mp_state": 9}),
        xsave=vcpu.xsave.model_copy(update={"extra": bytes(64)}),
    )
    foreign = with_vm(foreign, serial=None, machine=state.vm.machine.model_copy(update={"ns_per_instruction": 7}))
    slot = MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=4096, backing_offset_bytes=0)
    foreign = foreign.model_copy(update={"memory": MemoryMap(slots=(slot,), ram_bytes=4096)})
    before = save_sections(machine)
    with pytest.raises(SchemaError) as caught:
        restore_state(machine, foreign)
    assert {problem.where for problem in caught.value.problems} == {
        "memory",
        "vm.serial",
        "vm.machine.ns_per_instruction",
        "vcpus.0.mp_state",
        "vcpus.0.xsave",
        "vcpus.0.tsc_khz",
        "vcpus.0.cpuid2",
        "vcpus.0.msrs.0x1234",
    }
    assert save_sections(machine) == before


def test_more_than_one_vcpu_is_refused(machine):
    state = save_state(machine)
    second = state.vcpus[0].model_copy(update={"index": 1})
    with pytest.raises(SchemaError, match="2 vCPUs"):
        restore_state(machine, state.model_copy(update={"vcpus": [state.vcpus[0], second]}))


def test_a_missing_section_is_refused(machine):
    vm, vcpus = save_sections(machine)
    del vcpus[0]["lapic"]
    with pytest.raises(SchemaError, match="lapic"):
        load_sections(machine, vm, vcpus)


def test_the_smm_shadow_is_flagged_in_smm_only():
    machine = Machine(GUESTS["smm_corners"].config())
    seen = set()
    while machine.run(1).reason == StopReason.BUDGET:
        events = save_state(machine).vcpus[0].events
        assert bool(events.flags & 0x40) == bool(events.smi.smm)
        if events.smi.smm:
            seen.add((events.interrupt.shadow.smm, events.interrupt.shadow.current))
    assert {(0, 0), (1, 0), (2, 0), (2, 2)} <= seen


def in_smm_with_a_shadow():
    machine = Machine(GUESTS["smm_corners"].config())
    state = machine.cpu.state
    while not (state.smm and state.smm_shadow == 2):
        machine.run(1)
    return machine


def with_shadow_aside(state, masks, flag):
    events = state.vcpus[0].events
    held = events.interrupt.shadow.model_copy(update={"smm": masks})
    flags = events.flags | 0x40 if flag else events.flags & ~0x40
    interrupt = events.interrupt.model_copy(update={"shadow": held})
    return with_vcpu(state, events=events.model_copy(update={"flags": flags, "interrupt": interrupt}))


@pytest.mark.parametrize(
    ("masks", "flag", "expected"),
    [(2, True, 2), (0, False, 2), (1, True, 1), (3, True, 3), (0, True, 0)],
    ids=["as saved", "only SMRAM carries it", "changed to MOV SS", "changed to both", "cleared"],
)
def test_rsm_brings_back_the_shadow_that_the_restored_state_carries(masks, flag, expected):
    machine = in_smm_with_a_shadow()
    saved = save_state(machine)
    assert saved.vcpus[0].events.interrupt.shadow.smm == 2
    twin = Machine(machine.config, ram=bytearray(machine.memory.ram), load_images=False)
    restore_state(twin, with_shadow_aside(saved, masks, flag))
    assert save_state(twin).vcpus[0].events.interrupt.shadow.smm == expected
    while twin.cpu.state.smm:
        twin.run(1)
    assert twin.cpu.state.shadow == expected


def test_a_handler_that_edits_the_shadow_in_smram_is_believed_after_a_migration_too():
    machine = in_smm_with_a_shadow()
    machine.memory.write(1, machine.cpu.state.smbase + 0xFECB, 1, 0xFD)
    twin = twin_of(machine)
    assert save_sections(twin) == save_sections(machine)
    assert twin.memory.ram == machine.memory.ram
    for each in (machine, twin):
        while each.cpu.state.smm:
            each.run(1)
        assert each.cpu.state.shadow == 1


def test_the_profile_says_that_the_emulator_can_hold_its_own_guests():
    profile = host_profile("a")
    for name in GUESTS:
        machine = Machine(GUESTS[name].config())
        machine.run(500)
        report = check_compat(save_state(machine), profile)
        assert report.verdict == "exact", report.findings


def test_the_profile_lists_every_section_a_saved_state_has(machine):
    vm, vcpus = save_sections(machine)
    profile = host_profile()
    assert set(vm) == set(profile.vm_sections)
    assert set(vcpus[0]) | {"sregs2"} == set(profile.vcpu_sections)


UNHELD = [
    *(("vcpu", name) for name in VCPU_SECTIONS if name not in host_profile().vcpu_sections),
    *(("vm", name) for name in VM_SECTIONS if name not in host_profile().vm_sections),
]


def test_some_sections_are_not_emulated():
    assert set(UNHELD) == {("vcpu", "fpu"), ("vcpu", "tsc_offset"), ("vcpu", "nested_state"), ("vm", "ioapic")}


@pytest.mark.parametrize(("scope", "name"), UNHELD)
def test_a_section_that_the_emulator_cannot_hold_is_refused_and_never_dropped(machine, monkeypatch, scope, name):
    monkeypatch.setattr("emulator.bridge.restore.require_legal", lambda _state: None)
    rows, place = (VCPU_SECTIONS, with_vcpu) if scope == "vcpu" else (VM_SECTIONS, with_vm)
    before, state = save_sections(machine), save_state(machine)
    with pytest.raises(SchemaError, match="the emulator cannot hold this section") as caught:
        restore_state(machine, place(state, **{name: rows[name].model.zero()}))
    where = f"vcpus.0.{name}" if scope == "vcpu" else f"vm.{name}"
    assert [problem.where for problem in caught.value.problems] == [where]
    assert save_sections(machine) == before


def test_pae_pointers_travel_in_sregs2_and_are_read_from_memory_without_it(machine):
    made = Machine(GUESTS["smm_corners"].config())
    state = made.cpu.state
    state.cr0, state.cr4, state.cr3 = 0x80000011, 0x20, 0x3000
    state.pdptrs[:] = [0x5001, 0x6001, 0x7001, 0x8001]
    made.memory.write(0, 0x3000, 8, 0x9001)
    saved = save_state(made)
    assert saved.vcpus[0].sregs2.pdptrs == (0x5001, 0x6001, 0x7001, 0x8001)
    twin = Machine(made.config, ram=bytearray(made.memory.ram), load_images=False)
    restore_state(twin, saved)
    assert twin.cpu.state.pdptrs == [0x5001, 0x6001, 0x7001, 0x8001]
    restore_state(twin, with_vcpu(saved, sregs2=None))
    assert twin.cpu.state.pdptrs == [0x9001, 0, 0, 0]
    assert save_state(machine).vcpus[0].sregs2 is None
