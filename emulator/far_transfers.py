"""Far jumps, calls, returns and IRET in real and protected mode, privilege changes included.

Each function checks everything before it changes registers; memory already written to a stack stays written. Task
switches are in `tasks`, what virtual-8086 mode does differently is in `v86`.

Source: SDM vol. 2 pages of JMP, CALL, RET, IRET; vol. 3A 5.8.
"""

from typing import TYPE_CHECKING

from . import segments, tasks, v86
from .exceptions import NP, SS, GuestFault, general_protection, stack_fault
from .interrupts import Frame, inner_stack, stack_pointer_from_long_tss
from .registers import (
    CR0_PE,
    CS,
    EFER_LMA,
    FLAG_NT,
    FLAG_RF,
    FLAG_VIF,
    FLAG_VIP,
    FLAG_VM,
    MASK16,
    MASK32,
    MASK64,
    RSP,
)
from .registers import SS as SS_INDEX
from .segments import Descriptor
from .state import Segment
from .translate import canonical

if TYPE_CHECKING:
    from .cpu import Cpu

CALL_GATE_16, CALL_GATE_32, TASK_GATE = 4, 12, 5


def _check_target(cpu: "Cpu", descriptor: Descriptor, offset: int) -> None:
    """The target must lie inside the new code segment, or be canonical for 64-bit code."""
    long_code = cpu.state.efer & EFER_LMA and descriptor.long
    if (long_code and not canonical(offset)) or (not long_code and offset > descriptor.limit):
        raise general_protection()


def _check_code(cpu: "Cpu", descriptor: Descriptor) -> None:
    """L and D together are reserved in long mode; the segment must be present."""
    if cpu.state.efer & EFER_LMA and descriptor.long and descriptor.db:
        raise general_protection(descriptor.error_code)
    if not descriptor.present:
        raise GuestFault(NP, descriptor.error_code)


def _load_code(cpu: "Cpu", descriptor: Descriptor, offset: int, cpl: int) -> None:
    """CS:RIP and CPL."""
    state = cpu.state
    descriptor = segments.mark_accessed(cpu, descriptor)
    segments.fill(state.segs[CS], descriptor._replace(selector=descriptor.selector & ~3 | cpl))
    state.cpl = cpl
    state.rip = offset
    cpu.update_mode()


def _real(cpu: "Cpu", selector: int, offset: int) -> None:
    if offset > cpu.state.segs[CS].limit:
        raise general_protection()
    cpu.state.segs[CS].load_real(selector)
    cpu.state.rip = offset
    cpu.update_mode()


def _push_frame(cpu: "Cpu", values: tuple[int, ...], size: int) -> None:
    """Push onto the present stack, all or nothing as far as SP is concerned."""
    ss = cpu.state.segs[SS_INDEX]
    frame = Frame(cpu, ss, cpu.state.gpr[RSP], cpu.stack_mask, 0)
    for value in values:
        frame.push(value, size)
    cpu.set_stack_pointer(frame.sp)


def transfer(cpu: "Cpu", selector: int, offset: int, size: int, call: bool) -> None:
    """Far JMP or CALL to `selector`:`offset`; `size` is the operand size in bytes.

    Raises:
        GuestFault: #GP, #NP, #SS, #TS, #PF.
    """
    state = cpu.state
    back = (state.segs[CS].selector, state.rip)
    if cpu.real_segments:
        if offset > state.segs[CS].limit:
            raise general_protection()
        if call:
            _push_frame(cpu, back, size)
        _real(cpu, selector, offset)
        return
    if not selector & 0xFFFC:
        raise general_protection()
    descriptor = segments.read_descriptor(cpu, selector)
    if not descriptor.s:
        _system_transfer(cpu, descriptor, call)
        return
    conforming = descriptor.conforming
    if not descriptor.is_code or descriptor.dpl > state.cpl:
        raise general_protection(descriptor.error_code)
    if not conforming and (selector & 3 > state.cpl or descriptor.dpl != state.cpl):
        raise general_protection(descriptor.error_code)
    _check_code(cpu, descriptor)
    _check_target(cpu, descriptor, offset)
    if call:
        _push_frame(cpu, back, size)
    _load_code(cpu, descriptor, offset, state.cpl)


