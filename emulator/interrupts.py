"""Delivery of a vector: real-mode table, 16- and 32-bit gates, task gates, 64-bit gates with IST.

Source: SDM vol. 3A 6.12 to 6.14, vol. 2A INT n.
"""

from enum import Enum
from typing import TYPE_CHECKING

from . import segments, tasks, v86
from .exceptions import GP, NP, SS, TS, GuestFault, general_protection
from .registers import (
    CR0_PE,
    CS,
    EFER_LMA,
    FLAG_AC,
    FLAG_FIXED,
    FLAG_IF,
    FLAG_NT,
    FLAG_RF,
    FLAG_TF,
    FLAG_VM,
    MASK16,
    MASK32,
    MASK64,
)
from .registers import SS as SS_INDEX
from .segments import Descriptor
from .state import Segment
from .translate import canonical

if TYPE_CHECKING:
    from .cpu import Cpu

GATE_TASK, GATE_INTERRUPT_16, GATE_TRAP_16, GATE_INTERRUPT_32, GATE_TRAP_32 = 5, 6, 7, 14, 15

GATES_LONG = (GATE_INTERRUPT_32, GATE_TRAP_32)
GATES_PROTECTED = (*GATES_LONG, GATE_TASK, GATE_INTERRUPT_16, GATE_TRAP_16)


class Source(Enum):
    """Where a vector comes from."""

    EVENT = 1  # exception, NMI, external interrupt: EXT is set in error codes
    SOFTWARE = 2  # INT n, INT3, INTO: the gate's DPL is checked, EXT is clear


class Frame:
    """A stack being filled: nothing of the CPU changes until `sp` is taken over by the caller."""

    def __init__(self, cpu: "Cpu", seg: Segment, sp: int, mask: int, error_code: int) -> None:
        self._cpu, self._seg, self.sp, self._mask, self._error_code = cpu, seg, sp, mask, error_code

    def push(self, value: int, size: int) -> None:
        """Push `size` bytes.

        Raises:
            GuestFault: #SS with the error code given, #PF.
        """
        sp = self.sp - size & self._mask
        if self._mask == MASK64:
            linear = sp
            if not canonical(sp):
                raise GuestFault(SS, self._error_code)
        else:
            linear = self._checked(sp, size)
        self._cpu.mmu.write[size](linear, value & (1 << 8 * size) - 1)
        self.sp = sp

    def _checked(self, sp: int, size: int) -> int:
        seg = self._seg
        if seg.type & segments.TYPE_EXPAND_DOWN and not seg.type & segments.TYPE_CODE:
            fits = sp > seg.limit and sp + size - 1 <= (MASK32 if seg.db else MASK16)
        else:
            fits = sp + size - 1 <= seg.limit
        if fits:
            return seg.base + sp & MASK32
        if self._cpu.real_segments:
            return self._cpu.overrun(SS_INDEX, sp, size, True)
        raise GuestFault(SS, self._error_code)


def deliver(cpu: "Cpu", vector: int, error_code: int | None, source: Source) -> None:
    """Transfer control to the handler of `vector`; RIP is the address to return to.

    Raises:
        GuestFault: the delivery itself faults; registers are as before, apart from the rights of memory access being
            put back; or a task gate led to a task that faults at once (`keeps_rip`).
    """
    state = cpu.state
    if not state.cr0 & CR0_PE:
        _deliver_real(cpu, vector)
    elif state.efer & EFER_LMA:
        _guarded(cpu, vector, error_code, source, long_mode=True)
    else:
        _guarded(cpu, vector, error_code, source, long_mode=False)
    cpu.attention = True


def _guarded(cpu: "Cpu", vector: int, error_code: int | None, source: Source, long_mode: bool) -> None:
    """Deliver in protected mode with access rights restored on a fault."""
    try:
        (_deliver_long if long_mode else _deliver_protected)(cpu, vector, error_code, source)
    except GuestFault:
        cpu.update_mode()
        raise


