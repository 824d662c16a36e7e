"""A realistic vCPU: 200 MSRs, 4 KiB of XSAVE, 1 KiB of LAPIC, 40 CPUID entries, registers that hold something."""

from __future__ import annotations

import random
import struct

from benchmarks.machines import paused_ticker
from emulator.bridge import save_state
from schemas.names.msrs import MSRS
from schemas.state import Sections, VcpuState

MSR_COUNT, CPUID_COUNT = 200, 40


def realistic_sections(seed: int = 1) -> Sections:
    """Return the sections of a 64-bit guest that has run, padded to the size of a vCPU of a real host.

    The padding is of the kind that a host has: MSRs of which most are zero or small, CPUID leaves of dense feature
    words, and an XSAVE area with x87, SSE and AVX registers of which half are in use.
    """
    rng = random.Random(seed)
    sections = save_state(paused_ticker(200_000)).vcpus[0].to_sections()
    sections["msrs"] = _msrs(sections["msrs"], rng)
    sections["cpuid2"] = _cpuid(sections["cpuid2"], rng)
    sections["xsave"] = _xsave(sections["xsave"], rng)
    return sections


def realistic_vcpu(seed: int = 1) -> VcpuState:
    """Return the same as a model."""
    return VcpuState.from_sections(realistic_sections(seed))


def _msrs(raw: bytes, rng: random.Random) -> bytes:
    held = list(struct.iter_unpack("<IIQ", raw[8:]))
    known = {number for number, _, _ in held}
    named = [row.number for row in MSRS if row.number not in known]
    pool = (*named, *range(0x4000_0100, 0x4000_0200))
    held += [
        (number, 0, rng.choice((0, 0, 0, rng.getrandbits(12), rng.getrandbits(48))))
        for number in pool[: MSR_COUNT - len(held)]
    ]
    return struct.pack("<II", MSR_COUNT, 0) + b"".join(struct.pack("<IIQ", *row) for row in held[:MSR_COUNT])


def _cpuid(raw: bytes, rng: random.Random) -> bytes:
    entries = [raw[at : at + 40] for at in range(8, len(raw), 40)]
    number = 0x4000_0010
    while len(entries) < CPUID_COUNT:
        words = [rng.getrandbits(32) & rng.getrandbits(32) for _ in range(4)]
        entries.append(struct.pack("<7I12x", number, 0, 0, *words))
        number += 1
    return struct.pack("<II", CPUID_COUNT, 0) + b"".join(entries[:CPUID_COUNT])


def _xsave(raw: bytes, rng: random.Random) -> bytes:
    """Fill x87, half of XMM and half of the upper halves of YMM."""
    area = bytearray(raw)
    for offset, size in ((32, 128), (160, 128), (576, 128)):
        area[offset : offset + size] = rng.randbytes(size)
    for register in range(8):  # an 80-bit register takes 16 bytes, of which 6 are reserved
        area[32 + 16 * register + 10 : 48 + 16 * register] = bytes(6)
    area[512] |= 7
    return bytes(area)
