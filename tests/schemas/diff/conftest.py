"""A vCPU and a machine with something in every section."""

import pytest

from schemas.state import MachineState, VcpuState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2


def entry(function, index=0, eax=0, ebx=0, ecx=0, edx=0):
    return KvmCpuidEntry2(function=function, index=index, flags=1, eax=eax, ebx=ebx, ecx=ecx, edx=edx)


@pytest.fixture
def vcpu(legal_vcpu, changed):
    """AVX2, the YMM component at 576, and every optional section."""
    leaves = (*legal_vcpu.cpuid2.entries, entry(7, ebx=0x20), entry(0xD, eax=7, ebx=832), entry(0xD, 2, 256, 576))
    made = changed(legal_vcpu, {"cpuid2": KvmCpuid2(nent=len(leaves), entries=leaves)})
    optional = {name: row.model.zero() for name, row in VCPU_SECTIONS.items() if getattr(made, name) is None}
    if "nested_state" in optional:
        optional["nested_state"] = changed(optional["nested_state"], {"size": 128})
    if "sregs2" in optional:
        optional["sregs2"] = VCPU_SECTIONS["sregs2"].model.unpack(made.sregs.pack()[:280] + bytes(40))
    return made.model_copy(update=optional)


@pytest.fixture
def machine(legal_machine, vcpu) -> MachineState:
    return legal_machine.model_copy(update={"vcpus": [vcpu, vcpu.model_copy(update={"index": 1})]})


def test_the_fixtures_have_every_section(machine: MachineState, vcpu: VcpuState):
    sections = machine.to_sections()
    assert set(sections.vm) == set(VM_SECTIONS)
    assert set(sections.vcpus[0]) == set(VCPU_SECTIONS)
