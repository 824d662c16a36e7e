"""What a machine needs of a host, and that 1,000 vCPUs of it fit one frame of a migration."""

import pytest

from schemas.compat import HostProfile, MachineSummary, Verdict, check_compat, check_pair, summary_of
from schemas.compat.render import report_lines
from schemas.compat.report import MAX_FINDINGS
from schemas.errors import FieldError, parse_as
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.vcpu_events import InterruptShadow

FRAME_BYTES = 1 << 20


def entry(function, index=0, flags=0, **registers):
    values = {"eax": 0, "ebx": 0, "ecx": 0, "edx": 0, **registers}
    return KvmCpuidEntry2(function=function, index=index, flags=flags, **values)


def big_cpuid(apic_id):
    own = (
        entry(1, ebx=apic_id << 24 & 0xFF000000 | 0x800, ecx=1 << 27 if apic_id % 2 else 0),
        entry(0xB, 0, 1, edx=apic_id),
        entry(0xB, 1, 1, edx=apic_id),
        entry(0xD, 0, 1, eax=7, ebx=576 + apic_id % 3),
        entry(0x8000001E, eax=apic_id, ebx=apic_id & 0xFF, ecx=apic_id & 7),
    )
    entries = (*own, *(entry(0x80000002 + n, eax=n) for n in range(40)))
    return KvmCpuid2(nent=len(entries), entries=entries)


@pytest.fixture
def crowd(legal_machine, changed):
    """1,000 vCPUs with 200 MSRs each, of which some differ."""
    (vcpu,) = legal_machine.vcpus
    vcpus = [
        changed(
            vcpu,
            {
                "index": index,
                "cpuid2": big_cpuid(index),
                "msrs": KvmMsrs.of({0x10: index, 0x48: index % 2, **{0x1000 + n: n * (index % 5) for n in range(200)}}),
                "sregs.cr3": 0x12345_0000_0000 + index,
                "events.interrupt.shadow": InterruptShadow(current=index % 4, smm=0),
            },
        )
        for index in range(1000)
    ]
    return changed(legal_machine, {"vcpus": vcpus})


def test_a_thousand_vcpus_fit_a_frame_and_share_what_is_equal(crowd):
    summary = MachineSummary.of(crowd, backend="kvm", stream_version=1)
    text = summary.model_dump_json()
    assert len(text) < FRAME_BYTES
    assert len(summary.cpuids) == 1
    assert len(summary.msr_lists) == 1
    assert len(summary.msr_values) > 1
    assert [vcpu.apic_id for vcpu in summary.vcpus][:3] == [0, 1, 2]
    assert MachineSummary.model_validate_json(text) == summary


def test_a_report_on_a_thousand_vcpus_is_bounded_and_its_verdict_counts_all(crowd, make_host):
    report = check_compat(crowd, make_host({"vendor": "GenuineIntel", "xsave_bytes": 0}))
    assert len(report.findings) == MAX_FINDINGS
    assert report.omitted > 0
    assert report.verdict is Verdict.IMPOSSIBLE
    assert report.findings[0].severity == "error"


def test_what_a_state_holds_is_in_the_summary(legal_machine, changed):
    state = changed(
        legal_machine,
        {
            "vcpus.0.events.smi.smm": 1,
            "vcpus.0.events.interrupt.shadow": InterruptShadow(current=1, smm=2),
            "vcpus.0.events.exception.injected": 1,
            "vcpus.0.events.exception.has_error_code": 1,
            "vcpus.0.events.exception.error_code": 0x12345,
            "vcpus.0.sregs.cr4": 1 << 5,
            "vcpus.0.sregs.cr3": 5 << 32 | 0x1000,
            "vcpus.0.mp_state.mp_state": 3,
        },
    )
    (vcpu,) = summary_of(state).vcpus
    assert (vcpu.smm, vcpu.shadow, vcpu.events_in_use & 0x4C) == (True, 0x21, 0x4C)
    assert (vcpu.error_code, vcpu.cr4, vcpu.cr3_high, vcpu.mp_state) == (0x12345, 32, 5, 3)
    assert vcpu.xsave_used_bytes == 576
    machine = summary_of(state)
    assert (machine.memory.address_spaces, machine.memory.slots, machine.memory.end) == (2, 1, 1 << 20)
    assert dict(machine.msr_values[0].values) == {0x9E: 0x30000, 0xC0000080: 0}
    assert int(vcpu.msr_zero, 16) == 0b100
    assert summary_of(state.vcpus[0]).vcpus == machine.vcpus


def test_a_summary_from_a_peer_is_bounded_and_checked(legal_machine):
    data = MachineSummary.of(legal_machine).model_dump(mode="json")
    wrong = [
        ("vcpus", [{**data["vcpus"][0], "cpuid_id": 1}], "table has 1 rows"),
        ("vcpus", [], "vcpus"),
        ("cpuids", [], "cpuids"),
        ("msr_lists", [[1] * 1025], "msr_lists"),
        ("vcpus", [{**data["vcpus"][0], "msr_zero": "x"}], "msr_zero"),
        ("vcpus", [{**data["vcpus"][0], "surprise": 1}], "surprise"),
        ("subject", "planet", "subject"),
    ]
    for name, value, match in wrong:
        with pytest.raises(FieldError, match=match):
            parse_as(MachineSummary, {**data, name: value})


