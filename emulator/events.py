"""Events: exceptions and how they merge, and the order in which a boundary delivers what is due.

Source: Linux 6.12 arch/x86/kvm/x86.c kvm_multiple_exception(), kvm_check_and_inject_events(); SDM vol. 3A table 6-2.
"""

from typing import TYPE_CHECKING

from . import interrupts
from .exceptions import CONTRIBUTORY, DB, DF, NMI, NOT_FAULTS, PF, GuestFault, TripleFault
from .interrupts import Source
from .registers import DR7_GD, FLAG_IF, FLAG_RF, MP_RUNNABLE
from .smm.enter import enter_smm

if TYPE_CHECKING:
    from .cpu import Cpu
    from .state import CpuState

DR6_FIXED_ONES = 0xFFFE07F0
DR6_ACTIVE_LOW = 0xFFFF0FF0
"""DR6 as KVM updates it. Source: Linux 6.12 arch/x86/kvm/x86.c kvm_deliver_exception_payload()."""
_PAYLOAD_ENABLED_BREAKPOINT = 1 << 12


def queue(state: "CpuState", fault: GuestFault, delivering: int | None = None) -> None:
    """Make `fault` the pending exception; `delivering` is the vector whose delivery raised it.

    Contributory after contributory, and contributory or #PF after #PF, give #DF; anything after #DF is a triple
    fault, but for the #DB of a task that a task gate has switched to; otherwise the new exception replaces the old
    one, which re-execution will raise again.
    """
    vector = fault.vector
    state.exception_injected = False
    if delivering == DF and vector != DB:
        state.exception_pending = False
        state.triple_fault = True
        return
    if delivering is not None and (
        (delivering in CONTRIBUTORY and vector in CONTRIBUTORY)
        or (delivering == PF and (vector in CONTRIBUTORY or vector == PF))
    ):
        fault = GuestFault(DF, 0)
    state.exception_pending = True
    state.exception_nr = fault.vector
    state.exception_has_error_code = fault.error_code is not None
    state.exception_error_code = fault.error_code or 0
    state.exception_has_payload = fault.payload is not None
    state.exception_payload = fault.payload or 0


def deliver_payload(state: "CpuState") -> None:
    """Put the payload of the exception at hand into CR2 or DR6."""
    if not state.exception_has_payload:
        return
    payload = state.exception_payload
    if state.exception_nr == PF:
        state.cr2 = payload
    elif state.exception_nr == DB:
        dr6 = state.dr6 & ~0xF | 1 << 16
        dr6 = dr6 & ~(payload & DR6_ACTIVE_LOW) | payload & ~DR6_ACTIVE_LOW
        state.dr6 = (dr6 & ~_PAYLOAD_ENABLED_BREAKPOINT | DR6_FIXED_ONES) & 0xFFFFFFFF
    state.exception_has_payload = False
    state.exception_payload = 0


def _deliver_exception(cpu: "Cpu") -> None:
    """Deliver the pending or injected exception."""
    state = cpu.state
    vector = state.exception_nr
    if state.exception_pending:
        if vector not in NOT_FAULTS:
            state.rflags |= FLAG_RF
        if vector == DB:
            state.dr7 &= ~DR7_GD
        deliver_payload(state)
    error_code = state.exception_error_code if state.exception_has_error_code else None
    state.exception_pending = state.exception_injected = False
    _deliver(cpu, vector, error_code, vector)


def _deliver(cpu: "Cpu", vector: int, error_code: int | None, delivering: int | None) -> None:
    """Deliver one vector; the event ends the interrupt shadow and HLT. `delivering` is set for an exception."""
    state = cpu.state
    state.shadow = 0
    state.mp_state = MP_RUNNABLE
    try:
        interrupts.deliver(cpu, vector, error_code, Source.EVENT)
    except GuestFault as fault:
        queue(state, fault, delivering)


def deliver_due(cpu: "Cpu") -> None:
    """Deliver, highest first, everything that is due before the next instruction.

    Order: INIT, an exception injected before, a pending exception, an NMI or interrupt injected before, SMI, NMI,
    external interrupt. At most one external interrupt is accepted, so that a step always comes to its instruction.
    """
    state = cpu.state
    accepted = False
    while not state.triple_fault:
        if state.latched_init and not state.smm:
            cpu.init()
        elif state.exception_injected or state.exception_pending:
            _deliver_exception(cpu)
        elif state.nmi_injected:
            state.nmi_injected = False
            _deliver(cpu, NMI, None, None)
        elif state.interrupt_injected:
            state.interrupt_injected = False
            _deliver(cpu, state.interrupt_nr, None, None)
        elif state.smi_pending and not state.smm:
            _take_smi(cpu)
        elif state.nmi_pending and not state.nmi_masked and not state.shadow:
            state.nmi_pending -= 1
            state.nmi_masked = True
            _deliver(cpu, NMI, None, None)
        elif not accepted and cpu.interrupt_line and state.rflags & FLAG_IF and not state.shadow:
            accepted = True
            vector = cpu.bus.acknowledge()
            _deliver(cpu, vector, None, None)
        else:
            return


def _take_smi(cpu: "Cpu") -> None:
    """Enter SMM; not blocked by a shadow, IF or the NMI mask."""
    state = cpu.state
    state.smi_pending = False
    state.mp_state = MP_RUNNABLE
    try:
        enter_smm(cpu)
    except TripleFault:
        state.triple_fault = True
