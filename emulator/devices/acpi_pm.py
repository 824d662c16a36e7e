"""The power management registers of a PIIX4: ACPI timer, PM1 event and control registers, global control."""

from collections.abc import Callable

PM_TIMER_HZ = 3579545
"""Source: ACPI specification 6.5, 4.8.2.1 Power Management Timer."""
NS_PER_S = 1_000_000_000
SCI_IRQ = 9
PM_PORTS = 64
PM1_STATUS, PM1_ENABLE, PM1_CONTROL, TIMER, GLOBAL_CONTROL = 0x00, 0x02, 0x04, 0x08, 0x28
TIMER_STATUS = 1
SCI_ENABLED = 1
SMI_ENABLED = 1
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0
"""What firmware's tables tell a guest to write to the APM command port to go to ACPI mode and back."""

_TIMER_BITS = 24
_HALF = 1 << _TIMER_BITS - 1
_STATUS_BITS, _ENABLE_BITS, _CONTROL_BITS = 0x8D31, 0x0521, 0x1C07
_SIZES = {PM1_STATUS: 2, PM1_ENABLE: 2, PM1_CONTROL: 2, TIMER: 4, GLOBAL_CONTROL: 4}


class AcpiPm:
    """64 ports from the base that PCI configuration gives, none while it gives none.

    The timer counts at 3.58 MHz of virtual time from 0; bit 0 of the status is set when its bit 23 changes, and raises
    the SCI if it is enabled. The sleep bits are held and have no effect.

    Source: Intel 82371AB (PIIX4) data sheet 7.2, 7.3; QEMU 7.2 hw/acpi/core.c.
    """

    def __init__(
        self, now_ns: Callable[[], int], set_irq: Callable[[int], None], on_change: Callable[[], None]
    ) -> None:
        self.status = 0
        self.enable = 0
        self.control = 0
        self.global_control = 0
        self.seen_ns = 0
        self.deadline_ns: int | None = None
        self.base = 0
        self._now_ns = now_ns
        self._set_irq = set_irq
        self._on_change = on_change

    def set_acpi_mode(self, on: bool) -> None:
        """Connect the SCI, as the APM command says."""
        self.control = self.control & ~SCI_ENABLED | int(on)
        self._rearm()

    @property
    def smi_enabled(self) -> bool:
        """Whether the chip may raise SMIs at all."""
        return bool(self.global_control & SMI_ENABLED)

    def _ticks(self, now_ns: int) -> int:
        return now_ns * PM_TIMER_HZ // NS_PER_S

    def _next_change(self, after_ns: int) -> int:
        """When bit 23 of the timer changes next."""
        target = (self._ticks(after_ns) // _HALF + 1) * _HALF
        return -(-target * NS_PER_S // PM_TIMER_HZ)

    def due(self, now_ns: int) -> None:
        """Note a change of bit 23 up to `now_ns`."""
        if self.deadline_ns is not None and self.deadline_ns <= now_ns:
            self._note(now_ns)
            self._rearm()

    def _note(self, now_ns: int) -> None:
        if self._next_change(self.seen_ns) <= now_ns:
            self.status |= TIMER_STATUS
        self.seen_ns = now_ns

    @property
    def line(self) -> int:
        """Level of the SCI."""
        return int(bool(self.control & SCI_ENABLED and self.status & self.enable))

    def _rearm(self) -> None:
        """Drive the SCI, and find when the timer raises it."""
        self._set_irq(self.line)
        self._find_deadline()
        self._on_change()

    def _find_deadline(self) -> None:
        waits = self.control & SCI_ENABLED and not self.line and self.enable & TIMER_STATUS
        self.deadline_ns = self._next_change(self.seen_ns) if waits else None

    def _get(self, register: int) -> int:
        match register:
            case 0x00:
                self._note(self._now_ns())
                return self.status
            case 0x02:
                return self.enable
            case 0x04:
                return self.control
            case 0x08:
                return self._ticks(self._now_ns()) & (1 << _TIMER_BITS) - 1
            case _:
                return self.global_control

    def _set(self, register: int, value: int) -> None:
        self._note(self._now_ns())
        match register:
            case 0x00:
                self.status &= ~(value & _STATUS_BITS)
            case 0x02:
                self.enable = value & _ENABLE_BITS
            case 0x04:
                self.control = value & _CONTROL_BITS
            case 0x28:
                self.global_control = value & 0xFFFFFFFF
            case _:
                pass  # the timer is read-only
        self._rearm()

    def port_read(self, port: int, size: int) -> int:
        """IN: any bytes of a register; 0 between them."""
        offset = port - self.base
        for register, width in _SIZES.items():
            if register <= offset < register + width:
                above = self.port_read(port + width, size - width) << 8 * width if size > width else 0
                return (self._get(register) >> 8 * (offset - register) | above) & (1 << 8 * size) - 1
        return 0

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT: whole registers, or bytes of one."""
        offset = port - self.base
        for register, width in _SIZES.items():
            if register <= offset < register + width:
                shift, part = 8 * (offset - register), min(size, width)
                mask = (1 << 8 * part) - 1 << shift
                kept = 0 if register == PM1_STATUS else self._get(register) & ~mask
                self._set(register, kept | value << shift & mask)
                if size > width:
                    self.port_write(port + width, size - width, value >> 8 * width)

    def snapshot(self) -> dict[str, int]:
        """State: the registers, and up to when the timer was looked at. The base is PCI configuration."""
        return {name: getattr(self, name) for name in ("status", "enable", "control", "global_control", "seen_ns")}

    def load(self, fields: dict[str, int]) -> None:
        """Take the state over. The line is not driven: who it goes to has its own state."""
        for name, value in fields.items():
            setattr(self, name, value)
        self._find_deadline()
        self._on_change()