def test_a_profile_from_a_peer_is_bounded(make_host):
    data = make_host({}).model_dump(mode="json")
    wrong = (
        ("backends", ["x"] * 65), ("name", "x" * 129), ("event_flags", 1 << 32), ("surprise", 1),
        ("kvm_capabilities", {"x": -1}), ("kvm_capabilities", {f"c{n}": 1 for n in range(513)}),
    )  # fmt: skip
    for name, value in wrong:
        with pytest.raises(FieldError, match=name):
            parse_as(HostProfile, {**data, name: value})


def test_operands_are_compared_in_any_mix(legal_machine, changed, make_host):
    host = make_host({"cpuid": {}})
    assert check_pair(legal_machine, host) == check_pair(host, legal_machine) == check_compat(legal_machine, host)
    assert check_pair(host, host).verdict is Verdict.EXACT
    timed = changed(legal_machine, {"vcpus.0.msrs": KvmMsrs.of({0x9E: 0x30000, 0x1B: 0, 0xC0000080: 0, 0x10: 0})})
    same = check_pair(timed, timed)
    assert (same.verdict, same.findings) == (Verdict.EXACT, ())
    wider = changed(timed, {"vcpus.0.msrs": KvmMsrs.of({**timed.vcpus[0].msrs.values_by_index(), 0x12: 1})})
    assert check_pair(timed, wider).verdict is Verdict.EXACT
    assert {finding.rule for finding in check_pair(wider, timed).findings} == {"CMP-011"}
    assert {finding.rule for finding in check_pair(legal_machine, timed).findings} == {"CMP-404"}  # no TSC in it


def test_a_report_is_shown_with_both_values_why_and_how_to_mend(make_machine, make_host):
    report = check_compat(make_machine({"ram_bytes": 1 << 31}), make_host({}))
    (finding,) = report.findings
    assert (finding.guest, finding.host) == ("0x80000000", "0x40000000")
    text = report_lines(report, "web-1", "host-b")
    assert text[0] == "impossible: web-1 on host-b (the host cannot hold it)"
    assert text[1].startswith("  - CMP-004 error memory.ram_bytes: ")
    assert [line.strip().split(":")[0] for line in text[2:]] == ["why", "mend"]
    markdown = report_lines(report, "web|1", "host-b", "markdown")
    assert markdown[0] == "## web\\|1 on host-b: **impossible**"
    assert markdown[-1].startswith("| CMP-004 | error | `memory.ram_bytes` |")


def test_what_the_profile_does_not_say_is_never_exact(make_machine, make_host):
    needs = [
        ({"values": {0x10A: 1}}, {"feature_msrs": None}),
        ({"apic_id": 300}, {"lapic": None}),
        ({"cpuid": {(1, 0): {"ecx": 1 << 26 | 1 << 21 | 1 << 24}}}, {"lapic": None}),
        ({"mxcsr": 1 << 17}, {"mxcsr_mask": None}),
        ({"apic_bus_cycle_ns": 1}, {"lapic": None}),
    ]
    for guest, host in needs:
        report = check_compat(make_machine(guest), make_host(host))
        assert report.verdict is Verdict.LOSSY, guest
        assert all("does not say" in finding.message for finding in report.findings)
        assert all("host profile" in finding.hint for finding in report.findings)


def test_a_frequency_within_kvm_s_tolerance_is_a_note(make_machine, make_host):
    host = make_host({"tsc_khz_min": 2_000_000, "tsc_khz_max": 2_000_000, "tsc_scaling": False})
    for khz, verdict in ((2_000_499, Verdict.TRANSLATED), (2_000_501, Verdict.LOSSY), (1_999_499, Verdict.IMPOSSIBLE)):
        assert check_compat(make_machine({"tsc_khz": khz}), host).verdict is verdict


def test_the_tail_of_an_area_that_is_not_in_use_is_cut(make_machine, make_host):
    machine = make_machine({"xsave_bytes": 8192})
    assert check_compat(machine, make_host({})).verdict is Verdict.TRANSLATED
    emulator = make_host({"backends": ("emulator",), "msr_indices": (0x10, 0x1B, 0x9E, 0xC0000080)})
    assert check_compat(machine, emulator).verdict is Verdict.IMPOSSIBLE


def test_sections_that_others_imply_are_left_out_by_kvm_alone(make_machine, make_host):
    sections = tuple(name for name in make_host({}).vcpu_sections if name not in ("fpu", "tsc_offset", "sregs2"))
    machine = {"sections": ("regs", "fpu", "tsc_offset", "sregs2")}
    assert check_compat(make_machine(machine), make_host({"vcpu_sections": sections})).verdict is Verdict.TRANSLATED
    with_pdptrs = make_machine({**machine, "pdptrs_valid": True})
    assert check_compat(with_pdptrs, make_host({"vcpu_sections": sections})).verdict is Verdict.LOSSY
    emulator = make_host({"backends": ("emulator",), "vcpu_sections": sections})
    assert check_compat(make_machine(machine), emulator).verdict is Verdict.IMPOSSIBLE
