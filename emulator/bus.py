"""The vCPU's way out of itself: ports, interrupt controllers, the local APIC's registers."""

from typing import TYPE_CHECKING

from .devices.x2apic import read_register, write_register
from .registers import MSR_TSC_DEADLINE

if TYPE_CHECKING:
    from .machine import Machine


class MachineBus:
    """The vCPU's way out to the devices of one machine."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.port_read = machine.ports.read
        self.port_write = machine.ports.write

    def acknowledge(self) -> int:
        """Vector of the interrupt to deliver; the 8259 goes before the local APIC, as in KVM.

        Source: Linux 6.12 arch/x86/kvm/irq.c kvm_cpu_get_interrupt.
        """
        machine = self._machine
        if machine.pic.output and machine.lapic.accepts_pic():
            return machine.pic.acknowledge()
        return machine.lapic.acknowledge(machine.lapic.pending())

    def read_tpr(self) -> int:
        """CR8: task priority class, 0 to 15."""
        return self._machine.lapic.tpr >> 4

    def write_tpr(self, value: int) -> None:
        """Set the task priority class."""
        self._machine.lapic.set_tpr(value << 4)

    def apic_base_changed(self, value: int) -> None:
        """Move the local APIC's page and switch it on or off."""
        self._machine.place_lapic(value)

    def read_apic_msr(self, index: int) -> int:
        """IA32_TSC_DEADLINE, or a local APIC register in x2APIC mode."""
        lapic = self._machine.lapic
        return lapic.tsc_deadline if index == MSR_TSC_DEADLINE else read_register(lapic, index)

    def write_apic_msr(self, index: int, value: int) -> None:
        """Write IA32_TSC_DEADLINE, or a local APIC register in x2APIC mode."""
        lapic = self._machine.lapic
        if index == MSR_TSC_DEADLINE:
            lapic.set_tsc_deadline(value)
        else:
            write_register(lapic, index, value)

    def tsc_changed(self) -> None:
        """The deadline of the local APIC's timer moves."""
        self._machine.lapic.timer.tsc_changed()
        self._machine.timers_changed()

    def init(self) -> None:
        """INIT resets the local APIC. Source: SDM vol. 3A 11.4.7.3."""
        self._machine.lapic.reset()
        self._machine.timers_changed()
