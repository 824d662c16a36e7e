"""Every rule has an illegal example that breaks it and no other, and legal states break none."""

import json
from pathlib import Path

import pytest

from schemas.errors import InvariantError, Severity
from schemas.invariants import INVARIANTS, check_state, errors_of, require_legal
from schemas.rules.row import INTEL
from schemas.state import VcpuState
from schemas.uapi import VCPU_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs
from schemas.uapi.sregs2 import KvmSregs2
from schemas.uapi.vcpu_events import InterruptShadow
from schemas.uapi.xcrs import KvmXcr

LAB = Path(__file__).parents[1] / "data" / "kvm_lab_vcpus.jsonl"
ALL = 0x7D
PENDING = {"events.exception.pending": 1, "events.exception.nr": 6}
IN_SMM = {"events.smi.smm": 1, "events.nmi.masked": 1}
LONG = {
    "sregs.cr0": 0x80000011,
    "sregs.cr4": 0x20,
    "sregs.efer": 0x500,
    "sregs.cs.l": 1,
    "msrs": KvmMsrs.of({0x9E: 0x30000, 0xC0000080: 0x500}),
}
IF = {"regs.rflags": 0x202}


def shadow(current=0, smm=0):
    return {"events.interrupt.shadow": InterruptShadow(current=current, smm=smm)}


def xsave(**parts):
    region = bytearray(4096)
    for offset, value in parts.values():
        region[offset : offset + len(value)] = value
    return {"xsave.region": bytes(region)}


def lapic(offset, value):
    page = bytearray(0x400)
    page[offset : offset + 4] = value.to_bytes(4, "little")
    return {"lapic.regs": bytes(page)}


LEAF = KvmCpuidEntry2(function=1, index=0, flags=0, eax=0, ebx=0, ecx=0, edx=0)

