"""The emulator as a backend: one `emulator.Machine` over the worker's guest RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from emulator.bridge import host_profile, load_sections, save_sections
from emulator.exceptions import UnsupportedInstruction
from emulator.guests import GUESTS
from emulator.machine import Machine, MachineError, StopReason
from migsvc.backends.base import HALTED, Backend, GuestInfo, GuestParamInfo, Moment, SavedState, SliceResult, Stop
from migsvc.backends.config import VmConfig
from migsvc.backends.emulator_config import config_of, describe
from migsvc.backends.ram import GuestRam
from migsvc.errors import ConflictError, IllegalStateError, InputError
from migsvc.stream.records import STREAM_VERSIONS_READ
from schemas.compat import HostProfile
from schemas.errors import SchemaError

MIN_CHUNK_STEPS = 16
MAX_CHUNK_STEPS = 1 << 18
"""How often a slice looks at where its guest is: often while the guest idles, seldom while it does not."""


class EmulatorVm:
    """One emulated machine with its RAM in a memfd."""

    def __init__(self, config: VmConfig) -> None:
        """Make the machine.

        Raises:
            InputError: the configuration names what there is not, or does not fit together.
            LimitError: too much RAM.
        """
        with _input_errors():
            machine_config = replace(config_of(config), keeps_smm_shadow=config.keeps_smm_shadow)
            self._ram = GuestRam.create(machine_config.ram_bytes)
            try:
                view = memoryview(self._ram.map)
                self._machine = Machine(machine_config, view, load_images=config.machine is None)
            except BaseException:
                del view
                self._ram.close()
                raise
        self._unsupported: Stop | None = None
        self._console_taken = self._machine.serial.tx_bytes

    @property
    def ram_fd(self) -> int:
        """The memfd of guest RAM."""
        return self._ram.fd

    @property
    def ram_bytes(self) -> int:
        """Size of the backing, private SMRAM included."""
        return self._ram.size_bytes

    @property
    def retired(self) -> int:
        """Steps since the VM began, on whatever host."""
        return self._machine.retired

    @property
    def console_bytes(self) -> int:
        """Bytes that the serial port has sent since the VM began."""
        return self._machine.serial.tx_bytes

    def stopped(self) -> Stop | None:
        """Return why the machine cannot go on, None if it can."""
        return self._unsupported or self._stop_of(self._machine.run(0).reason)

    def run_slice(self, max_steps: int, max_idle_ns: int) -> SliceResult:
        """Run at most `max_steps` steps, fewer once the guest has idled `max_idle_ns`."""
        machine = self._machine
        return self._run(lambda steps: machine.run(steps, max_idle_ns).reason, max_steps, max_idle_ns)

    def run_until(self, condition: Callable[[Moment], bool], max_steps: int, max_idle_ns: int) -> SliceResult:
        """Run step by step until `condition` holds."""
        machine, moment = self._machine, self.moment

        def search(steps: int) -> StopReason | None:
            for _ in range(steps):
                if condition(moment()):
                    return None
                reason = machine.run(1).reason
                if reason is not StopReason.BUDGET:
                    return reason
            return StopReason.BUDGET

        result = self._run(search, max_steps, max_idle_ns)
        return SliceResult(result.steps, result.virtual_ns, result.idle_ns, condition(moment()), result.stop)

    def _run(self, chunk: Callable[[int], StopReason | None], max_steps: int, max_idle_ns: int) -> SliceResult:
        """Run chunks up to a bound; a chunk that returns None ends the slice."""
        machine = self._machine
        begin_ns, begin, step_ns = machine.now_ns, machine.retired, machine.config.ns_per_instruction
        steps, idle_ns, size, stop = 0, 0, MIN_CHUNK_STEPS, self._unsupported
        while stop is None and steps < max_steps and idle_ns < max_idle_ns:
            try:
                reason = chunk(min(max_steps - steps, size))
            except UnsupportedInstruction as error:
                stop = self._unsupported = Stop("unsupported_instruction", detail=str(error))
                reason = StopReason.BUDGET
            steps, idle_before_ns = machine.retired - begin, idle_ns
            idle_ns = machine.now_ns - begin_ns - steps * step_ns
            if reason is None:
                break
            size = min(2 * size, MAX_CHUNK_STEPS) if idle_ns == idle_before_ns else MIN_CHUNK_STEPS
            stop = stop or self._stop_of(reason)
        return SliceResult(steps, machine.now_ns - begin_ns, idle_ns, stop=stop)

    def _stop_of(self, reason: StopReason) -> Stop | None:
        if reason is StopReason.BUDGET:
            return None
        return Stop(HALTED if reason is StopReason.HALTED else reason.value, exit_code=self._machine.exit_code)

    def moment(self) -> Moment:
        """Return where the vCPU is."""
        state = self._machine.cpu.state
        return Moment(bool(state.smm), state.shadow, state.smm_shadow)

    def registers(self) -> dict[str, Any]:
        """Return rip, what is held off, and the halt state."""
        state = self._machine.cpu.state
        return {
            "rip": f"0x{state.rip:x}",
            "smm": bool(state.smm),
            "shadow": state.shadow,
            "smm_shadow": state.smm_shadow,
            "mp_state": state.mp_state,
        }

    def describe(self) -> dict[str, Any]:
        """Return the memory map, the number of vCPUs and the machine's parameters."""
        return describe(self._machine.config)

    def save(self) -> SavedState:
        """Return the state as raw structs.

        Raises:
            ConflictError: the machine has devices whose state no stream can carry.
        """
        try:
            vm, vcpus = save_sections(self._machine)
        except SchemaError as error:
            raise ConflictError(str(error)) from error
        return SavedState(dict(vm), [dict(vcpu) for vcpu in vcpus])

    def load(self, saved: SavedState) -> None:
        """Replace the state, after every check; decoded instructions are forgotten, RAM may have changed.

        Raises:
            IllegalStateError: with every finding.
        """
        try:
            load_sections(self._machine, saved.vm, saved.vcpus)
        except SchemaError as error:
            findings = [problem.model_dump(mode="json") for problem in error.problems]
            raise IllegalStateError("the state is illegal or does not fit this machine", findings) from error
        self._unsupported = None
        self._machine.cpu.invalidate_code()
        self._console_taken = self._machine.serial.tx_bytes

    def smi(self) -> None:
        """Make an SMI pending."""
        self._machine.inject_smi()

    def nmi(self) -> None:
        """Make an NMI pending."""
        self._machine.inject_nmi()

    def interrupt(self, vector: int) -> None:
        """Send the local APIC an interrupt.

        Raises:
            InputError: the vector is below 16.
            ConflictError: the guest has not enabled its local APIC.
        """
        try:
            self._machine.inject_interrupt(vector)
        except MachineError as error:
            raise (InputError if vector < 16 else ConflictError)(str(error)) from error

    def take_console(self) -> bytes:
        """Return the serial output since the last call."""
        if self._machine.serial.tx_bytes == self._console_taken:
            return b""
        fresh = self._machine.console_bytes(self._console_taken)
        self._console_taken = self._machine.serial.tx_bytes
        return fresh

    def dirty_start(self) -> None:
        """Begin a dirty log, empty."""
        self._machine.memory.clear_dirty()

    def dirty_fetch(self) -> bytes:
        """Return the log as a bitmap over the backing, and clear it."""
        return self._machine.memory.fetch_dirty(clear=True)

    def dirty_stop(self) -> None:
        """Do nothing: the memory keeps its log at all times, a flag that is set once costs nothing further."""

    def close(self) -> None:
        """Give RAM back."""
        self._machine.memory.ram.release()
        self._ram.close()


@contextmanager
def _input_errors() -> Iterator[None]:
    """Turn what the emulator and the schemas say of a configuration into an InputError."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def _profile(host_name: str) -> HostProfile:
    return host_profile(host_name, STREAM_VERSIONS_READ)


def _guests() -> tuple[GuestInfo, ...]:
    return tuple(
        GuestInfo(
            guest.name,
            guest.description,
            guest.ram_bytes,
            {name: GuestParamInfo(*param) for name, param in guest.params.items()},
        )
        for guest in GUESTS.values()
    )


BACKEND = Backend("emulator", EmulatorVm, _profile, _guests())
