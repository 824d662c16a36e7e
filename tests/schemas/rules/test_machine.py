"""Rules across vCPUs and memory."""

import pytest

from schemas.memory import MemorySlot

IN_SMM = {"vcpus.0.events.smi.smm": 1, "vcpus.0.events.nmi.masked": 1}
CLOCK = {"vm.clock.flags": 0xE, "vm.clock.realtime": 1, "vm.clock.host_tsc": 1}
OFFSETS = {"vcpus": 2, "vcpus.0.msr@0x10": None, "vcpus.1.msr@0x10": None, "vcpus.0.tsc_offset": 5}
KVMCLOCK = {"vcpus.0.msr@0x4b564d01": 0x1001}
SLOT = {"slot": 0, "gpa": 0, "size_bytes": 1 << 20, "backing_offset_bytes": 0}
LOW = (MemorySlot(as_id=0, **SLOT), MemorySlot(as_id=1, **SLOT))
READONLY_RAM, READONLY = (slot.model_copy(update={"flags": 2}) for slot in LOW)
HIGH = LOW[0].model_copy(update={"slot": 1, "gpa": 1 << 50})

EXAMPLES = {
    "INV-120": {"bad": {"vcpus.0.index": 1}, "good": {"vcpus": 2}},
    "INV-121": {"bad": {**IN_SMM, "memory.slots": LOW[:1]}, "good": IN_SMM},
    "INV-180": {"bad": {**IN_SMM, "vcpus.0.msr@0x9e": 0xA000_0000}, "good": {**IN_SMM, "vcpus.0.msr@0x9e": 0xA0000}},
    "INV-181": {"bad": {"vcpus": 2, "vcpus.1.sregs.apic_base": 0xFEE0_0900}, "good": {"vcpus": 2}},
    "INV-182": {
        "bad": {"vcpus": 2, "vcpus.1.lapic@0x20": 0, "vcpus.1.cpuid@1.ebx": 0},
        "good": {"vcpus": 3},
    },
    "INV-183": {"bad": {"vcpus": 2, "vcpus.1.tsc_khz.tsc_khz": 1}, "good": {"vcpus": 2}},
    "INV-184": {
        "bad": {**CLOCK, **OFFSETS, "vcpus.1.tsc_offset": 6},
        "good": {**CLOCK, **OFFSETS, "vcpus.1.tsc_offset": 5},
    },
    "INV-185": {"bad": {"vcpus": 2, "vcpus.1.vendor": "HygonGenuine"}, "good": {"vcpus": 2}},
    "INV-186": {
        "bad": {"vcpus": 2, "vcpus.0.nested": {}, "vcpus.1.nested": {"format": 1, "flags": 0x100}},
        "good": {"vcpus": 2, "vcpus.0.nested": {}},
    },
    "INV-187": {"bad": {"memory.slots": (*LOW, HIGH)}, "good": {"memory.slots": LOW}},
    "INV-188": {"bad": {"memory.slots": (LOW[0], READONLY)}, "good": {"memory.slots": (READONLY_RAM, LOW[1])}},
    "INV-189": {"bad": {"vcpus.0.sregs.cr3": 0x10_0000}, "good": {"vcpus.0.sregs.cr3": 0xF_F000}},
    "INV-190": {"bad": {"vm.clock": None, **KVMCLOCK}, "good": KVMCLOCK},
    "INV-191": {
        "bad": {"vm.clock.flags": 2, "vcpus.0.tsc_offset": 5, "vcpus.0.msr@0x10": None},
        "good": {**CLOCK, "vcpus.0.tsc_offset": 5, "vcpus.0.msr@0x10": None},
    },
}
for _example in EXAMPLES.values():
    _example["base"] = "machine"


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
