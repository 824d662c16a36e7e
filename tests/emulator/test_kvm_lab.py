"""The emulator does what a real KVM did: an SMI under every interrupt shadow, in three modes, with both SMRAM maps."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from emulator.bridge import restore_state, save_state
from emulator.config import MIB, MachineConfig, ram_slots
from emulator.machine import Machine, StopReason
from schemas.shadow import for_stock_kernel, smm_shadow
from schemas.uapi.debugregs import KvmDebugregs
from schemas.uapi.mp_state import KvmMpState
from schemas.uapi.regs import KvmRegs
from schemas.uapi.sregs import KvmSregs
from schemas.uapi.vcpu_events import KvmVcpuEvents

RECORDING = Path(__file__).parents[1] / "data" / "kvm-lab" / "smi_shadow-linux-6.12.jsonl"
CODE = bytes.fromhex("90 e6 10 90 f4")  # nop; out 0x10,al; nop; hlt
HANDLER = bytes.fromhex("90 e6 20 0f aa")  # nop; out 0x20,al; rsm
PAGE_TABLES = ((0x10000, 0x11003), (0x11000, 0x12003), (0x12000, 0x83))
SAVE_AREA = 0x3FE00
STACK = 0x6F00
KVM_EXIT_HLT = 5

# What KVM reports and we do not, each with its reason. Nothing else is left out of the comparison.
KVMS_OWN = {
    "mp_state at HLT": "with the interrupt controllers in user space KVM exits for HLT and leaves mp_state RUNNABLE; "
    "the emulator keeps HLT itself, so it is HALTED",
    "events bits 4-7 of interrupt.shadow and flag 0x40": "no kernel has this carrier; in SMM the emulator adds it, and "
    "what is compared is the form that a stock kernel takes (schemas.shadow.for_stock_kernel)",
}

STEPS_TO = {"smi": 0, "in_smm": 1, "smm_out_done": 1, "after_rsm": 1}
"""Steps from the record before: KVM stops at `out 0x20` before it, then single-steps."""


class Record(NamedTuple):
    label: str
    exit_reason: int
    regs: KvmRegs
    sregs: KvmSregs
    events: KvmVcpuEvents
    debugregs: KvmDebugregs
    mp_state: int
    stack: bytes
    save_area: bytes | None


def record_of(row):
    area = row.get("smram_3fe00")
    return Record(
        row["label"],
        row["exit_reason"],
        KvmRegs.unpack(bytes.fromhex(row["regs"])),
        KvmSregs.unpack(bytes.fromhex(row["sregs"])),
        KvmVcpuEvents.unpack(bytes.fromhex(row["events"])),
        KvmDebugregs.unpack(bytes.fromhex(row["debugregs"])),
        row["mp_state"],
        bytes.fromhex(row["stack_6f00"]),
        None if area is None else bytes.fromhex(area),
    )


def recorded():
    scenarios = {}
    for line in RECORDING.read_text().splitlines()[1:]:
        row = json.loads(line)
        scenarios.setdefault(row["scenario"], []).append(record_of(row))
    return scenarios


SCENARIOS = recorded()


def machine_at(name, record, shadow=None):
    """A machine with the lab's memory, in the state of a record; `shadow` replaces SVM's 3."""
    model = "x86-64" if "/map64/" in name else "pentium"
    machine = Machine(MachineConfig(ram_bytes=MIB, slots=ram_slots(MIB), cpu_model=model))
    machine.memory.write_bytes(0, 0x1000, CODE)
    machine.memory.write_bytes(1, 0x38000, HANDLER)
    machine.memory.write_bytes(0, STACK, record.stack)
    for gpa, entry in PAGE_TABLES:
        machine.memory.write(0, gpa, 8, entry)
    fresh = save_state(machine)
    events = record.events
    if shadow is not None:
        held = events.interrupt.shadow.model_copy(update={"current": shadow})
        events = events.model_copy(update={"interrupt": events.interrupt.model_copy(update={"shadow": held})})
    vcpu = fresh.vcpus[0].model_copy(
        update={
            "regs": record.regs,
            "sregs": record.sregs,
            "events": events,
            "debugregs": record.debugregs,
            "mp_state": KvmMpState(mp_state=record.mp_state),
        }
    )
    restore_state(machine, fresh.model_copy(update={"vcpus": [vcpu]}))
    return machine


def advance(machine, record):
    """Do what brought KVM from the record before to this one."""
    if record.label == "smi":
        machine.inject_smi()
    elif record.label in STEPS_TO:
        assert machine.run(STEPS_TO[record.label]).reason == StopReason.BUDGET
    elif record.exit_reason == KVM_EXIT_HLT:
        result = machine.run(100)
        assert (result.reason, result.steps) == (StopReason.HALTED, 3)
    else:  # KVM stopped at `out 0x10`, before it
        machine.run(1)


def assert_same(machine, record):
    vcpu = save_state(machine).vcpus[0]
    assert vcpu.regs == record.regs
    assert vcpu.sregs == record.sregs
    assert vcpu.debugregs == record.debugregs
    assert for_stock_kernel(vcpu.events) == record.events
    at_hlt = record.exit_reason == KVM_EXIT_HLT
    assert vcpu.mp_state.mp_state == (3 if at_hlt else record.mp_state)
    assert machine.memory.read_bytes(0, STACK, 256) == record.stack
    if record.save_area is not None:
        assert machine.memory.read_bytes(1, SAVE_AREA, 512) == record.save_area


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_step_is_as_kvm_recorded_it(name):
    records = SCENARIOS[name]
    machine = machine_at(name, records[0])
    assert_same(machine, records[0])
    for record in records[1:]:
        advance(machine, record)
        assert_same(machine, record)


@pytest.mark.parametrize("shadow", [1, 2])
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith("shadow3")])
def test_a_shadow_that_svm_would_report_as_3_goes_aside_and_comes_back_as_it_was(name, shadow):
    records = SCENARIOS[name]
    machine = machine_at(name, records[0], shadow)
    for record in records[1:]:
        advance(machine, record)
        events = save_state(machine).vcpus[0].events
        outside = record.label in ("smi", "after_rsm")
        assert events.interrupt.shadow.current == (shadow if outside else 0)
        assert smm_shadow(events) == (shadow if record.label in ("in_smm", "smm_out_done") else 0)


@pytest.mark.parametrize("label", ["in_smm", "smm_out_done"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_state_from_inside_smm_on_kvm_runs_on_as_it_did_there(name, label):
    # A stock kernel has the shadow only in SMRAM: the emulator must pick it up there.
    records = SCENARIOS[name]
    at = next(n for n, record in enumerate(records) if record.label == label)
    area = next(record.save_area for record in records if record.save_area is not None)
    machine = machine_at(name, records[at]._replace(stack=records[0].stack))
    machine.memory.write_bytes(1, SAVE_AREA, area)
    fresh = save_state(machine)
    restore_state(
        machine, fresh.model_copy(update={"vcpus": [fresh.vcpus[0].model_copy(update={"events": records[at].events})]})
    )
    assert_same(machine, records[at])
    for record in records[at + 1 :]:
        advance(machine, record)
        assert_same(machine, record)


def test_the_recording_has_every_combination():
    modes = {tuple(name.split("/")[1:]) for name in SCENARIOS}
    assert len(modes) == len(SCENARIOS) == 20
    assert all(len(records) == 7 for records in SCENARIOS.values())


def test_what_is_not_compared_has_a_reason():
    assert all(len(reason) > 40 for reason in KVMS_OWN.values())
    assert len(KVMS_OWN) == 2
