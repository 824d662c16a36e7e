"""The rule on reserved bytes of a vCPU."""

import pytest

from schemas.invariants import check_state
from schemas.uapi import VCPU_SECTIONS

SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
RESERVED = {
    "regs": set(),
    "sregs": {f"sregs.{name}.padding" for name in (*SEGMENTS, "gdt", "idt")},
    "events": {"events.nmi.pad", "events.reserved"},
    "debugregs": {"debugregs.reserved"},
    "xcrs": {"xcrs.padding", *(f"xcrs.xcrs.{n}.reserved" for n in range(16))},
    "msrs": {"msrs.pad", "msrs.entries.0.reserved"},
    "cpuid2": {"cpuid2.padding", "cpuid2.entries.0.padding"},
    "nested_state": {"nested_state.hdr.vmx.pad", "nested_state.hdr.vmx_rest"},
    "fpu": {"fpu.pad1", "fpu.pad2"},
}

EXAMPLES = {
    "INV-130": {"bad": {"sregs.gdt.padding": (0, 1, 0)}, "good": {"sregs.gdt.padding": (0, 0, 0)}},
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])


@pytest.mark.parametrize(
    "place",
    ["regs", "sregs", "events", "debugregs", "xcrs", "msrs", "cpuid2", "nested_state", "fpu"],
)
def test_a_byte_set_anywhere_in_a_section_is_told_with_its_place(place, bases):
    """One struct at a time is filled with ones: its reserved fields, however deep, are all told."""
    state = bases["long"]
    if place == "nested_state":
        filled = VCPU_SECTIONS[place].model.unpack(b"\0\0\0\0" + b"\xff" * 124)
    elif place in ("msrs", "cpuid2"):
        size = 16 if place == "msrs" else 40
        filled = VCPU_SECTIONS[place].model.unpack(b"\1\0\0\0" + b"\xff" * 4 + b"\xff" * size)
    else:
        filled = VCPU_SECTIONS[place].model.unpack(b"\xff" * VCPU_SECTIONS[place].model.SIZE)
    findings = check_state(state.model_copy(update={place: filled}))
    told = {finding.where for finding in findings if finding.rule == "INV-130"}
    assert told == RESERVED[place]
