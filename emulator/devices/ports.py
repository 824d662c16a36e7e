"""I/O port space: which device answers at which port."""

from typing import Protocol


class PortDevice(Protocol):
    """Something at I/O ports. `size` is 1, 2 or 4 bytes."""

    def port_read(self, port: int, size: int) -> int:
        """Return what IN reads, in the low `size` bytes."""

    def port_write(self, port: int, size: int, value: int) -> None:
        """Take what OUT writes."""


class PortSpace:
    """Routes IN and OUT. Unclaimed ports read all ones and drop writes.

    A device registered as byte-wide sees a wider access as one access per byte at consecutive ports, lowest
    first, as an 8-bit device behind an ISA bus does.
    """

    def __init__(self) -> None:
        self._devices: dict[int, PortDevice] = {}
        self._wide: set[int] = set()

    def register(self, device: PortDevice, first: int, last: int, wide: bool = False) -> None:
        """Give ports `first` to `last` to `device`; `wide` passes 2- and 4-byte accesses on undivided.

        Raises:
            ValueError: a port is already taken.
        """
        for port in range(first, last + 1):
            if port in self._devices:
                raise ValueError(f"port {port:#x} is already taken")
            self._devices[port] = device
            if wide:
                self._wide.add(port)

    def claim(self, device: PortDevice, first: int, last: int) -> None:
        """Give `device` those of ports `first` to `last` that nobody has, undivided, until `release`."""
        for port in range(first, last + 1):
            if port not in self._devices:
                self._devices[port] = device
                self._wide.add(port)

    def release(self, device: PortDevice) -> None:
        """Take every port of `device` away."""
        for port in [port for port, owner in self._devices.items() if owner is device]:
            del self._devices[port]
            self._wide.discard(port)

    def read(self, port: int, size: int) -> int:
        """IN: `size` bytes from `port`."""
        device = self._devices.get(port)
        if size == 1 or port in self._wide:
            return ((1 << 8 * size) - 1) if device is None else device.port_read(port, size)
        value = 0
        for n in range(size):
            value |= self.read((port + n) & 0xFFFF, 1) << 8 * n
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """OUT: the low `size` bytes of `value` to `port`."""
        device = self._devices.get(port)
        if size == 1 or port in self._wide:
            if device is not None:
                device.port_write(port, size, value & ((1 << 8 * size) - 1))
            return
        for n in range(size):
            self.write((port + n) & 0xFFFF, 1, value >> 8 * n & 0xFF)
