"""The shadow put aside on whole states: from any carrier to any other, and what that loses."""

from itertools import product

import pytest

from schemas.errors import FieldError, Severity
from schemas.shadow import LOSSES, SmmCarrier, best_carrier, carrier_shadow, convert_carrier, int_shadow_gpa
from schemas.uapi.cpuid2 import KvmCpuidEntry2
from schemas.uapi.nested_state import KvmNestedState, KvmNestedStateHdrSvm, KvmSvmNestedStateHdr
from schemas.uapi.vcpu_events import InterruptShadow

from .conftest import vendor_cpuid

NIBBLE, SMRAM, NESTED, SUBSTRUCT = SmmCarrier
GPA_64, GPA_32 = 0x30000 + 0xFECB, 0x30000 + 0xFF1A


def ids(findings):
    return [finding.rule for finding in findings]


@pytest.mark.parametrize(("source", "target", "masks"), list(product(SmmCarrier, SmmCarrier, range(4))))
def test_any_carrier_becomes_any_other_and_comes_back(aside, memory, source, target, masks):
    start = convert_carrier(aside(masks), source, memory)
    memory.apply(start.smram_writes)
    there = convert_carrier(start.state, target, memory, source=source)
    memory.apply(there.smram_writes)
    assert (start.losses, there.losses) == ((), ())
    assert carrier_shadow(there.state, target, memory) == masks
    back = convert_carrier(there.state, NIBBLE, memory, source=target)
    memory.apply(back.smram_writes)
    assert back.losses == ()
    assert back.state.to_sections() == aside(masks).to_sections()


@pytest.mark.parametrize("masks", [1, 2, 3])
@pytest.mark.parametrize("target", [SMRAM, NESTED, SUBSTRUCT])
def test_the_shadow_is_in_one_place_only(aside, memory, target, masks):
    moved = convert_carrier(aside(masks), target, memory)
    memory.apply(moved.smram_writes)
    events = moved.state.events
    assert (events.flags, events.interrupt.shadow.to_byte()) == (0x3D, 0), "no kernel takes the nibble"
    said = {carrier: carrier_shadow(moved.state, carrier, memory) for carrier in SmmCarrier}
    assert {carrier for carrier, held in said.items() if held} == {target}


@pytest.mark.parametrize(("long_mode", "gpa"), [(True, GPA_64), (False, GPA_32)])
def test_the_processors_long_mode_decides_which_byte(aside, changed, memory, long_mode, gpa):
    vcpu = changed(aside(2), {"cpuid2": vendor_cpuid("GenuineIntel", long_mode=long_mode)})
    assert int_shadow_gpa(vcpu) == gpa
    (write,) = convert_carrier(vcpu, SMRAM, memory).smram_writes
    assert write == (0, 1, gpa, b"\x02")
    assert write.as_json() == {"vcpu": 0, "as_id": 1, "gpa": f"{gpa:#x}", "data": "02"}


def test_smram_that_says_it_already_is_not_written(aside, memory):
    memory.bytes[1, GPA_64] = 2
    assert convert_carrier(aside(2), SMRAM, memory).smram_writes == ()
    memory.bytes[1, GPA_64] = 0xF2
    assert convert_carrier(aside(2), SMRAM, memory).smram_writes == (), "bits that are no shadow stay"


def test_other_bits_of_the_byte_stay_and_are_told(aside, memory):
    memory.bytes[1, GPA_64] = 0xF1
    done = convert_carrier(aside(2), SMRAM, memory)
    assert done.smram_writes[0].data == b"\xf2"
    assert "LOSS-009" in ids(done.notes)


def test_a_nested_state_made_for_the_shadow_goes_with_it_and_is_told(aside, changed):
    there = convert_carrier(aside(2), NESTED)
    assert ids(there.notes) == ["LOSS-014", "LOSS-012"]
    back = convert_carrier(there.state, SUBSTRUCT)
    assert (back.state.nested_state, ids(back.notes)) == (None, ["LOSS-014", "LOSS-012"])
    leaf_1 = KvmCpuidEntry2(function=1, index=0, flags=0, eax=0, ebx=0, ecx=1 << 5, edx=0)
    entries = (*there.state.cpuid2.entries, leaf_1)
    with_vmx = changed(there.state, {"cpuid2.nent": len(entries), "cpuid2.entries": entries})
    kept = convert_carrier(with_vmx, NIBBLE)
    assert (kept.state.nested_state.vmx.smm.flags, ids(kept.notes)) == (0, ["LOSS-012"])


def test_junk_behind_triple_fault_is_overwritten_only_with_a_word(aside, changed):
    junk = changed(aside(2), {"events.reserved": b"\xf1" + bytes(25)})
    assert ids(convert_carrier(junk, SMRAM).losses) == []
    done = convert_carrier(junk, SUBSTRUCT)
    assert (ids(done.losses), done.state.events.reserved[0]) == (["LOSS-015"], 2)


