"""Every compatibility rule has a pair that it passes and a pair that it stops; the verdict is the worst of them."""

import pytest

from schemas.compat import COMPAT_RULES, HostProfile, MachineSummary, Verdict, check_compat
from schemas.compat.cpuid_bits import FEATURE_WORDS, missing_features
from schemas.errors import FieldError, parse_as
from schemas.shadow import SmmCarrier
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.vcpu_events import InterruptShadow


def leaf(function, index=0, flags=0, **registers):
    values = {"eax": 0, "ebx": 0, "ecx": 0, "edx": 0, **registers}
    return KvmCpuidEntry2(function=function, index=index, flags=flags, **values)


def cpuid(*leaves):
    return KvmCpuid2(nent=len(leaves), entries=leaves)


AMD = leaf(0, ebx=0x68747541, ecx=0x444D4163, edx=0x69746E65)
INTEL = leaf(0, ebx=0x756E6547, ecx=0x6C65746E, edx=0x49656E69)
GUEST_CPUID = cpuid(AMD, leaf(1, ecx=1 | 1 << 27 | 1 << 31, edx=0x1 | 1 << 9), leaf(7, flags=1, ebx=1))


@pytest.fixture
def machine(legal_machine, changed):
    return changed(legal_machine, {"vcpus.0.cpuid2": GUEST_CPUID})


@pytest.fixture
def host(machine):
    return HostProfile(
        name="host-b",
        vendor="emulated",
        backends=("emulator",),
        schema_versions=(1, 2),
        stream_versions=(1,),
        smm=True,
        smm_carriers=(SmmCarrier.EVENTS_NIBBLE, SmmCarrier.SMRAM),
        event_flags=0x7F,
        vcpu_sections=tuple(VCPU_SECTIONS),
        vm_sections=tuple(VM_SECTIONS),
        max_vcpus=1,
        max_ram_bytes=1 << 20,
        cpuid=cpuid(AMD, leaf(1, ecx=1, edx=1), leaf(7, flags=1, ebx=3)),
        msr_indices=(0x9E, 0x1B, 0xC0000080, 0x10),
        xcr0_mask=7,
        xsave_bytes=4096,
        tsc_khz_min=1_000_000,
        tsc_khz_max=1_000_000,
    )


IN_SMM = {"vcpus.0.events.smi.smm": 1, "vcpus.0.events.nmi.masked": 1}
ASIDE = {**IN_SMM, "vcpus.0.events.interrupt.shadow": InterruptShadow(current=0, smm=2)}
SMRAM_ONLY = {"smm_carriers": (SmmCarrier.SMRAM,), "event_flags": 0x3F}
NO, OTHER_FORM, LOSS = Verdict.IMPOSSIBLE, Verdict.TRANSLATED, Verdict.LOSSY

STOPS = [
    # rule, changes to the summary, to the machine, to the host, verdict, where
    ("CMP-001", {"schema_version": 3}, {}, {}, NO, "schema_version"),
    ("CMP-002", {"stream_version": 2}, {}, {}, NO, "stream_version"),
    ("CMP-003", {"backend": "kvm"}, {}, {}, NO, "backend"),
    ("CMP-004", {}, {}, {"max_ram_bytes": (1 << 20) - 4096}, NO, "memory.ram_bytes"),
    ("CMP-005", {}, {}, {"max_vcpus": 0}, NO, "vcpus"),
    ("CMP-006", {}, {}, {"vm_sections": tuple(set(VM_SECTIONS) - {"smi_port"})}, NO, "vm.smi_port"),
    ("CMP-007", {}, {}, {"vcpu_sections": tuple(set(VCPU_SECTIONS) - {"xcrs"})}, NO, "vcpus.0.xcrs"),
    ("CMP-008", {}, {"vcpus.0.events.exception.pending": 1}, {"event_flags": 0x6F}, NO, "vcpus.0.events.flags"),
    ("CMP-008", {}, {"vcpus.0.events.triple_fault.pending": 1}, {"event_flags": 0x5F}, NO, "vcpus.0.events.flags"),
    ("CMP-008", {}, {}, {"event_flags": 0x4F}, OTHER_FORM, "vcpus.0.events.flags"),
    ("CMP-009", {}, IN_SMM, {"smm": False}, NO, "vcpus.0.events.smi.smm"),
    ("CMP-010", {}, ASIDE, SMRAM_ONLY, OTHER_FORM, "vcpus.0.events.interrupt.shadow"),
    ("CMP-010", {}, ASIDE, {"smm_carriers": ()}, NO, "vcpus.0.events.interrupt.shadow"),
    ("CMP-010", {}, ASIDE, {"event_flags": 0x3F, "smm_carriers": (SmmCarrier.EVENTS_NIBBLE,)}, NO, None),
    ("CMP-011", {}, {}, {"msr_indices": (0x1B, 0xC0000080)}, NO, "vcpus.0.msrs"),
    ("CMP-012", {}, {}, {"cpuid": cpuid(AMD, leaf(1, ecx=1, edx=1), leaf(7, flags=1, ebx=2))}, NO, "vcpus.0.cpuid2"),
    ("CMP-012", {}, {}, {"cpuid": cpuid(AMD, leaf(1, ecx=1, edx=1))}, NO, "vcpus.0.cpuid2"),
    (
        "CMP-013",
        {},
        {},
        {"cpuid": cpuid(INTEL, leaf(1, ecx=1, edx=1), leaf(7, flags=1, ebx=1))},
        LOSS,
        "vcpus.0.cpuid2",
    ),
    ("CMP-014", {}, {}, {"xcr0_mask": 3}, NO, "vcpus.0.xcrs"),
    ("CMP-014", {}, {"vcpus.0.xsave.region": bytes(513) + b"\2" + bytes(3582)}, {}, NO, "vcpus.0.xsave"),
    ("CMP-015", {}, {"vcpus.0.xsave.extra": bytes(64)}, {}, NO, "vcpus.0.xsave"),
    ("CMP-016", {}, {"vcpus.0.tsc_khz.tsc_khz": 999_999}, {}, NO, "vcpus.0.tsc_khz"),
    ("CMP-016", {}, {"vcpus.0.tsc_khz.tsc_khz": 1_000_001}, {}, NO, "vcpus.0.tsc_khz"),
]


