"""Hardware task switches through 16- and 32-bit task-state segments.

Up to the commit point a fault belongs to the old task and changes no register; from there on registers are the new
task's and a fault is the new task's first (`GuestFault.keeps_rip`).

Source: SDM vol. 3A chapter 7; Linux 6.12 arch/x86/kvm/emulate.c emulator_do_task_switch().
"""

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from . import segments
from .control_registers import write_cr3
from .exceptions import DB, GP, NP, TS, GuestFault
from .registers import (
    CR0_PG,
    CR0_TS,
    CS,
    DR6_BT,
    DR7_LOCAL,
    DR7_RESET,
    FLAG_FIXED,
    FLAG_NT,
    FLAG_VM,
    SS,
)
from .segments import Descriptor

if TYPE_CHECKING:
    from .cpu import Cpu

TSS_16, TSS_32, BUSY = 1, 9, 2
AVAILABLE_TYPES = (TSS_16, TSS_32)


class Reason(Enum):
    """Why tasks are switched: the old one ends or is nested, the new one begins or goes on."""

    JUMP = 1
    CALL = 2  # also an interrupt or exception
    RETURN = 3


class Layout(NamedTuple):
    """Where a TSS has its fields. `selectors` is where ES, CS, SS, DS (FS, GS) begin."""

    size: int
    last: int
    ip: int
    flags: int
    registers: int
    selectors: int
    selector_count: int
    ldt: int


LAYOUTS = {
    TSS_16: Layout(2, 0x2B, 0x0E, 0x10, 0x12, 0x22, 4, 0x2A),
    TSS_32: Layout(4, 0x67, 0x20, 0x24, 0x28, 0x48, 6, 0x60),
}
"""By type of an available TSS. Source: SDM vol. 3A figures 7-2 and 7-10."""
_CR3, _TRAP, _LINK = 0x1C, 0x64, 0


class _Image(NamedTuple):
    """The new task as its TSS has it."""

    cr3: int
    ip: int
    flags: int
    registers: list[int]
    selectors: list[int]
    ldt: int
    trap: int


def find_task(cpu: "Cpu", selector: int, reason: Reason, ext: int = 0) -> Descriptor:
    """The descriptor of a task to switch to: an available one, or the busy one that a nested task goes back to.

    Raises:
        GuestFault: #GP (#TS for a return) where it is no such TSS, #NP, #TS for one too short, #PF.
    """
    vector, busy = (TS, BUSY) if reason is Reason.RETURN else (GP, 0)
    code = selector & 0xFFFC | ext
    if selector & 4 or not selector & 0xFFFC:
        raise GuestFault(vector, code)
    descriptor = segments.read_descriptor(cpu, selector, vector, ext)
    if descriptor.s or descriptor.type ^ busy not in AVAILABLE_TYPES:
        raise GuestFault(vector, code)
    if not descriptor.present:
        raise GuestFault(NP, code)
    if descriptor.limit < LAYOUTS[descriptor.type & ~BUSY].last:
        raise GuestFault(TS, code)
    return descriptor


def return_to_previous(cpu: "Cpu") -> None:
    """IRET with NT: switch to the task of the back link."""
    link = cpu.mmu.read_slow(cpu.state.tr.base + _LINK & cpu.linear_mask, 2, 0)
    switch(cpu, find_task(cpu, link, Reason.RETURN), Reason.RETURN)


def switch(cpu: "Cpu", task: Descriptor, reason: Reason, ext: int = 0, error_code: int | None = None) -> None:
    """Save the present task, whose RIP is where it goes on, and load another; push an exception's error code there.

    Raises:
        GuestFault: of the old task, or with `keeps_rip` of the new one; #DB where the new TSS asks for it.
    """
    state = cpu.state
    image = _read(cpu, task)
    if reason is Reason.CALL:
        cpu.mmu.probe_write(task.base + _LINK & cpu.linear_mask, 2, 0)
    _save(cpu, reason)
    if reason is not Reason.CALL:
        _mark(cpu, state.tr.selector, busy=False)
    else:
        cpu.mmu.write_slow(task.base + _LINK & cpu.linear_mask, 2, state.tr.selector, 0)
    if reason is not Reason.RETURN:
        _mark(cpu, task.selector, busy=True)
    cpu.trap_inhibited = True
    try:
        _load(cpu, task, image, nested=reason is Reason.CALL, ext=ext)
        if error_code is not None:
            cpu.push(error_code, LAYOUTS[task.type & ~BUSY].size)
    except GuestFault as fault:
        cpu.update_mode()
        fault.keeps_rip = True
        raise
    if image.trap:
        trap = GuestFault(DB, None, DR6_BT)
        trap.keeps_rip = True
        raise trap


def _read(cpu: "Cpu", task: Descriptor) -> _Image:
    """Read the new task; a page fault here is the old task's."""
    layout = LAYOUTS[task.type & ~BUSY]
    size = layout.size

    def field(offset: int, length: int = size) -> int:
        return cpu.mmu.read_slow(task.base + offset & cpu.linear_mask, length, 0)

    return _Image(
        field(_CR3) if size == 4 else 0,
        field(layout.ip),
        field(layout.flags),
        [field(layout.registers + n * size) for n in range(8)],
        [field(layout.selectors + n * size, 2) for n in range(layout.selector_count)],
        field(layout.ldt, 2),
        field(_TRAP, 2) & 1 if size == 4 else 0,
    )


