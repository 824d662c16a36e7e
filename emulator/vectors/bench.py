"""Vectors run on a bare CPU and compared."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..config import PAGE_BYTES, ram_slots
from ..cpu import Cpu
from ..cpu_model import MODELS
from ..exceptions import UnsupportedInstruction
from ..memory import GuestMemory
from ..registers import MP_HALTED
from .exclusions import STRING_FORMS
from .format import NAMES, RAM_BYTES, REGISTERS, SEGMENTS, Vector

if TYPE_CHECKING:
    from ..fast.tier import FastTier

MAX_STEPS, MAX_STRING_STEPS = 64, 70_000
"""An instruction, a fault and its handler; a REP over 64 KiB."""
FLAGS_MASK = 0x0FD5
"""Bits 12 to 15 differ between a 286 in real mode and later processors; the rest of what is left out is fixed."""
OVERFLOW = 0x800
UNDEFINED_OVERFLOW = frozenset({"C0.2", "C0.3", "C1.2", "C1.3", "D2.2", "D2.3", "D3.2", "D3.3"})
"""RCL and RCR by more than one: OF is undefined. Source: SDM vol. 2B RCL."""


class Outcome(NamedTuple):
    """What is held at the end and should not be: name or address -> (held, expected); the fault raised first.

    `unsupported` says what the emulator has not built, where it came to that.
    """

    differences: dict[str, tuple[int, int]]
    faulted: int | None = None
    unsupported: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything is as the hardware had it."""
        return not self.differences and self.unsupported is None


class _OpenBus:
    """No devices: IN reads all ones, and there is no interrupt controller."""

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - every port
        return (1 << 8 * size) - 1

    def port_write(self, port: int, size: int, value: int) -> None:
        """Drop it."""

    def acknowledge(self) -> int:
        return 0

    def read_tpr(self) -> int:
        return 0

    def write_tpr(self, value: int) -> None:
        """Drop it."""

    def apic_base_changed(self, value: int) -> None:
        """Nothing moves."""

    def read_apic_msr(self, index: int) -> int:  # noqa: ARG002 - every register
        return 0

    def write_apic_msr(self, index: int, value: int) -> None:
        """Drop it."""

    def tsc_changed(self) -> None:
        """No timer goes by it."""

    def init(self) -> None:
        """Nothing is reset."""