def _system_transfer(cpu: "Cpu", gate: Descriptor, call: bool) -> None:
    """A selector that names a gate or a TSS."""
    state = cpu.state
    long_mode = bool(state.efer & EFER_LMA)
    gates = (CALL_GATE_32,) if long_mode else (CALL_GATE_16, CALL_GATE_32)
    to_task = () if long_mode else (TASK_GATE, *tasks.AVAILABLE_TYPES)
    if gate.type not in gates + to_task or gate.dpl < max(state.cpl, gate.selector & 3):
        raise general_protection(gate.error_code)
    if not gate.present:
        raise GuestFault(NP, gate.error_code)
    if gate.type in to_task:
        _switch_task(cpu, gate, call)
        return
    offset = gate.raw & MASK16 | (gate.raw >> 32 & 0xFFFF0000 if gate.type == CALL_GATE_32 else 0)
    if long_mode:
        table = state.ldtr if gate.selector & 4 else state.gdtr
        if (gate.selector | 7) + 8 > table.limit:
            raise general_protection(gate.error_code)
        upper = cpu.mmu.read_slow(gate.address + 8, 8, 0)
        if upper >> 40 & 0x1F:
            raise general_protection(gate.error_code)
        offset |= (upper & MASK32) << 32
    selector = gate.raw >> 16 & MASK16
    if not selector & 0xFFFC:
        raise general_protection()
    code = segments.read_descriptor(cpu, selector)
    if not code.is_code or code.dpl > state.cpl or (long_mode and (not code.long or code.db)):
        raise general_protection(code.error_code)
    if not call and not code.conforming and code.dpl != state.cpl:
        raise general_protection(code.error_code)
    if not code.present:
        raise GuestFault(NP, code.error_code)
    _check_target(cpu, code, offset)
    size = 8 if long_mode else 4 if gate.type == CALL_GATE_32 else 2
    if not call:
        _load_code(cpu, code, offset, state.cpl)
    elif code.conforming or code.dpl == state.cpl:
        _push_frame(cpu, (state.segs[CS].selector, state.rip), size)
        _load_code(cpu, code, offset, state.cpl)
    else:
        _call_inner(cpu, code, offset, size, gate.raw >> 32 & 0x1F)


def _switch_task(cpu: "Cpu", descriptor: Descriptor, call: bool) -> None:
    """JMP or CALL of a TSS or a task gate."""
    reason = tasks.Reason.CALL if call else tasks.Reason.JUMP
    selector = descriptor.raw >> 16 & MASK16 if descriptor.type == TASK_GATE else descriptor.selector
    tasks.switch(cpu, tasks.find_task(cpu, selector, reason), reason)


def _call_inner(cpu: "Cpu", code: Descriptor, offset: int, size: int, parameters: int) -> None:
    """Call to an inner level: new stack, old SS:SP, parameters, return address."""
    state = cpu.state
    old_ss, old_sp, cpl = state.segs[SS_INDEX], state.gpr[RSP], code.dpl
    copied: list[int] = []
    if size == 8:
        seg, sp, mask = Segment(), stack_pointer_from_long_tss(cpu, 4 + 8 * cpl, 0), MASK64
        segments.fill_null(seg, cpl, cpl)
    else:
        seg, sp = inner_stack(cpu, cpl, 0)
        mask = MASK32 if seg.db else MASK16
        copied = [_peek(cpu, size * n, size) for n in range(parameters)]
    frame = Frame(cpu, seg, sp, mask, seg.selector & 0xFFFC)
    try:
        cpu.mmu.select(False)
        for value in (old_ss.selector, old_sp, *reversed(copied), state.segs[CS].selector, state.rip):
            frame.push(value, size)
        code = segments.mark_accessed(cpu, code)
    except GuestFault:
        cpu.update_mode()
        raise
    old_ss.copy_from(seg)
    _load_code(cpu, code, offset, cpl)
    cpu.set_stack_pointer(frame.sp)


def _peek(cpu: "Cpu", at: int, size: int) -> int:
    """Read the stack `at` bytes above SP."""
    sp = cpu.state.gpr[RSP] + at & cpu.stack_mask
    return cpu.mmu.read[size](cpu.stack_address(sp, size, False))


def far_return(cpu: "Cpu", size: int, release: int) -> None:
    """RETF: `release` bytes of parameters are dropped, on both stacks where the level changes."""
    state = cpu.state
    offset, selector = _peek(cpu, 0, size), _peek(cpu, size, size) & MASK16
    if cpu.real_segments:
        _real(cpu, selector, offset)
        cpu.set_stack_pointer(state.gpr[RSP] + 2 * size + release)
        return
    code = _return_code(cpu, selector, offset)
    if selector & 3 == state.cpl:
        sp = state.gpr[RSP] + 2 * size + release
        mask = cpu.stack_mask
        _load_code(cpu, code, offset, state.cpl)
        _set_masked_sp(cpu, sp, mask)
        return
    sp = _peek(cpu, 2 * size + release, size)
    ss = _peek(cpu, 3 * size + release, size) & MASK16
    _return_outer(cpu, code, offset, ss, sp, release)


