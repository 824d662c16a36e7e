"""Rules on the save area of a vCPU in SMM."""

import pytest

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