def test_smram_is_written_unseen_without_memory(aside):
    done = convert_carrier(aside(1), SMRAM)
    assert done.smram_writes == ((0, 1, GPA_64, b"\x01"),)
    assert done.losses == ()
    assert "LOSS-011" in ids(done.notes)


def test_smram_is_read_where_the_events_say_nothing(intel, memory):
    memory.bytes[1, GPA_64] = 2
    done = convert_carrier(intel, NIBBLE, memory)
    assert (done.state.events.flags, done.state.events.interrupt.shadow.to_byte()) == (0x7D, 0x20)
    assert (done.losses, ids(done.notes)) == ((), ["LOSS-012"])


def of_svm(changed, vcpu):
    nested = KvmNestedState(
        flags=0x100, format=1, size=128, hdr=KvmNestedStateHdrSvm(svm=KvmSvmNestedStateHdr(vmcb_pa=0))
    )
    return changed(vcpu, {"nested_state": nested})


def far(changed, vcpu):
    return changed(vcpu, {"msrs.entries.0.data": 0x70000000})


def without_smbase(changed, vcpu):
    return changed(vcpu, {"msrs.nmsrs": 2, "msrs.entries": vcpu.msrs.entries[1:]})


LOST = [
    # rule, target, what is done to the state
    ("LOSS-001", None, lambda _changed, vcpu: vcpu),
    ("LOSS-002", SMRAM, without_smbase),
    ("LOSS-003", SMRAM, far),
    ("LOSS-004", NESTED, of_svm),
    ("LOSS-004", NESTED, lambda changed, v: changed(v, {"cpuid2": vendor_cpuid("AuthenticAMD", long_mode=True)})),
]


@pytest.mark.parametrize(("rule", "target", "spoil"), LOST)
@pytest.mark.parametrize("masks", [1, 2, 3])
def test_what_a_target_cannot_say_is_a_loss(aside, changed, memory, rule, target, spoil, masks):
    done = convert_carrier(spoil(changed, aside(masks)), target, memory)
    assert ids(done.losses) == [rule]
    assert done.losses[0].severity is Severity.ERROR
    assert done.losses[0].where.startswith("vcpus.0.")
    assert done.loses_smm_shadow
    assert done.smram_writes == ()
    assert done.state.events.interrupt.shadow.to_byte() == 0


@pytest.mark.parametrize(("rule", "target", "spoil"), LOST)
def test_no_shadow_is_no_loss(aside, changed, memory, rule, target, spoil):
    done = convert_carrier(spoil(changed, aside(0)), target, memory)
    assert done.losses == ()
    assert (rule in ids(done.notes)) == (target is not None)


def test_a_map_without_smram_is_seen_without_memory(legal_machine, aside, changed):
    slots = tuple(slot for slot in legal_machine.memory.slots if slot.as_id == 0)
    bare = changed(legal_machine, {"memory.slots": slots, "vcpus.0": aside(2)})
    assert ids(convert_carrier(bare, SMRAM).losses) == ["LOSS-003"]


def test_a_machine_converts_vcpu_by_vcpu(legal_machine, aside, intel, changed):
    second = changed(intel, {"index": 1, "msrs.entries.0.data": 0x40000})
    third = changed(aside(1), {"index": 2, "msrs.entries.0.data": 0x50000})
    machine = legal_machine.model_copy(update={"vcpus": [aside(2), second, third]})
    done = convert_carrier(machine, SMRAM)
    assert [(write.vcpu, write.data) for write in done.smram_writes] == [(0, b"\x02"), (2, b"\x01")]
    assert ids(done.losses) == ["LOSS-007"], "nothing says what vCPU 1 put aside"
    assert done.losses[0].where.startswith("vcpus.1.")
    assert not done.loses_smm_shadow


def test_carriers_that_contradict_each_other_are_told_and_the_events_count(aside, memory):
    memory.bytes[1, GPA_64] = 1
    done = convert_carrier(aside(2), NIBBLE, memory)
    assert ids(done.losses) == ["LOSS-008"]
    assert done.state.events.interrupt.shadow.smm == 2
    named = convert_carrier(aside(2), NIBBLE, memory, source=SMRAM)
    assert named.state.events.interrupt.shadow.smm == 1


def test_a_target_without_carrier_leaves_the_byte_in_memory(aside, memory):
    memory.bytes[1, GPA_64] = 2
    done = convert_carrier(aside(2), None, memory)
    assert ids(done.losses) == ["LOSS-001"]
    assert ids(done.notes) == ["LOSS-013"]
    memory.bytes[1, GPA_64] = 0
    assert ids(convert_carrier(aside(2), None, memory, source=NIBBLE).notes) == []


