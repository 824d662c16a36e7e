"""The CPU: public face of the core (the steps themselves follow in the next change)."""

from collections.abc import Callable
from typing import Protocol

from .cpu_model import CpuModel
from .memory import GuestMemory
from .state import CpuState


class Bus(Protocol):
    """What the CPU reaches besides memory: I/O ports, the interrupt controllers, the local APIC's registers."""

    def port_read(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes."""

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes."""

    def acknowledge(self) -> int:
        """Accept the interrupt that `Cpu.interrupt_line` announces: the vector to deliver."""

    def read_tpr(self) -> int:
        """CR8: task priority class, 0 to 15."""

    def write_tpr(self, value: int) -> None:
        """Set the task priority class."""

    def apic_base_changed(self, value: int) -> None:
        """IA32_APIC_BASE was written."""


class Cpu:
    """One vCPU over guest memory and a bus."""

    state: CpuState
    retired: int
    read_tsc: Callable[[], int]
    interrupt_line: bool
    exit_request: bool
    slice_break: bool

    def __init__(self, memory: GuestMemory, bus: Bus, model: CpuModel) -> None:
        """See the class."""