ILLEGAL = {
    "INV-001": {"events.flags": ALL | 0x80},
    "INV-002": {**IN_SMM, **shadow(smm=2), "events.flags": ALL & ~0x40},
    "INV-003": {"events.flags": ALL & ~0x08},
    "INV-004": shadow(smm=2),
    "INV-005": {**IN_SMM, **shadow(smm=4)},
    "INV-006": shadow(4),
    "INV-007": {**IF, **shadow(2), "events.flags": ALL & ~0x04},
    "INV-008": {"events.smi.pending": 1, "events.flags": ALL & ~0x48},
    "INV-009": {"events.smi.smm_inside_nmi": 1},
    "INV-010": {"events.smi.smm": 1},
    "INV-011": {"events.smi.pending": 1, "mp_state.mp_state": 2},
    "INV-012": {**PENDING, "events.exception.nr": 2},
    "INV-013": {**PENDING, "events.exception.injected": 1},
    "INV-014": {**PENDING, "events.flags": ALL & ~0x10},
    "INV-015": {"events.exception_has_payload": 1},
    "INV-016": {**PENDING, "events.exception_has_payload": 1},
    "INV-017": {**PENDING, "events.exception.has_error_code": 1},
    "INV-018": {"events.nmi.injected": 1, "events.interrupt.injected": 1},
    "INV-019": {"events.interrupt.soft": 1},
    "INV-020": {"events.nmi.pending": 3},
    "INV-021": {"events.nmi.pending": 1, "events.flags": ALL & ~0x01},
    "INV-022": {"events.triple_fault.pending": 1, "events.flags": ALL & ~0x20},
    "INV-023": {"events.sipi_vector": 0x100, "events.flags": ALL | 0x02},
    "INV-024": {"events.nmi.masked": 2},
    "INV-025": {"sregs.interrupt_bitmap": (1, 0, 0, 0)},
    "INV-031": {**IF, **shadow(3)},
    "INV-032": shadow(2),
    "INV-033": {**IF, **shadow(1), "events.interrupt.injected": 1},
    "INV-034": {**shadow(1), "events.nmi.injected": 1},
    "INV-035": {"events.nmi.injected": 1, "events.nmi.masked": 1},
    "INV-036": {**shadow(1), "mp_state.mp_state": 3},
    "INV-037": {"sregs.ds.limit": 0xFFFFFFFF},
    "INV-038": {"sregs.ds.base": 1 << 32},
    "INV-050": {"regs.rflags": 0},
    "INV-051": {"regs.rflags": 0x8002},
    "INV-052": {"regs.rflags": 0x20002},
    "INV-053": {**LONG, "regs.rip": 1 << 48},
    "INV-054": {"regs.rip": 1 << 32},
    "INV-055": {"sregs.cr0": 0x20000010},
    "INV-056": {"sregs.cr4": 1 << 15},
    "INV-057": {"sregs.cr4": 1 << 17},
    "INV-058": {"sregs.efer": 2, "msrs": KvmMsrs.of({})},
    "INV-059": {"sregs.efer": 0x400, "msrs": KvmMsrs.of({})},
    "INV-060": {"sregs.cs.l": 1},
    "INV-061": {**LONG, "sregs.cs.db": 1},
    "INV-062": {"sregs.cr3": 1 << 52},
    "INV-063": {"sregs.cr8": 16},
    "INV-064": {"sregs.apic_base": 0xFEE00400, "msrs": KvmMsrs.of({})},
    "INV-065": {"sregs.ss.dpl": 4},
    "INV-066": {"sregs2": KvmSregs2.zero()},
    "INV-067": {"sregs2.flags": 2},
    "INV-068": {"sregs2.flags": 1},
    "INV-080": {"debugregs.dr7": 1 << 32},
    "INV-081": {"debugregs.flags": 1},
    "INV-082": {"xcrs.flags": 1},
    "INV-083": {"xcrs.nr_xcrs": 2, "xcrs.xcrs.1": KvmXcr(xcr=1, value=0)},
    "INV-084": {"xcrs.xcrs.0.value": 5},
    "INV-085": xsave(mxcsr=(24, b"\0\0\4\0")),
    "INV-086": xsave(mxcsr=(24, b"\0\0\2\0"), mask=(28, b"\xff\xff\0\0")),
    "INV-087": xsave(xcomp=(527, b"\x80")),
    "INV-088": xsave(bv=(512, b"\0\1")),
    "INV-089": xsave(bv=(512, b"\xe0")),
    "INV-090": xsave(reserved=(540, b"\1")),
    "INV-091": {"mp_state.mp_state": 5},
    "INV-092": {"msrs": KvmMsrs(nmsrs=2, entries=(KvmMsrEntry(index=0x10, data=1), KvmMsrEntry(index=0x10, data=1)))},
    "INV-093": {"msrs": KvmMsrs.of({0xC0000080: 1})},
    "INV-094": {"msrs": KvmMsrs.of({0xC0000082: 1 << 60})},
    "INV-095": {"msrs": KvmMsrs.of({0x277: 2})},
    "INV-096": {**IN_SMM, "msrs": KvmMsrs.of({})},
    "INV-097": {"msrs": KvmMsrs.of({0x6E0: 5})},
    "INV-098": lapic(0x320, 0x60000),
    "INV-099": lapic(0x80, 0x20),
    "INV-100": lapic(0x200, 0x8),
    "INV-101": {"cpuid2": KvmCpuid2(nent=2, entries=(LEAF, LEAF))},
    "INV-102": {"tsc_khz.tsc_khz": 0},
    "INV-130": {"sregs.gdt.padding": (0, 1, 0)},
}
"""What to change in a legal vCPU so that it breaks this rule and no other."""

ILLEGAL_MACHINE = {
    "INV-120": {"vcpus.0.index": 1},
    "INV-121": {"vcpus.0.events.smi.smm": 1, "vcpus.0.events.nmi.masked": 1, "memory.slots": ()},
    "INV-122": {"vm.pic_slave.chip_id": 0},
    "INV-123": {"vm.clock.flags": 1},
    "INV-124": {"vm.pit2.channels.2.count": 0x10001},
    "INV-125": {"vm.pit2.flags": 4},
    "INV-126": {"vm.serial.rx_len": 17},
    "INV-127": {"vm.smi_port.timer_armed": 2},
}

