"""Flat images at an address, begun in real mode: boot sectors, COM-like programs, test code."""

from typing import NamedTuple

from ..config import KIB, MIB, ImageConfig, StartConfig
from .image import Loaded, LoadError

HIGHEST_ENTRY = MIB + 64 * KIB - 17
"""FFFF:FFFF, the last byte that real mode can name."""


class FlatImage(NamedTuple):
    """Bytes and the guest physical address of the first one."""

    gpa: int
    data: bytes
    as_id: int = 0


def real_mode_start(linear: int) -> StartConfig:
    """CS:IP for a linear address: CS is 0 as far as IP reaches, as a BIOS jumps to a boot sector at 0000:7C00.

    Raises:
        LoadError: real mode cannot name the address.
    """
    if not 0 <= linear <= HIGHEST_ENTRY:
        raise LoadError(f"entry {linear:#x}: real mode reaches up to {HIGHEST_ENTRY:#x}")
    selector = 0 if linear < 64 * KIB else min(linear >> 4, 0xFFFF)
    return StartConfig(cs_selector=selector, cs_base=selector << 4, rip=linear - (selector << 4))


def load_flat(images: list[FlatImage], entry: StartConfig | None = None) -> Loaded:
    """Place the images; the vCPU begins in real mode at `entry`, or at the first image of address space 0.

    Raises:
        LoadError: there is none, one is empty, or real mode cannot begin there.
    """
    if any(not image.data for image in images):
        raise LoadError("a flat image is empty")
    first = next((image.gpa for image in images if image.as_id == 0), None)
    if entry is None and first is None:
        raise LoadError("no flat image is in address space 0, where the vCPU begins")
    start = real_mode_start(first or 0) if entry is None else entry
    return Loaded(tuple(ImageConfig(image.as_id, image.gpa, image.data) for image in images), start)
