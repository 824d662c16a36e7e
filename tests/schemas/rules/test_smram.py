"""Rules on the save area of a vCPU in SMM."""

import json
from pathlib import Path

import pytest

from schemas.invariants import check_state
from schemas.rules.row import AMD
from schemas.state import VcpuState
from schemas.uapi.vcpu_events import InterruptShadow

IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}
NIBBLE = {"events.flags": 0x7D, "events.interrupt.shadow": 0x20}

EXAMPLES = {
    "INV-170": {
        "bad": {**IN_SMM, **NIBBLE, "smram@0xfecb": (1, 1)},
        "good": {**IN_SMM, **NIBBLE, "smram@0xfecb": (2, 1), "smram@0xff70": (0x202, 8)},
    },
    "INV-171": {"bad": {**IN_SMM, "smram@0xfecb": (4, 1)}, "good": {**IN_SMM, "smram@0xfecb": (3, 1)}},
    "INV-172": {"bad": {**IN_SMM, "smram@0xfefc": (0x20000, 4)}, "good": {**IN_SMM, "smram@0xfefc": (0x20064, 4)}},
    "INV-173": {
        "bad": {**IN_SMM, "smram@0xfecb": (2, 1), "smram@0xff70": (2, 8)},
        "good": {**IN_SMM, "smram@0xfecb": (2, 1), "smram@0xff70": (0x202, 8)},
    },
    "INV-174": {
        "bad": {**IN_SMM, "smram@0xff58": (0x8000_0010, 8)},
        "good": {**IN_SMM, "smram@0xff58": (0x8000_0011, 8), "smram@0xff48": (0x20, 8), "smram@0xfed0": (0x500, 8)},
    },
    "INV-175": {"bad": {**IN_SMM, "smram@0xff68": (1 << 32, 8)}, "good": {**IN_SMM, "smram@0xff68": (0xFFFF0FF0, 8)}},
    "INV-176": {
        "bad": {**IN_SMM, "smram@0xfed8": (1, 8)},
        "good": {**IN_SMM, "smram@0xfed8": (1, 8), "cpuid|@0x80000001.ecx": 1 << 2},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])


LAB = Path(__file__).parents[2] / "data" / "kvm-lab" / "smi_shadow-linux-6.12.jsonl"
IN_HANDLER = [
    record
    for record in map(json.loads, LAB.read_text().splitlines()[1:])
    if record.get("smram_3fe00") and bytes.fromhex(record["events"])[24]
]


class Area:
    """The save area of a recorded step, at SMBASE 0x30000."""

    def __init__(self, area):
        self.area = area

    def read(self, as_id, gpa, size):
        start = gpa - 0x3FE00
        assert (as_id, size) == (1, 512)
        return self.area[start : start + size]


def state_of(record, base):
    """The recorded vCPU in the handler; the scenario says which map CPUID chose."""
    sections = base.to_sections()
    sections |= {name: bytes.fromhex(record[name]) for name in ("regs", "sregs", "events", "debugregs")}
    long_mode = "map64" in record["scenario"]
    held = base.cpuid2.leaf(0x80000001)
    entries = tuple(
        entry.model_copy(update={"edx": held.edx | 1 << 29 if long_mode else held.edx & ~(1 << 29)})
        if entry is held
        else entry
        for entry in base.cpuid2.entries
    )
    return VcpuState.from_sections(sections).model_copy(
        update={"cpuid2": base.cpuid2.model_copy(update={"entries": entries})}
    )


def test_the_lab_has_save_areas_of_both_maps():
    assert {record["scenario"].split("/")[1] for record in IN_HANDLER} == {"map32", "map64"}


@pytest.mark.parametrize("record", IN_HANDLER, ids=lambda record: f"{record['scenario']}-{record['n']}")
def test_a_save_area_that_a_real_kernel_wrote_breaks_no_rule(record, bases):
    state, memory = state_of(record, bases["real"]), Area(bytes.fromhex(record["smram_3fe00"]))
    assert check_state(state, host_vendor=AMD, memory=memory) == []
    shadow = int(record["scenario"][-1])
    wrong = state.events.model_copy(
        update={"flags": 0x7D, "interrupt": shadow_aside(state.events.interrupt, shadow ^ 2)}
    )
    held = 3 if shadow else 0  # SVM has one bit
    expected = set() if shadow ^ 2 == held else {"INV-170"}
    told = check_state(state.model_copy(update={"events": wrong}), host_vendor=AMD, memory=memory)
    assert {finding.rule for finding in told} == expected


def shadow_aside(interrupt, masks):
    return interrupt.model_copy(update={"shadow": InterruptShadow(current=interrupt.shadow.current, smm=masks)})


@pytest.mark.parametrize(
    "changes",
    [{"events.smi.smm": 0, "events.nmi.masked": 0}, {"msr@0x9e": None}, {"msr@0x9e": 0xA0000}],
    ids=["outside SMM", "SMBASE unknown", "no memory there"],
)
def test_where_there_is_no_save_area_nothing_is_said_of_it(changes, judge):
    bad = EXAMPLES["INV-174"]["bad"]
    assert not {f.rule for f in judge("long", {**bad, **changes})} & EXAMPLES.keys()
