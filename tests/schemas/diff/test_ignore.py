"""What a diff may leave out: patterns, classes, single bits."""

import pytest

from schemas.diff import CLASSES, Ignore, diff_states
from schemas.diff.ignore import MAX_PATTERNS, MSR_CLASSES, classes_of
from schemas.errors import FieldError
from schemas.names.msrs import MSRS
from schemas.paths import locate, parse


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("regs.rip", "regs.rip", True),
        ("regs.rip", "vcpus[3].regs.rip", True),
        ("regs", "vcpus[3].regs.rip", True),
        ("regs.r*", "regs.rip", True),
        ("regs.r??", "regs.r8", False),
        ("vcpus[3].regs.rip", "vcpus[3].regs.rip", True),
        ("vcpus.3.regs.rip", "vcpus[3].regs.rip", True),
        ("vcpus[*].regs.rip", "vcpus[3].regs.rip", True),
        ("vcpus[2].regs.rip", "vcpus[3].regs.rip", False),
        ("vcpus[1]", "vcpus[1]", True),
        ("regs.rip.x", "regs.rip", False),
        ("regs", "sregs.cr0", False),
        ("msrs.MSR_LSTAR", "msrs.MSR_LSTAR", True),
        ("msrs.MSR_LSTAR", "msrs[0xc0000082]", True),
        ("msrs.lstar", "msrs[0xc0000082]", True),
        ("msrs[0xc0000082]", "msrs.MSR_LSTAR", True),
        ("msrs.MSR_IA32_*", "msrs[0x10]", True),
        ("msrs.entries", "msrs.entries[3].reserved", True),
        ("cpuid2[0x7]", "cpuid2[7][0].ebx", True),
        ("cpuid2[*][1]", "cpuid2[7][0].ebx", False),
        ("clock", "vm.clock.clock", True),
        ("vm.clock", "vm.clock.clock", True),
        ("memory", "memory.slots[1].gpa", True),
        ("time", "msrs.MSR_IA32_TSC", True),
        ("time", "msrs[0x6e0]", True),
        ("time", "vm.machine.now_ns", True),
        ("time", "vm.pit2.channels[2].count_load_time", True),
        ("time", "vm.pit2.channels[2].mode", False),
        ("time", "lapic.TMCCT", True),
        ("time", "lapic.TMICT", False),
        ("time", "regs.rip", False),
        ("counters", "vm.machine.retired_instructions", True),
        ("counters", "msrs[0x34]", True),
        ("counters", "msrs[0xc1]", True),
        ("counters", "msrs.MSR_LSTAR", False),
        ("*", "regs.rip", True),
    ],
)
def test_a_pattern_covers_a_place_and_what_is_inside(pattern, path, covered):
    assert Ignore([pattern]).covers(parse(path)) is covered


@pytest.mark.parametrize(
    "pattern", ["", ".", "a..b", "a.", ".a", "!", "a b", "a[", "a]b", "a" * 1000, "[*]", "msrs.FOO"]
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(FieldError):
        Ignore([pattern])


def test_patterns_are_bounded():
    with pytest.raises(FieldError, match="at most"):
        Ignore(["regs"] * (MAX_PATTERNS + 1))


def test_what_is_ignored_is_left_out_and_counted(vcpu):
    new = locate(locate(vcpu, "regs.rax").replace(1), "regs.rip").replace(1)
    found = diff_states(vcpu, new, ignore=["regs.rax"])
    assert ([change.path for change in found.changes], found.ignored) == (["regs.rip"], 1)
    both = diff_states(vcpu, new, ignore=["regs"])
    assert (both.equal, both.ignored) == (True, 2)


def test_a_single_bit_can_be_ignored(vcpu):
    new = locate(vcpu, "regs.rflags").replace(0x10242)
    (change,) = diff_states(vcpu, new, ignore=["regs.rflags.RF", "regs.rflags.IF"]).changes
    assert change.text == "ZF set (0x2 -> 0x10242)"
    assert diff_states(vcpu, new, ignore=["regs.rflags.RF", "rflags", "regs.rflags.?F"]).equal


def test_ignored_changes_do_not_come_back_as_bytes(vcpu):
    new = locate(vcpu, "sregs.cr4.PAE").replace(1)
    assert diff_states(vcpu, new, ignore=["sregs.cr4.PAE"]).equal


def test_a_change_tells_its_classes(vcpu):
    new = locate(vcpu, "msrs.MSR_IA32_TSC").replace(1)
    (change,) = diff_states(vcpu, new).changes
    assert change.classes == ("time",)
    assert diff_states(vcpu, new, ignore=["time"]).equal


@pytest.mark.parametrize("row", CLASSES, ids=lambda row: row.pattern)
def test_every_row_of_the_classes_names_a_place_that_exists(machine, row):
    """A pattern with a typing error would ignore nothing."""
    path = row.pattern.replace(".*.", ".0.").replace("F1?H_*PERF_CTR*", "F15H_PERF_CTR0")
    path = path.replace("CTR*", "CTR0").replace("CTR?", "CTR0").replace("PMC*", "PMC0")
    prefix = "vm." if path.split(".")[0] in type(machine.vm).model_fields else "vcpus[0]."
    assert locate(machine, prefix + path)
    assert row.name in classes_of(parse(prefix + path))
    assert row.why


def test_every_msr_of_a_class_belongs_to_it():
    for row in MSRS:
        for name, msr_class in MSR_CLASSES.items():
            if row.msr_class is msr_class:
                assert name in classes_of(("vcpus", 0, "msrs", row.number))
