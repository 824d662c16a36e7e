"""Structs of the KVM API that are no state: arguments by which a backend asks for it and drives a VM.

They are checked against the kernel's headers like the sections; none of them travels. `ARGUMENTS` says which struct an
ioctl takes. kvm_run has a file of its own (`schemas.uapi.run`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..kvm_numbers import KvmIoctl
from ..layout import U8, U32, U64, CArray, CBytes, CFlexArray, CStruct, CUnion, NotInC
from . import SECTIONS
from .cpuid2 import KvmCpuid2
from .dirty_log import KvmClearDirtyLog
from .pit2 import KvmPitChannelState
from .xsave import KvmXsave

MSR_LIST_MAX_ENTRIES = 4096
"""A kernel lists fewer than 500; KVM_GET_MSR_INDEX_LIST says the number first, so a caller never needs the bound."""
IRQ_ROUTING_MAX_ENTRIES = 4096
"""KVM_MAX_IRQ_ROUTES. Source: Linux 6.12 include/linux/kvm_host.h."""
KVM_MSR_FILTER_MAX_RANGES = 16


class KvmMsrIndex(CStruct):
    """One number of kvm_msr_list.indices."""

    SIZE: ClassVar[int] = 4

    index: U32


class KvmMsrList(CStruct):
    """struct kvm_msr_list: MSRs that KVM saves, or feature MSRs. Source: api.rst 4.3."""

    C_NAME: ClassVar[str | None] = "kvm_msr_list"
    SIZE: ClassVar[int] = 4

    nmsrs: U32
    indices: Annotated[tuple[KvmMsrIndex, ...], CFlexArray(MSR_LIST_MAX_ENTRIES, count="nmsrs")]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the MSR numbers in the kernel's order."""
        return tuple(entry.index for entry in self.indices)


class KvmInterrupt(CStruct):
    """struct kvm_interrupt: a vector for a vCPU without a local APIC in the kernel. Source: api.rst 4.16."""

    C_NAME: ClassVar[str | None] = "kvm_interrupt"
    SIZE: ClassVar[int] = 4

    irq: U32


class KvmEnableCap(CStruct):
    """struct kvm_enable_cap. Source: api.rst 4.37."""

    C_NAME: ClassVar[str | None] = "kvm_enable_cap"
    SIZE: ClassVar[int] = 104

    cap: U32
    flags: U32 = 0
    args: Annotated[tuple[U64, ...], CArray(4)] = (0,) * 4
    pad: Annotated[bytes, CBytes(64)] = bytes(64)


class KvmDeviceAttr(CStruct):
    """struct kvm_device_attr; `addr` is where the attribute's value lies in user space. Source: api.rst 4.80."""

    C_NAME: ClassVar[str | None] = "kvm_device_attr"
    SIZE: ClassVar[int] = 24

    flags: U32 = 0
    group: U32
    attr: U64
    addr: U64


class KvmCreateDevice(CStruct):
    """struct kvm_create_device; `fd` is what the kernel returns. Source: api.rst 4.79."""

    C_NAME: ClassVar[str | None] = "kvm_create_device"
    SIZE: ClassVar[int] = 12

    type: U32
    fd: U32 = 0
    flags: U32 = 0


class KvmOneReg(CStruct):
    """struct kvm_one_reg. Source: api.rst 4.68."""

    C_NAME: ClassVar[str | None] = "kvm_one_reg"
    SIZE: ClassVar[int] = 16

    id: U64
    addr: U64


class KvmIrqLevel(CStruct):
    """struct kvm_irq_level; `irq` shares its place with the status that KVM_IRQ_LINE_STATUS returns."""

    C_NAME: ClassVar[str | None] = "kvm_irq_level"
    SIZE: ClassVar[int] = 8

    irq: U32
    level: U32


class KvmMsi(CStruct):
    """struct kvm_msi: a message for KVM_SIGNAL_MSI. Source: api.rst 4.70."""

    C_NAME: ClassVar[str | None] = "kvm_msi"
    SIZE: ClassVar[int] = 32

    address_lo: U32
    address_hi: U32
    data: U32
    flags: U32 = 0
    devid: U32 = 0
    pad: Annotated[bytes, CBytes(12)] = bytes(12)


class KvmIrqRoutingIrqchip(CStruct):
    """struct kvm_irq_routing_irqchip: a pin of a PIC or of the I/O APIC."""

    C_NAME: ClassVar[str | None] = "kvm_irq_routing_irqchip"
    SIZE: ClassVar[int] = 8

    irqchip: U32
    pin: U32


