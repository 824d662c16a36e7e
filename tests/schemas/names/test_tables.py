"""The other tables of names: whole, without doubles, and in step with the enums of the user API."""

import pytest

from schemas.kvm_numbers import KvmExit
from schemas.names.apic import APIC_REGISTERS, TIMER_DIVISORS
from schemas.names.bits import REGISTERS
from schemas.names.cpuid import FEATURE_WORDS, LEAVES, feature_place, feature_word
from schemas.names.exits import EXIT_REASONS, exit_reason_name
from schemas.names.mp_states import MP_STATES, mp_state_name
from schemas.names.segments import CODE_DATA_TYPES, SEGMENT_NAMES, SYSTEM_TYPES, segment_type
from schemas.names.smram import SMRAM_32, SMRAM_64, SMRAM_AREA_BYTES, SMRAM_AREA_OFFSET
from schemas.names.vectors import VECTORS, vector_name
from schemas.names.xsave import XSAVE_COMPONENTS, component_name
from schemas.shadow import SMRAM_INT_SHADOW_32, SMRAM_INT_SHADOW_64
from schemas.uapi.mp_state import MpState
from schemas.uapi.sregs import SpecialRegisters
from schemas.uapi.vcpu_events import ShadowMask


@pytest.mark.parametrize("word", FEATURE_WORDS, ids=lambda word: word.place)
def test_a_feature_word_is_whole(word) -> None:
    assert all(0 <= bit < 32 for bit in word.names)
    assert len(set(word.names.values())) == len(word.names)
    assert word.function in LEAVES
    assert feature_word(word.function, word.subleaf, word.register) is word


def test_feature_words_are_there_once() -> None:
    places = [(word.function, word.subleaf, word.register) for word in FEATURE_WORDS]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("name", "place", "bit"),
    [("avx2", "CPUID 0x7.0 EBX", 5), ("LM", "CPUID 0x80000001.0 EDX", 29),
    ("invariant_tsc", "CPUID 0x80000007.0 EDX", 8),
     ("xsaves", "CPUID 0xd.1 EAX", 3), ("svm", "CPUID 0x80000001.0 ECX", 2),
     ("kvm_pv_eoi", "CPUID 0x40000001.0 EAX", 6)],
)  # fmt: skip
def test_a_feature_is_found_by_name(name: str, place: str, bit: int) -> None:
    word, found = feature_place(name)
    assert (word.place, found) == (place, bit)


def test_a_feature_without_a_name_is_told_by_its_bit() -> None:
    assert list(feature_word(1, 0, "edx").features(1 << 10 | 1)) == ["fpu", "bit 10"]
    assert feature_place("nope") is None


def test_mp_states_are_those_of_the_enum() -> None:
    assert {state.value: state.name for state in MpState}.items() <= {
        n: name for n, (name, _) in MP_STATES.items()
    }.items()
    assert (mp_state_name(3), mp_state_name(77)) == ("KVM_MP_STATE_HALTED", "0x4d")


def test_exit_reasons_are_those_of_the_enum() -> None:
    assert {reason.value: reason.name for reason in KvmExit} == {n: name for n, (name, _) in EXIT_REASONS.items()}
    assert (exit_reason_name(8), exit_reason_name(999)) == ("KVM_EXIT_SHUTDOWN", "999")


def test_vectors_are_there_once_and_decode_their_codes() -> None:
    numbers = [row.number for row in VECTORS]
    assert len(set(numbers)) == len(numbers)
    for row in VECTORS:
        assert row.error_code in (None, "zero", "code") or row.error_code in REGISTERS
    assert (vector_name(14), vector_name(0x33)) == ("#PF", "vector 0x33")


def test_segment_types() -> None:
    assert len(CODE_DATA_TYPES) == len(SYSTEM_TYPES) == 16
    assert segment_type(1, 11) == "code r- accessed"
    assert segment_type(0, 11) == "TSS busy"
    assert segment_type(1, 0x40) == "type 0x40"
    assert all(name in SpecialRegisters.model_fields for name in SEGMENT_NAMES)


def test_apic_registers_are_apart() -> None:
    offsets = [row.offset for row in APIC_REGISTERS]
    assert offsets == sorted(set(offsets))
    assert all(offset % 16 == 0 and 0 <= offset < 0x400 for offset in offsets)
    assert {row.bits for row in APIC_REGISTERS if row.bits} <= set(REGISTERS)
    assert sorted(TIMER_DIVISORS.values()) == [1, 2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("fields", [SMRAM_32, SMRAM_64], ids=["32", "64"])
def test_smram_fields_are_apart_and_inside(fields) -> None:
    at = SMRAM_AREA_OFFSET
    for field in sorted(fields, key=lambda field: field.offset):
        assert field.offset >= at, f"{field.name} overlaps"
        at = field.offset + field.size
    assert at <= SMRAM_AREA_OFFSET + SMRAM_AREA_BYTES
    assert len({field.name for field in fields}) == len(fields)


def test_the_maps_agree_with_the_carriers() -> None:
    assert next(f.offset for f in SMRAM_32 if f.name == "int_shadow") == SMRAM_INT_SHADOW_32
    assert next(f.offset for f in SMRAM_64 if f.name == "int_shadow") == SMRAM_INT_SHADOW_64
    bits = {field.name: field.mask for field in REGISTERS["int_shadow"].fields}
    assert bits == {mask.name.removeprefix("KVM_X86_SHADOW_INT_"): mask.value for mask in ShadowMask}


def test_the_maps_agree_with_the_emulators() -> None:
    """Two tables of the same maps: the emulator's core may not import this one."""
    from emulator.smm.layout import SAVE_AREA_32, SAVE_AREA_64

    for ours, area in ((SMRAM_32, SAVE_AREA_32), (SMRAM_64, SAVE_AREA_64)):
        known = {(field.offset, field.size, field.name) for field in ours}
        assert {tuple(field) for field in area.fields} <= known


def test_components_without_a_name() -> None:
    assert (component_name(2), component_name(40)) == ("YMM", "component 40")
    assert len({row.bit for row in XSAVE_COMPONENTS}) == len(XSAVE_COMPONENTS)
