"""Rules on XCRs, the XSAVE area and kvm_fpu."""

import pytest

AMX = {
    "msr@0x1c4": 1 << 18,
    "xcrs.xcrs.0.value": 0x600E7,
    "cpuid@0xd.0.eax": 0x600E7,
    "cpuid@0xd.18.ebx": 2816,
    "cpuid@0xd.18.eax": 1024,
}

EXAMPLES = {
    "INV-082": {"bad": {"xcrs.flags": 1}, "good": {"xcrs.nr_xcrs": 1}},
    "INV-083": {
        "bad": {"xcrs.nr_xcrs": 2, "xcrs.xcrs.1.xcr": 1},
        "good": {"xcrs.nr_xcrs": 2, "xcrs.xcrs.0.value": 0xE7},
    },
    "INV-084": {
        "bad": {"xcrs.xcrs.0.value": 0xE3, "xsave@512": b"\xe3"},
        "good": {"xcrs.xcrs.0.value": 7, "xsave@512": b"\7"},
    },
    "INV-085": {"bad": {"xsave@24": b"\0\0\4\0"}, "good": {"xsave@24": b"\x80\x1f\0\0"}},
    "INV-086": {
        "bad": {"xsave@24": b"\0\0\2\0\xff\xff\0\0"},
        "good": {"xsave@24": b"\0\0\2\0\xff\xff\2\0"},
    },
    "INV-087": {"bad": {"xsave@527": b"\x80"}, "good": {"xsave@527": b"\0"}},
    "INV-088": {"bad": {"xsave@513": b"\1"}, "good": {"xsave@513": b"\0"}},
    "INV-089": {"bad": {"xcrs.xcrs.0.value": 7}, "good": {"xcrs.xcrs.0.value": 7, "xsave@512": b"\7"}},
    "INV-090": {"bad": {"xsave@540": b"\1"}, "good": {"xsave@576": b"\1"}},
    "INV-131": {
        "bad": {"xcrs.xcrs.0.value": 0x2E7},
        "good": {"xcrs.xcrs.0.value": 0x2E7, "cpuid@0xd.0.eax": 0x2E7},
    },
    "INV-132": {"bad": {"cpuid@0xd.2.eax": 0}, "good": {"cpuid@0xd.2.eax": 0, "xsave@512": b"\xe3"}},
    "INV-133": {"bad": {"cpuid@0xd.7.ebx": 4000}, "good": {"cpuid@0xd.7.ebx": 3072}},
    "INV-134": {"bad": {"cpuid@0xd.5.ebx": 768}, "good": {"cpuid@0xd.5.ebx": 2432}},
    "INV-135": {
        "bad": {**AMX, "xsave@512": b"\xe7\0\4"},
        "good": {**AMX, "xsave@512": b"\xe7\0\0"},
    },
    "INV-136": {"bad": {"fpu": True, "fpu.fcw": 0}, "good": {"fpu": True}},
    "INV-137": {"bad": {"fpu": True, "fpu.mxcsr": 0x1F80}, "good": {"fpu": True, "fpu.mxcsr": 0x1FA0}},
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
