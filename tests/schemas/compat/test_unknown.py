"""What a host's profile does not say: a warning where the machine needs the answer, and nothing where it does not."""

from pathlib import Path

import pytest

from emulator.bridge.profile import host_profile
from schemas.compat import (
    HostProfile,
    LapicSupport,
    MachineSummary,
    MemorySupport,
    NestedSupport,
    Verdict,
    check_compat,
)
from schemas.compat.needs import NestedNeeds
from schemas.compat.summary import MsrValues, SlotNeeds
from schemas.errors import Severity
from schemas.uapi.msrs import KvmMsrs

OLD_EMULATOR = Path(__file__).parents[2] / "data" / "profiles" / "emulator-v1.json"

KVM_SIGNATURE = {"eax": 0x40000101, "ebx": 0x4B4D564B, "ecx": 0x564B4D56, "edx": 0x4D}
HYPERV = {
    (0x40000000, 0): {"ebx": 0x7263694D, "ecx": 0x666F736F, "edx": 0x76482074},
    (0x40000003, 0): {"eax": 2},
}
FEATURE_VALUES = {
    0x10A: 1 << 7 | 1 << 19 | 1,
    0x345: 5 | 1 << 13,
    0xC0011029: 2,
    0x480: 0xDA_1000_11E5_7ED0 & ~(1 << 48),
    0x481: 0x7F_0000_0016,
    0x485: 0x40,
    0x486: 0x80000021,
    0x48C: 0xF0106334141,
}
COMMON = {
    (1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 5},
    (0xD, 0): {"eax": 0x40007},
    (0xD, 18): {"eax": 8192, "ebx": 2816, "ecx": 6},
    (0x80000001, 0): {"edx": 1 << 11 | 1 << 20},
}
SHOWN = {
    **COMMON,
    **HYPERV,
    (1, 0): {"ecx": 1 << 26 | 1 << 24 | 1 << 21 | 1 << 5 | 1 << 3},
    (0x40000100, 0): KVM_SIGNATURE,
    (0x40000101, 0): {"eax": 1 << 16},
}
"""A guest's CPUID: with what KVM says by a capability, not in its own table: MWAIT, the deadline timer, hypercalls."""


@pytest.fixture
def full_host(make_host):
    """A KVM host of which all is known and that has all; without TSC scaling, so that its frequency counts."""
    return make_host(
        {
            "cpuid": {**COMMON, (0x40000000, 0): {**KVM_SIGNATURE, "eax": 0x40000001}, (0x40000001, 0): {"eax": 9}},
            "kernel_release": "7.3.1",
            "kvm_capabilities": {"KVM_CAP_X86_DISABLE_EXITS": 1, "KVM_CAP_EXIT_HYPERCALL": 1 << 12},
            "hyperv_cpuid": make_host({"cpuid": HYPERV}).cpuid,
            "feature_msrs": KvmMsrs.of(FEATURE_VALUES),
            "xcr0_mask": 0x40007,
            "xcr0_guest_permitted": 0x40007,
            "xsave_bytes": 12288,
            "tsc_khz_min": 2_000_000,
            "tsc_khz_max": 2_000_000,
            "tsc_scaling": False,
            "nested": NestedSupport(vmx=True, state_bytes=8320, evmcs=True),
            "lapic": LapicSupport(x2apic_32bit_ids=True, tsc_deadline=True),
            "mce_capabilities": 1 << 27 | 1 << 24 | 1 << 8,
        }
    )


@pytest.fixture
def full_machine(full_host, make_machine):
    """The host's largest machine, and what a host's table of CPUID and a profile do not show of a machine."""
    largest = MachineSummary.of_profile(full_host)
    nested = NestedNeeds(format=0, flags=1 | 4 | 8, state_bytes=8320, active=True, vmx_flags=1)
    vcpu = largest.vcpus[0].model_copy(
        update={"mp_state": 2, "timer_mode": 2, "tsc_khz": 2_000_100, "nested": nested, "latched_init": True}
    )
    values = {**dict(largest.msr_values[0].values), 0x122: 3, 0x3A: 1 << 20 | 5}
    return largest.model_copy(
        update={
            "subject": "machine",
            "cpuids": make_machine({"cpuid": SHOWN}).cpuids,
            "msr_lists": ((*largest.msr_lists[0], 0x1B, 0x179),),
            "msr_values": (MsrValues(values=tuple(values.items())),),
            "apic_bus_cycle_ns": 1,
            "vcpus": (vcpu,),
        }
    )


