"""kvm_run: the page that a vCPU shares with user space; what an exit leaves there follows from `exit_reason`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..kvm_numbers import KvmExit, KvmInternalError
from ..layout import U8, U16, U32, U64, CBytes, CStruct, CUnion, NotInC
from .regs import KvmRegs
from .run_exits import EXIT_ARMS, KvmRunEmulationFailure, KvmRunExitPadding, RunExit
from .sregs import KvmSregs
from .vcpu_events import KvmVcpuEvents

EXIT_UNION_OFFSET = 32
"""Where the union begins, in bytes from the start of kvm_run."""


class KvmSyncRegs(CStruct):
    """struct kvm_sync_regs: three sections in kvm_run, without an ioctl each."""

    C_NAME: ClassVar[str | None] = "kvm_sync_regs"
    SIZE: ClassVar[int] = 520

    regs: KvmRegs
    sregs: KvmSregs
    events: KvmVcpuEvents


class KvmRunSync(CStruct):
    """The union kvm_run.s, with the bytes behind the registers."""

    SIZE: ClassVar[int] = 2048

    regs: KvmSyncRegs
    rest: Annotated[bytes, CBytes(1528), NotInC()] = bytes(1528)


class KvmRun(CStruct):
    """struct kvm_run; `cr8` and `apic_base` go both ways, `kvm_valid_regs` and `kvm_dirty_regs` select parts of `s`.

    `exit` is C's unnamed union. State is complete only after the next KVM_RUN has finished an access (immediate_exit).
    Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 5.
    """

    C_NAME: ClassVar[str | None] = "kvm_run"
    SIZE: ClassVar[int] = 2352

    request_interrupt_window: U8
    immediate_exit: U8
    padding1: Annotated[bytes, CBytes(6)] = bytes(6)
    exit_reason: U32
    ready_for_interrupt_injection: U8
    if_flag: U8
    flags: U16
    cr8: U64
    apic_base: U64
    exit: Annotated[RunExit, CUnion("exit_reason", EXIT_ARMS, KvmRunExitPadding, anonymous=True)]
    kvm_valid_regs: U64
    kvm_dirty_regs: U64
    s: KvmRunSync

    @property
    def emulation_failure(self) -> KvmRunEmulationFailure | None:
        """Return the details of an instruction that KVM could not emulate; None for any other exit."""
        if self.exit_reason != KvmExit.KVM_EXIT_INTERNAL_ERROR:
            return None
        found = KvmRunEmulationFailure.unpack(self.exit.pack()[: KvmRunEmulationFailure.SIZE])
        return found if found.suberror == KvmInternalError.KVM_INTERNAL_ERROR_EMULATION else None


OVERLAYS: tuple[tuple[type[CStruct], str, int, type[CStruct]], ...] = (
    (KvmRun, "emulation_failure", EXIT_UNION_OFFSET, KvmRunEmulationFailure),
)
"""(struct, member, offset, form): members that lie over others of their struct and are no field of their own here."""
