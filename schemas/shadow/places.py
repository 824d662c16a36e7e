"""Where each carrier keeps its number in the state of a vCPU: read it, put it, take it out.

A reading is the shadow (0-3), or None where the carrier says nothing: its flag is clear, its section is missing, or
the memory that holds it is not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ..memory import AS_SMM
from ..state import VcpuState
from ..uapi.nested_state import (
    NESTED_STATE_HEADER_BYTES,
    VMX_NO_ADDRESS,
    KvmNestedState,
    KvmNestedStateHdrVmx,
    KvmVmxNestedStateHdr,
    NestedFormat,
)
from ..uapi.vcpu_events import SHADOW_MASKS, KvmVcpuEvents, VcpuEventFlags
from .carriers import (
    KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING,
    KVM_STATE_NESTED_SMM_STI_BLOCKING,
    SMRAM_INT_SHADOW_32,
    SMRAM_INT_SHADOW_64,
    SmmCarrier,
    decode,
    encode,
)
from .events import for_stock_kernel, with_smm_shadow

MSR_IA32_SMBASE = 0x9E
_CPUID_LM_LEAF, _CPUID_LM_EDX = 0x8000_0001, 1 << 29
_CPUID_VMX_ECX = 1 << 5
_NESTED_BITS = KVM_STATE_NESTED_SMM_STI_BLOCKING | KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING

VMX_VENDORS = frozenset({"GenuineIntel", "CentaurHauls", "  Shanghai  "})
SVM_VENDORS = frozenset({"AuthenticAMD", "HygonGenuine"})
"""CPUID vendors by the virtualisation that KVM uses on them. Source: Linux 6.12 vmx_init, kvm_is_svm_supported."""


class SmramAccess(Protocol):
    """Guest memory as a vCPU sees it; what holds it is the caller's business."""

    def read(self, as_id: int, gpa: int, size: int) -> bytes:
        """Return `size` bytes of address space `as_id` from `gpa` on.

        Raises:
            LookupError: a byte of them belongs to no memory slot.
        """


class Reading(NamedTuple):
    """What a carrier says: `masks` is the shadow or None, `junk` are bits beside it that no shadow has."""

    masks: int | None
    junk: int = 0


_NOTHING = Reading(None)


def in_smm(events: KvmVcpuEvents) -> bool:
    """Return whether the vCPU is in System Management Mode."""
    return events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM) and events.smi.smm != 0


def int_shadow_gpa(vcpu: VcpuState) -> int | None:
    """Return where SMRAM holds the shadow, in address space 1, or None if the state does not tell SMBASE.

    Which map: bit 29 of CPUID 0x80000001 EDX, whatever mode the vCPU is in.
    Source: Linux 6.12 arch/x86/kvm/smm.c enter_smm.
    """
    smbase = vcpu.msrs.values_by_index().get(MSR_IA32_SMBASE)
    if smbase is None:
        return None
    leaf = vcpu.cpuid2.leaf(_CPUID_LM_LEAF)
    long_mode = leaf is not None and leaf.edx & _CPUID_LM_EDX
    return smbase + (SMRAM_INT_SHADOW_64 if long_mode else SMRAM_INT_SHADOW_32) & 0xFFFFFFFF


def _read_events(vcpu: VcpuState, _memory: SmramAccess | None) -> Reading:
    if not vcpu.events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW):
        return _NOTHING
    return Reading(decode(vcpu.events.interrupt.shadow.smm << 4, SmmCarrier.EVENTS_NIBBLE))


def _read_smram(vcpu: VcpuState, memory: SmramAccess | None) -> Reading:
    gpa = int_shadow_gpa(vcpu)
    if memory is None or gpa is None:
        return _NOTHING
    try:
        byte = memory.read(AS_SMM, gpa, 1)[0]
    except LookupError:
        return _NOTHING
    return Reading(byte & SHADOW_MASKS, byte & ~SHADOW_MASKS)


def _read_nested(vcpu: VcpuState, _memory: SmramAccess | None) -> Reading:
    vmx = vcpu.nested_state.vmx if vcpu.nested_state is not None else None
    return _NOTHING if vmx is None else Reading(decode(vmx.smm.flags & _NESTED_BITS, SmmCarrier.NESTED_FLAGS))


def _read_substruct(vcpu: VcpuState, _memory: SmramAccess | None) -> Reading:
    """Junk in `reserved` is legal, the kernel ignores it: it is no carrier's number."""
    byte = vcpu.events.reserved[0]
    return _NOTHING if byte & ~SHADOW_MASKS else Reading(byte)


