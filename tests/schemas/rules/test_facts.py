"""What rules look up: CPUID as the kernel answers it, MSRs as it writes them, addresses."""

import pytest

from schemas.rules.facts import CpuidBit, MachineFacts, VcpuFacts, is_canonical
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs


def facts(state, entries):
    blank = {"index": 0, "flags": 0, "eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
    made = tuple(KvmCpuidEntry2(**{**blank, **entry}) for entry in entries)
    return VcpuFacts(state.model_copy(update={"cpuid2": KvmCpuid2(nent=len(made), entries=made)}))


INDEXED = [{"function": 7, "flags": 1, "index": n, "ecx": n + 1} for n in (0, 1)]
PLAIN = {"function": 7, "ecx": 9}


@pytest.mark.parametrize(
    ("entries", "answers"),
    [
        (INDEXED, {0: 1, 1: 2, 2: None}),
        ([PLAIN], {0: 9, 1: 9}),
        ([PLAIN, *INDEXED], {0: 9, 1: 9}),
        ([INDEXED[0], PLAIN, INDEXED[1]], {0: 1, 1: 9, 2: 9}),
        ([*INDEXED, {**INDEXED[0], "ecx": 8}], {0: 1}),
        ([], {0: None}),
    ],
)
def test_a_leaf_is_the_first_entry_that_fits(entries, answers, bases):
    held = facts(bases["long"], entries)
    for subleaf, ecx in answers.items():
        leaf, kernel = held.leaf(7, subleaf), held.cpuid2.leaf(7, subleaf)
        assert (leaf and leaf.ecx) == (kernel and kernel.ecx) == ecx


@pytest.mark.parametrize(
    ("entries", "bits"),
    [
        ([], 36),
        ([{"function": 0x80000008, "eax": 0x3030}], 36),
        ([{"function": 0x80000000, "eax": 0x80000007}, {"function": 0x80000008, "eax": 0x3030}], 36),
        ([{"function": 0x80000000, "eax": 0x80000008}], 36),
        ([{"function": 0x80000000, "eax": 0x80000008}, {"function": 0x80000008, "eax": 0x3934}], 52),
    ],
)
def test_the_physical_width_is_what_the_kernel_takes_from_cpuid(entries, bits, bases):
    assert facts(bases["long"], entries).physical_bits == bits


def test_features_are_read_from_their_leaf_and_unknown_without_leaf_1(bases):
    held = facts(bases["long"], [{"function": 1, "ecx": 1 << 5}])
    assert held.features_known
    assert held.has(CpuidBit(1, 0, "ecx", 5, "VMX"))
    assert not held.has(CpuidBit(1, 0, "ecx", 6, "SMX"))
    assert not held.has(CpuidBit(7, 0, "ecx", 5, "none"))
    assert held.vendor is None
    assert not facts(bases["long"], []).features_known
    assert VcpuFacts(bases["long"]).vendor == "AuthenticAMD"


def test_of_an_msr_that_is_there_twice_the_last_value_counts(bases):
    entries = tuple(KvmMsrEntry(index=0x10, data=data) for data in (1, 2))
    state = bases["long"].model_copy(update={"msrs": KvmMsrs(nmsrs=2, entries=entries)})
    assert VcpuFacts(state).msr == {0x10: 2}


def test_a_machine_has_the_facts_of_each_vcpu(bases):
    held = MachineFacts(bases["machine"])
    assert [vcpu.state for vcpu in held.vcpus] == bases["machine"].vcpus
    assert held.vcpus[0].long_mode
    assert not held.vcpus[0].pae_paging


@pytest.mark.parametrize(
    ("address", "bits", "canonical"),
    [
        (0, 48, True),
        (0x7FFF_FFFF_FFFF, 48, True),
        (0x8000_0000_0000, 48, False),
        (0xFFFF_8000_0000_0000, 48, True),
        (0xFFFF_7FFF_FFFF_FFFF, 48, False),
        (0xFF00_0000_0000_0000, 57, True),
        (0xFF00_0000_0000_0000, 48, False),
        ((1 << 64) - 1, 48, True),
    ],
)
def test_canonical_addresses(address, bits, canonical):
    assert is_canonical(address, bits) is canonical