NEEDS_SREGS2 = {"INV-067", "INV-068"}


def broken_rules(findings):
    return {finding.rule for finding in findings}


@pytest.fixture
def with_sregs2(legal_vcpu):
    common = {
        name: getattr(legal_vcpu.sregs, name) for name in KvmSregs2.model_fields if hasattr(legal_vcpu.sregs, name)
    }
    return legal_vcpu.model_copy(update={"sregs2": KvmSregs2(**common, flags=0, pdptrs=(0, 0, 0, 0))})


def test_the_legal_states_break_no_rule(legal_vcpu, with_sregs2, legal_machine):
    for state in (legal_vcpu, with_sregs2, legal_machine):
        assert check_state(state) == []
        assert check_state(state, host_vendor=INTEL) == []
        assert require_legal(state) == []


@pytest.mark.parametrize("rule", ILLEGAL)
def test_an_illegal_vcpu_breaks_exactly_its_rule(rule, legal_vcpu, with_sregs2, changed):
    state = changed(with_sregs2 if rule in NEEDS_SREGS2 else legal_vcpu, ILLEGAL[rule])
    assert broken_rules(check_state(state)) == {rule}


@pytest.mark.parametrize("rule", ILLEGAL_MACHINE)
def test_an_illegal_machine_breaks_exactly_its_rule(rule, legal_machine, changed):
    assert broken_rules(check_state(changed(legal_machine, ILLEGAL_MACHINE[rule]))) == {rule}


def test_every_rule_has_an_example_an_id_of_its_own_and_a_source():
    assert [rule.id for rule in INVARIANTS] == sorted({rule.id for rule in INVARIANTS})
    assert {rule.id for rule in INVARIANTS} == {*ILLEGAL, *ILLEGAL_MACHINE}
    assert all(rule.text and rule.hint and rule.source for rule in INVARIANTS)


def test_every_where_names_a_field_that_exists(legal_machine, with_sregs2):
    for rule in INVARIANTS:
        at = legal_machine if rule.scope == "machine" else with_sregs2
        for part in filter(None, rule.where.split(".")):
            at = getattr(at, part)


