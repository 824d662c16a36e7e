"""Where rules turn: both sides of each edge that the table of pairs does not show."""

import pytest

from schemas.compat import LapicSupport, Verdict, baseline, check_compat
from schemas.compat.cpuid_view import CpuidView
from schemas.compat.cpuid_words import DESCRIPTIVE, TREATED
from schemas.compat.rules.nested import FLAGS_SINCE
from schemas.names.cpuid import LEAVES

VMX = {(1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 5}}
SIGNATURE = {"ebx": 0x7263694D, "ecx": 0x666F736F, "edx": 0x76482074}


def rules(report):
    return {finding.rule for finding in report.findings}


@pytest.mark.parametrize(
    ("guest", "host", "fits"),
    [
        (0x16_0000_0016, 0x16_0000_0016, True),
        (0x16_0000_0016, 0x36_0000_0006, True),  # the host demands less and allows more
        (0x16_0000_0006, 0x16_0000_0016, False),  # the host demands bit 4
        (0x36_0000_0016, 0x16_0000_0016, False),  # the host does not allow bit 5
    ],
)
def test_vmx_controls_compare_what_must_and_what_may_be_one(make_machine, make_host, guest, host, fits):
    machine = make_machine({"cpuid": VMX, "values": {0x482: guest}})
    assert (rules(check_compat(machine, make_host({"cpuid": VMX, "features": {0x482: host}}))) == set()) is fits


@pytest.mark.parametrize(("guest", "fits"), [(0x05, True), (0x25, True), (0x06, False)])
def test_the_rate_of_the_preemption_timer_counts_only_where_it_is_offered(make_machine, make_host, guest, fits):
    host = make_host({"cpuid": VMX, "features": {0x481: 0x7F_0000_0016, 0x485: 0x25}})
    for offered in (True, False):
        values = {0x481: 0x7F_0000_0016 if offered else 0x3F_0000_0016, 0x485: guest}
        report = check_compat(make_machine({"cpuid": VMX, "values": values}), host)
        assert (rules(report) == set()) is (fits or not offered)


def test_an_event_flag_without_an_event_is_cleared(make_machine, make_host):
    host = make_host({"event_flags": 0x0F})
    report = check_compat(make_machine({"event_flags": 0x3D, "events_in_use": 0x0C}), host)
    assert (report.verdict, rules(report)) == (Verdict.TRANSLATED, {"CMP-505", "CMP-506"})


def test_the_nibble_needs_its_flag(make_machine, make_host):
    machine = make_machine({"smm": True, "event_flags": 0x7D, "events_in_use": 0x48, "shadow": 0x20})
    for flags, carriers, verdict in (
        (0x7F, ("events_nibble",), Verdict.EXACT),
        (0x3F, ("events_nibble",), Verdict.IMPOSSIBLE),
        (0x7F, ("smram",), Verdict.TRANSLATED),
        (0x3F, ("nested_flags",), Verdict.TRANSLATED),
    ):
        host = make_host({"event_flags": flags, "smm_carriers": carriers, "vendor": "emulated"})
        assert check_compat(machine, host).verdict is verdict, (flags, carriers)


def test_the_deadline_timer_is_said_by_the_capability_or_by_cpuid(make_machine, make_host):
    shown = {(1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 24}}
    machine = make_machine({"cpuid": shown, "timer_mode": 2})
    assert check_compat(machine, make_host({"lapic": LapicSupport(tsc_deadline=True)})).findings == ()
    assert check_compat(machine, make_host({"cpuid": shown, "lapic": LapicSupport()})).findings == ()
    assert rules(check_compat(machine, make_host({"lapic": LapicSupport()}))) == {"CMP-802", "CMP-803"}
    unknown = make_host({"lapic": None, "backends": ("emulator",), "msr_indices": (0x10, 0x1B, 0x9E, 0xC0000080)})
    assert rules(check_compat(machine, unknown)) == {"CMP-802", "CMP-803"}


def test_events_that_a_pmu_does_not_count_beyond_its_list_are_missing(make_machine, make_host):
    def pmu(events, missing=0):
        return {"cpuid": {(0xA, 0): {"eax": events << 24 | 0x300402, "ebx": missing}}}

    assert rules(check_compat(make_machine(pmu(8)), make_host(pmu(7)))) == {"CMP-110"}
    assert rules(check_compat(make_machine(pmu(7)), make_host(pmu(8, 1 << 7)))) == set()
    made = baseline([make_host(pmu(8, 1)), make_host(pmu(7, 4))])
    view = CpuidView(made.profile.cpuid)
    assert (view.value(0xA, 0, "ebx"), view.value(0xA, 0, "eax", 24, 8)) == (5, 7)
    assert made.verdict is Verdict.EXACT


def test_bits_that_mirror_state_or_topology_are_no_features(make_machine, make_host):
    own = {
        (1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 27 | 1 << 31, "edx": 0x178BFBFF},
        (7, 0): {"ebx": 1, "ecx": 1 << 4},
        (0x80000001, 0): {"ecx": 1 | 1 << 1 | 1 << 22, "edx": 1 << 11 | 1 << 20 | 1 << 29 | 0x0183F3FF},
        (0x8000001E, 0): {"eax": 7},
        (0x16, 0): {"eax": 3000},
    }
    assert check_compat(make_machine({"cpuid": own}), make_host({})).findings == ()


def test_a_narrower_guest_fits_a_wider_host(make_machine, make_host):
    machine = make_machine({"cpuid": {(0x80000008, 0): {"eax": 48 << 8 | 36}}})
    assert check_compat(machine, make_host({"cpuid": {(0x80000008, 0): {"eax": 57 << 8 | 52}}})).findings == ()


def test_hyper_v_is_compared_with_what_kvm_emulates(make_machine, make_host):
    def leaves(features):
        return {"cpuid": {(0x40000000, 0): SIGNATURE, (0x40000003, 0): {"eax": features}}}

    machine = make_machine(leaves(0x62))
    supported = make_host(leaves(0x0FF)).cpuid
    assert check_compat(machine, make_host({"hyperv_cpuid": supported})).findings == ()
    assert rules(check_compat(machine, make_host({"hyperv_cpuid": make_host(leaves(2)).cpuid}))) == {"CMP-138"}
    assert check_compat(machine, make_host({"kvm_capabilities": None})).verdict is Verdict.LOSSY


def test_a_guest_of_kvm_behind_hyper_v_leaves_is_found(make_machine, make_host):
    kvm = {"eax": 0x40000101, "ebx": 0x4B4D564B, "ecx": 0x564B4D56, "edx": 0x4D}
    moved = {(0x40000100, 0): kvm, (0x40000101, 0): {"eax": 1 << 7}}
    host = make_host({"cpuid": {(0x40000000, 0): kvm, (0x40000001, 0): {"eax": 9}}})
    assert rules(check_compat(make_machine({"cpuid": moved}), host)) == {"CMP-135"}


def test_each_leaf_that_has_a_name_is_compared_or_known_to_describe():
    known = TREATED | DESCRIPTIVE | {0x1, 0x24, 0x1D, 0x1E}
    missing = {function for function in LEAVES if function not in known and not 0x40000000 <= function < 0x50000000}
    assert missing <= {0x20, 0x23, 0x8000001C, 0x80000020, 0x80000023, 0x80000024, 0x80000025, 0x21}, missing
    assert not TREATED & DESCRIPTIVE


def test_flags_of_nested_state_are_in_order_of_their_kernels():
    assert [since for _, _, since in FLAGS_SINCE] == sorted(since for _, _, since in FLAGS_SINCE)
