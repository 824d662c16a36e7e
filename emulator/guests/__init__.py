"""Bundled guests: small programs with source, for demonstrations and for tests.

The binaries are built by `python -m emulator.guests.build`; a test compares them with their sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..config import KIB, MIB, PAGE_BYTES, ImageConfig, MachineConfig, StartConfig, ram_slots

_HERE = Path(__file__).parent
_PARAM_BLOCK_GPA = 0x500
_ENTRY = 0x8000
_SMBASE = 0x30000
_WORKING_SET_GPA = 0x100000
_LOW_RAM_BYTES = 3 << 30
"""The guests map 4 GiB and keep clear of the device pages in the last of them."""


class GuestParam(NamedTuple):
    """A number that a guest takes: its default, its bounds and what it means."""

    default: int
    minimum: int
    maximum: int
    description: str


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A bundled guest and how to build a machine for it.

    `params` lists its parameters in the order of the parameter block (u32 each, from guest physical 0x500).
    `images` are (address space, gpa, file name). `smram_bytes` is the private SMRAM from SMBASE 0x30000 on.
    """

    name: str
    description: str
    images: tuple[tuple[int, int, str], ...]
    ram_bytes: int
    minimum_ram_bytes: int
    smram_bytes: int
    params: Mapping[str, GuestParam]
    cpu_model: str = "x86-64"

    def config(self, params: Mapping[str, int] | None = None, ram_bytes: int | None = None) -> MachineConfig:
        """Configuration of a machine that runs this guest; `ram_bytes` does not count the private SMRAM.

        Raises:
            ValueError: an unknown parameter, a value out of bounds, or too little RAM; the text lists all of it.
        """
        size = self.ram_bytes if ram_bytes is None else ram_bytes
        values, problems = self._values(params or {})
        if size < self.minimum_ram_bytes or size % PAGE_BYTES:
            problems.append(f"ram_bytes {size}: at least {self.minimum_ram_bytes}, in multiples of {PAGE_BYTES}")
        pages = values.get("working_set_pages", 0)
        room = max(min(size, _LOW_RAM_BYTES) - _WORKING_SET_GPA, 0) // PAGE_BYTES
        if pages > room:
            problems.append(f"working_set_pages {pages}: at most {room} with {size} bytes of RAM")
        if problems:
            raise ValueError(f"guest {self.name}: " + "; ".join(problems))
        block = b"".join(value.to_bytes(4, "little") for value in values.values())
        images = [ImageConfig(as_id, gpa, (_HERE / file).read_bytes()) for as_id, gpa, file in self.images]
        return MachineConfig(
            ram_bytes=size + self.smram_bytes,
            slots=ram_slots(size, _SMBASE, self.smram_bytes),
            cpu_model=self.cpu_model,
            start=StartConfig(cs_selector=0, cs_base=0, rip=_ENTRY),
            images=(*images, ImageConfig(0, _PARAM_BLOCK_GPA, block)) if block else tuple(images),
        )

    def _values(self, given: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
        """Parameters with defaults filled in, and what is wrong with them."""
        known = ", ".join(self.params) or "none"
        problems = [f"no parameter {name!r} (there are: {known})" for name in given if name not in self.params]
        values = {}
        for name, row in self.params.items():
            value = given.get(name, row.default)
            if not row.minimum <= value <= row.maximum:
                problems.append(f"{name} {value}: between {row.minimum} and {row.maximum}")
                value = row.default
            values[name] = value
        return values, problems


_TICKER_PARAMS = MappingProxyType(
    {
        "ticks": GuestParam(500, 1, 2**32 - 1, "end after this many timer ticks"),
        "working_set_pages": GuestParam(64, 1, 1 << 20, "4 KiB pages that are dirtied all the time"),
        "line_ticks": GuestParam(10, 1, 2**32 - 1, "print a line every so many ticks"),
        "smi_ticks": GuestParam(1, 0, 2**32 - 1, "place an SMI every so many ticks; 0: never"),
        "pit_count": GuestParam(11932, 100, 65535, "timer period in 1/1193182 s; 11932 is 10 ms"),
    }
)


def _ticker(name: str, mode: str) -> GuestImage:
    return GuestImage(
        name=name,
        description=f"timer, a dirtied working set, its checksum on the serial port, SMIs in shadows; {mode}",
        images=((0, _ENTRY, f"{name}.bin"), (1, _SMBASE + 0x8000, "ticker_smi.bin")),
        ram_bytes=16 * MIB,
        minimum_ram_bytes=2 * MIB,
        smram_bytes=64 * KIB,
        params=_TICKER_PARAMS,
    )


def _corners(name: str, cpu_model: str, what: str) -> GuestImage:
    handler = "smm_corners_smi.bin"
    return GuestImage(
        name=name,
        description=f"SMM corner cases in real and protected mode{what}; short enough to migrate at every instruction",
        images=((0, _ENTRY, "smm_corners.bin"), (1, _SMBASE + 0x8000, handler), (1, 0x48000, handler)),
        ram_bytes=320 * KIB,
        minimum_ram_bytes=320 * KIB,
        smram_bytes=128 * KIB,
        params=MappingProxyType({}),
        cpu_model=cpu_model,
    )


GUESTS: Mapping[str, GuestImage] = MappingProxyType(
    {
        guest.name: guest
        for guest in (
            _ticker("ticker32", "32-bit protected mode with paging"),
            _ticker("ticker64", "64-bit long mode with 4-level paging"),
            _corners("smm_corners", "x86-64", " and long mode, 64-bit save area"),
            _corners("smm_corners32", "pentium", ", 32-bit save area"),
        )
    }
)
"""The bundled guests by name."""