LEGAL = {
    "STI shadow": {**IF, **shadow(2)},
    "MOV SS shadow": shadow(1),
    "inside SMM with an STI shadow aside": {**IN_SMM, **shadow(0, 2)},
    "inside SMM with a MOV SS shadow aside and one in force": {**IN_SMM, **shadow(1, 1)},
    "inside SMM with both aside, as SVM has it": {**IN_SMM, **shadow(0, 3)},
    "inside SMM with NMIs masked before": {**IN_SMM, "events.smi.smm_inside_nmi": 1},
    "SMI pending": {"events.smi.pending": 1},
    "second SMI latched in SMM": {**IN_SMM, "events.smi.pending": 1},
    "latched INIT in SMM": {**IN_SMM, "events.smi.latched_init": 1},
    "two NMIs pending": {"events.nmi.pending": 2},
    "NMI pending and masked": {"events.nmi.pending": 1, "events.nmi.masked": 1},
    "#PF pending with its payload": {
        **LONG,
        "events.exception.pending": 1,
        "events.exception.nr": 14,
        "events.exception.has_error_code": 1,
        "events.exception_has_payload": 1,
        "events.exception_payload": 0xDEAD,
    },
    "#UD injected": {"events.exception.injected": 1, "events.exception.nr": 6},
    "stale vector": {"events.exception.nr": 200},
    "pending and injected without VALID_PAYLOAD": {**PENDING, "events.exception.injected": 1, "events.flags": 0x6D},
    "interrupt injected, and in the bitmap": {
        "events.interrupt.injected": 1,
        "events.interrupt.nr": 65,
        "sregs.interrupt_bitmap": (0, 2, 0, 0),
    },
    "triple fault": {"events.triple_fault.pending": 1},
    "halted": {"mp_state.mp_state": 3},
    "no payload and triple-fault capability": {"events.flags": 0x0D},
    "64-bit code": LONG,
    "64-bit code in the upper half": {**LONG, "regs.rip": 0xFFFF_8000_0000_0000},
    "RIP one behind the lower half": {**LONG, "regs.rip": 0x0000_8000_0000_0000},
    "five-level paging": {**LONG, "sregs.cr4": 0x1020, "regs.rip": 0xFF00_0000_0000_0000},
    "compatibility mode": {**LONG, "sregs.cs.l": 0, "sregs.cs.db": 1},
    "long mode enabled, not active": {"sregs.efer": 0x100, "msrs": KvmMsrs.of({0xC0000080: 0x100})},
    "virtual 8086": {"sregs.cr0": 0x11, "regs.rflags": 0x20202},
    "PCID": {**LONG, "sregs.cr4": 0x20020},
    "x2APIC": {"sregs.apic_base": 0xFEE00D00, "msrs": KvmMsrs.of({})},
    "AVX-512 and AMX": {"xcrs.xcrs.0.value": 0x602E7},
    "no XSAVE": {"xcrs.nr_xcrs": 0, "xcrs.xcrs.0.value": 0},
    "MXCSR after reset": xsave(mxcsr=(24, b"\x80\x1f\0\0"), mask=(28, b"\xff\xff\2\0"), bv=(512, b"\7")),
    "deadline armed": {**lapic(0x320, 0x40000), "msrs": KvmMsrs.of({0x6E0: 5})},
    "TPR": {**lapic(0x80, 0x2F), "sregs.cr8": 2},
    "PAT after reset": {"msrs": KvmMsrs.of({0x277: 0x0007040600070406})},
    "LSTAR in the kernel": {"msrs": KvmMsrs.of({0xC0000082: 0xFFFF_FFFF_8000_0000})},
    "flat segment": {"sregs.ds.limit": 0xFFFFFFFF, "sregs.ds.g": 1},
    "unusable segment": {"sregs.es.unusable": 1, "sregs.es.present": 0, "sregs.es.limit": 0xFFFFFFFF},
}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_state_breaks_no_rule(name, legal_vcpu, changed):
    assert check_state(changed(legal_vcpu, LEGAL[name])) == []


VARIANTS = [
    ("INV-055", {"sregs.cr0": 0x80000010}),
    ("INV-055", {"sregs.cr0": 1 << 32}),
    ("INV-059", {**LONG, "sregs.cr4": 0}),
    ("INV-064", {"sregs.apic_base": 0xFEE00801, "msrs": KvmMsrs.of({})}),
    ("INV-080", {"debugregs.dr6": 1 << 40}),
    ("INV-082", {"xcrs.nr_xcrs": 17}),
    ("INV-084", {"xcrs.xcrs.0.value": 2}),
    ("INV-084", {"xcrs.xcrs.0.value": 1 << 20 | 1}),
    ("INV-084", {"xcrs.xcrs.0.value": 0xE3}),
    ("INV-084", {"xcrs.xcrs.0.value": 0x27}),
    ("INV-012", {**PENDING, "events.exception.nr": 32}),
    ("INV-012", {"events.exception.injected": 1, "events.exception.nr": 255}),
    ("INV-017", {"sregs.cr0": 0x11, "events.exception.pending": 1, "events.exception.nr": 13}),
    ("INV-025", {"sregs.interrupt_bitmap": (0, 0, 0, 1), "events.interrupt.injected": 1, "events.interrupt.nr": 3}),
    ("INV-052", {**LONG, "regs.rflags": 0x20002}),
    ("INV-053", {**LONG, "regs.rip": 0xFFFE_8000_0000_0000}),
]


