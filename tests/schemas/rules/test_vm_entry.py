"""Rules of Intel hardware on events at VM entry."""

import pytest

IF = {"regs.rflags": 0x202}
IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}
VMX = {"vendor": "GenuineIntel", "cpuid|@1.ecx": 1 << 5}

EXAMPLES = {
    "INV-031": {"bad": {**IF, "events.interrupt.shadow": 3}, "good": {**IF, "events.interrupt.shadow": 2}},
    "INV-032": {"bad": {"events.interrupt.shadow": 2}, "good": {"events.interrupt.shadow": 1}},
    "INV-033": {
        "bad": {**IF, "events.interrupt.shadow": 1, "events.interrupt.injected": 1},
        "good": {**IF, "events.interrupt.injected": 1},
    },
    "INV-034": {
        "bad": {"events.interrupt.shadow": 1, "events.nmi.injected": 1},
        "good": {**IF, "events.interrupt.shadow": 2, "events.nmi.injected": 1},
    },
    "INV-035": {
        "bad": {"events.nmi.injected": 1, "events.nmi.masked": 1},
        "good": {"events.nmi.pending": 1, "events.nmi.masked": 1},
    },
    "INV-036": {
        "bad": {"events.interrupt.shadow": 1, "mp_state.mp_state": 3},
        "good": {"mp_state.mp_state": 3},
    },
    "INV-039": {
        "bad": {"mp_state.mp_state": 3, "sregs.ss.dpl": 3, "sregs.cs.dpl": 3},
        "good": {"sregs.ss.dpl": 3, "sregs.cs.dpl": 3},
    },
    "INV-040": {"bad": {"events.interrupt.injected": 1}, "good": {**IF, "events.interrupt.injected": 1}},
    "INV-049": {
        "bad": {**IN_SMM, "sregs.cr4": 0x26A0, **VMX},
        "good": {"sregs.cr4": 0x26A0, **VMX},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
