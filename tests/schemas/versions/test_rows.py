"""The rows of the versions: what is supported has a row, and the present one has every section."""

from itertools import pairwise

import pytest

from schemas.shadow.losses import LOSSES
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.vcpu_events import VcpuEventFlags
from schemas.versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS, VERSIONS, foreign_sections, version_row
from schemas.versions.converters import _STEPS, highest_common
from schemas.versions.drops import DROPS


def test_the_version_that_is_written_is_the_last():
    assert SCHEMA_VERSION == VERSIONS[-1].number == max(SUPPORTED_SCHEMA_VERSIONS)
    assert [row.number for row in VERSIONS] == sorted(SUPPORTED_SCHEMA_VERSIONS)


def test_the_present_version_has_every_section_and_flag():
    row = version_row(SCHEMA_VERSION)
    assert set(row.vcpu_sections) == set(VCPU_SECTIONS), "a new section is a new version"
    assert set(row.vm_sections) == set(VM_SECTIONS), "a new section is a new version"
    assert row.event_flags == sum(VcpuEventFlags)


def test_any_two_neighbours_have_a_step():
    assert set(_STEPS) == set(pairwise(row.number for row in VERSIONS))


def test_every_section_that_a_version_lacks_has_a_row_that_says_what_is_lost():
    lacking = {
        name
        for old, new in pairwise(VERSIONS)
        for name in (set(new.vcpu_sections) - set(old.vcpu_sections)) | (set(new.vm_sections) - set(old.vm_sections))
    }
    assert {row.section for row in DROPS} == lacking
    for row in DROPS:
        assert row.section in (VCPU_SECTIONS if row.scope == "vcpu" else VM_SECTIONS)


def test_a_version_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no schema version 3; known are 1, 2"):
        version_row(3)


def test_foreign_sections_are_named():
    assert foreign_sections({"regs", "nested_state", "fpu"}, "vcpu", 1) == ["fpu", "nested_state"]
    assert foreign_sections({"ioapic", "clock"}, "vm", 1) == ["ioapic"]
    assert foreign_sections(set(VCPU_SECTIONS), "vcpu", 2) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "best"), [((1, 2), (1, 2), 2), ((1, 2), (1,), 1), ((1,), (1, 2), 1), ((2,), (1,), None)]
)
def test_the_highest_common_version(ours, theirs, best):
    assert highest_common(ours, theirs) == best


def test_every_loss_names_its_source():
    assert all(row.source for row in LOSSES)
