"""Guest physical memory: slots over one backing, device pages, and the dirty log."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, Protocol

from .config import PAGE_BYTES, SLOT_READONLY, SlotConfig

PAGE_MASK = PAGE_BYTES - 1
A20 = 1 << 20
_ALL_ONES = (1 << 64) - 1
_TO_DIGITS = bytes([0x30]) + bytes([0x31]) * 255


class MmioHandler(Protocol):
    """A device page. `offset` counts from the page's start, `size` is 1 to 8 bytes."""

    def mmio_read(self, offset: int, size: int) -> int:
        """Return `size` bytes at `offset`, little-endian."""

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes at `offset`."""


class Window(NamedTuple):
    """What a chipset shows instead of the slots in [start, end) of an address space.

    Reads come from the backing at `read_offset`, writes go to `write_offset`; -1 is a bus that nobody claims.
    """

    as_id: int
    start: int
    end: int
    read_offset: int
    write_offset: int


class _Region(NamedTuple):
    """A slot or window as looked up: [start, end), read from `offset` and written at `write_offset`, -1 for nothing."""

    start: int
    end: int
    offset: int
    write_offset: int

    def part(self, start: int, end: int) -> "_Region":
        """The region from `start` to `end` of it."""
        moved = (-1 if offset < 0 else offset + start - self.start for offset in (self.offset, self.write_offset))
        return _Region(start, end, *moved)


def _no_code(page: int) -> None:
    """Nobody holds decoded code yet."""


class GuestMemory:
    """RAM behind memory slots, keyed by (address space, guest physical address).

    Holes read all ones and drop writes, as an unclaimed bus does. `dirty` and `code_pages` hold one byte per
    4 KiB page of the backing: a page written since the log was last cleared, and a page whose decoded
    instructions somebody caches. A cache of writable pages may hold a page only while `dirty` is set for it, and
    must be dropped when `generation` changes.

    Raises:
        ValueError: a slot is not page aligned, overlaps another one or lies outside the backing.
    """

    def __init__(self, slots: Iterable[SlotConfig], ram: bytearray | memoryview) -> None:
        self.ram = memoryview(ram).cast("B")
        if self.ram.readonly or not self.ram.nbytes or self.ram.nbytes % PAGE_BYTES:
            raise ValueError("guest RAM must be a writable buffer of a whole number of 4 KiB pages")
        self.ram_bytes = self.ram.nbytes
        self.slots = tuple(slots)
        self.page_count = self.ram_bytes // PAGE_BYTES
        self.dirty = bytearray(self.page_count)
        self.code_pages = bytearray(self.page_count)
        self.generation = 0
        self.on_code_write: Callable[[int], None] = _no_code
        self._mmio: dict[int, MmioHandler] = {}
        self._address_mask = -1
        self._slot_regions = [self._regions_of(as_id) for as_id in (0, 1)]
        self._regions = list(self._slot_regions)
        self._starts = [[region.start for region in regions] for regions in self._regions]

    def set_windows(self, windows: Iterable[Window]) -> None:
        """Show `windows` in place of the slots, and no others; all caches of translations become stale."""
        for as_id in (0, 1):
            regions = self._slot_regions[as_id]
            for window in windows:
                if window.as_id == as_id:
                    regions = _overlaid(regions, _Region(*window[1:]))
            self._regions[as_id] = regions
            self._starts[as_id] = [region.start for region in regions]
        self.generation += 1

    def set_a20(self, passes: bool) -> None:
        """Let address bit 20 pass, or hold it at 0; all caches of translations become stale."""
        self._address_mask = -1 if passes else ~A20
        self.generation += 1

    def _regions_of(self, as_id: int) -> list[_Region]:
        """Sort and check the slots of one address space."""
        regions = []
        for slot in self.slots:
            if slot.as_id not in (0, 1):
                raise ValueError(f"slot {slot.slot}: address space {slot.as_id} does not exist on x86 (0 and 1 do)")
            if slot.as_id != as_id:
                continue
            if slot.size_bytes <= 0 or (slot.gpa | slot.size_bytes | slot.backing_offset_bytes) & PAGE_MASK:
                raise ValueError(f"slot {slot.slot}: address, size and backing offset must be multiples of 4096")
            if slot.backing_offset_bytes + slot.size_bytes > self.ram_bytes or slot.backing_offset_bytes < 0:
                raise ValueError(f"slot {slot.slot}: ends outside the backing of {self.ram_bytes:#x} bytes")
            offset = slot.backing_offset_bytes
            write_offset = -1 if slot.flags & SLOT_READONLY else offset
            regions.append(_Region(slot.gpa, slot.gpa + slot.size_bytes, offset, write_offset))
        regions.sort()
        for below, above in pairwise(regions):
            if below.end > above.start:
                raise ValueError(f"two slots of address space {as_id} overlap at {above.start:#x}")
        return regions

    def _region(self, as_id: int, gpa: int) -> _Region | None:
        index = bisect_right(self._starts[as_id], gpa) - 1
        if index < 0:
            return None
        region = self._regions[as_id][index]
        return region if gpa < region.end else None

    def map_mmio(self, gpa: int, handler: MmioHandler) -> None:
        """Put a device on the 4 KiB page at `gpa` of both address spaces; it hides RAM there."""
        self._mmio[gpa & ~PAGE_MASK] = handler
        self.generation += 1

    def unmap_mmio(self, gpa: int) -> None:
        """Take the device page at `gpa` away."""
        self._mmio.pop(gpa & ~PAGE_MASK, None)
        self.generation += 1

    def page_offset(self, as_id: int, gpa: int) -> int:
        """Backing offset of the page that holds `gpa`, or -1 for a hole or a device page."""
        page = gpa & self._address_mask & ~PAGE_MASK
        if page in self._mmio:
            return -1
        region = self._region(as_id, page)
        return -1 if region is None or region.offset < 0 else region.offset + page - region.start

    def writable_page_offset(self, as_id: int, gpa: int) -> int:
        """As `page_offset`, but -1 also if writes go elsewhere or nowhere: what a cache of writable pages may hold."""
        region = self._region(as_id, gpa & self._address_mask)
        return -1 if region is None or region.offset != region.write_offset else self.page_offset(as_id, gpa)

    def mark_dirty(self, page: int) -> None:
        """Note that backing page number `page` changes."""
        self.dirty[page] = 1
        if self.code_pages[page]:
            self.on_code_write(page)

    def read(self, as_id: int, gpa: int, size: int) -> int:
        """Read `size` bytes (1 to 64) at any alignment, little-endian."""
        gpa &= self._address_mask
        within = gpa & PAGE_MASK
        if within + size <= PAGE_BYTES:
            handler = self._mmio.get(gpa - within)
            if handler is not None:
                return handler.mmio_read(within, size)
            region = self._region(as_id, gpa)
            if region is None or region.offset < 0:
                return _ALL_ONES & ((1 << 8 * size) - 1)
            offset = region.offset + gpa - region.start
            return int.from_bytes(self.ram[offset : offset + size], "little")
        head = PAGE_BYTES - within
        return self.read(as_id, gpa, head) | self.read(as_id, gpa + head, size - head) << 8 * head

    def write(self, as_id: int, gpa: int, size: int, value: int) -> None:
        """Write the low `size` bytes (1 to 64) of `value` at any alignment, little-endian."""
        gpa &= self._address_mask
        within = gpa & PAGE_MASK
        if within + size <= PAGE_BYTES:
            value &= (1 << 8 * size) - 1
            handler = self._mmio.get(gpa - within)
            if handler is not None:
                handler.mmio_write(within, size, value)
                return
            region = self._region(as_id, gpa)
            if region is None or region.write_offset < 0:
                return
            offset = region.write_offset + gpa - region.start
            self.mark_dirty(offset // PAGE_BYTES)
            self.ram[offset : offset + size] = value.to_bytes(size, "little")
            return
        head = PAGE_BYTES - within
        self.write(as_id, gpa, head, value)
        self.write(as_id, gpa + head, size - head, value >> 8 * head)

    def read_bytes(self, as_id: int, gpa: int, size: int) -> bytes:
        """Copy `size` bytes out of RAM; holes and device pages give 0xFF bytes and no device is touched."""
        parts = []
        while size > 0:
            part = min(size, PAGE_BYTES - (gpa & PAGE_MASK))
            offset = self.page_offset(as_id, gpa)
            start = offset + (gpa & PAGE_MASK)
            parts.append(b"\xff" * part if offset < 0 else bytes(self.ram[start : start + part]))
            gpa, size = gpa + part, size - part
        return b"".join(parts)

    def write_bytes(self, as_id: int, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` into RAM; holes, device pages and read-only slots drop their part."""
        position, total = 0, len(data)
        while position < total:
            part = min(total - position, PAGE_BYTES - (gpa & PAGE_MASK))
            offset = self.writable_page_offset(as_id, gpa)
            if offset >= 0:
                start = offset + (gpa & PAGE_MASK)
                self.mark_dirty(offset // PAGE_BYTES)
                self.ram[start : start + part] = data[position : position + part]
            gpa, position = gpa + part, position + part

    def load_image(self, as_id: int, gpa: int, data: bytes) -> None:
        """Write an image before the start; unlike `write_bytes` it fills read-only slots and never drops a byte.

        Raises:
            ValueError: a part of the image lies in a hole or on a device page.
        """
        position = 0
        while position < len(data):
            part = min(len(data) - position, PAGE_BYTES - (gpa & PAGE_MASK))
            offset = self.page_offset(as_id, gpa)
            if offset < 0:
                raise ValueError(f"image byte {position} at {gpa:#x} of address space {as_id} has no RAM behind it")
            start = offset + (gpa & PAGE_MASK)
            self.mark_dirty(offset // PAGE_BYTES)
            self.ram[start : start + part] = data[position : position + part]
            gpa, position = gpa + part, position + part

    def fetch_dirty(self, clear: bool) -> bytes:
        """Dirty bitmap of the whole backing: bit i = page i, padded to a multiple of 8 bytes as KVM's."""
        bitmap = _pack(self.dirty)
        if clear:
            self.clear_dirty()
        return bitmap

    def clear_dirty(self) -> None:
        """Begin a new log; every cache of writable pages becomes stale."""
        self.dirty[:] = bytes(self.page_count)
        self.generation += 1

    def dirty_log(self, as_id: int, slot: int, clear: bool) -> bytes:
        """Dirty bitmap of one slot in KVM's form: (pages + 63) / 64 * 8 bytes, bit i = page i of the slot.

        The log is kept per backing page: with `clear`, an alias of the slot in the other address space is
        cleared too. A migration therefore uses `fetch_dirty`, which covers every page exactly once.

        Raises:
            KeyError: there is no such slot.

        Source: Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG.
        """
        for row in self.slots:
            if (row.as_id, row.slot) == (as_id, slot):
                break
        else:
            raise KeyError(f"no slot {slot} in address space {as_id}")
        first = row.backing_offset_bytes // PAGE_BYTES
        last = first + row.size_bytes // PAGE_BYTES
        bitmap = _pack(self.dirty[first:last])
        if clear:
            self.dirty[first:last] = bytes(last - first)
            self.generation += 1
        return bitmap


def _overlaid(regions: list[_Region], window: _Region) -> list[_Region]:
    """Sorted regions with `window` in place of what it covers."""
    below = [region.part(region.start, min(region.end, window.start)) for region in regions]
    above = [region.part(max(region.start, window.end), region.end) for region in regions]
    return sorted([window, *(region for region in (*below, *above) if region.start < region.end)])


def _pack(flags: bytearray) -> bytes:
    """One byte per page to one bit per page. Going through an int in base 2 keeps the loop in C."""
    size = (len(flags) + 63) // 64 * 8
    if flags.count(0) == len(flags):
        return bytes(size)
    return int(flags.translate(_TO_DIGITS)[::-1], 2).to_bytes(size, "little")
