"""What the kernel's CPU unit tests want beside a PC: scratch ports, scratch device memory, interrupt lines."""

from collections.abc import Callable
from typing import Any

from ..config import PAGE_BYTES

SCRATCH_PORT, FLUSH_PORT, IRQ_PORT = 0xE0, 0xE4, 0x2000
IRQ_LINES = 24
SCRATCH_GPA, SCRATCH_BYTES = 0xFF000000, 0x10000
_PORT_BYTES = 4


class _Page:
    """One page of the scratch memory."""

    def __init__(self, data: bytearray, start: int) -> None:
        self._data = data
        self._start = start

    def mmio_read(self, offset: int, size: int) -> int:
        """Read bytes."""
        at = self._start + offset
        return int.from_bytes(self._data[at : at + size], "little")

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write bytes."""
        at = self._start + offset
        self._data[at : at + size] = value.to_bytes(size, "little")


class UnitTestDevice:
    """32 bits of scratch at ports 0xE0 to 0xE3, 64 KiB of scratch that is device memory, a port per interrupt line.

    Ports 0xE4 to 0xE7 take the address of a page that is taken from the guest and given back at once: nothing to do.

    Source: QEMU 7.2 hw/misc/pc-testdev.c.
    """

    def __init__(self, set_line: Callable[[int, int], None]) -> None:
        self.scratch = bytearray(_PORT_BYTES)
        self.memory = bytearray(SCRATCH_BYTES)
        self.lines = 0
        self._set_line = set_line

    def pages(self) -> tuple[tuple[int, _Page], ...]:
        """Addresses and handlers of the scratch memory."""
        return tuple((SCRATCH_GPA + at, _Page(self.memory, at)) for at in range(0, SCRATCH_BYTES, PAGE_BYTES))

    def port_read(self, port: int, size: int) -> int:
        """IN: scratch; the other ports read 0."""
        at = port - SCRATCH_PORT
        return int.from_bytes(self.scratch[at : at + size], "little") if at < _PORT_BYTES else 0

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT: scratch, or the level of a line."""
        at = port - SCRATCH_PORT
        if at < _PORT_BYTES:
            part = min(size, _PORT_BYTES - at)
            self.scratch[at : at + part] = value.to_bytes(size, "little")[:part]
        elif port >= IRQ_PORT:
            line, level = port - IRQ_PORT, int(value != 0)
            self.lines = self.lines & ~(1 << line) | level << line
            self._set_line(line, level)

    def snapshot(self) -> dict[str, Any]:
        """State: the scratch places, and the lines that are up."""
        return {"scratch": bytes(self.scratch), "memory": bytes(self.memory), "lines": self.lines}

    def load(self, fields: dict[str, Any]) -> None:
        """Take the state over. The lines are not driven: who they go to has its own state."""
        self.lines = fields["lines"]
        self.scratch[:] = fields["scratch"]
        self.memory[:] = fields["memory"]