def _deliver_real(cpu: "Cpu", vector: int) -> None:
    """Real mode: four bytes a vector, no error code."""
    state = cpu.state
    if 4 * vector + 3 > state.idtr.limit:
        raise general_protection(vector * 8 + 2)
    target = cpu.mmu.read_slow(state.idtr.base + 4 * vector & MASK32, 4, 0)
    frame = Frame(cpu, state.segs[SS_INDEX], state.gpr[4], MASK16, 0)
    flags = state.rflags & MASK16 | FLAG_FIXED | cpu.model.quirks.pushed_ones
    for value in (flags, state.segs[CS].selector, state.rip):
        frame.push(value, 2)
    state.gpr[4] = state.gpr[4] & ~MASK16 | frame.sp
    state.rflags &= ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF)
    state.segs[CS].load_real(target >> 16)
    state.rip = target & MASK16
    cpu.update_mode()


def _read_gate(cpu: "Cpu", vector: int, source: Source, gate_bytes: int) -> tuple[int, int]:
    """The gate's low 8 bytes and, for 16-byte gates, its upper ones; type, DPL and presence checked."""
    state = cpu.state
    ext = int(source is Source.EVENT)
    error_code = vector * 8 + 2 + ext
    if vector * gate_bytes + gate_bytes - 1 > state.idtr.limit:
        raise general_protection(error_code)
    address = state.idtr.base + vector * gate_bytes & cpu.linear_mask
    gate = cpu.mmu.read_slow(address, 8, 0)
    upper = cpu.mmu.read_slow(address + 8, 8, 0) if gate_bytes == 16 else 0
    kind = gate >> 40 & 0x1F
    allowed = GATES_LONG if gate_bytes == 16 else GATES_PROTECTED
    if kind not in allowed or (source is Source.SOFTWARE and gate >> 45 & 3 < state.cpl):
        raise general_protection(error_code)
    if not gate >> 47 & 1:
        raise GuestFault(NP, error_code)
    return gate, upper


def _handler_segment(cpu: "Cpu", selector: int, ext: int, long_mode: bool) -> tuple[Descriptor, int]:
    """The handler's code segment and the privilege level it runs at."""
    if not selector & 0xFFFC:
        raise general_protection(ext)
    descriptor = segments.read_descriptor(cpu, selector, GP, ext)
    if not descriptor.is_code or descriptor.dpl > cpu.state.cpl:
        raise general_protection(descriptor.error_code | ext)
    if long_mode and (not descriptor.long or descriptor.db):
        raise general_protection(descriptor.error_code | ext)
    if not descriptor.present:
        raise GuestFault(NP, descriptor.error_code | ext)
    return descriptor, cpu.state.cpl if descriptor.conforming else descriptor.dpl


def stack_from_tss(cpu: "Cpu", cpl: int, ext: int) -> tuple[int, int]:
    """SS selector and (E)SP for privilege `cpl` from a 16- or 32-bit TSS.

    Raises:
        GuestFault: #TS with TR's selector where the TSS is too short; #PF.
    """
    tr = cpu.state.tr
    size, offset = (4, 4 + 8 * cpl) if tr.type & 8 else (2, 2 + 4 * cpl)
    if offset + 2 * size - 1 - (2 if size == 4 else 0) > tr.limit:
        raise GuestFault(TS, tr.selector & 0xFFFC | ext)
    sp = cpu.mmu.read_slow(tr.base + offset & cpu.linear_mask, size, 0)
    return cpu.mmu.read_slow(tr.base + offset + size & cpu.linear_mask, 2, 0), sp


def stack_pointer_from_long_tss(cpu: "Cpu", offset: int, ext: int) -> int:
    """An RSP or IST field of the 64-bit TSS.

    Raises:
        GuestFault: #TS with TR's selector, #SS for a non-canonical pointer, #PF.
    """
    tr = cpu.state.tr
    if offset + 7 > tr.limit:
        raise GuestFault(TS, tr.selector & 0xFFFC | ext)
    sp = cpu.mmu.read_slow(tr.base + offset & MASK64, 8, 0)
    if not canonical(sp):
        raise GuestFault(SS, ext)
    return sp


def inner_stack(cpu: "Cpu", cpl: int, ext: int) -> tuple[Segment, int]:
    """The stack of an inner privilege level, from a 16- or 32-bit TSS, as a segment not yet loaded."""
    selector, sp = stack_from_tss(cpu, cpl, ext)
    if not selector & 0xFFFC:
        raise GuestFault(TS, ext)
    descriptor = segments.check_stack_descriptor(cpu, selector, cpl, TS, ext)
    seg = Segment()
    segments.fill(seg, segments.mark_accessed(cpu, descriptor))
    return seg, sp