@pytest.mark.parametrize("target", [SMRAM, SUBSTRUCT, NESTED, None])
def test_a_named_source_that_says_nothing_does_not_lose_the_events_in_silence(aside, target):
    done = convert_carrier(aside(2), target, source=SMRAM)
    assert [(finding.rule, finding.severity) for finding in done.losses] == [("LOSS-007", Severity.ERROR)]
    assert "the events say sti" in done.losses[0].message
    kept = convert_carrier(aside(2), NIBBLE, source=SMRAM)
    assert (ids(kept.losses), kept.state) == (["LOSS-007"], aside(2))
    assert kept.losses[0].severity is Severity.WARNING


def test_a_named_source_leaves_no_other_shadow_but_what_may_be_junk(aside, changed):
    in_nested = convert_carrier(aside(1), NESTED).state
    both = changed(aside(2), {"nested_state": in_nested.nested_state, "events.reserved": b"\3" + bytes(25)})
    done = convert_carrier(both, SMRAM, source=NIBBLE)
    assert carrier_shadow(done.state, NESTED) == 0
    assert ids(done.losses) == ["LOSS-008"]
    assert done.state.events.reserved[0] == 3
    assert done.smram_writes[0].data == b"\2"


@pytest.mark.parametrize(
    ("vendor", "masks", "rule"),
    [
        ("GenuineIntel", 3, "LOSS-005"),
        ("GenuineIntel", 2, None),
        ("AuthenticAMD", 2, "LOSS-006"),
        ("HygonGenuine", 1, "LOSS-006"),
        ("AuthenticAMD", 3, None),
        ("AuthenticAMD", 0, None),
        ("emulated", 3, None),
    ],
)
def test_vmx_and_svm_hold_shadows_differently(aside, changed, legal_vcpu, memory, vendor, masks, rule):
    wanted = [rule] if rule else []
    assert ids(convert_carrier(aside(masks), NIBBLE, memory, vendor=vendor).losses) == wanted
    running = changed(legal_vcpu, {"events.interrupt.shadow": InterruptShadow(current=masks, smm=0)})
    assert ids(convert_carrier(running, SMRAM, vendor=vendor).losses) == wanted


@pytest.mark.parametrize("target", [*SmmCarrier, None])
def test_outside_smm_nothing_was_put_aside(legal_vcpu, target):
    done = convert_carrier(legal_vcpu, target)
    assert (done.smram_writes, done.losses, done.notes) == ((), (), ())
    assert done.state.events.flags == (0x7D if target is NIBBLE else 0x3D)
    assert carrier_shadow(legal_vcpu, SMRAM) == 0


@pytest.mark.parametrize("flags", [0x3D, 0x7D])
def test_a_nibble_that_does_not_count_is_cleared_and_told(legal_vcpu, intel, changed, flags):
    shadow = InterruptShadow(current=1, smm=2)
    outside = convert_carrier(changed(legal_vcpu, {"events.interrupt.shadow": shadow, "events.flags": flags}), NIBBLE)
    assert ids(outside.losses) == ["LOSS-010"]
    assert outside.state.events.interrupt.shadow.to_byte() == 1
    unflagged = convert_carrier(changed(intel, {"events.interrupt.shadow": shadow}), NIBBLE)
    assert ids(unflagged.losses) == ["LOSS-010", "LOSS-007"]
    assert unflagged.state.events.interrupt.shadow.to_byte() == 1


def test_junk_in_the_nibble_is_refused(aside):
    with pytest.raises(FieldError, match="no interrupt shadow"):
        convert_carrier(aside(4), SMRAM)


def test_junk_in_reserved_is_no_shadow(intel, changed):
    junk = changed(intel, {"events.reserved": b"\xff" * 26})
    assert carrier_shadow(junk, SUBSTRUCT) is None
    done = convert_carrier(junk, NIBBLE)
    assert (ids(done.losses), done.state.events.reserved) == (["LOSS-007"], b"\xff" * 26)


@pytest.mark.parametrize(
    ("carriers", "flags", "version", "best"),
    [
        ((NIBBLE, SMRAM), 0x7F, 2, NIBBLE),
        ((NIBBLE, SMRAM), 0x3F, 2, SMRAM),
        ((NIBBLE, SMRAM), 0x7F, 1, SMRAM),
        ((SUBSTRUCT, NESTED), 0x7F, 2, SUBSTRUCT),
        ((NESTED,), 0x3F, 2, NESTED),
        ((NESTED,), 0x3F, 1, None),
        ((), 0x7F, 2, None),
    ],
)
def test_a_host_gets_the_best_carrier_that_it_speaks(carriers, flags, version, best):
    assert best_carrier(carriers, flags, version) is best


def test_a_conversion_has_a_json_form(aside):
    form = convert_carrier(aside(2), None).as_json()
    assert form["losses"][0]["rule"] == "LOSS-001"
    assert set(form) == {"smram_writes", "losses", "notes"}


def test_ids_of_losses_are_unique_and_ordered():
    found = [row.id for row in LOSSES]
    assert found == sorted(set(found))