@pytest.mark.parametrize(("rule", "changes"), VARIANTS)
def test_each_further_way_to_break_a_rule_is_found(rule, changes, legal_vcpu, changed):
    assert broken_rules(check_state(changed(legal_vcpu, changes))) == {rule}


@pytest.mark.parametrize(
    ("byte", "smm", "flags", "legal"),
    [
        (0x20, 1, 0x4D, True),
        (0x10, 1, 0x4D, True),
        (0x31, 1, 0x4D, True),
        (0x20, 1, 0x0D, False),
        (0x20, 0, 0x4D, False),
        (0x20, 1, 0x45, False),
        (0x40, 1, 0x4D, False),
        (0x80, 1, 0x4D, False),
        (0x04, 0, 0x4D, False),
        (0x00, 0, 0x4D, True),
    ],
)
def test_the_upper_nibble_is_legal_only_with_flag_mode_and_mask(byte, smm, flags, legal, legal_vcpu, changed):
    changes = {"events.interrupt.shadow": InterruptShadow.from_byte(byte), "events.smi.smm": smm, "events.flags": flags}
    assert (errors_of(check_state(changed(legal_vcpu, {**IN_SMM, **changes}))) == []) is legal


def test_hardware_rules_are_warnings_until_the_host_is_known(legal_vcpu, changed):
    state = changed(legal_vcpu, {**IF, **shadow(3)})
    assert [finding.severity for finding in check_state(state)] == [Severity.WARNING]
    assert [finding.severity for finding in check_state(state, host_vendor=INTEL)] == [Severity.ERROR]
    assert check_state(state, host_vendor="AuthenticAMD") == []


def test_require_legal_lists_every_finding(legal_vcpu, changed):
    state = changed(legal_vcpu, {"regs.rflags": 0, "events.nmi.pending": 3, "tsc_khz.tsc_khz": 0})
    with pytest.raises(InvariantError) as caught:
        require_legal(state)
    assert broken_rules(caught.value.findings) == {"INV-050", "INV-020", "INV-102"}
    assert [finding.severity for finding in caught.value.findings][-1] is Severity.WARNING
    assert caught.value.problems == caught.value.findings


def test_a_warning_alone_is_legal(legal_vcpu, changed):
    state = changed(legal_vcpu, {"tsc_khz.tsc_khz": 0})
    assert broken_rules(require_legal(state)) == {"INV-102"}


def test_a_finding_in_a_machine_names_the_vcpu(legal_machine, changed):
    state = changed(legal_machine, {"vcpus.0.regs.rflags": 0})
    assert [finding.where for finding in check_state(state)] == ["vcpus.0.regs.rflags"]


@pytest.mark.parametrize("record", LAB.read_text().splitlines(), ids=lambda line: json.loads(line)["name"])
def test_no_state_of_a_real_kernel_is_refused(record, legal_vcpu):
    lab = json.loads(record)
    sections = legal_vcpu.to_sections()
    sections |= {name: bytes.fromhex(lab[name]) for name in ("regs", "sregs", "events", "debugregs")}
    sections["mp_state"] = lab["mp_state"].to_bytes(4, "little")
    sections["msrs"] = KvmMsrs.of({0x9E: 0x30000}).pack()
    state = VcpuState.from_sections(sections)
    assert broken_rules(check_state(state)) <= {"INV-031"}  # SVM reports any shadow as 3
    assert check_state(state, host_vendor="AuthenticAMD") == []


def test_junk_in_every_section_is_checked_without_an_exception(legal_vcpu):
    for byte in (0xFF, 0xA5, 0x01):
        sections = {
            name: raw if name in ("msrs", "cpuid2") else bytes([byte]) * len(raw)
            for name, raw in legal_vcpu.to_sections().items()
        }
        sections["sregs2"] = bytes([byte]) * VCPU_SECTIONS["sregs2"].model.SIZE
        assert errors_of(check_state(VcpuState.from_sections(sections)))
