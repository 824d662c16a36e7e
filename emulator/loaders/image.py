"""What a loader returns, and the machine that is made of it."""

from itertools import pairwise
from typing import Any, NamedTuple

from ..config import (
    AS_NORMAL,
    AS_SMM,
    GIB,
    LOW_RAM_LIMIT_BYTES,
    MIB,
    PAGE_BYTES,
    SLOT_READONLY,
    ImageConfig,
    MachineConfig,
    SlotConfig,
    StartConfig,
    ram_slots,
)

ROM_END = 4 * GIB
LOW_ROM_BYTES = 128 * 1024
"""So much of a ROM's end is seen below 1 MiB as well. Source: QEMU hw/i386/x86.c x86_bios_rom_init() (isa-bios)."""


class LoadError(ValueError):
    """An image that cannot be loaded; the text says why."""


class Loaded(NamedTuple):
    """What to place in memory before the first instruction, and where that is; `rom_bytes` end at 4 GiB, read-only."""

    images: tuple[ImageConfig, ...]
    start: StartConfig
    rom_bytes: int = 0


def machine_config(loaded: Loaded, ram_bytes: int, **options: Any) -> MachineConfig:
    """Configuration of a machine with `ram_bytes` of RAM and the ROM; `options` are further fields of MachineConfig.

    Raises:
        LoadError: the RAM is no whole number of pages, does not reach up to the ROM, or an image is outside both.
    """
    if ram_bytes <= 0 or ram_bytes % PAGE_BYTES:
        raise LoadError(f"{ram_bytes} bytes of RAM: a multiple of {PAGE_BYTES} is needed")
    slots = rom_slots(ram_bytes, loaded.rom_bytes) if loaded.rom_bytes else ram_slots(ram_bytes)
    require_room([(image.gpa, len(image.data)) for image in loaded.images if image.as_id == AS_NORMAL], slots)
    return MachineConfig(
        ram_bytes=ram_bytes + loaded.rom_bytes, slots=slots, start=loaded.start, images=loaded.images, **options
    )


def rom_slots(ram_bytes: int, rom_bytes: int) -> tuple[SlotConfig, ...]:
    """Slots of a machine whose ROM lies behind the RAM in the backing and ends at 1 MiB and at 4 GiB, as on a PC.

    The RAM under the ROM's low end is hidden.
    """
    low_rom = min(rom_bytes, LOW_ROM_BYTES)
    low_start, low_ram = MIB - low_rom, min(ram_bytes, LOW_RAM_LIMIT_BYTES)
    pieces = [
        (0, min(low_ram, low_start), 0, 0),
        (low_start, low_rom, ram_bytes + rom_bytes - low_rom, SLOT_READONLY),
        (MIB, low_ram - MIB, MIB, 0),
        (ROM_END - rom_bytes, rom_bytes, ram_bytes, SLOT_READONLY),
        (4 * GIB, ram_bytes - low_ram, low_ram, 0),
    ]
    return tuple(
        SlotConfig(as_id, number, gpa, size, flags, offset)
        for as_id in (AS_NORMAL, AS_SMM)
        for number, (gpa, size, offset, flags) in enumerate(piece for piece in pieces if piece[1] > 0)
    )


def require_room(pieces: list[tuple[int, int]], slots: tuple[SlotConfig, ...]) -> None:
    """Refuse pieces (address, size) that overlap each other or leave the slots of the normal address space.

    Raises:
        LoadError: of the first such piece.
    """
    held = sorted(piece for piece in pieces if piece[1])
    for (start, size), (following, _) in pairwise(held):
        if start + size > following:
            raise LoadError(f"two pieces of the image overlap at {following:#x}")
    spans = sorted((slot.gpa, slot.gpa + slot.size_bytes) for slot in slots if slot.as_id == AS_NORMAL)
    for start, size in held:
        if not _covered(start, start + size, spans):
            raise LoadError(f"the image needs [{start:#x}, {start + size:#x}), where there is no RAM")


def _covered(start: int, end: int, spans: list[tuple[int, int]]) -> bool:
    """Whether sorted spans hold [start, end) without a gap."""
    for low, high in spans:
        if low <= start < high:
            start = high
        if start >= end:
            return True
    return False
