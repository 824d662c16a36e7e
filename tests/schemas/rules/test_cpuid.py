"""Rules on CPUID, the TSC frequency and debug registers."""

import pytest

NO_XSAVE = {"cpuid-@1.ecx": 1 << 26 | 1 << 28, "cpuid@7.0.ecx": 0, "cpuid@7.0.ebx": 0, "cpuid@7.0.edx": 0}

EXAMPLES = {
    "INV-080": {"bad": {"debugregs.dr6": 0x1_FFFF_0FF0}, "good": {"debugregs.dr6": 0xFFFF_4FF1}},
    "INV-081": {"bad": {"debugregs.flags": 1}, "good": {"debugregs.flags": 0}},
    "INV-101": {"bad": {"cpuid+": [{"function": 1}]}, "good": {"cpuid+": [{"function": 0x4000_0010}]}},
    "INV-102": {"bad": {"tsc_khz.tsc_khz": 0}, "good": {"tsc_khz.tsc_khz": 1}},
    "INV-103": {"bad": {"debugregs.dr6": 0}, "good": {"debugregs.dr6": 0xFFFE_07F0}},
    "INV-104": {"bad": {"debugregs.dr7": 0}, "good": {"debugregs.dr7": 0xFFFF_27FF}},
    "INV-240": {"bad": {"cpuid@0x80000008.eax": 0x2C30}, "good": {"cpuid@0x80000008.eax": 0x3930}},
    "INV-241": {"bad": {"cpuid@0x80000008.eax": 0x303C}, "good": {"cpuid@0x80000008.eax": 0x3034}},
    "INV-242": {
        "bad": {"cpuid+": [{"function": 0x1F}]},
        "good": {"cpuid+": [{"function": 0x1F, "flags": 1}]},
    },
    "INV-243": {
        "bad": {"cpuid+": [{"function": 0x4000_0010, "flags": 8}]},
        "good": {"cpuid+": [{"function": 0x4000_0010, "flags": 6}]},
    },
    "INV-244": {
        "bad": {"cpuid@0xd": None, "xcrs.xcrs.0.value": 1, "xsave@512": b"\3"},
        "good": {"cpuid@0xd": None, "xcrs.xcrs.0.value": 1, "xsave@512": b"\3", **NO_XSAVE},
    },
    "INV-245": {"bad": {"cpuid@1": None}, "good": {"cpuid@2": None}},
    "INV-246": {"bad": {"cpuid-@1.ecx": 1 << 28}, "good": {"cpuid-@1.ecx": 1 << 20}},
    "INV-247": {"bad": {"cpuid|@1.ecx": 1 << 5}, "good": {"cpuid|@1.ecx": 1 << 5, "vendor": "GenuineIntel"}},
    "INV-248": {
        "bad": {"tsc_khz.tsc_khz": 2_000_000, "cpuid+": [{"function": 0x4000_0010, "eax": 2_100_000}]},
        "good": {"tsc_khz.tsc_khz": 2_000_000, "cpuid+": [{"function": 0x4000_0010, "eax": 2_000_100}]},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
