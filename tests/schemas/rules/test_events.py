"""Rules on exceptions, interrupts and NMIs."""

import pytest

IF = {"regs.rflags": 0x202}
UD = {"events.exception.nr": 6}
PENDING = {"events.exception.pending": 1, **UD}
PF = {
    "events.exception.pending": 1,
    "events.exception.nr": 14,
    "events.exception.has_error_code": 1,
    "events.exception_has_payload": 1,
    "events.exception_payload": 0xDEAD,
}
DB = {"events.exception.pending": 1, "events.exception.nr": 1, "events.exception_has_payload": 1}

EXAMPLES = {
    "INV-001": {"bad": {"events.flags": 0xBD}, "good": {"events.flags": 0x3F}},
    "INV-012": {"bad": {**PENDING, "events.exception.nr": 2}, "good": PENDING},
    "INV-013": {"bad": {**PENDING, "events.exception.injected": 1}, "good": {"events.exception.injected": 1, **UD}},
    "INV-014": {"bad": {**PENDING, "events.flags": 0x2D}, "good": {**PENDING, "events.flags": 0x3D}},
    "INV-015": {"bad": {"events.exception_has_payload": 1}, "good": PF},
    "INV-016": {"bad": {**PENDING, "events.exception_has_payload": 1}, "good": PF},
    "INV-017": {
        "bad": {**PENDING, "events.exception.has_error_code": 1},
        "good": {**PENDING, "events.exception.nr": 13, "events.exception.has_error_code": 1},
    },
    "INV-018": {
        "bad": {**IF, "events.nmi.injected": 1, "events.interrupt.injected": 1},
        "good": {**IF, "events.interrupt.injected": 1, "events.interrupt.nr": 65},
    },
    "INV-019": {"bad": {"events.interrupt.soft": 1}, "good": {"events.interrupt.soft": 0}},
    "INV-020": {"bad": {"events.nmi.pending": 3}, "good": {"events.nmi.pending": 2}},
    "INV-021": {
        "bad": {"events.nmi.pending": 1, "events.flags": 0x3C},
        "good": {"events.nmi.pending": 1, "events.flags": 0x3D},
    },
    "INV-022": {
        "bad": {"events.triple_fault.pending": 1, "events.flags": 0x1D},
        "good": {"events.triple_fault.pending": 1, "events.flags": 0x3D},
    },
    "INV-023": {
        "bad": {"events.sipi_vector": 0x100, "events.flags": 0x3F},
        "good": {"events.sipi_vector": 0x9F, "events.flags": 0x3F},
    },
    "INV-024": {"bad": {"events.nmi.masked": 2}, "good": {"events.nmi.masked": 1}},
    "INV-025": {
        "bad": {"sregs.interrupt_bitmap": (1, 0, 0, 0)},
        "good": {
            **IF,
            "sregs.interrupt_bitmap": (0, 2, 0, 0),
            "events.interrupt.injected": 1,
            "events.interrupt.nr": 65,
        },
    },
    "INV-027": {
        "bad": {**PF, "events.exception.error_code": 0x8000_0004},
        "good": {**PF, "events.exception.error_code": 0x8004},
    },
    "INV-028": {
        "bad": {**DB, "events.exception_payload": 1 << 32},
        "good": {**DB, "events.exception_payload": 0x4001},
    },
    "INV-029": {"bad": {**PENDING, "events.exception.nr": 3}, "good": {"events.exception.nr": 3}},
    "INV-030": {
        "bad": {"events.nmi.pending": 2, "events.nmi.masked": 1},
        "good": {"events.nmi.pending": 1, "events.nmi.masked": 1},
    },
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
