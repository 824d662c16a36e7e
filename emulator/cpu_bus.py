"""What a CPU needs of the machine around it."""

from typing import Protocol


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

    def read_apic_msr(self, index: int) -> int:
        """IA32_TSC_DEADLINE, or a local APIC register in x2APIC mode."""

    def write_apic_msr(self, index: int, value: int) -> None:
        """Write IA32_TSC_DEADLINE, or a local APIC register in x2APIC mode."""

    def tsc_changed(self) -> None:
        """The time-stamp counter was set."""

    def init(self) -> None:
        """The CPU was reset by INIT."""