def _deliver_protected(cpu: "Cpu", vector: int, error_code: int | None, source: Source) -> None:
    """Protected mode outside long mode."""
    state = cpu.state
    ext = int(source is Source.EVENT)
    gate, _ = _read_gate(cpu, vector, source, 8)
    kind = gate >> 40 & 15
    if kind == GATE_TASK:
        task = tasks.find_task(cpu, gate >> 16 & MASK16, tasks.Reason.CALL, ext)
        tasks.switch(cpu, task, tasks.Reason.CALL, ext, error_code)
        return
    size = 4 if kind & 8 else 2
    descriptor, cpl = _handler_segment(cpu, gate >> 16 & MASK16, ext, long_mode=False)
    if cpu.v86 and (cpl or descriptor.conforming):
        raise general_protection(descriptor.error_code | ext)
    old_ss = state.segs[SS_INDEX]
    inner = cpl < state.cpl
    seg, sp = inner_stack(cpu, cpl, ext) if inner else (old_ss, state.gpr[4])
    mask = MASK32 if seg.db else MASK16
    target = gate & MASK16 | (gate >> 32 & 0xFFFF0000 if size == 4 else 0)
    if target > descriptor.limit:
        raise general_protection(ext)
    frame = Frame(cpu, seg, sp, mask, seg.selector & 0xFFFC | ext if inner else ext)
    cpu.mmu.select(cpl == 3)
    if cpu.v86:
        v86.leave(cpu, frame, size)
    if inner:
        frame.push(old_ss.selector, size)
        frame.push(state.gpr[4], size)
    frame.push(state.eflags(), size)
    frame.push(state.segs[CS].selector, size)
    frame.push(state.rip, size)
    if error_code is not None:
        frame.push(error_code, size)
    descriptor = segments.mark_accessed(cpu, descriptor)
    if cpu.v86:
        v86.drop_data_segments(cpu)
    if inner:
        old_ss.copy_from(seg)
    state.gpr[4] = frame.sp & MASK32 if mask == MASK32 else state.gpr[4] & ~MASK16 | frame.sp
    _enter_handler(cpu, descriptor, cpl, target, trap=bool(kind & 1))


def _deliver_long(cpu: "Cpu", vector: int, error_code: int | None, source: Source) -> None:
    """Long mode: 16-byte gates, stack of 8-byte entries aligned to 16, SS null after a change of privilege."""
    state = cpu.state
    ext = int(source is Source.EVENT)
    gate, upper = _read_gate(cpu, vector, source, 16)
    descriptor, cpl = _handler_segment(cpu, gate >> 16 & MASK16, ext, long_mode=True)
    inner = cpl < state.cpl
    ist = gate >> 32 & 7
    if ist:
        sp = stack_pointer_from_long_tss(cpu, 28 + 8 * ist, ext)
    elif inner:
        sp = stack_pointer_from_long_tss(cpu, 4 + 8 * cpl, ext)
    else:
        sp = state.gpr[4]
    target = gate & MASK16 | gate >> 32 & 0xFFFF0000 | (upper & MASK32) << 32
    if not canonical(target):
        raise general_protection(ext)
    frame = Frame(cpu, state.segs[SS_INDEX], sp & ~0xF, MASK64, ext)
    cpu.mmu.select(cpl == 3)
    for value in (state.segs[SS_INDEX].selector, state.gpr[4], state.eflags(), state.segs[CS].selector, state.rip):
        frame.push(value, 8)
    if error_code is not None:
        frame.push(error_code, 8)
    descriptor = segments.mark_accessed(cpu, descriptor)
    if inner:
        segments.fill_null(state.segs[SS_INDEX], cpl, cpl)
    state.gpr[4] = frame.sp
    _enter_handler(cpu, descriptor, cpl, target, trap=bool(gate >> 40 & 1))


def _enter_handler(cpu: "Cpu", descriptor: Descriptor, cpl: int, target: int, trap: bool) -> None:
    """Load CS:RIP and clear the flags that a gate clears."""
    state = cpu.state
    segments.fill(state.segs[CS], descriptor._replace(selector=descriptor.selector & ~3 | cpl))
    state.cpl = cpl
    state.rip = target
    state.rflags &= ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (0 if trap else FLAG_IF))
    cpu.update_mode()
