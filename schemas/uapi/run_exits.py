"""What an exit leaves in kvm_run: a struct per exit reason, each with the bytes of the union behind it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..kvm_numbers import KvmExit
from ..layout import U8, U16, U32, U64, CArray, CBytes, CStruct, NotInC


class KvmDebugExitArch(CStruct):
    """struct kvm_debug_exit_arch."""

    C_NAME: ClassVar[str | None] = "kvm_debug_exit_arch"
    SIZE: ClassVar[int] = 32

    exception: U32
    pad: U32 = 0
    pc: U64
    dr6: U64
    dr7: U64


class KvmRunHw(CStruct):
    """kvm_run.hw: what the processor said; KVM does not know it."""

    SIZE: ClassVar[int] = 8

    hardware_exit_reason: U64


class KvmRunExitHw(CStruct):
    """The union of kvm_run, seen as `hw`."""

    SIZE: ClassVar[int] = 256

    hw: KvmRunHw
    hw_rest: Annotated[bytes, CBytes(248), NotInC()] = bytes(248)


class KvmRunEx(CStruct):
    """kvm_run.ex: an exception that KVM does not handle."""

    SIZE: ClassVar[int] = 8

    exception: U32
    error_code: U32


class KvmRunExitEx(CStruct):
    """The union of kvm_run, seen as `ex`."""

    SIZE: ClassVar[int] = 256

    ex: KvmRunEx
    ex_rest: Annotated[bytes, CBytes(248), NotInC()] = bytes(248)


class KvmRunIo(CStruct):
    """kvm_run.io: a port access; `data_offset` counts bytes from the start of kvm_run."""

    SIZE: ClassVar[int] = 16

    direction: U8
    size: U8
    port: U16
    count: U32
    data_offset: U64


class KvmRunExitIo(CStruct):
    """The union of kvm_run, seen as `io`."""

    SIZE: ClassVar[int] = 256

    io: KvmRunIo
    io_rest: Annotated[bytes, CBytes(240), NotInC()] = bytes(240)


class KvmRunHypercall(CStruct):
    """kvm_run.hypercall: a hypercall for user space; newer kernels call the last eight bytes `flags`."""

    SIZE: ClassVar[int] = 72

    nr: U64
    args: Annotated[tuple[U64, ...], CArray(6)]
    ret: U64
    longmode: U32
    pad: U32 = 0


class KvmRunExitHypercall(CStruct):
    """The union of kvm_run, seen as `hypercall`."""

    SIZE: ClassVar[int] = 256

    hypercall: KvmRunHypercall
    hypercall_rest: Annotated[bytes, CBytes(184), NotInC()] = bytes(184)


class KvmRunDebug(CStruct):
    """kvm_run.debug: a breakpoint or step of KVM_SET_GUEST_DEBUG."""

    SIZE: ClassVar[int] = 32

    arch: KvmDebugExitArch


class KvmRunExitDebug(CStruct):
    """The union of kvm_run, seen as `debug`."""

    SIZE: ClassVar[int] = 256

    debug: KvmRunDebug
    debug_rest: Annotated[bytes, CBytes(224), NotInC()] = bytes(224)


class KvmRunMmio(CStruct):
    """kvm_run.mmio: a memory access where no slot is."""

    SIZE: ClassVar[int] = 24

    phys_addr: U64
    data: Annotated[bytes, CBytes(8)]
    len: U32
    is_write: U8
    hole: Annotated[bytes, CBytes(3), NotInC()] = bytes(3)


class KvmRunExitMmio(CStruct):
    """The union of kvm_run, seen as `mmio`."""

    SIZE: ClassVar[int] = 256

    mmio: KvmRunMmio
    mmio_rest: Annotated[bytes, CBytes(232), NotInC()] = bytes(232)


class KvmRunFailEntry(CStruct):
    """kvm_run.fail_entry: the processor refused the state."""

    SIZE: ClassVar[int] = 16

    hardware_entry_failure_reason: U64
    cpu: U32
    hole: Annotated[U32, NotInC()] = 0


class KvmRunExitFailEntry(CStruct):
    """The union of kvm_run, seen as `fail_entry`."""

    SIZE: ClassVar[int] = 256

    fail_entry: KvmRunFailEntry
    fail_entry_rest: Annotated[bytes, CBytes(240), NotInC()] = bytes(240)


class KvmRunTprAccess(CStruct):
    """kvm_run.tpr_access: an access to the task priority, if reporting is on."""

    SIZE: ClassVar[int] = 16

    rip: U64
    is_write: U32
    pad: U32 = 0


class KvmRunExitTprAccess(CStruct):
    """The union of kvm_run, seen as `tpr_access`."""

    SIZE: ClassVar[int] = 256

    tpr_access: KvmRunTprAccess
    tpr_access_rest: Annotated[bytes, CBytes(240), NotInC()] = bytes(240)


class KvmRunInternal(CStruct):
    """kvm_run.internal: KVM cannot go on; `ndata` words of `data` count."""

    SIZE: ClassVar[int] = 136

    suberror: U32
    ndata: U32
    data: Annotated[tuple[U64, ...], CArray(16)]


class KvmRunExitInternal(CStruct):
    """The union of kvm_run, seen as `internal`."""

    SIZE: ClassVar[int] = 256

    internal: KvmRunInternal
    internal_rest: Annotated[bytes, CBytes(120), NotInC()] = bytes(120)


class KvmRunSystemEvent(CStruct):
    """kvm_run.system_event: the guest asks for shutdown or reset."""

    SIZE: ClassVar[int] = 136

    type: U32
    ndata: U32
    data: Annotated[tuple[U64, ...], CArray(16)]


class KvmRunExitSystemEvent(CStruct):
    """The union of kvm_run, seen as `system_event`."""

    SIZE: ClassVar[int] = 256

    system_event: KvmRunSystemEvent
    system_event_rest: Annotated[bytes, CBytes(120), NotInC()] = bytes(120)


class KvmRunEoi(CStruct):
    """kvm_run.eoi: an end of interrupt for an I/O APIC in user space."""

    SIZE: ClassVar[int] = 1

    vector: U8


class KvmRunExitEoi(CStruct):
    """The union of kvm_run, seen as `eoi`."""

    SIZE: ClassVar[int] = 256

    eoi: KvmRunEoi
    eoi_rest: Annotated[bytes, CBytes(255), NotInC()] = bytes(255)


class KvmRunMsr(CStruct):
    """kvm_run.msr: an MSR access for user space (KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR)."""

    SIZE: ClassVar[int] = 24

    error: U8
    pad: Annotated[bytes, CBytes(7)] = bytes(7)
    reason: U32
    index: U32
    data: U64


class KvmRunExitMsr(CStruct):
    """The union of kvm_run, seen as `msr`."""

    SIZE: ClassVar[int] = 256

    msr: KvmRunMsr
    msr_rest: Annotated[bytes, CBytes(232), NotInC()] = bytes(232)


class KvmRunNotify(CStruct):
    """kvm_run.notify: no event window for too long."""

    SIZE: ClassVar[int] = 4

    flags: U32


class KvmRunExitNotify(CStruct):
    """The union of kvm_run, seen as `notify`."""

    SIZE: ClassVar[int] = 256

    notify: KvmRunNotify
    notify_rest: Annotated[bytes, CBytes(252), NotInC()] = bytes(252)


class KvmRunMemoryFault(CStruct):
    """kvm_run.memory_fault: a fault that user space has to resolve (Linux 6.8)."""

    SIZE: ClassVar[int] = 24

    flags: U64
    gpa: U64
    size: U64


class KvmRunExitMemoryFault(CStruct):
    """The union of kvm_run, seen as `memory_fault`."""

    SIZE: ClassVar[int] = 256

    memory_fault: KvmRunMemoryFault
    memory_fault_rest: Annotated[bytes, CBytes(232), NotInC()] = bytes(232)


class KvmRunEmulationFailure(CStruct):
    """kvm_run.emulation_failure: `internal` for suberror KVM_INTERNAL_ERROR_EMULATION; `flags` says what is there."""

    SIZE: ClassVar[int] = 32

    suberror: U32
    ndata: U32
    flags: U64
    insn_size: U8
    insn_bytes: Annotated[bytes, CBytes(15)]


class KvmRunExitPadding(CStruct):
    """The union of kvm_run for exits that leave nothing there, or something unknown here."""

    SIZE: ClassVar[int] = 256

    padding: Annotated[bytes, CBytes(256)]


RunExit = (
    KvmRunExitHw
    | KvmRunExitEx
    | KvmRunExitIo
    | KvmRunExitHypercall
    | KvmRunExitDebug
    | KvmRunExitMmio
    | KvmRunExitFailEntry
    | KvmRunExitTprAccess
    | KvmRunExitInternal
    | KvmRunExitSystemEvent
    | KvmRunExitEoi
    | KvmRunExitMsr
    | KvmRunExitNotify
    | KvmRunExitMemoryFault
    | KvmRunExitPadding
)

EXIT_ARMS: tuple[tuple[int, type[CStruct]], ...] = (
    (KvmExit.KVM_EXIT_UNKNOWN, KvmRunExitHw),
    (KvmExit.KVM_EXIT_EXCEPTION, KvmRunExitEx),
    (KvmExit.KVM_EXIT_IO, KvmRunExitIo),
    (KvmExit.KVM_EXIT_HYPERCALL, KvmRunExitHypercall),
    (KvmExit.KVM_EXIT_DEBUG, KvmRunExitDebug),
    (KvmExit.KVM_EXIT_MMIO, KvmRunExitMmio),
    (KvmExit.KVM_EXIT_FAIL_ENTRY, KvmRunExitFailEntry),
    (KvmExit.KVM_EXIT_TPR_ACCESS, KvmRunExitTprAccess),
    (KvmExit.KVM_EXIT_INTERNAL_ERROR, KvmRunExitInternal),
    (KvmExit.KVM_EXIT_SYSTEM_EVENT, KvmRunExitSystemEvent),
    (KvmExit.KVM_EXIT_IOAPIC_EOI, KvmRunExitEoi),
    (KvmExit.KVM_EXIT_X86_RDMSR, KvmRunExitMsr),
    (KvmExit.KVM_EXIT_X86_WRMSR, KvmRunExitMsr),
    (KvmExit.KVM_EXIT_NOTIFY, KvmRunExitNotify),
    (KvmExit.KVM_EXIT_MEMORY_FAULT, KvmRunExitMemoryFault),
)
"""Exit reason and the struct that it leaves in the union."""
