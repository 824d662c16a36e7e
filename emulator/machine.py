"""A machine: one vCPU, memory and devices on one virtual clock, run deterministically."""

from enum import StrEnum
from typing import NamedTuple

from .bus import MachineBus
from .config import PAGE_BYTES, Board, MachineConfig
from .cpu import Cpu
from .cpu_model import MODELS
from .devices import lapic
from .devices.debug_exit import DEBUG_EXIT_PORT, DebugExit
from .devices.ioapic import pin_of
from .devices.lapic import APIC_BASE_ENABLE, APIC_BASE_X2APIC, Lapic
from .devices.pic import MASTER_COMMAND, MASTER_ELCR, SLAVE_COMMAND, SLAVE_ELCR, Pic
from .devices.pit import CHANNEL_PORTS, CONTROL_PORT, SPEAKER_PORT, Pit
from .devices.ports import PortDevice, PortSpace
from .devices.serial import COM1, COM1_IRQ, Serial
from .devices.smi_port import COMMAND_PORT, STATUS_PORT, TIMER_PORT, SmiPort
from .fast.loading import use_if_it_pays, use_now
from .memory import GuestMemory
from .pc import PcBoard, TimedDevice
from .registers import FLAG_IF, MASK64, MP_HALTED, MSR_TSC_DEADLINE
from .start import begin

TIMER_IRQ = 0


class Tier(StrEnum):
    """What executes instructions. The guest cannot tell, nor can a snapshot."""

    AUTO = "auto"  # the fast tier if numba is there, as soon as the machine has run long enough for it to pay
    REFERENCE = "reference"
    FAST = "fast"  # from the first instruction on


class StopReason(StrEnum):
    """Why `Machine.run` came back."""

    BUDGET = "budget"  # all steps asked for were done
    HALTED = "halted"  # HLT, and nothing in the machine can ever wake the vCPU
    SHUTDOWN = "shutdown"  # the vCPU is in a state that nothing here ends (waiting for INIT or SIPI)
    TRIPLE_FAULT = "triple_fault"
    STOPPED = "stopped"  # another thread asked for it
    DEBUG_EXIT = "debug_exit"  # the guest wrote to the debug-exit port


class RunResult(NamedTuple):
    """What a run did: why it ended and how many steps it took."""

    reason: StopReason
    steps: int


class MachineError(Exception):
    """Something was asked that the machine cannot do in its present state."""