def _save(cpu: "Cpu", reason: Reason) -> None:
    """Write the present task into its TSS.

    Raises:
        GuestFault: #TS with TR's selector where the TSS is too short; #PF.
    """
    state, tr = cpu.state, cpu.state.tr
    layout = LAYOUTS[tr.type & ~BUSY]
    if tr.limit < layout.last:
        raise GuestFault(TS, tr.selector & 0xFFFC)
    size, mask = layout.size, (1 << 8 * layout.size) - 1
    cpu.mmu.probe_write(tr.base, layout.last + 1, 0)
    flags = state.eflags() & ~(FLAG_NT if reason is Reason.RETURN else 0)
    values = [(layout.ip, state.rip), (layout.flags, flags)]
    values += [(layout.registers + n * size, state.gpr[n]) for n in range(8)]
    values += [(layout.selectors + n * size, state.segs[n].selector) for n in range(layout.selector_count)]
    for offset, value in values:
        cpu.mmu.write_slow(tr.base + offset & cpu.linear_mask, size, value & mask, 0)


def _mark(cpu: "Cpu", selector: int, busy: bool) -> None:
    """Set or clear the busy bit of a TSS descriptor in the GDT."""
    address = cpu.state.gdtr.base + (selector & 0xFFF8) + 5 & cpu.linear_mask
    kind = cpu.mmu.read_slow(address, 1, 0)
    cpu.mmu.write_slow(address, 1, kind | BUSY if busy else kind & ~BUSY, 0)


def _load(cpu: "Cpu", task: Descriptor, image: _Image, nested: bool, ext: int) -> None:
    """Become the new task: registers and selectors at once, then descriptors, each of which may fault."""
    state = cpu.state
    segments.fill(state.tr, task._replace(raw=task.raw | BUSY << 40))
    state.cr0 |= CR0_TS
    if state.dr7 & DR7_LOCAL:
        state.dr7 = state.dr7 & ~DR7_LOCAL | DR7_RESET
        cpu.breakpoints.refresh()
    state.rip = image.ip
    state.rflags = image.flags & cpu.model.flags | FLAG_FIXED | (FLAG_NT if nested else 0)
    state.gpr[:8] = image.registers
    selectors = image.selectors + [0] * (6 - len(image.selectors))
    v86 = bool(state.rflags & FLAG_VM)
    cpl = 3 if v86 else selectors[CS] & 3
    for seg, selector in zip(state.segs, selectors, strict=True):
        seg.selector = selector
        if v86:
            segments.fill_v86(seg, selector)
    state.ldtr.selector = image.ldt
    state.cpl = state.segs[CS].dpl = state.segs[SS].dpl = cpl
    if task.type & 8 and state.cr0 & CR0_PG:
        write_cr3(cpu, image.cr3)
    cpu.flags_changed()
    cpu.update_mode()
    segments.fill_null(state.ldtr, image.ldt)
    if image.ldt & 0xFFFC:
        _load_ldt(cpu, image.ldt, ext)
    if not v86:
        _load_segments(cpu, selectors, cpl, ext)
    cpu.update_mode()


def _load_ldt(cpu: "Cpu", selector: int, ext: int) -> None:
    """LDTR of the new task: #TS for whatever is wrong."""
    code = selector & 0xFFFC | ext
    if selector & 4:
        raise GuestFault(TS, code)
    descriptor = segments.read_descriptor(cpu, selector, TS, ext)
    if descriptor.s or descriptor.type != segments.TYPE_LDT or not descriptor.present:
        raise GuestFault(TS, code)
    segments.fill(cpu.state.ldtr, descriptor)


def _load_segments(cpu: "Cpu", selectors: list[int], cpl: int, ext: int) -> None:
    """CS and SS, then the data segments of the new task, in protected mode."""
    segs = cpu.state.segs
    code = _code_segment(cpu, selectors[CS], cpl, ext)
    segments.fill(segs[CS], segments.mark_accessed(cpu, code))
    cpu.update_mode()
    if not selectors[SS] & 0xFFFC:
        raise GuestFault(TS, ext)
    stack = segments.check_stack_descriptor(cpu, selectors[SS], cpl, TS, ext)
    segments.fill(segs[SS], segments.mark_accessed(cpu, stack))
    cpu.update_mode()
    data = [index for index in range(6) if index not in (CS, SS)]
    for index in data:
        segments.fill_null(segs[index], selectors[index])
    for index in data:
        if selectors[index] & 0xFFFC:
            descriptor = segments.check_data_descriptor(cpu, selectors[index], cpl, TS, ext)
            segments.fill(segs[index], segments.mark_accessed(cpu, descriptor))


def _code_segment(cpu: "Cpu", selector: int, cpl: int, ext: int) -> Descriptor:
    """The new task's code segment: its DPL must fit the RPL, which is the new CPL."""
    if not selector & 0xFFFC:
        raise GuestFault(TS, ext)
    code = segments.read_descriptor(cpu, selector, TS, ext)
    fits = code.dpl <= cpl if code.conforming else code.dpl == cpl
    if not code.is_code or not fits:
        raise GuestFault(TS, code.error_code | ext)
    if not code.present:
        raise GuestFault(NP, code.error_code | ext)
    return code
