"""The table of rules as a whole: complete, documented, sorted by severity and host; and states that break none."""

import importlib.util
import json
from pathlib import Path

import pytest

from schemas.errors import InvariantError, Severity
from schemas.invariants import INVARIANTS, check_state, errors_of, require_legal
from schemas.rules.row import AMD, HARDWARE, INTEL
from schemas.state import VcpuState
from schemas.uapi import VCPU_SECTIONS
from schemas.uapi.msrs import KvmMsrs

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "data"
LAB = DATA / "kvm_lab_vcpus.jsonl"
RULES = {rule.id: rule for rule in INVARIANTS}


def examples():
    """Every example of the files beside this one."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path == Path(__file__):
            continue
        spec = importlib.util.spec_from_file_location(f"rule_examples_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        table = getattr(module, "EXAMPLES", {})
        assert not found.keys() & table.keys()
        found.update(table)
    return found


EXAMPLES = examples()


def broken_rules(findings):
    return {finding.rule for finding in findings}


def test_every_rule_has_an_example_and_a_counterpart():
    assert EXAMPLES.keys() == RULES.keys()
    assert all(example["bad"] and "good" in example for example in EXAMPLES.values())


def test_every_rule_has_an_id_of_its_own_and_all_its_words():
    assert [rule.id for rule in INVARIANTS] == sorted(RULES)
    assert all(rule.text and rule.hint and rule.source for rule in INVARIANTS)
    assert {rule.scope for rule in INVARIANTS} == {"vcpu", "machine", "smram"}
    assert {rule.host_vendor for rule in INVARIANTS} <= {None, *HARDWARE.values()}


def test_every_file_of_rules_is_in_the_table():
    folder = Path(importlib.util.find_spec("schemas.rules").origin).parent
    listed = (folder.parent / "invariants.py").read_text()
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "facts", "row"}
    assert {name for name in files if f"from .rules.{name} import" in listed} == files


def test_every_where_names_a_field_that_exists(bases):
    optional = {"sregs2", "fpu", "tsc_offset", "nested_state", "serial", "smi_port"}
    for rule in INVARIANTS:
        at = bases["machine"] if rule.scope == "machine" else bases["long"]
        for part in filter(None, rule.where.split(".")):
            assert part in type(at).model_fields
            at = getattr(at, part)
            if part in optional:
                break


def test_every_finding_says_where_to_look(judge):
    """The place of a finding is a path of the state, whichever rule found it."""
    for rule, example in EXAMPLES.items():
        for finding in judge(example.get("base", "long"), example["bad"]):
            assert finding.message.startswith(RULES[finding.rule].text)
            assert not finding.where.endswith(".")
            assert rule in ("INV-130",) or finding.where
            json.dumps(finding.model_dump(mode="json"))


@pytest.mark.parametrize("rule", [rule.id for rule in INVARIANTS if rule.host_vendor])
def test_rules_of_one_vendors_hardware_bind_there_alone(rule, judge):
    row, example = RULES[rule], EXAMPLES[rule]
    base = example.get("base", "long")

    def severities(vendor):
        return {f.severity for f in judge(base, example["bad"], host_vendor=vendor) if f.rule == rule}

    other = AMD if row.host_vendor == INTEL else INTEL
    assert severities(None) == {row.severity}
    assert severities(row.host_vendor) == {row.host_severity}
    assert severities(other) == severities("Nobody's CPU") == set()


@pytest.mark.parametrize(("vendor", "hardware"), HARDWARE.items())
def test_a_clone_is_judged_as_the_hardware_that_it_has(vendor, hardware, judge):
    both = {"regs.rflags": 0x202, "events.interrupt.shadow": 3}
    assert (broken_rules(judge("long", both, host_vendor=vendor)) == {"INV-031"}) is (hardware == INTEL)


def test_require_legal_lists_every_finding(bases, judge):
    changes = {"regs.rflags": 0, "events.nmi.pending": 3, "tsc_khz.tsc_khz": 0}
    assert [f.severity for f in judge("long", changes)] == [Severity.ERROR, Severity.ERROR, Severity.WARNING]
    state = bases["long"].model_copy(update={"regs": bases["long"].regs.model_copy(update={"rflags": 0})})
    with pytest.raises(InvariantError) as caught:
        require_legal(state)
    assert broken_rules(caught.value.findings) == {"INV-050"}
    assert caught.value.problems == caught.value.findings


def test_a_warning_alone_is_legal(bases, judge):
    warned = bases["long"].model_copy(update={"tsc_khz": bases["long"].tsc_khz.model_copy(update={"tsc_khz": 0})})
    assert broken_rules(require_legal(warned)) == {"INV-102"}
    assert errors_of(check_state(warned)) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"vcpus": 2, "vcpus.1.regs.rflags": 0}, ["vcpus.1.regs.rflags"]),
        ({"vcpus": 2, "vcpus.1.sregs.gs.dpl": 4}, ["vcpus.1.sregs.gs.dpl"]),
        ({"vcpus": 2, "vcpus.1.msr@0x277": 2}, ["vcpus.1.msrs.0x277"]),
        ({"vm.pit2.channels.1.gate": 2}, ["vm.pit2.channels.1.gate"]),
    ],
)
def test_a_finding_names_its_vcpu_and_the_innermost_field(changes, where, judge):
    assert [finding.where for finding in judge("machine", changes)] == where


LEGAL = {
    "inside SMM with a MOV SS shadow aside and one in force": {
        "events.smi.smm": 1, "events.nmi.masked": 1, "events.flags": 0x7D, "events.interrupt.shadow": 0x11,
    },
    "second SMI latched in SMM": {"events.smi.smm": 1, "events.nmi.masked": 1, "events.smi.pending": 1},
    "pending and injected without VALID_PAYLOAD": {
        "events.flags": 0x2D, "events.exception.pending": 1, "events.exception.injected": 1, "events.exception.nr": 6,
    },
    "stale vector": {"events.exception.nr": 200},
    "no payload and triple-fault capability": {"events.flags": 0x0D},
    "64-bit code in the upper half": {"regs.rip": 0xFFFF_8000_0000_0000},
    "RIP one behind the lower half": {"regs.rip": 0x0000_8000_0000_0000},
    "five-level paging": {
        "sregs.cr4": 0x16A0, "cpuid|@7.0.ecx": 1 << 16, "regs.rip": 0xFF00_0000_0000_0000,
        "sregs.gs.base": 0xFF00_0000_0000_0000,
    },
    "compatibility mode in user space": {
        "sregs.cs.l": 0, "sregs.cs.db": 1, "sregs.cs.dpl": 3, "sregs.ss.dpl": 3, "regs.rflags": 0x202,
    },
    "PCID": {"sregs.cr4": 0x206A0, "cpuid|@1.ecx": 1 << 17, "sregs.cr3": 0x10FFF},
    "conforming code": {"sregs.cs.type": 15, "sregs.ss.dpl": 3},
    "DS, ES without a selector": {
        "sregs.ds.unusable": 1, "sregs.ds.present": 0, "sregs.ds.type": 0, "sregs.ds.s": 0, "sregs.es.unusable": 1,
    },
    "x2APIC": {"sregs.apic_base": 0xFEE00D00, "lapic@0xd0": 1},
    "no XSAVE": {"xcrs.nr_xcrs": 0, "xsave@512": b"\3"},
    "deadline armed": {"lapic@0x320": 0x500EC, "msr@0x6e0": 5},
    "control-flow enforcement": {
        "sregs.cr4": 0x8006A0, "cpuid|@7.0.ecx": 1 << 7, "msr@0x6a2": 1, "msr@0x6a4": 0xFFFF_C900_0000_0FF8,
    },
    "address masking": {"sregs.cr3": 1 << 62 | 0x10000, "cpuid|@7.1.eax": 1 << 26},
    "an empty MTRR": {"msr@0x200": 0, "msr@0x201": 0, "msr@0x2ff": 0},
    "no CPUID at all": {f"cpuid@{leaf}": None for leaf in ("0xd",)} | {"xcrs.xcrs.0.value": 1, "xsave@512": b"\3",
        "cpuid-@1.ecx": 5 << 26, "cpuid@7": None},
}  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_state_breaks_no_rule(name, judge):
    assert judge("long", LEGAL[name]) == []


REAL_LEGAL = {
    "long mode enabled, not active": {"sregs.efer": 0x100},
    "PAE": {"sregs.cr0": 0x8000_0011, "sregs.cr4": 0x20, "sregs2": True, "sregs2.flags": 1},
    "caches off": {"sregs.cr0": 0x6000_0010},
    "an application processor that waits": {"mp_state.mp_state": 1, "sregs.apic_base": 0xFEE0_0800},
}


@pytest.mark.parametrize("name", REAL_LEGAL)
def test_a_legal_state_at_reset_breaks_no_rule(name, judge):
    assert judge("real", REAL_LEGAL[name]) == []


VARIANTS = [
    ("real", "INV-055", {"sregs.cr0": 0x8000_0010}),
    ("real", "INV-055", {"sregs.cr0": 1 << 32 | 0x10}),
    ("long", "INV-059", {"sregs.cr4": 0x680}),
    ("long", "INV-059", {"sregs.efer": 0xC01}),
    ("long", "INV-064", {"sregs.apic_base": 0xFEE0_0901}),
    ("long", "INV-080", {"debugregs.dr7": 1 << 32 | 0x400}),
    ("long", "INV-082", {"xcrs.nr_xcrs": 17}),
    ("long", "INV-084", {"xcrs.xcrs.0.value": 6, "xsave@512": b"\7"}),
    ("long", "INV-084", {"xcrs.xcrs.0.value": 5, "xsave@512": b"\7"}),
    ("long", "INV-012", {"events.exception.pending": 1, "events.exception.nr": 32}),
    ("long", "INV-012", {"events.exception.injected": 1, "events.exception.nr": 255}),
    ("long", "INV-017", {"events.exception.pending": 1, "events.exception.nr": 13}),
    ("long", "INV-026", {"events.smi.smm": 1, "events.nmi.masked": 1, "mp_state.mp_state": 4, "events.flags": 0x3F}),
    ("long", "INV-041", {"sregs.cs.s": 0}),
    ("long", "INV-041", {"sregs.cs.type": 5, "sregs.cs.dpl": 0}),
    ("real", "INV-042", {"sregs.ss.dpl": 3, "sregs.cs.dpl": 3}),
    ("long", "INV-044", {"sregs.tr.unusable": 1}),
    ("long", "INV-044", {"sregs.tr.selector": 4}),
    ("long", "INV-047", {"sregs.idt.base": 1 << 48}),
    ("long", "INV-047", {"sregs.tr.base": 0x8000_0000_0000}),
    ("long", "INV-069", {"sregs.cr4": 0x26A0}),
    ("long", "INV-076", {"sregs.apic_base": 1 << 51 | 0xFEE0_0900}),
    ("long", "INV-131", {"xcrs.xcrs.0.value": 0xFF}),
    ("long", "INV-136", {"fpu": True, "fpu.xmm": b"\xff" * 256}),
    ("long", "INV-136", {"fpu": True, "fpu.fpr": b"\xff" * 128}),
    ("long", "INV-200", {"msr@0x1c4": 1 << 19}),
    ("long", "INV-200", {"msr@0x6a4": 2}),
    ("long", "INV-201", {"msr@0x250": 2, "msr@0x2ff": 0}),
    ("long", "INV-201", {"msr@0x200": 0x102, "msr@0x2ff": 0}),
    ("long", "INV-201", {"msr@0x201": 1 << 51 | 0x800, "msr@0x2ff": 0}),
    ("machine", "INV-181", {"vcpus.0.sregs.apic_base": 0xFEE0_0800}),
    ("machine", "INV-193", {"vm.pic_slave.chip.pic.irq_base": 0x71}),
    ("machine", "INV-197", {"vm.ioapic.chip.ioapic.redirtbl.3": 5}),
    ("machine", "INV-122", {"vm.ioapic.chip_id": 0}),
]


@pytest.mark.parametrize(("base", "rule", "changes"), VARIANTS)
def test_each_further_way_to_break_a_rule_is_found(base, rule, changes, judge):
    assert broken_rules(judge(base, changes)) == {rule}


@pytest.mark.parametrize("record", LAB.read_text().splitlines(), ids=lambda line: json.loads(line)["name"])
def test_no_state_of_the_kernels_of_the_lab_is_refused(record, bases):
    lab = json.loads(record)
    sections = bases["real"].to_sections()
    sections |= {name: bytes.fromhex(lab[name]) for name in ("regs", "sregs", "events", "debugregs")}
    sections["mp_state"] = lab["mp_state"].to_bytes(4, "little")
    sections["msrs"] = KvmMsrs.of({0x9E: 0x30000}).pack()
    state = VcpuState.from_sections(sections)
    # SVM reports any shadow as 3; the long-mode scenarios left TR as the 16-bit TSS that it is after reset.
    assert broken_rules(check_state(state)) <= {"INV-031", "INV-044"}
    assert check_state(state, host_vendor=AMD) == []


def test_junk_in_every_section_is_checked_without_an_exception(bases):
    for byte in (0xFF, 0xA5, 0x01):
        sections = {
            name: raw if name in ("msrs", "cpuid2") else bytes([byte]) * len(raw)
            for name, raw in bases["long"].to_sections().items()
        }
        for name in ("sregs2", "fpu", "tsc_offset", "nested_state"):
            sections[name] = bytes([byte]) * VCPU_SECTIONS[name].model.SIZE
        for vendor in (None, INTEL, AMD):
            assert errors_of(check_state(VcpuState.from_sections(sections), host_vendor=vendor))