def _set_masked_sp(cpu: "Cpu", sp: int, mask: int) -> None:
    """Write SP with the width of the stack that was left."""
    gpr = cpu.state.gpr
    gpr[RSP] = sp & mask if mask != MASK16 else gpr[RSP] & ~MASK16 | sp & MASK16


def _return_code(cpu: "Cpu", selector: int, offset: int) -> Descriptor:
    """The code segment that RETF or IRET goes back to, checked."""
    state = cpu.state
    if not selector & 0xFFFC:
        raise general_protection()
    code = segments.read_descriptor(cpu, selector)
    rpl = selector & 3
    wrong_level = code.dpl > rpl if code.conforming else code.dpl != rpl
    if not code.is_code or rpl < state.cpl or wrong_level:
        raise general_protection(code.error_code)
    _check_code(cpu, code)
    _check_target(cpu, code, offset)
    return code


def _return_stack(cpu: "Cpu", code: Descriptor, selector: int, rpl: int) -> Segment:
    """The stack that an outer level gets back."""
    seg = Segment()
    if not selector & 0xFFFC:
        if not (cpu.state.efer & EFER_LMA and code.long) or rpl == 3 or selector & 3 != rpl:
            raise general_protection()
        segments.fill_null(seg, selector, rpl)
        return seg
    try:
        descriptor = segments.check_stack_descriptor(cpu, selector, rpl, 13, 0)
    except GuestFault as fault:
        raise stack_fault(selector & 0xFFFC) if fault.vector == SS else fault from None
    segments.fill(seg, segments.mark_accessed(cpu, descriptor))
    return seg


def _return_outer(cpu: "Cpu", code: Descriptor, offset: int, ss: int, sp: int, release: int) -> None:
    """Go back to an outer level; data segments it may not use become null."""
    state = cpu.state
    rpl = code.selector & 3
    seg = _return_stack(cpu, code, ss, rpl)
    outward = rpl > state.cpl
    _load_code(cpu, code, offset, rpl)
    state.segs[SS_INDEX].copy_from(seg)
    cpu.update_mode()
    cpu.set_stack_pointer(sp + release)
    if outward:
        for index, data in enumerate(state.segs):
            conforming = data.type & 0xC == 0xC
            if index not in (CS, SS_INDEX) and not data.unusable and data.dpl < rpl and not conforming:
                segments.fill_null(data, 0)


def iret(cpu: "Cpu", size: int, flags_mask: int) -> None:
    """IRET: NMIs are unmasked at once, even if it faults.

    Source: SDM vol. 3A 6.7.1; reference Linux 6.12 (NMI unblocking due to IRET).
    """
    state = cpu.state
    state.nmi_masked = False
    cpu.attention = True
    long_mode = state.efer & EFER_LMA
    if cpu.v86:
        flags_mask = v86.iret_flags(cpu, size)
    elif state.cr0 & CR0_PE and state.rflags & FLAG_NT:
        if long_mode:
            raise general_protection()
        tasks.return_to_previous(cpu)
        return
    offset, selector, flags = _peek(cpu, 0, size), _peek(cpu, size, size) & MASK16, _peek(cpu, 2 * size, size)
    if size > 2:
        flags_mask |= FLAG_RF if state.cpl or cpu.real_segments else FLAG_RF | FLAG_VIF | FLAG_VIP
    flags_mask &= cpu.model.flags
    if cpu.real_segments:
        flags = v86.checked_flags(cpu, flags)
        _real(cpu, selector, offset)
        cpu.set_stack_pointer(state.gpr[RSP] + 3 * size)
    else:
        if size == 4 and flags & FLAG_VM and state.cpl == 0 and not long_mode:
            v86.enter(cpu, selector, offset, flags, [_peek(cpu, at, 4) for at in range(12, 36, 4)])
            return
        code = _return_code(cpu, selector, offset)
        if cpu.bits == 64 or selector & 3 != state.cpl:
            sp, ss = _peek(cpu, 3 * size, size), _peek(cpu, 4 * size, size) & MASK16
            _return_outer(cpu, code, offset, ss, sp, 0)
        else:
            sp, mask = state.gpr[RSP] + 3 * size, cpu.stack_mask
            _load_code(cpu, code, offset, state.cpl)
            _set_masked_sp(cpu, sp, mask)
    state.rflags = state.rflags & ~flags_mask | flags & flags_mask
    cpu.flags_changed()