NAMED_BY: dict[str, set[str]] = {
    "kernel_release": {"CMP-510", "CMP-604", "CMP-704", "CMP-705"},
    "kvm_capabilities": {"CMP-123", "CMP-137"},
    "hyperv_cpuid": {"CMP-138"},
    "msrs_unlisted": {"CMP-011"},
    "feature_msrs": {
        *("CMP-202", "CMP-203", "CMP-204", "CMP-205", "CMP-206", "CMP-207", "CMP-211"),
        *("CMP-220", "CMP-221", "CMP-222", "CMP-223", "CMP-224"),
    },
    "xcr0_guest_permitted": {"CMP-306"},
    "mxcsr_mask": {"CMP-307"},
    "tsc_khz": {"CMP-016"},
    "tsc_scaling": {"CMP-016"},
    "tsc_tolerance_ppm": {"CMP-016"},
    "clock_flags": {"CMP-405"},
    "nested": {"CMP-701"},
    "lapic": {"CMP-801", "CMP-802", "CMP-803", "CMP-805", "CMP-807"},
    "memory": {"CMP-901", "CMP-902", "CMP-903"},
    "max_vcpu_id": {"CMP-806"},
    "mce_capabilities": {"CMP-201", "CMP-212"},
    "mce_banks": {"CMP-201"},
}
"""Fields that a profile may leave out, and the rules that say so of a machine that uses everything."""

AS_IF_KNOWN = {"hyperv_cpuid", "msrs_unlisted", "tsc_khz", "tsc_scaling"}
"""Without a word on these the rest of the profile decides, and never in the machine's favour."""


def left_out(host, name):
    return host.model_copy(update={name: HostProfile.model_fields[name].default})


def rules(report):
    return {finding.rule for finding in report.findings}


def test_every_field_that_a_profile_may_leave_out_is_in_the_table():
    assert set(NAMED_BY) == {name for name, field in HostProfile.model_fields.items() if not field.is_required()}


def test_the_full_machine_fits_the_full_host(full_machine, full_host):
    report = check_compat(full_machine, full_host)
    assert [(finding.rule, finding.severity) for finding in report.findings] == [("CMP-016", Severity.NOTE)]


@pytest.mark.parametrize("name", NAMED_BY)
def test_a_field_left_out_never_betters_the_verdict_and_is_named(full_machine, full_host, name):
    known, unknown = (check_compat(full_machine, host) for host in (full_host, left_out(full_host, name)))
    assert unknown.verdict.rank >= known.verdict.rank
    assert rules(unknown) == NAMED_BY[name] | {"CMP-016"}
    if name not in AS_IF_KNOWN:
        assert unknown.verdict is Verdict.LOSSY
        named = [finding for finding in unknown.findings if finding.rule in NAMED_BY[name]]
        assert {finding.host for finding in named} == {"not known"}
        assert all("does not say" in finding.message and "host profile" in finding.hint for finding in named)


@pytest.mark.parametrize("name", NAMED_BY)
def test_a_host_s_own_largest_machine_is_not_exact_where_the_host_does_not_say(full_host, name):
    """Of what only a machine uses (MWAIT, Hyper-V, …) a host's largest machine has nothing to ask."""
    asked = {"feature_msrs", "xcr0_guest_permitted", "mxcsr_mask", "clock_flags", "nested", "lapic", "memory"}
    asked |= {"max_vcpu_id", "mce_capabilities", "mce_banks", "kernel_release"}
    verdict = check_compat(full_host, left_out(full_host, name)).verdict
    assert (verdict is Verdict.LOSSY) is (name in asked)