class Machine:
    """One vCPU with RAM, 8259 pair, 8254, local APIC, 16550, SMI port and debug exit, and on a PC board what `pc` adds.

    Virtual time advances by `config.ns_per_instruction` a step and jumps over HLT to the next event that wakes the
    vCPU. Events fall due at the first boundary at or after their deadline; at every boundary that `run` stops at,
    all events up to now have been handled. So a run is a function of the state and `run(a); run(b)` equals
    `run(a + b)`.

    `ram` is the backing (a writable buffer of `config.ram_bytes`), made here if not given. `load_images` writes the
    config's images into it; a machine that is about to be restored does without. `tier` rules nothing but speed.

    Raises:
        ValueError: the config names an unknown CPU model, more than one vCPU, or memory that does not fit.
        ImportError: the fast tier is asked for and numba is not installed.
    """

    def __init__(
        self,
        config: MachineConfig,
        ram: bytearray | memoryview | None = None,
        load_images: bool = True,
        tier: Tier = Tier.AUTO,
    ) -> None:
        if config.vcpus != 1:
            raise ValueError(f"{config.vcpus} vCPUs: this machine has one")
        if config.cpu_model not in MODELS:
            raise ValueError(f"no CPU model {config.cpu_model!r} (there are: {', '.join(MODELS)})")
        if config.ns_per_instruction <= 0:
            raise ValueError("ns_per_instruction must be positive, or virtual time would stand still")
        ram = bytearray(config.ram_bytes) if ram is None else ram
        self.config = config
        self.memory = GuestMemory(config.slots, ram)
        if self.memory.ram_bytes != config.ram_bytes:
            raise ValueError(f"the backing has {self.memory.ram_bytes} bytes, the config says {config.ram_bytes}")
        self._base_ns = 0
        self._base_retired = 0
        self.clock_offset_ns = 0  # kvmclock minus virtual time; no guest here reads it, a migration carries it
        self._lapic_gpa: int | None = None
        self._connect(config)
        if load_images:
            for image in config.images:
                self.memory.load_image(*image)
        self.place_lapic(self.cpu.state.apic_base)
        if tier is not Tier.REFERENCE:
            (use_now if tier is Tier.FAST else use_if_it_pays)(self.cpu)

    def _connect(self, config: MachineConfig) -> None:
        """Create the devices and the vCPU and wire them up."""
        self.ports = PortSpace()
        self.cpu = Cpu(self.memory, MachineBus(self), MODELS[config.cpu_model])
        self.cpu.keeps_smm_shadow = config.keeps_smm_shadow
        self.cpu.read_tsc = self.tsc
        self.pic = Pic(self._update_interrupt_line)
        self.lapic = Lapic(
            self._now, self.inject_smi, self.inject_nmi, self.cpu.request_init, self._lapic_changed, self._level_ended,
            self._ns_of_tsc if MSR_TSC_DEADLINE in self.cpu.model.msr_indices else None,
        )  # fmt: skip
        self.pit = Pit(self._now, self._timer_pulse, self.timers_changed)
        self.serial = Serial(lambda level: self.set_irq(COM1_IRQ, level))
        self.smi_port = SmiPort(self._now, self._apm_command, self.timers_changed)
        self.debug_exit = DebugExit(self._exit)
        devices: list[tuple[PortDevice, int, int, bool]] = [
            (self.pic, MASTER_COMMAND, MASTER_COMMAND + 1, False),
            (self.pic, SLAVE_COMMAND, SLAVE_COMMAND + 1, False),
            (self.pic, MASTER_ELCR, SLAVE_ELCR, False),
            (self.pit, CHANNEL_PORTS[0], CONTROL_PORT, False),
            (self.pit, SPEAKER_PORT, SPEAKER_PORT, False),
            (self.serial, COM1, COM1 + 7, False),
            (self.smi_port, COMMAND_PORT, STATUS_PORT, False),
            (self.debug_exit, DEBUG_EXIT_PORT, DEBUG_EXIT_PORT, True),
        ]
        if config.board == Board.MINIMAL:
            devices.append((self.smi_port, TIMER_PORT, TIMER_PORT, True))
        for device, first, last, wide in devices:
            self.ports.register(device, first, last, wide)
        self.pc = PcBoard(self, config) if config.board == Board.PC else None
        extra = self.pc.timed if self.pc is not None else ()
        self._timed: tuple[TimedDevice, ...] = (self.smi_port, self.pit, self.lapic, *(device for device, _ in extra))
        self._irq_sources: tuple[tuple[TimedDevice, int], ...] = ((self.pit, TIMER_IRQ), *extra)
        begin(self.cpu.state, config.start)
        self.cpu.state_changed()

    # ---- time ----

    @property
    def now_ns(self) -> int:
        """Virtual time at the present boundary; during an instruction, that of the boundary before it."""
        return self._base_ns + (self.cpu.retired - self._base_retired) * self.config.ns_per_instruction

    def _now(self) -> int:
        return self.now_ns

    def tsc(self) -> int:
        """The machine's time-stamp counter, before the vCPU's own offset."""
        return self.now_ns * self.config.tsc_khz // 1_000_000

    def _ns_of_tsc(self, value: int) -> int:
        """When the vCPU's time-stamp counter reaches `value`, or now if it has."""
        host = self.tsc()
        ahead = value - (host + self.cpu.state.tsc_offset & MASK64)
        return max(-(-(host + ahead) * 1_000_000 // self.config.tsc_khz), self.now_ns) if ahead > 0 else self.now_ns

    def set_clock(self, now_ns: int, retired: int) -> None:
        """Set virtual time and the step count, for a restore. Deadlines are loaded afterwards."""
        self.cpu.retired = self._base_retired = retired
        self._base_ns = now_ns

    @property
    def retired(self) -> int:
        """Steps since the machine was created, on whatever host."""
        return self.cpu.retired

    # ---- what devices tell ----

    def _update_interrupt_line(self) -> None:
        lapic = self.lapic
        self.cpu.interrupt_line = (self.pic.output and lapic.accepts_pic()) or lapic.pending() >= 0

    def set_irq(self, irq: int, level: int) -> None:
        """Drive an ISA interrupt line, which every interrupt controller sees."""
        self.pic.set_irq(irq, level)
        if self.pc is not None:
            self.pc.ioapic.set_pin(pin_of(irq), level)

    def _timer_pulse(self) -> None:
        self.set_irq(TIMER_IRQ, 1)
        self.set_irq(TIMER_IRQ, 0)

    def _level_ended(self, vector: int) -> None:
        if self.pc is not None:
            self.pc.ioapic.end_of_interrupt(vector)

    def _apm_command(self) -> None:
        if self.pc is None:
            self.inject_smi()
        else:
            self.pc.apm_command(self.smi_port.command)

    def timers_changed(self) -> None:
        """A device acts at another time than before: the present slice of steps ends."""
        self.cpu.slice_break = True

    def _lapic_changed(self) -> None:
        self._update_interrupt_line()
        self.timers_changed()

    def _exit(self) -> None:
        self.cpu.exit_request = True

    def place_lapic(self, apic_base: int) -> None:
        """Show the local APIC's page where IA32_APIC_BASE says, or nowhere while it is disabled or in x2APIC mode."""
        if self._lapic_gpa is not None:
            self.memory.unmap_mmio(self._lapic_gpa)
            self._lapic_gpa = None
        enabled, x2apic = bool(apic_base & APIC_BASE_ENABLE), bool(apic_base & APIC_BASE_X2APIC)
        if enabled and not x2apic:
            self._lapic_gpa = apic_base & ~(PAGE_BYTES - 1)
            self.memory.map_mmio(self._lapic_gpa, self.lapic)
        self.lapic.set_mode(enabled, x2apic)

    # ---- running ----

    def run(self, max_steps: int, max_idle_ns: int | None = None) -> RunResult:
        """Do up to `max_steps` steps; fewer only if the machine ends, can never wake, is stopped or has idled.

        Raises:
            UnsupportedInstruction: the guest needs what the emulator has not built; the state is that before it.
        """
        done, begin_ns = 0, self._base_ns
        while done < max_steps and (reason := self._ended()) is None:
            steps = self._slice(max_steps - done)
            done += steps
            if self.cpu.stop_word[0]:
                self.cpu.stop_word[0] = 0
                return RunResult(StopReason.STOPPED, done)
            if steps == 0 and self._ended() is None and not self._wake():
                break
            if max_idle_ns is not None and self._base_ns - begin_ns >= max_idle_ns:
                break
        reason = self._ended()
        if reason is None:
            reason = StopReason.HALTED if self._sleeps_for_good() else StopReason.BUDGET
        return RunResult(reason, done)

    def _slice(self, budget: int) -> int:
        """Run to the next deadline at most and handle what falls due."""
        self.cpu.slice_break = False
        deadline = self._next_deadline()
        if deadline is not None:
            step_ns = self.config.ns_per_instruction
            budget = min(budget, max(-(-(deadline - self.now_ns) // step_ns), 1))
        try:
            return self.cpu.run(budget)
        finally:
            self._handle_due()

    def _ended(self) -> StopReason | None:
        state = self.cpu.state
        if self.debug_exit.code is not None:
            return StopReason.DEBUG_EXIT
        if state.triple_fault:
            return StopReason.TRIPLE_FAULT
        return StopReason.SHUTDOWN if state.mp_state not in (0, MP_HALTED) else None

    def _next_deadline(self) -> int | None:
        armed = [device.deadline_ns for device in self._timed]
        return min((when for when in armed if when is not None), default=None)

    def _handle_due(self) -> None:
        now_ns = self.now_ns
        for device in self._timed:
            device.due(now_ns)

    def _sleeps_for_good(self) -> bool:
        """Whether the vCPU is in HLT with nothing to deliver now and no timer that would wake it."""
        state = self.cpu.state
        if state.mp_state != MP_HALTED or ((state.smi_pending or state.latched_init) and not state.smm):
            return False
        if (state.nmi_pending and not state.nmi_masked) or (self.cpu.interrupt_line and state.rflags & FLAG_IF):
            return False
        return self._wake_deadline() is None

    def _wake(self) -> bool:
        """Jump over HLT to the next event that wakes the vCPU; False if there is none."""
        when = self._wake_deadline()
        if when is None:
            return False
        self._base_ns += max(when - self.now_ns, 0)
        self._handle_due()
        return True

    def _wake_deadline(self) -> int | None:
        """When the first timer falls due that ends HLT: an SMI outside SMM, or an interrupt that is let through."""
        state = self.cpu.state
        armed = []
        if self.smi_port.deadline_ns is not None and not state.smm:
            armed.append(self.smi_port.deadline_ns)
        for device, irq in self._irq_sources:
            if device.deadline_ns is not None and self._line_would_wake(irq):
                armed.append(device.deadline_ns)
        if self.lapic.deadline_ns is not None and state.rflags & FLAG_IF and self.lapic.timer_would_interrupt():
            armed.append(self.lapic.deadline_ns)
        return min(armed, default=None)

    def _line_would_wake(self, irq: int) -> bool:
        """Whether a rise of an interrupt line would end HLT, were it to come now."""
        state = self.cpu.state
        interrupts_on = bool(state.rflags & FLAG_IF)
        if interrupts_on and self.lapic.accepts_pic() and self.pic.edge_would_interrupt(irq):
            return True
        if self.pc is None:
            return False
        match self.pc.ioapic.would_deliver(pin_of(irq)):
            case lapic.DELIVER_FIXED | lapic.DELIVER_LOWEST:
                return interrupts_on
            case lapic.DELIVER_NMI:
                return not state.nmi_masked
            case lapic.DELIVER_SMI | lapic.DELIVER_INIT:
                return not state.smm
        return False

    # ---- from outside ----

    def stop(self) -> None:
        """End the run that another thread is in, or the next one, at the next boundary."""
        self.cpu.request_stop()

    def inject_smi(self) -> None:
        """Raise an SMI; inside SMM it stays latched until RSM."""
        self.cpu.request_smi()

    def inject_nmi(self) -> None:
        """Raise an NMI; while NMIs are blocked one stays latched."""
        self.cpu.request_nmi()

    def inject_interrupt(self, vector: int) -> None:
        """Send the local APIC a fixed interrupt.

        Raises:
            MachineError: the vector is below 16, or the guest has not enabled its local APIC.
        """
        if not 16 <= vector <= 255:
            raise MachineError(f"vector {vector}: the local APIC takes 16 to 255")
        if not self.lapic.accept(vector):
            raise MachineError("the guest has not enabled its local APIC (SVR bit 8, IA32_APIC_BASE bit 11)")

    def console_bytes(self, since: int = 0) -> bytes:
        """Serial output from byte number `since` on, as far as it is held here."""
        return self.serial.read_console(since)[1]

    @property
    def exit_code(self) -> int | None:
        """What the guest wrote to the debug-exit port; None while it runs."""
        return self.debug_exit.code
