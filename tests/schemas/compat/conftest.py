"""A KVM host of which everything is known, and a machine that it holds exactly; tests change one thing at a time."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas.compat import HostProfile, LapicSupport, MachineSummary, MemorySupport, NestedSupport
from schemas.compat.summary import MsrValues, SlotNeeds, VcpuSummary
from schemas.shadow import SmmCarrier
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.msrs import KvmMsrs

AMD = {"ebx": 0x68747541, "ecx": 0x444D4163, "edx": 0x69746E65}
INDEXED = {0x4, 0x7, 0xB, 0xD, 0x12, 0x14, 0x1D, 0x1E, 0x1F, 0x24, 0x8000001D}

LEAVES: dict[tuple[int, int], dict[str, int]] = {
    (0x0, 0): {"eax": 0x1F, **AMD},
    (0x1, 0): {"eax": 0xA20F10, "ebx": 8 << 8, "ecx": 1 << 26 | 1 << 21, "edx": 0x078BFBFF},
    (0x7, 0): {"ebx": 1},
    (0xD, 0): {"eax": 7, "ebx": 832, "ecx": 832},
    (0xD, 1): {},
    (0xD, 2): {"eax": 256, "ebx": 576},
    (0x80000000, 0): {"eax": 0x80000022, **AMD},
    (0x80000001, 0): {"ecx": 1, "edx": 1 << 11 | 1 << 20 | 1 << 29},
    (0x80000008, 0): {"eax": 48 << 8 | 40},
}


def table(changes: dict[tuple[int, int], dict[str, int] | None]) -> KvmCpuid2:
    """Return the base table with registers replaced; None takes a leaf away."""
    leaves = {place: dict(registers) for place, registers in LEAVES.items()}
    for place, registers in changes.items():
        if registers is None:
            leaves.pop(place, None)
        else:
            leaves[place] = {**leaves.get(place, {}), **registers}
    entries = tuple(
        KvmCpuidEntry2(
            function=function,
            index=index,
            flags=int(function in INDEXED),
            **{"eax": 0, "ebx": 0, "ecx": 0, "edx": 0, **registers},
        )
        for (function, index), registers in leaves.items()
    )
    return KvmCpuid2(nent=len(entries), entries=entries)


MSRS = (0x10, 0x1B, 0x9E, 0xC0000080)


def machine_of(changes: dict[str, Any]) -> MachineSummary:
    """Return the base machine with changes: `cpuid`, `msrs` (list), `values` of MSRs, fields of vCPU 0 or the whole."""
    fields = dict(changes)
    vcpu = {
        "index": 0,
        "event_flags": 0x3D,
        "apic_base": 0xFEE00900,
        "efer": 0x500,
        "cr4": 1 << 5,
        "xcr0": 7,
        "xstate_bv": 7,
        "xsave_bytes": 4096,
        "xsave_used_bytes": 832,
        "mxcsr": 0x1F80,
        "tsc_khz": 2_000_000,
    }
    for name in list(fields):
        if name in VcpuSummary.model_fields:
            vcpu[name] = fields.pop(name)
    indices = tuple(fields.pop("msrs", MSRS))
    values = {0x10: 12345, 0x9E: 0x30000, **fields.pop("values", {})}
    return MachineSummary(
        **{
            "stream_version": 1,
            "ram_bytes": 1 << 20,
            "vm_sections": ("clock", "pic_master", "pic_slave"),
            "memory": SlotNeeds(slots=2, highest_slot=1, address_spaces=2, end=1 << 20),
            "clock_flags": 0xE,
            "cpuids": (table(fields.pop("cpuid", {})),),
            "section_lists": (tuple(fields.pop("sections", ("regs", "sregs", "events", "xsave", "msrs", "lapic"))),),
            "msr_lists": (tuple(dict.fromkeys((*indices, *values))),),
            "msr_values": (MsrValues(values=tuple(values.items())),),
            "vcpus": (VcpuSummary(**vcpu),),
            **fields,
        }
    )


HOST: dict[str, Any] = {
    "name": "host-b",
    "vendor": "AuthenticAMD",
    "backends": ("kvm",),
    "schema_versions": (1, 2),
    "stream_versions": (1,),
    "smm": True,
    "smm_carriers": (SmmCarrier.SMRAM,),
    "event_flags": 0x3F,
    "vcpu_sections": tuple(VCPU_SECTIONS),
    "vm_sections": tuple(VM_SECTIONS),
    "max_vcpus": 1024,
    "max_ram_bytes": 1 << 30,
    "msr_indices": (
        0x10,
        0x9E,
        0x122,
        0x345,
        0x3A,
        0x48,
        0x1C4,
        0xDA0,
        0x10A,
        0xC0010131,
        0xC0011029,
        *range(0x480, 0x493),
    ),
    "xcr0_mask": 7,
    "xsave_bytes": 4096,
    "tsc_khz_min": 1,
    "tsc_khz_max": 0x7FFFFFFF,
    "kernel_release": "6.12.107",
    "kvm_capabilities": {"KVM_CAP_X86_SMM": 1},
    "msrs_unlisted": (0x1B, 0x179, 0xC0000080),
    "feature_msrs": KvmMsrs.of({}),
    "mxcsr_mask": 0x2FFFF,
    "tsc_khz": 2_000_000,
    "tsc_scaling": True,
    "tsc_tolerance_ppm": 250,
    "clock_flags": 0xE,
    "nested": NestedSupport(svm=True, state_bytes=4224),
    "lapic": LapicSupport(x2apic_32bit_ids=True, tsc_deadline=True),
    "memory": MemorySupport(slots=32764, address_spaces=2, readonly=True),
    "max_vcpu_id": 4096,
    "mce_capabilities": 0x1000100,
    "mce_banks": 32,
    "xcr0_guest_permitted": 7,
}


def host_of(changes: dict[str, Any]) -> HostProfile:
    """Return the base host with fields replaced; `cpuid` changes registers, `features` are its feature MSRs."""
    fields = dict(changes)
    if "features" in fields:
        fields["feature_msrs"] = KvmMsrs.of(fields.pop("features"))
    cpuid = table(fields.pop("cpuid", {}))
    return HostProfile(**{**HOST, "cpuid": cpuid, **fields})


@pytest.fixture
def make_machine() -> Callable[[dict[str, Any]], MachineSummary]:
    return machine_of


@pytest.fixture
def make_host() -> Callable[[dict[str, Any]], HostProfile]:
    return host_of
