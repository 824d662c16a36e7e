"""Rules on the local APIC and mp_state."""

import pytest

X2APIC = {"sregs.apic_base": 0xFEE0_0D00}

EXAMPLES = {
    "INV-091": {"bad": {"mp_state.mp_state": 5}, "good": {"mp_state.mp_state": 9}},
    "INV-098": {"bad": {"lapic@0x320": 0x70000}, "good": {"lapic@0x320": 0x50000}},
    "INV-099": {"bad": {"lapic@0x80": 0x20}, "good": {"lapic@0x80": 0x2F, "sregs.cr8": 2}},
    "INV-100": {"bad": {"lapic@0x200": 8}, "good": {"lapic@0x200": 0x10000}},
    "INV-105": {
        "bad": {"mp_state.mp_state": 4, "sregs.apic_base": 0xFEE0_0800},
        "good": {
            "mp_state.mp_state": 4,
            "sregs.apic_base": 0xFEE0_0800,
            "events.flags": 0x3F,
            "events.sipi_vector": 9,
        },
    },
    "INV-106": {"bad": {"mp_state.mp_state": 1}, "good": {"mp_state.mp_state": 1, "sregs.apic_base": 0xFEE0_0800}},
    "INV-220": {"bad": {**X2APIC, "lapic@0x20": 5, "lapic@0xd0": 1}, "good": {**X2APIC, "lapic@0xd0": 1}},
    "INV-221": {"bad": {"lapic@0x20": 5 << 24}, "good": {"lapic@0x20": 5 << 24, "cpuid@1.ebx": 5 << 24}},
    "INV-222": {"bad": {"lapic@0xf0": 0x81FF}, "good": {"lapic@0xf0": 0x1FF}},
    "INV-223": {"bad": {"lapic@0x370": 0xFE}, "good": {"lapic@0x370": 0xFE, "lapic@0xf0": 0x1FF}},
    "INV-224": {"bad": {"lapic@0x320": 0x50000, "cpuid-@1.ecx": 1 << 24}, "good": {"lapic@0x320": 0x50000}},
    "INV-225": {"bad": {"lapic@0x390": 9, "lapic@0x380": 8}, "good": {"lapic@0x390": 8, "lapic@0x380": 8}},
    "INV-226": {"bad": {**X2APIC, "lapic@0xd0": 2}, "good": {**X2APIC, "lapic@0xd0": 1}},
    "INV-227": {"bad": {"lapic@0xe0": 0xF000_0000}, "good": {"lapic@0xe0": 0x0FFF_FFFF}},
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