_READ: Mapping[SmmCarrier, Callable[[VcpuState, SmramAccess | None], Reading]] = {
    SmmCarrier.EVENTS_NIBBLE: _read_events,
    SmmCarrier.SMRAM: _read_smram,
    SmmCarrier.NESTED_FLAGS: _read_nested,
    SmmCarrier.SMI_SUBSTRUCT: _read_substruct,
}


def read_place(vcpu: VcpuState, carrier: SmmCarrier, memory: SmramAccess | None) -> Reading:
    """Return what a carrier says of the shadow put aside.

    Raises:
        FieldError: the nibble of the events holds bits that no shadow has.
    """
    return _READ[carrier](vcpu, memory)


def _put_events(vcpu: VcpuState, masks: int) -> VcpuState:
    return vcpu.model_copy(update={"events": with_smm_shadow(vcpu.events, masks)})


def _put_nested(vcpu: VcpuState, masks: int) -> VcpuState:
    nested = vcpu.nested_state or _no_vmx_operation()
    if not isinstance(nested.hdr, KvmNestedStateHdrVmx):
        return vcpu
    flags = nested.hdr.vmx.smm.flags & ~_NESTED_BITS | encode(masks, SmmCarrier.NESTED_FLAGS)
    vmx = nested.hdr.vmx.model_copy(update={"smm": nested.hdr.vmx.smm.model_copy(update={"flags": flags})})
    hdr = nested.hdr.model_copy(update={"vmx": vmx})
    return vcpu.model_copy(update={"nested_state": nested.model_copy(update={"hdr": hdr})})


def _no_vmx_operation() -> KvmNestedState:
    """Return what KVM_GET_NESTED_STATE says of a VMX vCPU that has not done VMXON."""
    return KvmNestedState(
        flags=0,
        format=NestedFormat.KVM_STATE_NESTED_FORMAT_VMX,
        size=NESTED_STATE_HEADER_BYTES,
        hdr=KvmNestedStateHdrVmx(vmx=KvmVmxNestedStateHdr(vmxon_pa=VMX_NO_ADDRESS, vmcs12_pa=VMX_NO_ADDRESS)),
    )


def _put_substruct(vcpu: VcpuState, masks: int) -> VcpuState:
    reserved = bytes([encode(masks, SmmCarrier.SMI_SUBSTRUCT)]) + vcpu.events.reserved[1:]
    return vcpu.model_copy(update={"events": vcpu.events.model_copy(update={"reserved": reserved})})


_PUT: Mapping[SmmCarrier, Callable[[VcpuState, int], VcpuState]] = {
    SmmCarrier.EVENTS_NIBBLE: _put_events,
    SmmCarrier.NESTED_FLAGS: _put_nested,
    SmmCarrier.SMI_SUBSTRUCT: _put_substruct,
}


def put_place(vcpu: VcpuState, carrier: SmmCarrier, masks: int) -> VcpuState:
    """Return the vCPU with the shadow in a carrier of its state; SMRAM is none, it is memory."""
    return _PUT[carrier](vcpu, masks)


def clear_place(vcpu: VcpuState, carrier: SmmCarrier) -> VcpuState:
    """Return the vCPU with nothing in a carrier. SMRAM stays: it is the guest's memory."""
    if carrier is SmmCarrier.EVENTS_NIBBLE:
        return vcpu.model_copy(update={"events": for_stock_kernel(vcpu.events)})
    if carrier is SmmCarrier.SMRAM or not read_place(vcpu, carrier, None).masks:
        return vcpu
    return _PUT[carrier](vcpu, 0)


def says_no_vmx(vcpu: VcpuState) -> bool:
    """Return whether nested state tells of a vCPU outside VMX operation whose guest has no VMX: that it says nothing.

    Source: Linux 6.12 vmx_get_nested_state; CPUID 1 ECX bit 5 is VMX.
    """
    leaf = vcpu.cpuid2.leaf(1)
    guest_has_vmx = leaf is not None and leaf.ecx & _CPUID_VMX_ECX
    return not guest_has_vmx and vcpu.nested_state == _no_vmx_operation()


def has_nested_flags(vcpu: VcpuState) -> bool:
    """Return whether the vCPU's nested state is of the VMX format, or would be if it had one."""
    if vcpu.nested_state is not None:
        return vcpu.nested_state.vmx is not None
    return vcpu.cpuid2.vendor in VMX_VENDORS
