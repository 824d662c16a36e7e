"""The I/O APIC, in the fields of `struct kvm_ioapic_state`."""

from typing import Any

from .lapic import DELIVER_FIXED, DELIVER_LOWEST, Lapic

IOAPIC_GPA = 0xFEC00000
PINS = 24
VERSION = 0x11 | PINS - 1 << 16
SELECT, WINDOW = 0x00, 0x10
REG_ID, REG_VERSION, REG_ARBITRATION, REG_TABLE = 0, 1, 2, 0x10
TIMER_PIN = 2
"""ISA interrupt 0 comes here, as the ACPI tables of a PC say (interrupt source override 0 -> 2)."""

REMOTE_IRR = 1 << 14
LEVEL = 1 << 15
MASKED = 1 << 16
_DELIVERY_STATUS = 1 << 12
_READ_ONLY = REMOTE_IRR | _DELIVERY_STATUS
_LOGICAL = 1 << 11
_DELIVERY_MODE_SHIFT = 8


def pin_of(irq: int) -> int:
    """The pin of an ISA interrupt."""
    return TIMER_PIN if irq == 0 else irq


class Ioapic:
    """24 pins that turn interrupt lines into messages to the local APIC.

    `irr` is the level of every line; `delivered` the edges among them that were sent. A level-triggered pin sends once
    and waits for the local APIC's EOI (`remote_irr` in its entry). As in KVM, polarity is held and not used, an edge
    while its pin is masked is lost when the line falls, and unmasking a pin sends a level, not an edge.

    `on_change` is called by the local APIC.

    Source: Linux 6.12 arch/x86/kvm/ioapic.c; Intel 82093AA data sheet.
    """

    def __init__(self, lapic: Lapic) -> None:
        self._lapic = lapic
        self.select = 0
        self.id = 0
        self.irr = 0
        self.delivered = 0
        self.table = [MASKED] * PINS

    def set_pin(self, pin: int, level: int) -> None:
        """Drive a pin."""
        bit = 1 << pin
        if not level:
            self.irr &= ~bit
            return
        rises = not self.irr & bit
        self.irr |= bit
        if self.table[pin] & LEVEL:
            self._service(pin)
        elif rises:
            self.delivered &= ~bit
            self._service(pin)

    def would_deliver(self, pin: int) -> int | None:
        """Delivery mode of the message that a rise of the line would bring to the vCPU, were it to come now."""
        entry = self.table[pin]
        if entry & MASKED or (entry & LEVEL and entry & REMOTE_IRR) or not self._addressed(entry):
            return None
        mode = entry >> _DELIVERY_MODE_SHIFT & 7
        if mode in (DELIVER_FIXED, DELIVER_LOWEST):
            return mode if self._lapic.software_enabled and self._lapic.deliverable(entry & 0xFF) else None
        return mode if self._lapic.hardware_enabled else None

    def _addressed(self, entry: int) -> bool:
        return self._lapic.addressed_by(entry >> 56, bool(entry & _LOGICAL), is_message=True)

    def _service(self, pin: int) -> None:
        entry = self.table[pin]
        level = bool(entry & LEVEL)
        if entry & MASKED or (level and entry & REMOTE_IRR):
            return
        if not level:
            self.delivered |= 1 << pin
        mode = entry >> _DELIVERY_MODE_SHIFT & 7
        if self._addressed(entry) and self._lapic.deliver(mode, entry & 0xFF, level) and level:
            self.table[pin] |= REMOTE_IRR

    def end_of_interrupt(self, vector: int) -> None:
        """The local APIC's EOI of a level-triggered vector: lines that are still up send again."""
        for pin, entry in enumerate(self.table):
            if entry & 0xFF == vector and entry & LEVEL:
                self.table[pin] = entry & ~REMOTE_IRR
                if self.irr >> pin & 1:
                    self._service(pin)

    def mmio_read(self, offset: int, size: int) -> int:
        """Read the selector or the register that it selects."""
        register = offset & 0xF0
        value = self.select if register == SELECT else self._read_selected() if register == WINDOW else 0
        return value & (1 << 8 * size) - 1

    def _read_selected(self) -> int:
        if self.select == REG_VERSION:
            return VERSION
        if self.select in (REG_ID, REG_ARBITRATION):
            return self.id << 24
        pin = self.select - REG_TABLE >> 1
        if not 0 <= pin < PINS:
            return 0xFFFFFFFF
        return self.table[pin] >> 32 if self.select & 1 else self.table[pin] & 0xFFFFFFFF

    def mmio_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002 - narrow writes are zero-extended
        """Write the selector or the register that it selects."""
        register = offset & 0xF0
        if register == SELECT:
            self.select = value & 0xFF
        elif register == WINDOW:
            self._write_selected(value & 0xFFFFFFFF)

    def _write_selected(self, value: int) -> None:
        if self.select == REG_ID:
            self.id = value >> 24 & 0xF
        pin = self.select - REG_TABLE >> 1
        if not 0 <= pin < PINS:
            return
        old = self.table[pin]
        if self.select & 1:
            entry = old & 0xFFFFFFFF | value << 32
        else:
            entry = old & ~0xFFFFFFFF | value & ~_READ_ONLY | old & _READ_ONLY
        if not entry & LEVEL:
            entry &= ~REMOTE_IRR
        self.table[pin] = entry
        if entry & LEVEL and self.irr >> pin & 1:
            self._service(pin)

    def snapshot(self) -> dict[str, Any]:
        """State in the fields of `struct kvm_ioapic_state` (without `pad`)."""
        return {
            "base_address": IOAPIC_GPA,
            "ioregsel": self.select,
            "id": self.id,
            "irr": self.irr & ~self.delivered,
            "redirtbl": tuple(self.table),
        }

    def load(self, fields: dict[str, Any], lines: int) -> None:
        """Take the state over. `lines` are the levels of the pins, which the devices know: `irr` lacks sent edges."""
        self.select, self.id = fields["ioregsel"], fields["id"]
        self.table = list(fields["redirtbl"])
        self.irr = fields["irr"] | lines
        self.delivered = lines & ~fields["irr"]
