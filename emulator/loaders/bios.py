"""A firmware ROM, begun at the reset vector."""

from ..config import MIB, PAGE_BYTES, ImageConfig, StartConfig
from ..cpu_model import MODELS
from .image import ROM_END, Loaded, LoadError

MAX_ROM_BYTES = 16 * MIB
"""Source: QEMU hw/i386/pc_sysfw.c FLASH_SIZE_LIMIT leaves 8 MiB; the local APIC lies at 4 GiB - 18 MiB."""

SHORT_RESET_BASE = 0xF0000
"""CS base at reset of models without 32-bit addresses. An 80286 begins 16 bytes below 16 MiB, where its boards show the
ROM as well; here that is RAM, so it begins at the ROM's place below 1 MiB."""


def load_bios(rom: bytes, cpu_model: str = "x86-64") -> Loaded:
    """Place a ROM so that it ends at 4 GiB, and its last 128 KiB so that they end at 1 MiB; both are read-only.

    Raises:
        LoadError: it is empty, too large, or no whole number of pages.
    """
    if not rom or len(rom) % PAGE_BYTES or len(rom) > MAX_ROM_BYTES:
        text = f"a ROM of {len(rom)} bytes: {PAGE_BYTES} to {MAX_ROM_BYTES} in multiples of {PAGE_BYTES} are needed"
        raise LoadError(text)
    model = MODELS.get(cpu_model)
    short = model is not None and model.physical_bits < 32
    start = StartConfig(cs_base=SHORT_RESET_BASE) if short else StartConfig()
    return Loaded((ImageConfig(0, ROM_END - len(rom), rom),), start, len(rom))