class KvmIrqRoutingMsi(CStruct):
    """struct kvm_irq_routing_msi."""

    C_NAME: ClassVar[str | None] = "kvm_irq_routing_msi"
    SIZE: ClassVar[int] = 16

    address_lo: U32
    address_hi: U32
    data: U32
    devid: U32 = 0


class KvmIrqRoutingToIrqchip(CStruct):
    """The union kvm_irq_routing_entry.u for type KVM_IRQ_ROUTING_IRQCHIP."""

    SIZE: ClassVar[int] = 32

    irqchip: KvmIrqRoutingIrqchip
    irqchip_rest: Annotated[bytes, CBytes(24), NotInC()] = bytes(24)


class KvmIrqRoutingToMsi(CStruct):
    """The union kvm_irq_routing_entry.u for type KVM_IRQ_ROUTING_MSI."""

    SIZE: ClassVar[int] = 32

    msi: KvmIrqRoutingMsi
    msi_rest: Annotated[bytes, CBytes(16), NotInC()] = bytes(16)


class KvmIrqRoutingToOther(CStruct):
    """The union kvm_irq_routing_entry.u for any other type."""

    SIZE: ClassVar[int] = 32

    pad: Annotated[tuple[U32, ...], CArray(8)]


class KvmIrqRoutingEntry(CStruct):
    """struct kvm_irq_routing_entry: where a GSI goes."""

    C_NAME: ClassVar[str | None] = "kvm_irq_routing_entry"
    SIZE: ClassVar[int] = 48

    gsi: U32
    type: U32
    flags: U32 = 0
    pad: U32 = 0
    u: Annotated[
        KvmIrqRoutingToIrqchip | KvmIrqRoutingToMsi | KvmIrqRoutingToOther,
        CUnion("type", ((1, KvmIrqRoutingToIrqchip), (2, KvmIrqRoutingToMsi)), KvmIrqRoutingToOther),
    ]


class KvmIrqRouting(CStruct):
    """struct kvm_irq_routing: the whole table, which KVM_SET_GSI_ROUTING replaces. Source: api.rst 4.52."""

    C_NAME: ClassVar[str | None] = "kvm_irq_routing"
    SIZE: ClassVar[int] = 8

    nr: U32
    flags: U32 = 0
    entries: Annotated[tuple[KvmIrqRoutingEntry, ...], CFlexArray(IRQ_ROUTING_MAX_ENTRIES, count="nr")]


class KvmGuestDebugArch(CStruct):
    """struct kvm_guest_debug_arch: DR0 to DR7 as the debugger wants them."""

    C_NAME: ClassVar[str | None] = "kvm_guest_debug_arch"
    SIZE: ClassVar[int] = 64

    debugreg: Annotated[tuple[U64, ...], CArray(8)]


class KvmGuestDebug(CStruct):
    """struct kvm_guest_debug. Source: api.rst 4.87."""

    C_NAME: ClassVar[str | None] = "kvm_guest_debug"
    SIZE: ClassVar[int] = 72

    control: U32
    pad: U32 = 0
    arch: KvmGuestDebugArch


class KvmTranslation(CStruct):
    """struct kvm_translation: a linear address by the vCPU's page tables. Source: api.rst 4.15."""

    C_NAME: ClassVar[str | None] = "kvm_translation"
    SIZE: ClassVar[int] = 24

    linear_address: U64
    physical_address: U64
    valid: U8
    writeable: U8
    usermode: U8
    pad: Annotated[bytes, CBytes(5)] = bytes(5)


class KvmTprAccessCtl(CStruct):
    """struct kvm_tpr_access_ctl."""

    C_NAME: ClassVar[str | None] = "kvm_tpr_access_ctl"
    SIZE: ClassVar[int] = 40

    enabled: U32
    flags: U32 = 0
    reserved: Annotated[tuple[U32, ...], CArray(8)] = (0,) * 8


class KvmVapicAddr(CStruct):
    """struct kvm_vapic_addr."""

    C_NAME: ClassVar[str | None] = "kvm_vapic_addr"
    SIZE: ClassVar[int] = 8

    vapic_addr: U64


