"""kvm_nested_state: what a vCPU that runs a hypervisor of its own (L1) has beyond its registers.

The header is a union that `format` selects; the body holds the guest hypervisor's control blocks as KVM cached them and
is carried, never decoded: a VMCS12 is private to KVM.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar

from ..layout import U16, U32, U64, CBytes, CFlexBytes, CStruct, CUnion, NotInC

KVM_STATE_NESTED_VMX_VMCS_SIZE = 0x1000
KVM_STATE_NESTED_SVM_VMCB_SIZE = 0x1000
NESTED_STATE_HEADER_BYTES = 128
NESTED_STATE_MAX_DATA_BYTES = 2 * KVM_STATE_NESTED_VMX_VMCS_SIZE
"""A VMCS12 and its shadow, the largest body there is. Source: Linux 6.12 vmx_get_nested_state."""
VMX_NO_ADDRESS = 0xFFFF_FFFF_FFFF_FFFF
"""vmxon_pa and vmcs12_pa where there is no VMXON region and no current VMCS."""


class NestedFormat(IntEnum):
    """kvm_nested_state.format."""

    KVM_STATE_NESTED_FORMAT_VMX = 0
    KVM_STATE_NESTED_FORMAT_SVM = 1


class NestedFlags(IntFlag):
    """kvm_nested_state.flags; any other bit is refused by KVM_SET_NESTED_STATE."""

    KVM_STATE_NESTED_GUEST_MODE = 0x0001
    KVM_STATE_NESTED_RUN_PENDING = 0x0002
    KVM_STATE_NESTED_EVMCS = 0x0004
    KVM_STATE_NESTED_MTF_PENDING = 0x0008
    KVM_STATE_NESTED_GIF_SET = 0x0100


class NestedSmmFlags(IntFlag):
    """hdr.vmx.smm.flags: what RSM brings back, because SMM leaves VMX operation."""

    KVM_STATE_NESTED_SMM_GUEST_MODE = 0x0001
    KVM_STATE_NESTED_SMM_VMXON = 0x0002


class NestedVmxFlags(IntFlag):
    """hdr.vmx.flags."""

    KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE = 0x0001


class KvmVmxNestedStateSmm(CStruct):
    """kvm_vmx_nested_state_hdr.smm."""

    SIZE: ClassVar[int] = 2

    flags: U16 = 0


class KvmVmxNestedStateHdr(CStruct):
    """struct kvm_vmx_nested_state_hdr; the deadline in TSC units, valid with its bit in `flags`."""

    C_NAME: ClassVar[str | None] = "kvm_vmx_nested_state_hdr"
    SIZE: ClassVar[int] = 32

    vmxon_pa: U64
    vmcs12_pa: U64
    smm: KvmVmxNestedStateSmm = KvmVmxNestedStateSmm.model_construct(flags=0)
    pad: U16 = 0
    flags: U32 = 0
    preemption_timer_deadline: U64 = 0


class KvmSvmNestedStateHdr(CStruct):
    """struct kvm_svm_nested_state_hdr; `gpat` is in the headers of Linux 7.3, earlier ones have padding there."""

    C_NAME: ClassVar[str | None] = "kvm_svm_nested_state_hdr"
    SIZE: ClassVar[int] = 16

    vmcb_pa: U64
    gpat: U64 = 0


class KvmNestedStateHdrVmx(CStruct):
    """The union kvm_nested_state.hdr, seen as VMX; the rest of its 120 bytes is carried as it is."""

    SIZE: ClassVar[int] = 120

    vmx: KvmVmxNestedStateHdr
    vmx_rest: Annotated[bytes, CBytes(88), NotInC()] = bytes(88)


class KvmNestedStateHdrSvm(CStruct):
    """The union kvm_nested_state.hdr, seen as SVM; the rest of its 120 bytes is carried as it is."""

    SIZE: ClassVar[int] = 120

    svm: KvmSvmNestedStateHdr
    svm_rest: Annotated[bytes, CBytes(104), NotInC()] = bytes(104)


class KvmNestedStateHdrPad(CStruct):
    """The union kvm_nested_state.hdr of a format that is unknown here."""

    SIZE: ClassVar[int] = 120

    pad: Annotated[bytes, CBytes(120)]


class KvmVmxNestedStateData(CStruct):
    """struct kvm_vmx_nested_state_data: a body of the VMX format at its full size."""

    C_NAME: ClassVar[str | None] = "kvm_vmx_nested_state_data"
    SIZE: ClassVar[int] = 8192

    vmcs12: Annotated[bytes, CBytes(KVM_STATE_NESTED_VMX_VMCS_SIZE)]
    shadow_vmcs12: Annotated[bytes, CBytes(KVM_STATE_NESTED_VMX_VMCS_SIZE)]


class KvmSvmNestedStateData(CStruct):
    """struct kvm_svm_nested_state_data: a body of the SVM format."""

    C_NAME: ClassVar[str | None] = "kvm_svm_nested_state_data"
    SIZE: ClassVar[int] = 4096

    vmcb12: Annotated[bytes, CBytes(KVM_STATE_NESTED_SVM_VMCB_SIZE)]


class KvmNestedState(CStruct):
    """struct kvm_nested_state; `size` counts header and body in bytes, whatever of `data` KVM uses.

    Raises:
        LayoutError: (from `unpack`) the body is no whole number of 4096-byte blocks, or more than two.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; vmx_set_nested_state, svm_set_nested_state; api.rst 4.114.
    """

    C_NAME: ClassVar[str | None] = "kvm_nested_state"
    SIZE: ClassVar[int] = NESTED_STATE_HEADER_BYTES

    flags: U16
    format: U16
    size: U32
    hdr: Annotated[
        KvmNestedStateHdrVmx | KvmNestedStateHdrSvm | KvmNestedStateHdrPad,
        CUnion(
            "format",
            (
                (NestedFormat.KVM_STATE_NESTED_FORMAT_VMX, KvmNestedStateHdrVmx),
                (NestedFormat.KVM_STATE_NESTED_FORMAT_SVM, KvmNestedStateHdrSvm),
            ),
            KvmNestedStateHdrPad,
        ),
    ]
    data: Annotated[bytes, CFlexBytes(NESTED_STATE_MAX_DATA_BYTES, granule=4096)] = b""

    @property
    def vmx(self) -> KvmVmxNestedStateHdr | None:
        """Return the header of the VMX format, or None for another."""
        return self.hdr.vmx if isinstance(self.hdr, KvmNestedStateHdrVmx) else None

    @property
    def svm(self) -> KvmSvmNestedStateHdr | None:
        """Return the header of the SVM format, or None for another."""
        return self.hdr.svm if isinstance(self.hdr, KvmNestedStateHdrSvm) else None

    @property
    def guest_mode(self) -> bool:
        """Return whether the vCPU runs its guest's guest (L2)."""
        return bool(self.flags & NestedFlags.KVM_STATE_NESTED_GUEST_MODE)
