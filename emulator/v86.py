"""Virtual-8086 mode: the way in, the flags that IOPL guards, interrupts that stay inside, and the way out.

With CR4.VME, and for CLI and STI with CR4.PVI, a program with IOPL below 3 works on VIF in place of IF.

Source: SDM vol. 3B chapter 21; vol. 2 pages of CLI, STI, PUSHF, POPF, INT n, IRET.
"""

from typing import TYPE_CHECKING

from . import segments
from .exceptions import general_protection
from .registers import (
    CR0_PE,
    CR4_PVI,
    CR4_VME,
    CS,
    DS,
    ES,
    FLAG_FIXED,
    FLAG_IF,
    FLAG_IOPL,
    FLAG_NT,
    FLAG_RF,
    FLAG_TF,
    FLAG_VIF,
    FLAG_VIP,
    FS,
    GS,
    MASK16,
    MASK32,
    RSP,
    SHADOW_STI,
    SS,
)

if TYPE_CHECKING:
    from .cpu import Cpu
    from .interrupts import Frame

VIF_SHIFT = 10
"""From IF to VIF."""
_IO_MAP_BASE, _REDIRECTION_BYTES = 0x66, 32
_FRAME_ORDER = (GS, FS, DS, ES)


def _guarded(cpu: "Cpu") -> bool:
    """IOPL below 3 in virtual-8086 mode."""
    return cpu.v86 and cpu.state.rflags & FLAG_IOPL != FLAG_IOPL


def enter(cpu: "Cpu", cs: int, ip: int, flags: int, rest: list[int]) -> None:
    """IRET from ring 0 to virtual-8086 mode; `rest` is ESP, SS, ES, DS, FS, GS of the frame.

    Raises:
        GuestFault: #GP(0) for an instruction pointer beyond 64 KiB.
    """
    state = cpu.state
    if ip > MASK16:
        raise general_protection()
    sp, *selectors = rest
    for index, selector in ((CS, cs), *zip((SS, ES, DS, FS, GS), selectors, strict=True)):
        segments.fill_v86(state.segs[index], selector & MASK16)
    state.gpr[RSP] = sp
    state.rip = ip
    state.rflags = flags & cpu.model.flags | FLAG_FIXED
    state.cpl = 3
    cpu.update_mode()


def leave(cpu: "Cpu", frame: "Frame", size: int) -> None:
    """Push the data segments on the way to a ring-0 handler."""
    for index in _FRAME_ORDER:
        frame.push(cpu.state.segs[index].selector, size)


def drop_data_segments(cpu: "Cpu") -> None:
    """What a ring-0 handler finds in DS, ES, FS and GS."""
    for index in _FRAME_ORDER:
        segments.fill_null(cpu.state.segs[index], 0)


def iret_flags(cpu: "Cpu", size: int) -> int:
    """Flags that IRET inside virtual-8086 mode writes.

    Raises:
        GuestFault: #GP(0) with IOPL below 3, but for a 16-bit IRET with CR4.VME.
    """
    return _writable(cpu, size) | (FLAG_RF if size == 4 else 0)


def popf_flags(cpu: "Cpu", size: int) -> int:
    """The same of POPF."""
    return _writable(cpu, size)


def _writable(cpu: "Cpu", size: int) -> int:
    low = MASK16 & ~(FLAG_IOPL | FLAG_FIXED)
    if not _guarded(cpu):
        return low if size == 2 else (low | 0x240000)
    if size != 2 or not cpu.state.cr4 & CR4_VME:
        raise general_protection()
    return low & ~FLAG_IF | FLAG_VIF


def checked_flags(cpu: "Cpu", flags: int) -> int:
    """Flags from the stack, IF doubled as VIF where a program works on that.

    Raises:
        GuestFault: #GP(0) for TF, or IF while an interrupt waits (VIP).
    """
    if not _guarded(cpu):
        return flags
    if flags & FLAG_TF or (flags & FLAG_IF and cpu.state.rflags & FLAG_VIP):
        raise general_protection()
    return flags & ~FLAG_VIF | (flags & FLAG_IF) << VIF_SHIFT


def pushed_flags(cpu: "Cpu", size: int) -> int:
    """What PUSHF and a redirected interrupt push.

    Raises:
        GuestFault: #GP(0) with IOPL below 3, but for 16 bits with CR4.VME.
    """
    state = cpu.state
    if not _guarded(cpu):
        return state.eflags()
    if size != 2 or not state.cr4 & CR4_VME:
        raise general_protection()
    return state.eflags() & ~FLAG_IF | FLAG_IOPL | (state.rflags & FLAG_VIF) >> VIF_SHIFT


def set_interrupt_flag(cpu: "Cpu", enable: bool) -> None:
    """CLI and STI; STI gives a shadow only if IF was clear.

    Raises:
        GuestFault: #GP(0) without the privilege, or STI on VIF while an interrupt waits (VIP).
    """
    state = cpu.state
    if state.cr0 & CR0_PE and state.cpl > state.rflags >> 12 & 3:
        if state.cpl != 3 or not state.cr4 & (CR4_VME if cpu.v86 else CR4_PVI):
            raise general_protection()
        if enable and state.rflags & FLAG_VIP:
            raise general_protection()
        state.rflags = state.rflags | FLAG_VIF if enable else state.rflags & ~FLAG_VIF
    elif not enable:
        state.rflags &= ~FLAG_IF
    elif not state.rflags & FLAG_IF:
        state.rflags |= FLAG_IF
        cpu.set_shadow(SHADOW_STI)


def software_interrupt(cpu: "Cpu", vector: int) -> bool:
    """INT n in virtual-8086 mode: True if it has stayed inside, through the 8086's own table.

    Raises:
        GuestFault: #GP(0) where the monitor must decide; #PF.
    """
    state = cpu.state
    if state.cr4 & CR4_VME and not _redirected_to_monitor(cpu, vector):
        _deliver_inside(cpu, vector)
        return True
    if _guarded(cpu):
        raise general_protection()
    return False


def _redirected_to_monitor(cpu: "Cpu", vector: int) -> bool:
    """The TSS's bit for a vector: the 32 bytes below the I/O map."""
    tr = cpu.state.tr
    if tr.limit < _IO_MAP_BASE + 1:
        raise general_protection()
    base = cpu.mmu.read_slow(tr.base + _IO_MAP_BASE & MASK32, 2, 0)
    at = base - _REDIRECTION_BYTES + vector // 8
    if at < 0 or at > tr.limit:
        raise general_protection()
    return bool(cpu.mmu.read_slow(tr.base + at & MASK32, 1, 0) >> vector % 8 & 1)


def _deliver_inside(cpu: "Cpu", vector: int) -> None:
    """As real mode delivers, from the table at linear address 0; with IOPL below 3 VIF is cleared in place of IF."""
    state = cpu.state
    target = cpu.mmu.read_slow(4 * vector, 4, 1)
    sp = state.gpr[RSP]
    try:
        for value in (pushed_flags(cpu, 2), state.segs[CS].selector, state.rip):
            cpu.push(value & MASK16, 2)
    except BaseException:
        state.gpr[RSP] = sp
        raise
    state.rflags &= ~(FLAG_TF | FLAG_NT | FLAG_RF | (FLAG_VIF if _guarded(cpu) else FLAG_IF))
    segments.fill_v86(state.segs[CS], target >> 16)
    state.rip = target & MASK16
    cpu.update_mode()
