"""PCI configuration space: mechanism 1 at ports 0xCF8 and 0xCFC, and the functions of an i440FX PC."""

from collections.abc import Callable
from dataclasses import dataclass

ADDRESS_PORT, DATA_PORT = 0xCF8, 0xCFC
CONFIG_BYTES = 256
_ENABLED = 1 << 31

VENDOR_INTEL = 0x8086
SUBSYSTEM = 0x1100 << 16 | 0x1AF4
"""Subsystem IDs by which SeaBIOS knows a virtual PC. Source: SeaBIOS src/fw/paravirt.c qemu_detect()."""
HOST_BRIDGE, ISA_BRIDGE, POWER_MANAGEMENT = 0 << 3 | 0, 1 << 3 | 0, 1 << 3 | 3
"""Device and function numbers on bus 0."""

PAM, SMRAM = 0x59, 0x72
PAM_BYTES = 7
SMRAM_OPEN, SMRAM_LOCK, SMRAM_ENABLED, SMRAM_AT_RESET = 0x40, 0x10, 0x08, 0x02
PM_BASE, PM_ENABLES, DEVACTB = 0x40, 0x80, 0x58
DEVACTB_APMC = 1 << 25
PIRQ_ROUTES = 0x60


@dataclass(frozen=True, slots=True)
class FunctionKind:
    """A function's identity, what its registers hold after reset, and which bits a guest may write.

    `values` and `writable` are (offset, size, value) and (offset, size, mask).
    """

    device: int
    class_code: int
    revision: int
    header: int
    values: tuple[tuple[int, int, int], ...]
    writable: tuple[tuple[int, int, int], ...]


KINDS = {
    HOST_BRIDGE: FunctionKind(
        0x1237, 0x060000, 2, 0,
        ((0x04, 2, 0x0006), (SMRAM, 1, SMRAM_AT_RESET)),
        ((0x04, 2, 0x0100), (0x0D, 1, 0xF8), (0x50, 9, (1 << 72) - 1), (PAM, PAM_BYTES, 0x33333333333330),
         (0x60, 8, (1 << 64) - 1), (SMRAM, 1, 0x78)),
    ),
    ISA_BRIDGE: FunctionKind(
        0x7000, 0x060100, 0, 0x80,
        ((0x04, 2, 0x0007), (0x4C, 1, 0x4D), (0x4E, 1, 0x03), (PIRQ_ROUTES, 4, 0x80808080)),
        ((0x04, 2, 0x0008), (0x4C, 1, 0xFF), (0x4E, 2, 0xFFFF), (PIRQ_ROUTES, 4, 0x8F8F8F8F), (0x69, 2, 0xFFFF),
         (0x70, 2, 0xFFFF), (0x80, 3, 0xFFFFFF), (0xA0, 16, (1 << 128) - 1)),
    ),
    POWER_MANAGEMENT: FunctionKind(
        0x7113, 0x068000, 3, 0,
        ((0x06, 2, 0x0280), (0x3D, 1, 0x01), (PM_BASE, 4, 1), (0x90, 4, 1)),
        ((0x04, 2, 0x0001), (0x3C, 1, 0xFF), (PM_BASE, 4, 0xFFC0), (0x44, 0x3C, (1 << 0x1E0) - 1), (PM_ENABLES, 1, 1),
         (0x90, 4, 0xFFF0), (0xD2, 1, 0x0F)),
    ),
}  # fmt: skip
"""Source: Intel 82441FX data sheet 3.2, 82371FB/82371SB (PIIX3) 2.2, 82371AB (PIIX4) 7.1."""


class PciFunction:
    """Configuration space of one function. `on_write` is called after a write."""

    def __init__(self, kind: FunctionKind, on_write: Callable[[], None]) -> None:
        self.config = bytearray(CONFIG_BYTES)
        self._writable = bytearray(CONFIG_BYTES)
        self._on_write = on_write
        head = kind.class_code << 8 | kind.revision
        identity = (
            (0, 2, VENDOR_INTEL),
            (2, 2, kind.device),
            (8, 4, head),
            (0x0E, 1, kind.header),
            (0x2C, 4, SUBSYSTEM),
        )
        for offset, size, value in (*identity, *kind.values):
            self.config[offset : offset + size] = value.to_bytes(size, "little")
        for offset, size, mask in kind.writable:
            self._writable[offset : offset + size] = mask.to_bytes(size, "little")

    def register(self, offset: int, size: int) -> int:
        """A register's value."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def write(self, offset: int, value: int) -> None:
        """Write one byte, as far as it can be written; a locked SMRAM register cannot."""
        mask = self._writable[offset]
        if offset == SMRAM and mask:
            if self.config[SMRAM] & SMRAM_LOCK:
                return
            if value & SMRAM_LOCK:
                value &= ~SMRAM_OPEN
        self.config[offset] = self.config[offset] & ~mask | value & mask

    def written(self) -> None:
        """Tell of a write."""
        self._on_write()


class PciBus:
    """Bus 0 behind ports 0xCF8 (32-bit address) and 0xCFC to 0xCFF (data). Absent functions read all ones.

    `functions` is by device and function number.

    Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 (configuration mechanism 1).
    """

    def __init__(self, functions: dict[int, PciFunction]) -> None:
        self.functions = functions
        self.address = 0

    def _target(self) -> PciFunction | None:
        if not self.address & _ENABLED or self.address >> 16 & 0xFF:
            return None
        return self.functions.get(self.address >> 8 & 0xFF)

    def port_read(self, port: int, size: int) -> int:
        """IN from the address (only as a whole) or the data."""
        ones = (1 << 8 * size) - 1
        if port < DATA_PORT:
            return self.address if (port, size) == (ADDRESS_PORT, 4) else ones
        function = self._target()
        return ones if function is None else function.register((self.address & 0xFC) + port - DATA_PORT, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT to the address (only as a whole) or the data."""
        if port < DATA_PORT:
            if (port, size) == (ADDRESS_PORT, 4):
                self.address = value & 0x80FFFFFC
            return
        function = self._target()
        if function is not None:
            first = (self.address & 0xFC) + port - DATA_PORT
            for n in range(min(size, CONFIG_BYTES - first)):
                function.write(first + n, value >> 8 * n & 0xFF)
            function.written()

    def snapshot(self) -> dict[str, int | bytes]:
        """State: the address, and every function's configuration space."""
        spaces = {f"function_{number:02x}": bytes(function.config) for number, function in self.functions.items()}
        return {"address": self.address, **spaces}

    def load(self, fields: dict[str, int | bytes]) -> None:
        """Take the state over; what follows from the registers is done anew."""
        for number, function in self.functions.items():
            function.config[:] = bytes(fields[f"function_{number:02x}"])
            function.written()
        self.address = int(fields["address"])
