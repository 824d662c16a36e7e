"""The retained end of a VM's console output, with offsets that count from its first byte ever."""

from __future__ import annotations

from migsvc.errors import InputError

RETAINED_BYTES = 1 << 20
"""How much output a worker keeps; older output is gone, and offsets tell how much."""


class ConsoleRing:
    """The last bytes of an endless output. `base` is the offset of the first kept byte, `end` that after the last."""

    def __init__(self, max_bytes: int = RETAINED_BYTES) -> None:
        """Begin empty at offset 0."""
        self._max_bytes = max_bytes
        self._data = bytearray()
        self.base = 0

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.base + len(self._data)

    def append(self, data: bytes) -> None:
        """Add output; the oldest beyond the bound goes."""
        self._data += data
        excess = len(self._data) - self._max_bytes
        if excess > 0:
            del self._data[:excess]
            self.base += excess

    def read(self, since: int, max_bytes: int) -> tuple[int, bytes]:
        """Return at most `max_bytes` from `since` on, and the offset at which they really begin.

        An offset before the kept output begins at the oldest byte; one past the end gives nothing, at the end.
        """
        start = min(max(since, self.base), self.end)
        return start, bytes(self._data[start - self.base : start - self.base + max_bytes])

    def restart(self, offset: int) -> None:
        """Forget everything and go on at `offset`, unless the output ends there already."""
        if self.end != offset:
            self._data.clear()
            self.base = offset

    def load(self, offset: int, data: bytes) -> None:
        """Put output that another host kept before the present end; it must end there without a gap.

        Raises:
            InputError: it ends elsewhere, or begins before offset 0.
        """
        if offset < 0 or offset + len(data) != self.end:
            raise InputError(
                f"console output [{offset}, {offset + len(data)}) does not end where the VM's begins, at {self.end}",
                hint="load the VM's state first: its serial port knows how many bytes it has sent",
            )
        kept = data[-self._max_bytes :]
        self._data[:] = kept
        self.base = offset + len(data) - len(kept)
