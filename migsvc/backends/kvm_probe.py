"""What the KVM of this machine can hold, asked of /dev/kvm; a VM and a vCPU are made for it and thrown away.

Nothing is enabled, nothing runs. A host that lacks a part (no irqchip, no XSAVE2, an old kernel) gives a profile that
says so; only without a usable /dev/kvm there is none.
Source: Linux 6.12 Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from migsvc.backends.kvm_device import KVM_GET_SUPPORTED_HV_CPUID, KvmDevice, read_parameter
from migsvc.errors import InputError
from schemas.compat import HostProfile, LapicSupport, MemorySupport, NestedSupport
from schemas.compat.profile import BACKEND_KVM
from schemas.compat.rules.msrs import UNLISTED
from schemas.kvm_numbers import KVM_API_VERSION, KvmCap, KvmIoctl
from schemas.memory import MAX_RAM_BYTES
from schemas.shadow import SmmCarrier
from schemas.uapi import SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2
from schemas.uapi.msrs import KvmMsrs
from schemas.uapi.vcpu_events import VcpuEventFlags
from schemas.versions import SUPPORTED_SCHEMA_VERSIONS

DEVICE = "/dev/kvm"
SMRAM_SINCE = (6, 2)
"""The kernel from which on RSM brings back the shadow. Source: Linux 6.2 commit fb28875fd7da."""

_ABSURD_MSR = 0x12345678
"""No MSR: a KVM that reads it has ignore_msrs set, and what can be read says nothing."""
_MCG_CAP = 0x179
"""Set by KVM_X86_SETUP_MCE."""
_XCOMP_GUEST_SUPP = 0
_TSC_CTRL, _TSC_OFFSET = 0, 0
_SVM, _VMX = (0x80000001, "ecx", 2), (1, "ecx", 5)
_MAX_TSC_KHZ = 0x7FFFFFFF


def kvm_profile(name: str = "", device: str = DEVICE, stream_versions: Iterable[int] = (1,)) -> HostProfile:
    """Return what the KVM behind a device can hold; `name` is the host's.

    Raises:
        InputError: there is no such device, it may not be opened, or it is not KVM.
    """
    with ExitStack() as stack:
        kvm = stack.enter_context(KvmDevice.open(device))
        if (version := kvm.call(KvmIoctl.KVM_GET_API_VERSION)) != KVM_API_VERSION:
            raise InputError(f"{device} speaks version {version} of the KVM API, expected {KVM_API_VERSION}")
        vm = stack.enter_context(kvm.create(KvmIoctl.KVM_CREATE_VM))
        irqchip = vm.works(KvmIoctl.KVM_CREATE_IRQCHIP)
        vcpu = stack.enter_context(vm.create(KvmIoctl.KVM_CREATE_VCPU))
        return _profile(kvm, vm, vcpu, name, irqchip, tuple(stream_versions))


def _profile(
    kvm: KvmDevice, vm: KvmDevice, vcpu: KvmDevice, name: str, irqchip: bool, streams: tuple[int, ...]
) -> HostProfile:
    """Put the answers together; the vCPU gets all the features that KVM supports, so that its MSRs are there."""
    release = os.uname().release
    cpuid = kvm.cpuid(KvmIoctl.KVM_GET_SUPPORTED_CPUID)
    vcpu.exchange(KvmIoctl.KVM_SET_CPUID2, cpuid.pack())
    caps = capabilities(vm)
    smm = bool(caps.get("KVM_CAP_X86_SMM"))
    return HostProfile(
        name=name,
        vendor=cpuid.vendor or "",
        backends=(BACKEND_KVM,),
        schema_versions=SUPPORTED_SCHEMA_VERSIONS,
        stream_versions=streams,
        smm=smm,
        smm_carriers=(SmmCarrier.SMRAM,) if smm and _release(release) >= SMRAM_SINCE else (),
        event_flags=_event_flags(caps),
        vcpu_sections=_sections("vcpu", caps, vcpu.has_attribute(_TSC_CTRL, _TSC_OFFSET)),
        vm_sections=_sections("vm", caps),
        max_vcpus=caps.get("KVM_CAP_MAX_VCPUS") or caps.get("KVM_CAP_NR_VCPUS") or 4,
        max_ram_bytes=MAX_RAM_BYTES,
        cpuid=cpuid,
        kernel_release=release,
        kvm_capabilities=caps,
        **_msrs(kvm, vcpu),
        **_xsave(kvm, vm, vcpu, cpuid),
        **_time(vcpu, caps),
        nested=_nested(caps, cpuid),
        lapic=_lapic(caps, irqchip),
        memory=MemorySupport(
            slots=caps.get("KVM_CAP_NR_MEMSLOTS") or 32,
            address_spaces=caps.get("KVM_CAP_MULTI_ADDRESS_SPACE") or 1,
            readonly=bool(caps.get("KVM_CAP_READONLY_MEM")),
        ),
        max_vcpu_id=caps.get("KVM_CAP_MAX_VCPU_ID"),
        hyperv_cpuid=kvm.cpuid_or_none(KVM_GET_SUPPORTED_HV_CPUID) or vcpu.cpuid_or_none(KVM_GET_SUPPORTED_HV_CPUID),
        mce_capabilities=kvm.u64(KvmIoctl.KVM_X86_GET_MCE_CAP_SUPPORTED),
        mce_banks=caps.get("KVM_CAP_MCE"),
    )


def capabilities(vm: KvmDevice) -> dict[str, int]:
    """Return the capabilities of a VM that are not 0, by name where it is known and by number beyond."""
    names = {int(cap): cap.name for cap in KvmCap}
    found = {}
    for number in range(max(names) + 64):
        value = vm.check(number)
        if value:
            found[names.get(number, str(number))] = value
    return found


def _release(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())


def _event_flags(caps: dict[str, int]) -> int:
    """The flags that every kernel takes, and those whose capability can be enabled on a VM."""
    flag = VcpuEventFlags
    always = (
        flag.KVM_VCPUEVENT_VALID_NMI_PENDING
        | flag.KVM_VCPUEVENT_VALID_SIPI_VECTOR
        | flag.KVM_VCPUEVENT_VALID_SHADOW
        | flag.KVM_VCPUEVENT_VALID_SMM
    )
    payload = flag.KVM_VCPUEVENT_VALID_PAYLOAD if caps.get("KVM_CAP_EXCEPTION_PAYLOAD") else 0
    triple = flag.KVM_VCPUEVENT_VALID_TRIPLE_FAULT if caps.get("KVM_CAP_X86_TRIPLE_FAULT_EVENT") else 0
    return int(always | payload | triple)


def _sections(scope: str, caps: dict[str, int], tsc_offset: bool = True) -> tuple[str, ...]:
    """The sections that an ioctl or an attribute reads and writes, and whose capability is there."""
    return tuple(
        row.name
        for row in SECTIONS
        if row.scope == scope
        and row.get_ioctl is not None
        and (row.capability is None or caps.get(row.capability.name))
        and (row.name != "tsc_offset" or tsc_offset)
    )


def _msrs(kvm: KvmDevice, vcpu: KvmDevice) -> dict[str, Any]:
    """Listed MSRs, those of the unlisted that are there, and the values of feature MSRs."""
    listed = kvm.indices(KvmIoctl.KVM_GET_MSR_INDEX_LIST)
    features = kvm.indices(KvmIoctl.KVM_GET_MSR_FEATURE_INDEX_LIST)
    values = {index: value for index in features if (value := kvm.msr(index)) is not None}
    found: dict[str, Any] = {"msr_indices": tuple(sorted(listed)), "feature_msrs": KvmMsrs.of(values)}
    if vcpu.msr(_ABSURD_MSR) is None:
        known = (UNLISTED | {_MCG_CAP}) - set(listed)
        found["msrs_unlisted"] = tuple(index for index in sorted(known) if vcpu.msr(index) is not None)
    return found


def _xsave(kvm: KvmDevice, vm: KvmDevice, vcpu: KvmDevice, cpuid: KvmCpuid2) -> dict[str, Any]:
    leaf = cpuid.leaf(0xD, 0)
    size = vm.check(KvmCap.KVM_CAP_XSAVE2)
    area = vcpu.read(KvmIoctl.KVM_GET_XSAVE, 4096)
    return {
        "xcr0_mask": leaf.eax | leaf.edx << 32 if leaf is not None else 0,
        "xsave_bytes": max(size, 4096),
        "mxcsr_mask": int.from_bytes(area[28:32], "little") or 0xFFBF,
        "xcr0_guest_permitted": kvm.attribute(_XCOMP_GUEST_SUPP),
    }


def _time(vcpu: KvmDevice, caps: dict[str, int]) -> dict[str, Any]:
    """The TSC's range: with scaling anything that KVM_SET_TSC_KHZ takes, else the host's own frequency."""
    khz = max(vcpu.call_or(KvmIoctl.KVM_GET_TSC_KHZ, 0), 0)
    scaling = bool(caps.get("KVM_CAP_TSC_CONTROL"))
    return {
        "tsc_khz": khz or None,
        "tsc_scaling": scaling,
        "tsc_khz_min": 1 if scaling else khz,
        "tsc_khz_max": _MAX_TSC_KHZ if scaling else khz,
        "tsc_tolerance_ppm": read_parameter("tsc_tolerance_ppm"),
        "clock_flags": caps.get("KVM_CAP_ADJUST_CLOCK", 0) & 0xE,
    }


def _nested(caps: dict[str, int], cpuid: KvmCpuid2) -> NestedSupport:
    def shown(feature: tuple[int, str, int]) -> bool:
        leaf = cpuid.leaf(feature[0])
        return leaf is not None and bool(getattr(leaf, feature[1]) >> feature[2] & 1)

    size = caps.get("KVM_CAP_NESTED_STATE", 0)
    return NestedSupport(
        vmx=bool(size) and shown(_VMX),
        svm=bool(size) and shown(_SVM),
        state_bytes=size,
        evmcs=bool(caps.get("KVM_CAP_HYPERV_ENLIGHTENED_VMCS")),
    )


def _lapic(caps: dict[str, int], irqchip: bool) -> LapicSupport:
    return LapicSupport(
        in_kernel=irqchip or bool(caps.get("KVM_CAP_SPLIT_IRQCHIP")),
        x2apic_32bit_ids=bool(caps.get("KVM_CAP_X2APIC_API", 0) & 1),
        tsc_deadline=bool(caps.get("KVM_CAP_TSC_DEADLINE_TIMER")),
        bus_cycle_settable=bool(caps.get("KVM_CAP_X86_APIC_BUS_CYCLES_NS")),
    )
