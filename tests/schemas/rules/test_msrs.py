"""Rules on MSRs."""

import pytest

from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs

TWICE = KvmMsrs(nmsrs=2, entries=(KvmMsrEntry(index=0x10, data=1), KvmMsrEntry(index=0x10, data=1)))
IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}

EXAMPLES = {
    "INV-092": {"bad": {"msrs": TWICE}, "good": {"msr@0x175": 0}},
    "INV-093": {"bad": {"msr@0xc0000080": 1}, "good": {"msr@0xc0000080": 0xD01}},
    "INV-094": {"bad": {"msr@0xc0000082": 1 << 60}, "good": {"msr@0xc0000082": 0xFFFF_FFFF_8000_0000}},
    "INV-095": {"bad": {"msr@0x277": 2}, "good": {"msr@0x277": 0x0007_0406_0007_0406}},
    "INV-096": {"bad": {**IN_SMM, "msr@0x9e": None}, "good": {"msr@0x9e": None}},
    "INV-097": {"bad": {"msr@0x6e0": 5}, "good": {"msr@0x6e0": 5, "lapic@0x320": 0x50000}},
    "INV-200": {"bad": {"msr@0x4b564d03": 2}, "good": {"msr@0x4b564d03": 0x1001}},
    "INV-201": {"bad": {"msr@0x2ff": 2}, "good": {"msr@0x2ff": 0xC06, "msr@0x200": 6, "msr@0x201": 0xFF_0000_0800}},
    "INV-202": {
        "bad": {"vendor": "GenuineIntel", "msr@0xc0000103": 1 << 32},
        "good": {"msr@0xc0000103": 1 << 32},
    },
    "INV-203": {"bad": {"msr@0x49": 0}, "good": {"msr@0x48": 0}},
    "INV-204": {"bad": {"msr@0x808": 0}, "good": {"msr@0x7ff": 0}},
    "INV-205": {"bad": {"msr@0x9e": 1 << 32}, "good": {"msr@0x9e": 0xFFFF_0000}},
    "INV-206": {"bad": {"tsc_offset": -5}, "good": {"tsc_offset": -5, "msr@0x10": None}},
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