class KvmX86Mce(CStruct):
    """struct kvm_x86_mce: a machine check to inject. Source: api.rst 4.107."""

    C_NAME: ClassVar[str | None] = "kvm_x86_mce"
    SIZE: ClassVar[int] = 64

    status: U64
    addr: U64
    misc: U64
    mcg_status: U64
    bank: U8
    pad1: Annotated[bytes, CBytes(7)] = bytes(7)
    pad2: Annotated[tuple[U64, ...], CArray(3)] = (0,) * 3


class KvmPitConfig(CStruct):
    """struct kvm_pit_config; flags bit 0 is KVM_PIT_SPEAKER_DUMMY. Source: api.rst 4.71."""

    C_NAME: ClassVar[str | None] = "kvm_pit_config"
    SIZE: ClassVar[int] = 64

    flags: U32
    pad: Annotated[tuple[U32, ...], CArray(15)] = (0,) * 15


class KvmPitState(CStruct):
    """struct kvm_pit_state: `pit2` without its flags, of kernels before KVM_CAP_PIT_STATE2."""

    C_NAME: ClassVar[str | None] = "kvm_pit_state"
    SIZE: ClassVar[int] = 72

    channels: Annotated[tuple[KvmPitChannelState, ...], CArray(3)]


class KvmMsrFilterRange(CStruct):
    """struct kvm_msr_filter_range; `bitmap` is an address of user space."""

    C_NAME: ClassVar[str | None] = "kvm_msr_filter_range"
    SIZE: ClassVar[int] = 24

    flags: U32
    nmsrs: U32
    base: U32
    hole: Annotated[U32, NotInC()] = 0
    bitmap: U64


class KvmMsrFilter(CStruct):
    """struct kvm_msr_filter. Source: api.rst 4.135."""

    C_NAME: ClassVar[str | None] = "kvm_msr_filter"
    SIZE: ClassVar[int] = 392

    flags: U32
    hole: Annotated[U32, NotInC()] = 0
    ranges: Annotated[tuple[KvmMsrFilterRange, ...], CArray(KVM_MSR_FILTER_MAX_RANGES)]


_I = KvmIoctl

ARGUMENTS: dict[KvmIoctl, type[CStruct]] = {
    **{ioctl: row.model for row in SECTIONS for ioctl in (row.get_ioctl, row.set_ioctl) if ioctl},
    _I.KVM_GET_XSAVE2: KvmXsave,
    _I.KVM_GET_SUPPORTED_CPUID: KvmCpuid2,
    _I.KVM_GET_EMULATED_CPUID: KvmCpuid2,
    _I.KVM_GET_SUPPORTED_HV_CPUID: KvmCpuid2,
    _I.KVM_CLEAR_DIRTY_LOG: KvmClearDirtyLog,
    _I.KVM_GET_MSR_INDEX_LIST: KvmMsrList,
    _I.KVM_GET_MSR_FEATURE_INDEX_LIST: KvmMsrList,
    _I.KVM_INTERRUPT: KvmInterrupt,
    _I.KVM_ENABLE_CAP: KvmEnableCap,
    _I.KVM_SET_DEVICE_ATTR: KvmDeviceAttr,
    _I.KVM_GET_DEVICE_ATTR: KvmDeviceAttr,
    _I.KVM_HAS_DEVICE_ATTR: KvmDeviceAttr,
    _I.KVM_CREATE_DEVICE: KvmCreateDevice,
    _I.KVM_GET_ONE_REG: KvmOneReg,
    _I.KVM_SET_ONE_REG: KvmOneReg,
    _I.KVM_IRQ_LINE: KvmIrqLevel,
    _I.KVM_SIGNAL_MSI: KvmMsi,
    _I.KVM_SET_GSI_ROUTING: KvmIrqRouting,
    _I.KVM_SET_GUEST_DEBUG: KvmGuestDebug,
    _I.KVM_TRANSLATE: KvmTranslation,
    _I.KVM_TPR_ACCESS_REPORTING: KvmTprAccessCtl,
    _I.KVM_SET_VAPIC_ADDR: KvmVapicAddr,
    _I.KVM_X86_SET_MCE: KvmX86Mce,
    _I.KVM_CREATE_PIT2: KvmPitConfig,
    _I.KVM_GET_PIT: KvmPitState,
    _I.KVM_SET_PIT: KvmPitState,
    _I.KVM_X86_SET_MSR_FILTER: KvmMsrFilter,
}
"""The struct of an ioctl's argument, by its address; KVM_{GET,SET}_TSC_KHZ pass theirs as a plain number."""
