"""The CPU: steps, events at their boundaries, the instruction cache, and what instructions share."""

from collections.abc import Callable

from . import events, operands, segments
from .breakpoints import Breakpoints
from .cpu_bus import Bus
from .cpu_model import CpuModel
from .exceptions import SS as SS_FAULT
from .exceptions import GuestFault
from .fetch import Entry, Fetcher
from .legacy import WrappingMmu, wrapped_address
from .memory import GuestMemory
from .registers import (
    CR0_AM,
    CR0_PE,
    CS,
    EFER_LMA,
    FLAG_AC,
    FLAG_IF,
    FLAG_RF,
    FLAG_TF,
    FLAG_VM,
    MASK16,
    MASK32,
    MASK64,
    MP_RUNNABLE,
    RDX,
    RSP,
    SHADOW_MOV_SS,
    SS,
)
from .state import CpuState
from .translate import Mmu


class Cpu:
    """One vCPU over guest memory and a bus.

    A step delivers at its start what is due, by priority, and then does one instruction (one iteration of a repeated
    string instruction). A faulting instruction is a step too: it leaves its exception pending in the state, to be
    delivered by the next step. Nothing is delivered after the last step of a run, so that the state at every
    boundary shows what is pending.

    `v86` is virtual-8086 mode, `real_segments` that or real mode: segment registers load without descriptors.
    `retired` counts steps; during an instruction it is the number of steps before it. After the state was changed
    from outside, call `state_changed`.
    """

    def __init__(self, memory: GuestMemory, bus: Bus, model: CpuModel) -> None:
        self.state = CpuState()
        self.state.gpr[RDX] = model.reset_rdx
        self.memory = memory
        self.bus = bus
        self.model = model
        self.keeps_smm_shadow = True
        self.retired = 0
        self.read_tsc: Callable[[], int] = lambda: self.retired
        self.mmu = (WrappingMmu if model.quirks.wraps else Mmu)(self.state, memory, model.physical_bits)
        self.breakpoints = Breakpoints(self.state, self.mmu)
        self.fetcher = Fetcher(self)
        memory.on_code_write = self.fetcher.forget_page
        self.attention = True
        self.shadow_before = 0
        self.trap_inhibited = False
        self.repeating = False
        self.bits = 16
        self.v86 = False
        self.real_segments = True
        self.stack_mask = MASK16
        self.linear_mask = MASK32
        self.code: dict[int, Entry] = {}
        self.many_steps: Callable[[int], None] = self.quick_steps
        self._interrupt_line = False
        self._exit_request = False
        self._slice_break = False
        self.stop_word = memoryview(bytearray(4)).cast("i")
        self._generation = memory.generation
        self.state_changed()

    # ---- what the machine around it uses ----

    @property
    def interrupt_line(self) -> bool:
        """INTR: an interrupt controller has a vector to acknowledge."""
        return self._interrupt_line

    @interrupt_line.setter
    def interrupt_line(self, level: bool) -> None:
        self._interrupt_line = level
        self.attention = True

    @property
    def exit_request(self) -> bool:
        """A device ends the run after the present step."""
        return self._exit_request

    @exit_request.setter
    def exit_request(self, wanted: bool) -> None:
        self._exit_request = wanted
        self.attention = True

    @property
    def slice_break(self) -> bool:
        """A timer was set: the machine must reconsider how long this run may be."""
        return self._slice_break

    @slice_break.setter
    def slice_break(self, wanted: bool) -> None:
        self._slice_break = wanted
        self.attention = True

    def request_stop(self) -> None:
        """End the run at the next boundary. The one method that may be called while another thread runs the CPU."""
        self.stop_word[0] = 1
        self.attention = True

    def request_smi(self) -> None:
        """Latch an SMI; one is held, not a count. A model without SMM has no such pin."""
        self.state.smi_pending = "SMM" in self.model.features
        self.attention = True

    def request_nmi(self) -> None:
        """Latch an NMI: two are held, or one while NMIs are masked. Source: Linux 6.12 x86.c process_nmi()."""
        state = self.state
        state.nmi_pending = min(state.nmi_pending + 1, 1 if state.nmi_masked or state.nmi_injected else 2)
        self.attention = True

    def request_init(self) -> None:
        """Latch an INIT; inside SMM it waits for RSM."""
        self.state.latched_init = True
        self.attention = True

    def run(self, steps: int) -> int:
        """Do `steps` steps and return how many were done.

        Fewer are done when the CPU is halted with nothing to deliver, shut down, or a device asks for a stop.

        Raises:
            UnsupportedInstruction: the state is that before the instruction.
        """
        if self.memory.generation != self._generation:
            self.flush_tlb()
        first = self.retired
        end = first + steps
        self.attention = True
        while self.retired < end:
            if not self.attention:
                self.many_steps(end - self.retired)
            elif not self._careful_step():
                break
        return self.retired - first

    def quick_steps(self, steps: int) -> None:
        """Up to `steps` steps, until one of them makes the next need care. Whatever changes the view does."""
        state, code, fetch = self.state, self.code, self.fetcher.fetch
        rip = state.rip
        try:
            for _ in range(steps):
                rip = state.rip
                action, state.rip = code.get(rip) or fetch(rip)
                action()
                self.retired += 1
                if self.attention:
                    return
        except GuestFault as fault:
            if not fault.keeps_rip:
                state.rip = rip
            self.retired += 1
            self.attention = True
            events.queue(state, fault)
        except BaseException:
            state.rip = rip
            raise

    def step(self) -> int:
        """Do one step."""
        return self.run(1)

    def _careful_step(self) -> bool:
        """One step where an event, a shadow, a trap or a breakpoint may matter; False if none can be done."""
        state = self.state
        if self._exit_request or self._slice_break or state.triple_fault or self.stop_word[0]:
            return False
        events.deliver_due(self)
        if state.triple_fault or state.mp_state != MP_RUNNABLE:
            return False
        traced = state.rflags & FLAG_TF
        resume = state.rflags & FLAG_RF
        self.shadow_before = state.shadow
        state.shadow = 0
        state.rflags &= ~FLAG_RF
        self.trap_inhibited = self.repeating = False
        rip = state.rip
        try:
            self.breakpoints.begin(rip, bool(resume) or self.shadow_before == SHADOW_MOV_SS)
            action, state.rip = self.code.get(rip) or self.fetcher.fetch(rip)
            action()
        except GuestFault as fault:
            if not fault.keeps_rip:
                state.rip = rip
                state.rflags |= resume
            events.queue(state, fault)
        except BaseException:
            state.rip = rip
            state.rflags |= resume
            state.shadow = self.shadow_before
            raise
        else:
            if self.repeating:
                state.rflags |= resume
            if not self.trap_inhibited:
                self._trap(bool(traced))
        self.shadow_before = 0
        self.retired += 1
        self._look_ahead()
        return True

    def _trap(self, traced: bool) -> None:
        """Queue #DB for single-step and data breakpoints, which MOV SS and POP SS hold off.

        Hardware delivers a breakpoint hit by MOV SS itself one instruction later, from a field that no KVM interface
        carries; here it is dropped, so that a snapshot misses nothing.

        Source: SDM vol. 3A 6.8.3, vol. 3B 18.3.1.4.
        """
        hits = self.breakpoints.take(traced)
        if hits and not self.state.shadow & SHADOW_MOV_SS:
            events.queue(self.state, GuestFault(1, None, hits))

    def _look_ahead(self) -> None:
        """Decide whether the next step needs care."""
        state = self.state
        self.attention = bool(
            state.shadow
            or state.exception_pending
            or state.rflags & (FLAG_TF | FLAG_RF)
            or (self._interrupt_line and state.rflags & FLAG_IF)
            or (state.smi_pending and not state.smm)
            or (state.nmi_pending and not state.nmi_masked)
            or state.mp_state
            or state.triple_fault
            or (state.latched_init and not state.smm)
            or self.breakpoints.armed
            or self._exit_request
            or self._slice_break
        )
        if self.stop_word[0]:  # it may have been set meanwhile
            self.attention = True

    # ---- derived state ----

    def state_changed(self) -> None:
        """Derive everything anew after the state or the memory was changed from outside."""
        state = self.state
        for seg in (*state.segs, state.ldtr, state.tr):
            seg.refresh()
        state.cpl = 0 if not state.cr0 & CR0_PE else 3 if state.rflags & FLAG_VM else state.segs[SS].dpl
        self.invalidate_code()
        self.breakpoints.refresh()
        self.update_mode()

    def update_mode(self) -> None:
        """Derive what depends on CS, SS, CPL, CR0, EFER, and the choice of decoded code."""
        state = self.state
        cs, ss = state.segs[CS], state.segs[SS]
        long_mode = state.efer & EFER_LMA
        self.bits = 64 if long_mode and cs.l else 32 if cs.db else 16
        self.stack_mask = MASK64 if self.bits == 64 else MASK32 if ss.db else MASK16
        self.linear_mask = MASK64 if long_mode or self.model.quirks.wraps else MASK32
        user = state.cpl == 3
        self.mmu.select(user)
        self.update_alignment_check()
        protected = state.cr0 & CR0_PE
        self.v86 = bool(protected and state.rflags & FLAG_VM and not long_mode)
        self.real_segments = self.v86 or not protected
        mode = self.bits | (protected and 1) | (2 if long_mode else 0) | (4 if self.stack_mask == MASK32 else 0)
        self.code = self.fetcher.select(mode, user)
        self.attention = True

    def update_alignment_check(self) -> None:
        """Derive whether #AC is armed. Source: SDM vol. 3A 6.15 Interrupt 17."""
        state = self.state
        self.mmu.alignment_check = bool(state.cr0 & CR0_AM and state.rflags & FLAG_AC and state.cpl == 3)

    def flush_tlb(self) -> None:
        """Forget translations; decoded pages stay."""
        self._generation = self.memory.generation
        self.mmu.flush()
        self.fetcher.forget_addresses()

    def invalidate_code(self) -> None:
        """Forget translations and decoded instructions."""
        self.fetcher.forget_all()
        self.flush_tlb()

    def init(self) -> None:
        """INIT: to the reset vector; SMBASE, caches, FPU and MSRs stay. Source: SDM vol. 3A table 9-1, 9.1.2."""
        old, state = self.state, CpuState()
        for name in ("smbase", "apic_base", "msrs", "tsc_offset", "xcr0", "xsave", "sipi_vector"):
            setattr(state, name, getattr(old, name))
        state.cr0 = old.cr0 & 0x60000000 | 0x10
        old.gpr[:] = state.gpr
        old.gpr[RDX] = self.model.reset_rdx
        for mine, fresh in zip((*old.segs, old.ldtr, old.tr), (*state.segs, state.ldtr, state.tr), strict=True):
            mine.copy_from(fresh)
        for name in CpuState.__slots__:
            if name not in ("gpr", "segs", "ldtr", "tr"):
                setattr(old, name, getattr(state, name))
        self.bus.init()
        self.state_changed()

    # ---- what instructions share ----

    def set_shadow(self, bit: int) -> None:
        """Begin the interrupt shadow `bit`; a second one of the same kind in a row gives none.

        Source: Linux 6.12 arch/x86/kvm/x86.c toggle_interruptibility().
        """
        self.state.shadow = 0 if self.shadow_before & bit else bit
        self.attention = True

    def flags_changed(self) -> None:
        """TF, IF, AC or IOPL may have changed."""
        self.update_alignment_check()
        self.attention = True

    def push(self, value: int, size: int) -> None:
        """Push `size` bytes; RSP changes only if the write succeeds."""
        gpr, mask = self.state.gpr, self.stack_mask
        sp = gpr[RSP] - size & mask
        self.mmu.write[size](self.stack_address(sp, size, True), value)
        gpr[RSP] = sp if mask != MASK16 else gpr[RSP] & ~MASK16 | sp

    def pop(self, size: int) -> int:
        """Pop `size` bytes."""
        gpr, mask = self.state.gpr, self.stack_mask
        sp = gpr[RSP] & mask
        value = self.mmu.read[size](self.stack_address(sp, size, False))
        self.set_stack_pointer(sp + size)
        return value

    def set_stack_pointer(self, value: int) -> None:
        """Write SP, ESP or RSP, whichever the stack uses."""
        gpr, mask = self.state.gpr, self.stack_mask
        gpr[RSP] = value & mask if mask != MASK16 else gpr[RSP] & ~MASK16 | value & MASK16

    def stack_address(self, offset: int, size: int, write: bool) -> int:
        """Linear address of `size` bytes of stack, checked."""
        if self.bits == 64:
            return operands.checked_stack_offset(offset, size)
        ss = self.state.segs[SS]
        if offset + size - 1 > (ss.write_end if write else ss.read_end):
            return self.overrun(SS, offset, size, write)
        return ss.base + offset & MASK32

    def overrun(self, index: int, offset: int, size: int, write: bool) -> int:
        """Linear address of an access that the derived ends of its segment do not allow.

        Raises:
            GuestFault: #GP(0) or #SS(0); a 286 has only #GP in real mode.
        """
        quirks, base = self.model.quirks, self.state.segs[index].base
        if quirks.wraps:
            return wrapped_address(base, offset)
        try:
            segments.check(self.state, index, offset, size, write)
        except GuestFault as fault:
            if fault.vector == SS_FAULT and not self.state.cr0 & CR0_PE:
                raise GuestFault(quirks.stack_fault, 0) from None
            raise
        return base + offset & MASK32