SVM = {"sections": ("nested_state",)}
NARROW = {"cpuid": {(0x80000008, 0): None}}
UNKNOWN = {"kernel_release": "unknown"}
EDGES = [
    # (guest, host, rule that says so or None)
    ({"mp_state": 9}, UNKNOWN, "CMP-511"),
    ({"mp_state": 0}, UNKNOWN, None),
    ({"mp_state": 2}, UNKNOWN, None),
    ({**SVM, "nested": NestedNeeds(format=1, flags=1, state_bytes=128, active=True, gpat=True)}, UNKNOWN, "CMP-707"),
    ({**SVM, "nested": NestedNeeds(format=1, flags=1, state_bytes=128, active=True)}, UNKNOWN, None),
    ({**SVM, "nested": NestedNeeds(format=1, flags=0x100, state_bytes=128, active=False)}, UNKNOWN, None),
    ({"smm": True}, UNKNOWN, None),  # a 64-bit guest: the map was always right
    (
        {**SVM, "nested": NestedNeeds(format=1, flags=1, state_bytes=4224, active=True)},
        {"nested": NestedSupport(svm=True)},
        "CMP-702",
    ),
    ({"clock_flags": 4}, {"clock_flags": None}, "CMP-405"),
    ({"clock_flags": 0}, {"clock_flags": None}, None),
    ({"memory": SlotNeeds(slots=33, highest_slot=0)}, {"memory": None}, "CMP-901"),
    ({"memory": SlotNeeds(slots=1, highest_slot=32)}, {"memory": None}, "CMP-901"),
    ({"memory": SlotNeeds(slots=32, highest_slot=31, end=1 << 20)}, {"memory": None}, None),
    ({"memory": SlotNeeds(slots=1, address_spaces=2)}, {"memory": None}, "CMP-902"),
    ({"memory": SlotNeeds(slots=1, readonly=True)}, {"memory": None}, "CMP-903"),
    ({"memory": SlotNeeds(slots=1, end=(1 << 36) + 1), **NARROW}, NARROW, "CMP-904"),
    ({"memory": SlotNeeds(slots=1, end=1 << 36), **NARROW}, NARROW, None),
    ({"cr3_high": 1 << 4, **NARROW}, NARROW, "CMP-232"),
    ({"cr3_high": 0xF, **NARROW}, NARROW, None),
    ({"apic_id": 255}, {"max_vcpu_id": None, "max_vcpus": 255}, "CMP-806"),
    ({"apic_id": 254}, {"max_vcpu_id": None, "max_vcpus": 255}, None),
    ({"mp_state": 3}, {"lapic": None}, "CMP-801"),
    ({"latched_init": True}, {"lapic": None}, "CMP-801"),
    ({"mp_state": 0}, {"lapic": None}, None),
    ({"values": {0x179: 0x20}}, {"mce_banks": None}, "CMP-201"),
    ({"values": {0x179: 0x20}}, {"mce_capabilities": None}, None),
    ({"values": {0x179: 1 << 8}}, {"mce_capabilities": None}, "CMP-201"),
    ({"values": {0x179: 0}}, {"mce_capabilities": None, "mce_banks": None}, None),
    ({"values": {0x3A: 1 << 20 | 1}}, {"mce_capabilities": None}, "CMP-212"),
    ({"values": {0x3A: 1}}, {"mce_capabilities": None}, None),
    ({}, {"cpuid": {(0, 0): None}}, "CMP-013"),
    ({"cpuid": {(0, 0): None}}, {"cpuid": {(0, 0): None}}, None),
]


@pytest.mark.parametrize(("guest", "host", "rule"), EDGES)
def test_only_a_machine_that_needs_the_answer_is_warned(make_machine, make_host, guest, host, rule):
    report = check_compat(make_machine(guest), make_host(host))
    assert rules(report) == ({rule} if rule else set())
    assert report.verdict is (Verdict.LOSSY if rule else Verdict.EXACT)
    assert all(finding.host == "not known" for finding in report.findings)


