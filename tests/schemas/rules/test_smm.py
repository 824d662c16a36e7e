"""Rules on shadows and System Management Mode."""

import pytest

IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}
IF = {"regs.rflags": 0x202}

EXAMPLES = {
    "INV-002": {
        "bad": {**IN_SMM, "events.interrupt.shadow": 0x20, "events.flags": 0x3D},
        "good": {**IN_SMM, "events.interrupt.shadow": 0x20, "events.flags": 0x7D},
    },
    "INV-003": {"bad": {"events.flags": 0x75}, "good": {"events.flags": 0x7D}},
    "INV-004": {
        "bad": {"events.interrupt.shadow": 0x20, "events.flags": 0x7D},
        "good": {**IN_SMM, "events.interrupt.shadow": 0x10, "events.flags": 0x7D},
    },
    "INV-005": {
        "bad": {**IN_SMM, "events.interrupt.shadow": 0x40, "events.flags": 0x7D},
        "good": {**IN_SMM, "events.interrupt.shadow": 0x30, "events.flags": 0x7D},
    },
    "INV-006": {"bad": {"events.interrupt.shadow": 4}, "good": {"events.interrupt.shadow": 1}},
    "INV-007": {
        "bad": {**IF, "events.interrupt.shadow": 2, "events.flags": 0x39},
        "good": {**IF, "events.interrupt.shadow": 2, "events.flags": 0x3D},
    },
    "INV-008": {
        "bad": {"events.smi.pending": 1, "events.flags": 0x35},
        "good": {"events.smi.pending": 1, "events.flags": 0x3D},
    },
    "INV-009": {"bad": {"events.smi.smm_inside_nmi": 1}, "good": {**IN_SMM, "events.smi.smm_inside_nmi": 1}},
    "INV-010": {"bad": {"events.smi.smm": 1}, "good": IN_SMM},
    "INV-011": {
        "bad": {"events.smi.pending": 1, "mp_state.mp_state": 2, "sregs.apic_base": 0xFEE00800},
        "good": {"mp_state.mp_state": 2, "sregs.apic_base": 0xFEE00800},
    },
    "INV-026": {
        "bad": {**IN_SMM, "mp_state.mp_state": 2, "sregs.apic_base": 0xFEE00800},
        "good": {**IN_SMM, "events.smi.latched_init": 1},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