@pytest.mark.parametrize(("rule", "summary", "state", "profile", "verdict", "where"), STOPS)
def test_a_host_that_cannot_hold_the_machine_is_found_by_exactly_one_rule(
    rule, summary, state, profile, verdict, where, machine, host, changed
):
    offered = changed(MachineSummary.of(changed(machine, state)), summary)
    report = check_compat(offered, changed(host, profile))
    assert {finding.rule for finding in report.findings} == {rule}
    assert report.verdict is verdict
    assert where is None or {finding.where for finding in report.findings} == {where}


PASSES = {
    "the machine as it is": ({}, {}, {}),
    "a stream version that is read": ({"stream_version": 1, "backend": "emulator"}, {}, {}),
    "a larger host": ({}, {}, {"max_vcpus": 64, "max_ram_bytes": 1 << 40, "xsave_bytes": 8192, "xcr0_mask": 0xFF}),
    "a shadow put aside": ({}, ASIDE, {}),
    "an empty nibble on a host without it": ({}, IN_SMM, SMRAM_ONLY),
    "no SMM needed": ({}, {}, {"smm": False, "smm_carriers": ()}),
    "an event that the host takes": ({}, {"vcpus.0.events.exception.pending": 1}, {}),
    "a TSC that can be scaled": ({}, {}, {"tsc_khz_min": 1, "tsc_khz_max": 5_000_000}),
    "a TSC of unknown frequency": ({}, {"vcpus.0.tsc_khz.tsc_khz": 0}, {}),
    "no MSRs": ({}, {"vcpus.0.msrs": KvmMsrs.of({})}, {"msr_indices": ()}),
    "a guest without CPUID": ({}, {"vcpus.0.cpuid2": cpuid()}, {"cpuid": cpuid()}),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_host_that_can_hold_the_machine_gets_no_finding(name, machine, host, changed):
    summary, state, profile = PASSES[name]
    offered = changed(MachineSummary.of(changed(machine, state)), summary)
    report = check_compat(offered, changed(host, profile))
    assert report.findings == ()
    assert report.verdict is Verdict.EXACT


def test_every_rule_has_an_example_an_id_of_its_own_and_a_source():
    ids = [rule.id for rule in COMPAT_RULES]
    assert ids == sorted(set(ids))
    assert set(ids) == {row[0] for row in STOPS}
    assert all(rule.text and rule.hint and rule.source for rule in COMPAT_RULES)


def test_a_machine_state_is_summarised_by_itself(machine, host, changed):
    assert check_compat(machine, host) == check_compat(MachineSummary.of(machine), host)
    assert check_compat(machine, changed(host, {"max_ram_bytes": 0})).verdict is Verdict.IMPOSSIBLE


def test_all_findings_are_reported_and_the_worst_is_the_verdict(machine, host, changed):
    report = check_compat(
        changed(machine, ASIDE),
        changed(host, {**SMRAM_ONLY, "xsave_bytes": 0, "max_vcpus": 0, "cpuid": cpuid(INTEL)}),
    )
    assert {finding.rule for finding in report.findings} == {"CMP-005", "CMP-010", "CMP-012", "CMP-013", "CMP-015"}
    assert report.verdict is Verdict.IMPOSSIBLE


def test_a_missing_feature_is_named(machine, host, changed):
    report = check_compat(machine, changed(host, {"cpuid": cpuid(AMD, leaf(1, edx=1), leaf(7, flags=1, ebx=1))}))
    assert [finding.message for finding in report.findings] == [
        "CPU feature: the host lacks CPUID 0x1.0 ECX bit 0 (sse3)"
    ]


def test_bits_that_mirror_guest_state_are_no_features():
    for word in FEATURE_WORDS:
        guest = cpuid(leaf(word.function, word.subleaf, 1, **{word.register: 0xFFFFFFFF}))
        lacking = list(missing_features(guest, cpuid()))
        assert len(lacking) == 32 - word.ignored.bit_count()
        assert list(missing_features(guest, guest)) == []


def test_many_missing_msrs_are_counted_not_listed(machine, host, changed):
    state = changed(machine, {"vcpus.0.msrs": KvmMsrs.of(dict.fromkeys(range(0x1000, 0x1400), 0))})
    message = check_compat(state, host).findings[0].message
    assert message.endswith("0x100f and 1008 more")


def test_profile_and_summary_survive_json(machine, host):
    summary = MachineSummary.of(machine, backend="emulator", stream_version=1)
    assert MachineSummary.model_validate_json(summary.model_dump_json()) == summary
    assert HostProfile.model_validate(host.model_dump(mode="json")) == host


def test_a_profile_from_a_peer_is_bounded(host):
    data = host.model_dump(mode="json")
    for name, value in (("backends", ["x"] * 65), ("name", "x" * 129), ("event_flags", 1 << 32), ("surprise", 1)):
        with pytest.raises(FieldError, match=name):
            parse_as(HostProfile, {**data, name: value})
