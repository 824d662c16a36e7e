"""ELF32 files for the 386: what of them to place where.

Source: System V ABI, chapters 4 and 5 (ELF header, program header).
"""

import struct
from typing import NamedTuple

from .image import LoadError

_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM = struct.Struct("<IIIIIIII")
_MAGIC, _CLASS_32, _CLASS_64, _LITTLE_ENDIAN = b"\x7fELF", 1, 2, 1
_MACHINE_386, _LOAD = 3, 1
MAX_SEGMENTS = 1024


class Segment(NamedTuple):
    """A PT_LOAD: `data` at physical `address`, zeros behind it up to `size` bytes; linked to run at `virtual`."""

    address: int
    virtual: int
    data: bytes
    size: int


class Elf32(NamedTuple):
    """What a loader needs of the file; `entry` is a physical address."""

    entry: int
    segments: tuple[Segment, ...]


def parse(raw: bytes) -> Elf32:
    """Read an executable.

    Raises:
        LoadError: it is none, or is truncated, or describes what it does not hold.
    """
    if len(raw) < _HEADER.size or raw[:4] != _MAGIC:
        raise LoadError("not an ELF file")
    if raw[4] == _CLASS_64:
        raise LoadError("a 64-bit ELF; multiboot takes 32-bit ones (objcopy -O elf32-i386 makes one)")
    _, _, machine, _, entry, table, _, _, _, row_bytes, rows, _, _, _ = _HEADER.unpack_from(raw)
    if raw[4] != _CLASS_32 or raw[5] != _LITTLE_ENDIAN or machine != _MACHINE_386:
        raise LoadError("an ELF for another machine than the 386")
    if row_bytes < _PROGRAM.size or rows > MAX_SEGMENTS or table + rows * row_bytes > len(raw):
        raise LoadError("its table of program headers is damaged")
    found = (_segment(raw, table + n * row_bytes) for n in range(rows))
    segments = tuple(segment for segment in found if segment is not None)
    if not segments:
        raise LoadError("it has nothing to load (no PT_LOAD)")
    if sum(len(segment.data) for segment in segments) > len(raw):
        raise LoadError("its program headers load a part of the file twice")
    return Elf32(_physical(entry, segments), segments)


def _segment(raw: bytes, at: int) -> Segment | None:
    kind, offset, virtual, physical, held, size, _, _ = _PROGRAM.unpack_from(raw, at)
    if kind != _LOAD or not size:
        return None
    if held > size or offset + held > len(raw):
        raise LoadError(f"a segment for {physical:#x} reaches beyond the end of the file")
    return Segment(physical, virtual, raw[offset : offset + held], size)


def _physical(entry: int, segments: tuple[Segment, ...]) -> int:
    """The entry is a virtual address; a segment may lie elsewhere in physical memory."""
    for segment in segments:
        if segment.virtual <= entry < segment.virtual + segment.size:
            return entry - segment.virtual + segment.address
    return entry
