"""Dirty pages in KVM's form: a bitmap of whole 64-bit words per slot, or the entries of a dirty ring.

Bit i % 64 of word i // 64, little-endian, is page i of the slot; bits behind the last page are 0. A bitmap of the
backing has the same form over the pages of `MemoryMap`'s RAM: `merge_slots` makes it of the slots' own.
Source: Linux 6.12 Documentation/virt/kvm/api.rst 4.8, 4.117, 8.29.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .errors import Problem, SchemaError
from .memory import MAX_RAM_BYTES, PAGE_BYTES, MemoryMap, MemorySlot
from .memory_regions import slot_word
from .uapi.dirty_log import DirtyGfnFlags, KvmClearDirtyLog, KvmDirtyGfn

WORD_PAGES = 64
WORD_BYTES = 8
MAX_PAGES = MAX_RAM_BYTES // PAGE_BYTES


def bitmap_bytes(pages: int) -> int:
    """Return the size in bytes of the bitmap of so many pages.

    Raises:
        ValueError: the number is negative or beyond `MAX_PAGES`.
    """
    if not 0 <= pages <= MAX_PAGES:
        raise ValueError(f"{pages} pages, expected 0 to {MAX_PAGES}")
    return (pages + WORD_PAGES - 1) // WORD_PAGES * WORD_BYTES


def encode(dirty: Iterable[int], pages: int) -> bytes:
    """Return the bitmap in which these pages of `pages` are dirty.

    Raises:
        ValueError: there is no such page, or too many in all.
    """
    bitmap = bytearray(bitmap_bytes(pages))
    for page in dirty:
        if not 0 <= page < pages:
            raise ValueError(f"page {page} of {pages}")
        bitmap[page >> 3] |= 1 << (page & 7)
    return bytes(bitmap)


def decode(bitmap: bytes, pages: int) -> list[int]:
    """Return the dirty pages, ascending.

    Raises:
        SchemaError: the bitmap has the wrong length, or a bit behind the last page.
    """
    return [page for start, end in decode_runs(bitmap, pages) for page in range(start, end)]


def decode_runs(bitmap: bytes, pages: int) -> Iterator[tuple[int, int]]:
    """Return runs [first, end) of dirty pages, ascending and never adjacent.

    Raises:
        SchemaError: as `decode`; before the first run.
    """
    _checked(bitmap, pages)
    return _runs(bitmap)


def _checked(bitmap: bytes, pages: int) -> int:
    """Return the bitmap as one number, once its length and its last bits are what they must be."""
    if len(bitmap) != bitmap_bytes(pages):
        text = f"{len(bitmap)} bytes, expected {bitmap_bytes(pages)} for {pages} pages"
        raise SchemaError([Problem(where="dirty_bitmap", message=text)])
    value = int.from_bytes(bitmap, "little")
    if value >> pages:
        text = f"bit {value.bit_length() - 1} is set, the slot has {pages} pages"
        raise SchemaError([Problem(where="dirty_bitmap", message=text)])
    return value


def _runs(bitmap: bytes) -> Iterator[tuple[int, int]]:
    start: int | None = None
    for index, octet in enumerate(bitmap):
        if octet in (0, 0xFF):  # most are: nothing begins or ends inside
            if octet and start is None:
                start = 8 * index
            elif not octet and start is not None:
                yield start, 8 * index
                start = None
            continue
        for bit in range(8):
            page = 8 * index + bit
            if octet >> bit & 1:
                start = page if start is None else start
            elif start is not None:
                yield start, page
                start = None
    if start is not None:
        yield start, 8 * len(bitmap)


def merge_slots(memory: MemoryMap, bitmaps: Mapping[tuple[int, int], bytes]) -> bytes:
    """Return the bitmap of the backing, of bitmaps by (address space, slot number); slots without one are clean.

    Two slots may show the same bytes: a page is dirty if it is so through either.

    Raises:
        SchemaError: a slot is unknown, or a bitmap does not fit its slot; every reason is listed.
    """
    slots = {(slot.as_id, slot.slot): slot for slot in memory.slots}
    merged, problems = 0, []
    for key, bitmap in bitmaps.items():
        slot = slots.get(key)
        where = f"slot {key[1]} of address space {key[0]}"
        if slot is None:
            problems.append(Problem(where=where, message="the memory map has no such slot"))
            continue
        try:
            pages = _checked(bitmap, slot.size_bytes // PAGE_BYTES)
        except SchemaError as error:
            problems += [Problem(where=f"{where}: {p.where}", message=p.message) for p in error.problems]
        else:
            merged |= pages << slot.backing_offset_bytes // PAGE_BYTES
    if problems:
        raise SchemaError(problems)
    return merged.to_bytes(bitmap_bytes(memory.ram_bytes // PAGE_BYTES), "little")


def clear_ranges(slot: MemorySlot, bitmap: bytes) -> Iterator[tuple[KvmClearDirtyLog, bytes]]:
    """Return KVM_CLEAR_DIRTY_LOG arguments for the dirty parts of a slot, each with the piece of the bitmap.

    `dirty_bitmap` is left 0: the address of the piece, which the caller knows. Ranges are whole words of 64 pages; the
    last one may end with the slot.

    Raises:
        SchemaError: as `decode`; before the first range.
    """
    pages = slot.size_bytes // PAGE_BYTES
    _checked(bitmap, pages)
    word = slot_word(slot.as_id, slot.slot)
    return (
        (
            KvmClearDirtyLog(
                slot=word,
                num_pages=min(last * WORD_PAGES, pages) - first * WORD_PAGES,
                first_page=first * WORD_PAGES,
                dirty_bitmap=0,
            ),
            bitmap[first * WORD_BYTES : last * WORD_BYTES],
        )
        for first, last in _dirty_words(bitmap)
    )


def _dirty_words(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """Yield runs [first, end) of words that hold a dirty page."""
    start: int | None = None
    count = len(bitmap) // WORD_BYTES
    for index in range(count):
        if any(bitmap[index * WORD_BYTES : (index + 1) * WORD_BYTES]):
            start = index if start is None else start
        elif start is not None:
            yield start, index
            start = None
    if start is not None:
        yield start, count


def harvest(entries: Iterable[KvmDirtyGfn], memory: MemoryMap) -> tuple[dict[tuple[int, int], list[int]], int]:
    """Return the dirty pages by (address space, slot number), and how many entries of a ring were taken.

    Entries are taken in their order as far as the kernel has filled them; of each the caller then sets
    KVM_DIRTY_GFN_F_RESET and calls KVM_RESET_DIRTY_RINGS before it reads the pages.

    Raises:
        SchemaError: an entry names a page that no slot has.
    """
    pages = {(slot.as_id, slot.slot): slot.size_bytes // PAGE_BYTES for slot in memory.slots}
    found: dict[tuple[int, int], list[int]] = {}
    taken = 0
    for entry in entries:
        if entry.flags != DirtyGfnFlags.KVM_DIRTY_GFN_F_DIRTY:
            break
        key = (entry.slot >> 16, entry.slot & 0xFFFF)
        if not entry.offset < pages.get(key, 0):
            text = f"page {entry.offset} of slot {key[1]} of address space {key[0]}, which the memory map has not"
            raise SchemaError([Problem(where=f"dirty_ring[{taken}]", message=text)])
        found.setdefault(key, []).append(entry.offset)
        taken += 1
    return found, taken