def test_flags_that_only_say_how_a_clock_was_read_are_a_note(make_machine, make_host):
    report = check_compat(make_machine({"clock_flags": 0xA}), make_host({"clock_flags": None}))
    assert (report.verdict, rules(report)) == (Verdict.TRANSLATED, {"CMP-405"})


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ({}, Verdict.TRANSLATED),
        ({"tsc_tolerance_ppm": None}, Verdict.TRANSLATED),  # scaled, or within the tolerance: nothing is lost
        ({"tsc_tolerance_ppm": 0}, Verdict.EXACT),
        ({"tsc_khz": None}, Verdict.TRANSLATED),
        ({"tsc_scaling": None, "tsc_tolerance_ppm": None}, Verdict.LOSSY),
    ],
)
def test_how_near_a_frequency_must_be_is_not_guessed_in_the_machine_s_favour(make_machine, make_host, host, verdict):
    assert check_compat(make_machine({"tsc_khz": 2_000_100}), make_host(host)).verdict is verdict


def test_what_only_a_kernel_decides_is_not_asked_of_the_emulator(make_machine):
    """Profiles of before its fields were there stay usable."""
    old = HostProfile.model_validate_json(OLD_EMULATOR.read_text())
    new = host_profile("new", (1,))
    assert check_compat(new, new).findings == ()
    assert check_compat(old, new).findings == ()
    grown = {"CMP-011", "CMP-012", "CMP-123", "CMP-802"}  # the CPU model has more features than it had then
    assert rules(check_compat(new, old)) - grown == {"CMP-001"}
    for name in NAMED_BY:
        assert check_compat(new, left_out(new, name)).findings == (), name


@pytest.mark.parametrize(
    ("guest", "host", "rule", "verdict"),
    [
        ({"cr4": 1 << 27}, {}, "CMP-230", Verdict.IMPOSSIBLE),
        ({"cr4": 1 << 27}, {"cpuid": {(7, 1): {"eax": 1 << 6}}}, None, Verdict.EXACT),
        ({"cr4": 1 << 32}, {}, "CMP-230", Verdict.IMPOSSIBLE),
        ({"cr4": 1 << 32}, {"cpuid": {(7, 1): {"eax": 1 << 17}}}, None, Verdict.EXACT),
        ({"cr4": 1 << 10 | 1 << 8 | 1 << 1}, {}, None, Verdict.EXACT),
        ({"cr4": 1 << 15}, {}, "CMP-230", Verdict.LOSSY),
        ({"cr4": 1 << 63}, {}, "CMP-230", Verdict.LOSSY),
        ({"efer": 0x500 | 1 << 17}, {}, "CMP-231", Verdict.IMPOSSIBLE),
        ({"efer": 0x500 | 1 << 17}, {"cpuid": {(0x80000008, 0): {"ebx": 1 << 8}}}, None, Verdict.EXACT),
        ({"efer": 0x500 | 1 << 13}, {}, "CMP-231", Verdict.LOSSY),
        ({"efer": 0x500 | 1 << 40}, {}, "CMP-231", Verdict.LOSSY),
    ],
)
def test_a_bit_of_a_register_has_a_feature_or_is_told_as_unknown(make_machine, make_host, guest, host, rule, verdict):
    report = check_compat(make_machine(guest), make_host(host))
    assert (report.verdict, rules(report)) == (verdict, {rule} - {None})


def test_a_host_with_fewer_slots_is_too_small_for_the_larger_machines_only(make_host):
    few = make_host({"memory": MemorySupport(slots=509, address_spaces=2, readonly=True)})
    report = check_compat(make_host({}), few)
    assert (report.verdict, rules(report)) == (Verdict.LOSSY, {"CMP-901"})
    numbered = MachineSummary.of_profile(make_host({})).model_copy(
        update={"memory": SlotNeeds(slots=1, highest_slot=600)}
    )
    assert check_compat(numbered, few).verdict is Verdict.LOSSY
