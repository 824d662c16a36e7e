"""The orders of saving and restoring keep every edge that has a reason, and an order that breaks one is refused."""

import pytest

from schemas.errors import Severity
from schemas.ordering import (
    COMPLETE_IO,
    MSRS_TSC_DEADLINE,
    REPEATED_STEP,
    RESTORE_ORDER,
    RESUME,
    SAVE_ORDER,
    UNKNOWN_STEP,
    Condition,
    check_order,
    restore_order,
    save_order,
)
from schemas.uapi import SECTIONS, VCPU_SECTIONS
from schemas.uapi.fpu import KvmFpu
from schemas.uapi.nested_state import KvmNestedState
from schemas.uapi.sregs2 import KvmSregs2
from schemas.uapi.tsc_offset import MigsvcTscOffset

ORDERS = {"save": SAVE_ORDER, "restore": RESTORE_ORDER}
WHERE = {"outside SMM": frozenset({Condition.OUTSIDE_SMM}), "in SMM": frozenset({Condition.IN_SMM})}
EDGES = [
    pytest.param(order, conditions, step.rule, step.name, earlier, id=f"{step.rule}-{earlier}-{where}")
    for order, rows in ORDERS.items()
    for where, conditions in WHERE.items()
    for step in rows
    for earlier in step.resolved(conditions).after
]


@pytest.fixture
def full_vcpu(legal_vcpu):
    """Return a vCPU with every optional section."""
    parts = (("sregs2", KvmSregs2), ("fpu", KvmFpu), ("nested_state", KvmNestedState), ("tsc_offset", MigsvcTscOffset))
    return legal_vcpu.model_copy(update={name: model.zero() for name, model in parts})


def in_smm(vcpu, changed):
    return changed(vcpu, {"events.smi.smm": 1})


def names_of(order, vcpu):
    return [step.name for step in (save_order if order == "save" else restore_order)(vcpu)]


@pytest.mark.parametrize("order", ORDERS)
def test_every_step_has_an_id_of_its_own_a_reason_and_a_source(order):
    rows = ORDERS[order]
    assert len({row.rule for row in rows}) == len({row.name for row in rows}) == len(rows)
    assert all(row.rule.startswith("ORD-") and row.reason and row.source for row in rows)
    names = {row.name for row in rows}
    assert all(set(row.after) <= names for row in rows)
    assert all(set(more) <= names for row in rows for _, more in row.after_if)


def test_no_id_is_used_twice():
    ids = [row.rule for rows in ORDERS.values() for row in rows] + [UNKNOWN_STEP, REPEATED_STEP]
    assert len(set(ids)) == len(ids)


def test_every_section_that_can_be_read_is_saved_and_every_one_that_can_be_written_restored():
    readable = {row.name for row in SECTIONS if row.get_ioctl is not None}
    writable = {row.name for row in SECTIONS if row.set_ioctl is not None}
    assert {row.name for row in SAVE_ORDER} == readable | {COMPLETE_IO}
    assert {row.name for row in RESTORE_ORDER} == writable | {MSRS_TSC_DEADLINE, RESUME}
    assert readable >= set(VCPU_SECTIONS)
    assert writable >= set(VCPU_SECTIONS)


@pytest.mark.parametrize("order", ORDERS)
def test_the_tables_themselves_are_an_order_outside_smm(order):
    rows = [row.resolved(WHERE["outside SMM"]) for row in ORDERS[order]]
    assert check_order([row.name for row in rows], rows) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("smm", [False, True])
def test_the_order_for_a_vcpu_keeps_every_row(order, smm, full_vcpu, changed):
    vcpu = in_smm(full_vcpu, changed) if smm else full_vcpu
    steps = (save_order if order == "save" else restore_order)(vcpu)
    assert {step.name for step in steps} == {row.name for row in ORDERS[order]}
    assert check_order([step.name for step in steps], steps) == []


def test_nested_state_is_restored_before_the_events_outside_smm_and_behind_them_in_smm(full_vcpu, changed):
    for vcpu, first, then in (
        (full_vcpu, "nested_state", "events"),
        (in_smm(full_vcpu, changed), "events", "nested_state"),
    ):
        names = names_of("restore", vcpu)
        assert names.index(first) < names.index(then) < names.index(RESUME)
        wrong = ["nested_state" if n == "events" else "events" if n == "nested_state" else n for n in names]
        assert [(f.rule, f.where) for f in check_order(wrong, restore_order(vcpu)) if f.where in (first, then)] == [
            ("ORD-214" if then == "events" else "ORD-213", then)
        ]


@pytest.mark.parametrize(("order", "conditions", "rule", "name", "earlier"), EDGES)
def test_an_order_that_breaks_a_row_is_refused_with_its_id_reason_and_source(order, conditions, rule, name, earlier):
    rows = [row.resolved(conditions) for row in ORDERS[order]]
    findings = check_order([name, earlier], rows)
    assert [(f.rule, f.where, f.severity) for f in findings] == [(rule, name, Severity.ERROR)]
    row = next(row for row in rows if row.rule == rule)
    assert row.reason in findings[0].message
    assert (findings[0].hint, findings[0].source) == (f"move it behind {earlier}", row.source)
    assert check_order([earlier, name], rows) == []


def test_unknown_and_repeated_steps_are_found():
    findings = check_order(["regs", "eggs", "regs", "eggs"], RESTORE_ORDER)
    assert [(f.rule, f.where) for f in findings] == [(UNKNOWN_STEP, "eggs"), (REPEATED_STEP, "regs")]
    assert "2 times" in findings[1].message


def test_sections_that_a_state_lacks_are_in_no_order(legal_vcpu, legal_machine):
    names = names_of("restore", legal_vcpu)
    assert not {"sregs2", "fpu", "nested_state", "tsc_offset"} & set(names)
    assert {"pit2", "ioapic", "clock"} <= set(names)  # the VM is not known
    bare = legal_machine.vm.model_copy(update={"ioapic": None, "pit2": None})
    for steps in (restore_order(legal_vcpu, bare), save_order(legal_vcpu, bare)):
        assert not {"ioapic", "pit2"} & {step.name for step in steps}
        assert "pic_master" in {step.name for step in steps}


@pytest.mark.parametrize(
    ("order", "names", "rules"),
    [
        # Orders that broke other systems.
        ("save", ["events", "mp_state", "regs"], ["ORD-117", "ORD-117"]),
        ("restore", ["cpuid2", "sregs", "msrs", "lapic"], ["ORD-211"]),
        ("restore", ["cpuid2", "sregs", "lapic", MSRS_TSC_DEADLINE, "msrs"], ["ORD-218"]),
        ("restore", ["cpuid2", "events", "regs"], ["ORD-214"]),
        ("restore", ["events", "sregs"], ["ORD-214"]),
        ("restore", ["xsave", "fpu"], ["ORD-209"]),
        ("restore", [RESUME, "clock"], ["ORD-223"]),
    ],
)
def test_orders_that_have_broken_other_systems_are_refused(order, names, rules):
    assert [finding.rule for finding in check_order(names, ORDERS[order])] == rules
