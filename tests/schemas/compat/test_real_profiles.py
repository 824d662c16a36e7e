"""Profiles of real hosts: they load, fit themselves, and say of each other what their kernels do."""

import json
from pathlib import Path

import pytest

from schemas.compat import HostProfile, Verdict, check_compat, matrix
from schemas.shadow import SmmCarrier

DATA = Path(__file__).parents[2] / "data"
PROFILES = {path.stem: path for path in sorted((DATA / "profiles").glob("*.json"))}


def load(name):
    return HostProfile.model_validate_json(PROFILES[name].read_text())


@pytest.fixture
def lab():
    """What the kernels of the KVM lab said: release, SMM, size of the nested state, and the event flags of GET."""
    lines = (DATA / "kvm-lab" / "smi_shadow-linux-6.12.jsonl").read_text().splitlines()
    head, first = json.loads(lines[0]), json.loads(lines[1])
    return head, int.from_bytes(bytes.fromhex(first["events"])[20:24], "little")


@pytest.mark.parametrize("name", PROFILES)
def test_a_kept_profile_loads_and_fits_itself(name):
    profile = load(name)
    assert HostProfile.model_validate_json(profile.model_dump_json()) == profile
    assert check_compat(profile, profile).findings == ()


def test_a_profile_of_before_loads_with_what_it_does_not_say():
    old = load("emulator-v1")
    assert (old.kernel_release, old.kvm_capabilities, old.memory, old.nested) == ("", None, None, None)
    assert not old.is_kvm


def test_the_captured_kvm_says_what_was_asked_of_it():
    profile = load("kvm-pvm-linux-6.18")
    assert profile.kernel_version == (6, 18)
    assert (profile.smm, profile.smm_carriers, profile.event_flags) == (False, (), 0x3F)
    assert (profile.xcr0_mask, profile.mxcsr_mask, profile.clock_flags) == (0xE7, 0x2FFFF, 0xE)
    assert {0x1B, 0xC0000080, 0xC0000100} <= set(profile.msrs_unlisted)
    assert not {0x1B, 0xC0000080, 0xC0000100} & set(profile.msr_indices)
    assert "nested_state" not in profile.vcpu_sections
    assert "tsc_offset" in profile.vcpu_sections


def test_a_machine_in_smm_may_go_from_linux_6_1_to_6_12_and_not_unasked_back(lab, make_machine, make_host):
    head, flags = lab
    new = make_host({"kernel_release": head["kernel"], "smm": bool(head["smm"]), "event_flags": flags | 2})
    assert (new.kernel_version, new.event_flags) == ((6, 12), 0x3F)
    old = make_host({"kernel_release": "6.1.0-56-amd64", "smm_carriers": ()})
    under_shadow = {"smm": True, "event_flags": 0x7D, "events_in_use": 0x48, "shadow": 0x30}
    forward, back = (check_compat(make_machine(under_shadow), host) for host in (new, old))
    assert forward.verdict is Verdict.TRANSLATED
    assert back.verdict is Verdict.IMPOSSIBLE
    assert [finding.rule for finding in back.findings] == ["CMP-010"]
    # A kernel says no more than 0x3D: whether the save area holds a shadow, the events do not tell.
    unsaid = check_compat(make_machine({"smm": True, "shadow_in_smram": True, "stream_version": None}), old)
    assert [finding.rule for finding in unsaid.findings] == ["CMP-602"]


def test_a_kernel_that_lists_fewer_msrs_takes_those_that_hold_nothing(make_machine, make_host):
    machine = make_machine({"msrs": (0x10, 0x9E, 0xDA0, 0x1C4), "msr_zero": "c"})
    report = check_compat(machine, make_host({"msr_indices": (0x10, 0x9E)}))
    assert report.verdict is Verdict.TRANSLATED
    assert "0xda0" in report.findings[0].message
    other_backend = make_host({"msr_indices": (0x10, 0x9E), "backends": ("emulator",), "msrs_unlisted": None})
    assert check_compat(machine, other_backend).verdict is Verdict.IMPOSSIBLE


def test_the_matrix_of_the_kept_profiles_is_exact_on_its_diagonal():
    found = matrix([load(name) for name in PROFILES])
    for place, row in enumerate(found.cells):
        assert row[place].verdict is Verdict.EXACT
    kvm, emulator = found.hosts.index("kvm-pvm-6.18"), found.hosts.index("emulator-v1")
    assert found.cells[kvm][emulator].verdict is Verdict.IMPOSSIBLE
    assert "CMP-006" in found.cells[emulator][kvm].rules


def test_smram_needs_linux_6_2():
    assert SmmCarrier.SMRAM not in load("kvm-pvm-linux-6.18").smm_carriers