class VectorBench:
    """A bare CPU over 16 MiB; every vector begins with the machine as after reset and memory zero.

    `defined_flags` are masks of the FLAGS bits that a form defines; a form that is not there defines all of them.
    With `fast` the fast tier executes what it can; `fast_steps` counts.

    Raises:
        ImportError: the fast tier is asked for and numba is not installed.
        ValueError: the fast tier does not serve that CPU model.
    """

    def __init__(
        self, cpu_model: str = "x86-64", defined_flags: Mapping[str, int] | None = None, fast: bool = False
    ) -> None:
        self.ram = bytearray(RAM_BYTES)
        self.memory = GuestMemory(ram_slots(RAM_BYTES), self.ram)
        self.cpu = Cpu(self.memory, _OpenBus(), MODELS[cpu_model])
        self._defined_flags = defined_flags or {}
        self.fast_steps = 0
        self._tier = _fast_tier(self.cpu) if fast else None

    def run(self, vector: Vector) -> Outcome:
        """Run one vector and compare; the memory that it touched is zero again afterwards."""
        try:
            self._begin(vector)
            faulted = self._execute(vector)
            return Outcome(self._differences(vector), faulted)
        except UnsupportedInstruction as error:
            return Outcome({}, unsupported=str(error))
        finally:
            self._clear()

    def _begin(self, vector: Vector) -> None:
        cpu, registers = self.cpu, vector.registers
        cpu.init()
        state = cpu.state
        for name, number in REGISTERS.items():
            state.gpr[number] = registers[name]
        for name, number in SEGMENTS.items():
            state.segs[number].load_real(registers[name])
        state.rip = registers["ip"]
        state.rflags = registers["flags"] & 0x0FFF | 2
        for address, byte in vector.memory.items():
            self.memory.write(0, address, 1, byte)
        cpu.state_changed()

    def _execute(self, vector: Vector) -> int | None:
        """Run up to the HLT; vector of the first fault if one was expected."""
        cpu, state = self.cpu, self.cpu.state
        left = MAX_STRING_STEPS if vector.form in STRING_FORMS else MAX_STEPS
        if self._tier is not None:
            # `Cpu.run` does its first step with care, that is in the reference tier.
            before, cpu.attention = cpu.retired, False
            self._tier.steps(1)
            left -= cpu.retired - before
            self.fast_steps = self._tier.retired
        while vector.exception is not None and left and not state.exception_pending and self._runs():
            left -= cpu.run(1)
        faulted = state.exception_nr if state.exception_pending else None
        cpu.run(left)
        return faulted

    def _runs(self) -> bool:
        state = self.cpu.state
        return state.mp_state != MP_HALTED and not state.triple_fault

    def _differences(self, vector: Vector) -> dict[str, tuple[int, int]]:
        state = self.cpu.state
        expected = {**vector.registers, **vector.final_registers}
        mask = FLAGS_MASK & self._defined_flags.get(vector.form, 0xFFFF)
        if vector.form in UNDEFINED_OVERFLOW:
            mask &= ~OVERFLOW
        held = {name: state.gpr[number] & 0xFFFF for name, number in REGISTERS.items()}
        held |= {name: state.segs[number].selector for name, number in SEGMENTS.items()}
        held |= {"ip": state.rip & 0xFFFF, "flags": state.rflags & mask}
        expected["flags"] &= mask
        found = {name: (held[name], expected[name]) for name in NAMES if held[name] != expected[name]}
        return found | self._memory_differences(vector, mask)

    def _memory_differences(self, vector: Vector, flags_mask: int) -> dict[str, tuple[int, int]]:
        """Every byte of every page that was written to is compared, so a stray write shows."""
        image = {**vector.memory, **vector.final_memory}
        pages: dict[int, bytearray] = {page: bytearray(PAGE_BYTES) for page in self._dirty_pages()}
        for address, byte in image.items():
            pages.setdefault(address // PAGE_BYTES, bytearray(PAGE_BYTES))[address % PAGE_BYTES] = byte
        masks = _pushed_flags(vector, flags_mask) if vector.exception is not None else {}
        found = {}
        for page, expected in pages.items():
            base = page * PAGE_BYTES
            held = self.ram[base : base + PAGE_BYTES]
            if held == expected:
                continue
            for at in (at for at in range(PAGE_BYTES) if (held[at] ^ expected[at]) & masks.get(base + at, 0xFF)):
                found[f"{base + at:#x}"] = (held[at], expected[at])
        return found

    def _dirty_pages(self) -> list[int]:
        dirty, pages, page = self.memory.dirty, [], -1
        while (page := dirty.find(1, page + 1)) >= 0:
            pages.append(page)
        return pages

    def _clear(self) -> None:
        for page in self._dirty_pages():
            self.ram[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
        self.memory.clear_dirty()


def _fast_tier(cpu: Cpu) -> "FastTier":
    from ..fast.compiled import compiled
    from ..fast.loading import OLDEST_FEATURE
    from ..fast.tier import FastTier

    if OLDEST_FEATURE not in cpu.model.features:
        raise ValueError(f"the fast tier does not serve the CPU model {cpu.model.name!r}")
    return FastTier(cpu, compiled(), eager=True)


def _pushed_flags(vector: Vector, mask: int) -> dict[int, int]:
    """Where the exception has pushed FLAGS, and the bits of it that count: above CS and IP, the handler being a HLT."""
    registers = {**vector.registers, **vector.final_registers}
    base, offset = registers["ss"] << 4, registers["sp"] + 4
    return {base + (offset & 0xFFFF): mask & 0xFF, base + (offset + 1 & 0xFFFF): mask >> 8}
