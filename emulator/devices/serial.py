"""A 16550A serial port, in the fields of `migsvc_serial`."""

from collections.abc import Callable
from typing import Any

COM1 = 0x3F8
COM1_IRQ = 4
FIFO_BYTES = 16
CONSOLE_LIMIT_BYTES = 1 << 20
"""Output kept for readers. A guest that prints for ever must not fill the host; older bytes are dropped."""

IER_RDI, IER_THRI, IER_MSI = 1, 2, 8
IIR_NONE, IIR_THRI, IIR_RDI, IIR_MSI, IIR_FIFO_ENABLED = 1, 2, 4, 0, 0xC0
LCR_DLAB = 0x80
MCR_LOOPBACK = 0x10
LSR_DATA_READY, LSR_OVERRUN, LSR_IDLE = 1, 2, 0x60
MSR_LINES_READY = 0xB0
"""CTS, DSR and DCD: somebody listens at the other end."""

_FIELDS = ("ier", "iir", "fcr", "lcr", "mcr", "lsr", "msr", "scr", "divisor", "thri_pending", "rx_len", "tx_bytes")


class Serial:
    """COM1. A byte written is sent at once, so the transmitter is always idle.

    `tx_bytes` counts every byte ever sent, also before a migration; the last ones are in `console`. The receive
    FIFO interrupts from its first byte on, whatever trigger level is set.

    Source: National Semiconductor PC16550D data sheet, section 8 (registers).
    """

    def __init__(self, set_irq: Callable[[int], None]) -> None:
        self.ier = self.fcr = self.lcr = self.mcr = self.scr = 0
        self.iir = IIR_NONE
        self.lsr = LSR_IDLE
        self.msr = MSR_LINES_READY
        self.divisor = 12
        self.thri_pending = 0
        self.rx_fifo = bytearray()
        self.tx_bytes = 0
        self.console = bytearray()
        self._set_irq = set_irq

    @property
    def rx_len(self) -> int:
        """Bytes waiting in the receive FIFO."""
        return len(self.rx_fifo)

    @property
    def line(self) -> int:
        """Level of the interrupt line."""
        return int(not self.iir & IIR_NONE)

    def read_console(self, since: int) -> tuple[int, bytes]:
        """Output from byte number `since` on: (number of the first byte returned, bytes).

        The first number is greater than `since` where older output is no longer held (dropped, or sent on the
        host the machine came from).
        """
        base = self.tx_bytes - len(self.console)
        first = min(max(since, base), self.tx_bytes)
        return first, bytes(self.console[first - base :])

    def receive(self, data: bytes) -> int:
        """Put host input into the receive FIFO; return how many bytes found room."""
        room = (FIFO_BYTES if self.fcr & 1 else 1) - self.rx_len
        taken = data[: max(room, 0)]
        self.rx_fifo += taken
        self._update()
        return len(taken)

    def _send(self, value: int) -> None:
        if self.mcr & MCR_LOOPBACK:
            if not self.receive(bytes([value])):
                self.lsr |= LSR_OVERRUN
        else:
            self.console.append(value)
            if len(self.console) > CONSOLE_LIMIT_BYTES:
                del self.console[: CONSOLE_LIMIT_BYTES // 2]
            self.tx_bytes += 1
        self.thri_pending = 1
        self._update()

    def _update(self) -> None:
        """Compute LSR, IIR and the interrupt line from the rest."""
        self.lsr = self.lsr & ~LSR_DATA_READY | LSR_IDLE | int(bool(self.rx_fifo))
        if self.ier & IER_RDI and self.rx_fifo:
            source = IIR_RDI
        elif self.ier & IER_THRI and self.thri_pending:
            source = IIR_THRI
        elif self.ier & IER_MSI and self.msr & 0x0F:
            source = IIR_MSI
        else:
            source = IIR_NONE
        self.iir = source | (IIR_FIFO_ENABLED if self.fcr & 1 else 0)
        self._set_irq(int(source != IIR_NONE))

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN from one of the eight registers."""
        match port - COM1:
            case 0:
                return self.divisor & 0xFF if self.lcr & LCR_DLAB else self._read_data()
            case 1:
                return self.divisor >> 8 if self.lcr & LCR_DLAB else self.ier
            case 2:
                value = self.iir
                if value & 0x0F == IIR_THRI:
                    self.thri_pending = 0
                    self._update()
                return value
            case 3:
                return self.lcr
            case 4:
                return self.mcr
            case 5:
                value = self.lsr
                self.lsr &= ~LSR_OVERRUN
                return value
            case 6:
                return self._read_modem_status()
            case _:
                return self.scr

    def _read_data(self) -> int:
        value = self.rx_fifo.pop(0) if self.rx_fifo else 0
        self._update()
        return value

    def _read_modem_status(self) -> int:
        if self.mcr & MCR_LOOPBACK:
            dtr_rts_out = self.mcr
            return (dtr_rts_out & 2) << 3 | (dtr_rts_out & 1) << 5 | (dtr_rts_out & 0x0C) << 4
        value = self.msr
        self.msr &= 0xF0
        self._update()
        return value

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT to one of the eight registers."""
        match port - COM1:
            case 0 if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0xFF00 | value
            case 0:
                self._send(value)
            case 1 if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0x00FF | value << 8
            case 1:
                # Enabling the transmitter interrupt raises it when the transmitter is idle, which it always is.
                if value & IER_THRI and not self.ier & IER_THRI:
                    self.thri_pending = 1
                self.ier = value & 0x0F
                self._update()
            case 2:
                if value & 2 or (value ^ self.fcr) & 1:
                    self.rx_fifo.clear()
                self.fcr = value & 0xC9
                self._update()
            case 3:
                self.lcr = value
            case 4:
                self.mcr = value & 0x1F
            case 7:
                self.scr = value
            case _:
                pass  # LSR and MSR are read-only

    def snapshot(self) -> dict[str, Any]:
        """State in the fields of `migsvc_serial` (without `pad`)."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        fields["rx_fifo"] = bytes(self.rx_fifo).ljust(FIFO_BYTES, b"\0")
        return fields

    def load(self, fields: dict[str, Any]) -> None:
        """Take the state over. The console is empty then: its bytes stayed where they were sent.

        Raises:
            ValueError: `rx_len` is greater than the FIFO.
        """
        if fields["rx_len"] > FIFO_BYTES:
            raise ValueError(f"rx_len {fields['rx_len']} is greater than the FIFO of {FIFO_BYTES} bytes")
        for name in _FIELDS:
            if name != "rx_len":
                setattr(self, name, fields[name])
        self.rx_fifo = bytearray(fields["rx_fifo"][: fields["rx_len"]])
        self.console.clear()
