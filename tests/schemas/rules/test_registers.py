"""Rules on general and control registers, and on what CPUID lets them hold."""

import pytest

PAE = {"sregs.cr0": 0x8000_0011, "sregs.cr4": 0x20}
PCID = {"cpuid|@1.ecx": 1 << 17}

EXAMPLES = {
    "INV-048": {
        "bad": {**PAE, "sregs2": True, "sregs2.flags": 1, "sregs2.pdptrs": (0x1003, 0, 0, 0)},
        "good": {**PAE, "sregs2": True, "sregs2.flags": 1, "sregs2.pdptrs": (0x1001, 0x1E6, 0, 0)},
        "base": "real",
    },
    "INV-050": {"bad": {"regs.rflags": 0}, "good": {"regs.rflags": 2}},
    "INV-051": {"bad": {"regs.rflags": 0x8002}, "good": {"regs.rflags": 0x3F7FD7 & ~0x20000}},
    "INV-052": {"bad": {"regs.rflags": 0x20002}, "good": {"regs.rflags": 0x10002}, "also": {"INV-046"}},
    "INV-053": {"bad": {"regs.rip": 1 << 48}, "good": {"regs.rip": 1 << 47}},
    "INV-054": {"bad": {"regs.rip": 1 << 32}, "good": {"regs.rip": 0xFFFF_FFFF}, "base": "real"},
    "INV-055": {"bad": {"sregs.cr0": 0x2000_0010}, "good": {"sregs.cr0": 0x6000_0010}, "base": "real"},
    "INV-056": {"bad": {"sregs.cr4": 1 << 15}, "good": {"sregs.cr4": 1 << 8}, "base": "real"},
    "INV-057": {"bad": {"sregs.cr4": 1 << 17, **PCID}, "good": {"sregs.cr4": 1 << 5, **PCID}, "base": "real"},
    "INV-058": {"bad": {"sregs.efer": 0xD03}, "good": {"sregs.efer": 0xD01}},
    "INV-059": {"bad": {"sregs.efer": 0x901, "sregs.cs.l": 0, "sregs.tr.type": 11}, "good": {"sregs.efer": 0x500}},
    "INV-060": {"bad": {"sregs.cs.l": 1}, "good": {"sregs.cs.l": 0}, "base": "real"},
    "INV-061": {"bad": {"sregs.cs.db": 1}, "good": {"sregs.cs.db": 1, "sregs.cs.l": 0}},
    "INV-062": {"bad": {"sregs.cr3": 1 << 52}, "good": {"sregs.cr3": 1 << 40}, "base": "real"},
    "INV-063": {"bad": {"sregs.cr8": 16}, "good": {"sregs.cr8": 15, "lapic@0x80": 0xF0}},
    "INV-064": {"bad": {"sregs.apic_base": 0xFEE0_0500}, "good": {"sregs.apic_base": 0xFEE0_0100}},
    "INV-066": {
        "bad": {"sregs2": True, "sregs2.cr2": 1},
        "good": {"sregs2": True, "sregs2.cr2": 1, "sregs.cr2": 1},
    },
    "INV-067": {"bad": {"sregs2": True, "sregs2.flags": 2}, "good": {"sregs2": True}},
    "INV-068": {
        "bad": {"sregs2": True, "sregs2.flags": 1},
        "good": {**PAE, "sregs2": True, "sregs2.flags": 1},
        "base": "real",
    },
    "INV-069": {"bad": {"sregs.cr4": 0x16A0}, "good": {"sregs.cr4": 0x16A0, "cpuid|@7.0.ecx": 1 << 16}},
    "INV-070": {"bad": {"sregs.cr4": 0x46A0}, "good": {"sregs.cr4": 0x6A0}},
    "INV-071": {"bad": {"sregs.cr3": 1 << 50}, "good": {"sregs.cr3": 1 << 50, "cpuid@0x80000008.eax": 0x3034}},
    "INV-072": {
        "bad": {"sregs.efer": 0xD01, "cpuid-@0x80000001.edx": 1 << 20},
        "good": {"sregs.efer": 0x501, "cpuid-@0x80000001.edx": 1 << 20},
    },
    "INV-073": {
        "bad": {"sregs.cr4": 0x80_06A0, "sregs.cr0": 0x8004_0033, "cpuid|@7.0.ecx": 1 << 7},
        "good": {"sregs.cr4": 0x80_06A0, "cpuid|@7.0.ecx": 1 << 7},
    },
    "INV-074": {"bad": {"sregs.cr0": 0x8005_0433}, "good": {"sregs.cr0": 0x8005_0033}},
    "INV-075": {"bad": {"sregs.cr0": 0x8005_0023}, "good": {"sregs.cr0": 0x8005_0033}},
    "INV-076": {
        "bad": {"sregs.apic_base": 0xFEE0_0D00, "cpuid-@1.ecx": 1 << 21, "lapic@0xd0": 1},
        "good": {"sregs.apic_base": 0xFEE0_0D00, "lapic@0xd0": 1},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
