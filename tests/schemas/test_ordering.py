"""The orders of saving and restoring keep every edge that has a reason."""

import pytest

from schemas.ordering import COMPLETE_IO, MSRS_TSC_DEADLINE, RESTORE_ORDER, RESUME, SAVE_ORDER
from schemas.uapi import SECTIONS, VCPU_SECTIONS

ORDERS = {"save": SAVE_ORDER, "restore": RESTORE_ORDER}
PSEUDO = {COMPLETE_IO, MSRS_TSC_DEADLINE, RESUME}


@pytest.mark.parametrize("name", ORDERS)
def test_every_step_stands_behind_the_steps_that_it_names(name):
    seen: set[str] = set()
    for step in ORDERS[name]:
        assert set(step.after) <= seen, step.name
        assert step.name not in seen
        seen.add(step.name)


@pytest.mark.parametrize("name", ORDERS)
def test_every_step_has_a_reason_and_a_source(name):
    assert all(step.reason and step.source for step in ORDERS[name])


def test_every_vcpu_section_is_saved_and_restored():
    for order in ORDERS.values():
        assert {step.name for step in order} >= set(VCPU_SECTIONS)


def test_every_step_is_a_section_or_a_known_pseudo_step():
    kernel = {row.name for row in SECTIONS if row.get_ioctl is not None}
    for order in ORDERS.values():
        assert {step.name for step in order} <= kernel | PSEUDO
    assert {step.name for step in RESTORE_ORDER} == kernel | {MSRS_TSC_DEADLINE, RESUME}


@pytest.mark.parametrize(
    ("order", "first", "then"),
    [
        ("save", "mp_state", "events"),
        ("save", "mp_state", "regs"),
        ("restore", "cpuid2", "sregs"),
        ("restore", "sregs", "lapic"),
        ("restore", "lapic", "msrs"),
        ("restore", "msrs", MSRS_TSC_DEADLINE),
        ("restore", "regs", "events"),
        ("restore", "sregs", "events"),
        ("restore", "events", "mp_state"),
        ("restore", "clock", RESUME),
    ],
)
def test_the_constraints_that_have_broken_other_systems_hold(order, first, then):
    names = [step.name for step in ORDERS[order]]
    assert names.index(first) < names.index(then)
