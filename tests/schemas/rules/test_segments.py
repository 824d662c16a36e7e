"""Rules on segments."""

import pytest

FLAT = {"type": 3, "dpl": 3, "s": 1, "present": 1, "selector": 0x10, "base": 0x100, "limit": 0xFFFF, "g": 0, "db": 0}
VM86 = {
    "regs.rflags": 0x20002,
    "sregs.cr0": 0x11,
    **{
        f"sregs.{name}.{field}": value for name in ("cs", "ss", "ds", "es", "fs", "gs") for field, value in FLAT.items()
    },
}

EXAMPLES = {
    "INV-037": {"bad": {"sregs.ds.g": 0}, "good": {"sregs.ds.g": 0, "sregs.ds.limit": 0xFF}},
    "INV-038": {"bad": {"sregs.ds.base": 1 << 32}, "good": {"sregs.ds.base": 1 << 32, "sregs.ds.unusable": 1}},
    "INV-041": {"bad": {"sregs.cs.dpl": 3}, "good": {"sregs.cs.dpl": 3, "sregs.ss.dpl": 3}},
    "INV-042": {"bad": {"sregs.ss.type": 1}, "good": {"sregs.ss.type": 1, "sregs.ss.unusable": 1}},
    "INV-043": {"bad": {"sregs.fs.type": 9}, "good": {"sregs.fs.type": 11}},
    "INV-044": {"bad": {"sregs.tr.type": 3}, "good": {"sregs.tr.type": 11}},
    "INV-045": {
        "bad": {"sregs.ldt.type": 11, "sregs.ldt.present": 1, "sregs.ldt.unusable": 0},
        "good": {"sregs.ldt.type": 2, "sregs.ldt.present": 1, "sregs.ldt.unusable": 0},
    },
    "INV-046": {"bad": {**VM86, "sregs.ds.base": 0x10}, "good": VM86, "base": "real"},
    "INV-047": {
        "bad": {"sregs.gs.base": 1 << 50},
        "good": {"sregs.gs.base": 0xFFFF_8880_0000_0000},
    },
    "INV-065": {"bad": {"sregs.fs.dpl": 4}, "good": {"sregs.fs.dpl": 3}},
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
