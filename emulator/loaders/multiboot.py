"""Kernels for a multiboot 1 loader (GRUB, QEMU's -kernel): ELF32, or flat with the addresses in the header.

Source: Multiboot Specification 0.6.96, 3.1 header, 3.2 machine state, 3.3 boot information format.
"""

import struct
from typing import NamedTuple

from ..config import GIB, KIB, LOW_RAM_LIMIT_BYTES, MIB, FlatStart, ImageConfig, StartConfig, ram_slots
from ..registers import RAX, RBX
from . import elf32
from .image import Loaded, LoadError, require_room

HEADER_MAGIC, LOADER_MAGIC = 0x1BADB002, 0x2BADB002
SEARCH_BYTES = 8192
"""The header lies within so many bytes of the file."""
FLAG_PAGE_ALIGN, FLAG_MEMORY, FLAG_VIDEO, FLAG_ADDRESSES = 1, 2, 4, 1 << 16
MUST_UNDERSTAND = 0xFFFF
UNDERSTOOD = FLAG_PAGE_ALIGN | FLAG_MEMORY | FLAG_VIDEO
"""No modules are loaded, so all are aligned; a video mode may be asked for, and the information tells of none."""

INFO_MEMORY, INFO_COMMAND_LINE, INFO_MODULES, INFO_MEMORY_MAP, INFO_LOADER_NAME = 1, 4, 8, 0x40, 0x200
INFO_BYTES = 116
LOW_END = 0x9FC00
"""RAM below 640 KiB but for the last one, where a BIOS has its data area."""
MAX_COMMAND_LINE_BYTES = 4096
LOADER_NAME = b"migsvc\0"

_GDT = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
CODE_SELECTOR, DATA_SELECTOR = 8, 16
_RAM, _RESERVED = 1, 2


class _Kernel(NamedTuple):
    """Where its parts go: images, and (address, size) of everything it occupies, zeroed memory included."""

    entry: int
    images: tuple[ImageConfig, ...]
    occupied: tuple[tuple[int, int], ...]


def load_multiboot(raw: bytes, name: str, append: str, ram_bytes: int) -> Loaded:
    """Place a kernel and the boot information; its command line is `name`, a space, and `append`.

    Raises:
        LoadError: it has no multiboot header, asks for what is not offered, is damaged, or does not fit into RAM.
    """
    command_line = f"{name} {append}".strip().encode("utf-8", "surrogateescape") + b"\0"
    if len(command_line) > MAX_COMMAND_LINE_BYTES or b"\0" in command_line[:-1]:
        raise LoadError(f"the command line must have fewer than {MAX_COMMAND_LINE_BYTES} bytes and no zero among them")
    offset, flags = _find_header(raw)
    if unknown := flags & MUST_UNDERSTAND & ~UNDERSTOOD:
        raise LoadError(f"its multiboot header demands what is not offered (flags {unknown:#x})")
    kernel = _by_addresses(raw, offset) if flags & FLAG_ADDRESSES else _by_elf(raw)
    require_room(list(kernel.occupied), ram_slots(ram_bytes))
    size = len(_information(0, command_line, ram_bytes)[0])
    address = _free_place(size, kernel.occupied, ram_bytes)
    block, info, gdt = _information(address, command_line, ram_bytes)
    start = StartConfig(
        cs_selector=CODE_SELECTOR,
        cs_base=0,
        rip=kernel.entry,
        registers=((RAX, LOADER_MAGIC), (RBX, info)),
        flat=FlatStart(CODE_SELECTOR, DATA_SELECTOR, gdt, 8 * len(_GDT) - 1),
    )
    return Loaded((*kernel.images, ImageConfig(0, address, block)), start)


def _find_header(raw: bytes) -> tuple[int, int]:
    """Offset and flags of the header."""
    for offset in range(0, min(len(raw), SEARCH_BYTES) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", raw, offset)
        if magic == HEADER_MAGIC and not (magic + flags + checksum) & 0xFFFFFFFF:
            return offset, flags
    raise LoadError(f"no multiboot header in its first {SEARCH_BYTES} bytes")


def _by_elf(raw: bytes) -> _Kernel:
    elf = elf32.parse(raw)
    images = tuple(ImageConfig(0, segment.address, segment.data) for segment in elf.segments if segment.data)
    return _Kernel(elf.entry, images, tuple((segment.address, segment.size) for segment in elf.segments))


def _by_addresses(raw: bytes, offset: int) -> _Kernel:
    """The a.out kludge: the header says where the file goes, whatever its format. Source: 3.1.3."""
    if offset + 32 > len(raw):
        raise LoadError("its multiboot header is cut off")
    header, load, load_end, bss_end, entry = struct.unpack_from("<5I", raw, offset + 12)
    first = offset - (header - load)
    size = load_end - load if load_end else len(raw) - first
    if header < load or first < 0 or size <= 0 or first + size > len(raw):
        raise LoadError("the addresses in its multiboot header do not fit the file")
    occupied = max(bss_end - load, size)
    return _Kernel(entry, (ImageConfig(0, load, raw[first : first + size]),), ((load, occupied),))


def _free_place(size: int, occupied: tuple[tuple[int, int], ...], ram_bytes: int) -> int:
    """Highest place below the BIOS data area that the kernel leaves free: their start-up code goes to the low end."""
    address = min(LOW_END, ram_bytes) - size & ~0xFFF
    for start, length in sorted(occupied, reverse=True):
        if start < address + size and address < start + length:
            address = start - size & ~0xFFF
    if address < 0x1000:
        raise LoadError("the kernel leaves no room below 640 KiB for the boot information")
    return address


def _information(address: int, command_line: bytes, ram_bytes: int) -> tuple[bytes, int, int]:
    """The block at `address`: its bytes, and where in it the boot information and the descriptor table are."""
    gdt = b"".join(entry.to_bytes(8, "little") for entry in _GDT)
    rows = _memory_map(ram_bytes)
    memory_map = b"".join(struct.pack("<IQQI", 20, *row) for row in rows)
    info = address + len(gdt)
    map_at = info + INFO_BYTES
    line_at = map_at + len(memory_map)
    name_at = line_at + len(command_line)
    fields = [0] * (INFO_BYTES // 4)
    fields[0] = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME
    fields[1] = min(ram_bytes, LOW_END) // KIB
    fields[2] = max(min(ram_bytes, LOW_RAM_LIMIT_BYTES) - MIB, 0) // KIB
    fields[4] = line_at
    fields[11], fields[12] = len(memory_map), map_at
    fields[16] = name_at
    block = gdt + struct.pack(f"<{len(fields)}I", *fields) + memory_map + command_line + LOADER_NAME
    return block, info, address


def _memory_map(ram_bytes: int) -> list[tuple[int, int, int]]:
    """(address, size, kind) as a PC's BIOS tells it."""
    low = min(ram_bytes, LOW_RAM_LIMIT_BYTES)
    rows = [
        (0, min(low, LOW_END), _RAM),
        (LOW_END, MIB - 384 * KIB - LOW_END, _RESERVED),
        (0xF0000, 64 * KIB, _RESERVED),
        (MIB, low - MIB, _RAM),
        (4 * GIB, ram_bytes - low, _RAM),
    ]
    return [row for row in rows if row[1] > 0]
