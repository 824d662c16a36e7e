"""What single parts of a vCPU's state need of a host, as numbers that fit a summary."""

from __future__ import annotations

from ..layout import U16, U32
from ..model import Model
from ..state import VcpuState
from ..uapi.nested_state import VMX_NO_ADDRESS, KvmNestedState, NestedFlags, NestedFormat
from ..uapi.vcpu_events import KvmVcpuEvents
from .cpuid_view import CpuidView

CHECKED_MSRS = frozenset({
    0x10, 0x3A, 0x48, 0x9E, 0x10A, 0x122, 0x179, 0x1C4, 0x345, *range(0x480, 0x493), 0xDA0,
    0xC0010131, 0xC0011029, 0xC0000080,
})  # fmt: skip
"""MSRs of which the value decides: TSC, FEATURE_CONTROL, SPEC_CTRL, SMBASE, ARCH_CAPABILITIES, TSX_CTRL, MCG_CAP, XFD,
PERF_CAPABILITIES, the VMX capabilities, XSS, SEV_STATUS, DE_CFG, EFER."""

LEGACY_XSAVE_BYTES = 576
"""Legacy area and header. Source: SDM vol. 1 13.4."""


class NestedNeeds(Model):
    """What a kvm_nested_state needs of a host."""

    format: U16
    flags: U16
    state_bytes: U32
    active: bool
    """It says something that a fresh vCPU does not have."""
    vmx_smm_flags: U16 = 0
    vmx_flags: U32 = 0
    gpat: bool = False
    """The SVM header holds the guest's PAT."""


def nested_needs(nested: KvmNestedState | None) -> NestedNeeds | None:
    """Return what a nested state needs; None: the vCPU has none."""
    if nested is None:
        return None
    vmx, svm = nested.vmx, nested.svm
    return NestedNeeds(
        format=nested.format,
        flags=nested.flags,
        state_bytes=KvmNestedState.SIZE + len(nested.data),
        active=_active(nested),
        vmx_smm_flags=vmx.smm.flags if vmx else 0,
        vmx_flags=vmx.flags if vmx else 0,
        gpat=bool(svm and svm.gpat),
    )


def _active(nested: KvmNestedState) -> bool:
    """A fresh vCPU has no VMXON region (VMX), or GIF set and nothing else (SVM)."""
    if nested.format == NestedFormat.KVM_STATE_NESTED_FORMAT_SVM:
        return bool(nested.flags & ~NestedFlags.KVM_STATE_NESTED_GIF_SET) or not (
            nested.flags & NestedFlags.KVM_STATE_NESTED_GIF_SET
        )
    if nested.vmx is None:
        return True
    return bool(nested.flags) or nested.vmx.vmxon_pa != VMX_NO_ADDRESS or bool(nested.vmx.smm.flags)


def events_in_use(events: KvmVcpuEvents) -> int:
    """Return the mask of event flags whose fields hold something; the others can be cleared without loss."""
    held = events.normalised()
    shadow = held.interrupt.shadow
    return (
        (held.nmi.pending != 0) * 0x01
        | (held.sipi_vector != 0) * 0x02
        | (shadow.current != 0) * 0x04
        | any(held.smi.pack()) * 0x08
        | (held.exception.pending != 0) * 0x10
        | (held.triple_fault.pending != 0) * 0x20
        | (shadow.smm != 0) * 0x40
    )


def xsave_used_bytes(vcpu: VcpuState) -> int:
    """Return where the last component of XSTATE_BV ends, in bytes; components that CPUID does not place count fully."""
    used, end = vcpu.xsave.xstate_bv, LEGACY_XSAVE_BYTES
    components = CpuidView(vcpu.cpuid2).components
    for number in range(2, 63):
        if used >> number & 1:
            if number not in components:
                return len(vcpu.xsave.region) + len(vcpu.xsave.extra)
            size, offset, _ = components[number]
            end = max(end, offset + size)
    return end
