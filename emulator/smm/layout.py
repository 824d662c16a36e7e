"""The two SMRAM save areas as tables, and the values that go through them.

Source: Linux 6.12 arch/x86/kvm/smm.h struct kvm_smram_state_32 and kvm_smram_state_64, arch/x86/kvm/smm.c.
"""

from typing import TYPE_CHECKING, NamedTuple

from ..registers import GPR_NAMES, SEGMENT_NAMES
from ..state import CpuState, Segment

if TYPE_CHECKING:
    from ..cpu import Cpu

AREA_OFFSET = 0xFE00
AREA_BYTES = 512
ENTRY_OFFSET = 0x8000
REVISION_32 = 0x00020000
REVISION_64 = 0x00020064
"""Bit 17: SMBASE relocation; no I/O restart, no auto-HALT restart."""


class Field(NamedTuple):
    """A field of a save area: `offset` from SMBASE, `size` in bytes, `name` as in `values`."""

    offset: int
    size: int
    name: str


class SaveArea(NamedTuple):
    """A map and the revision identifier that it carries."""

    revision: int
    fields: tuple[Field, ...]

    def pack(self, values: dict[str, int]) -> bytes:
        """The 512 bytes; whatever the table does not name is zero."""
        image = bytearray(AREA_BYTES)
        for offset, size, name in self.fields:
            value = values[name] & (1 << 8 * size) - 1
            image[offset - AREA_OFFSET : offset - AREA_OFFSET + size] = value.to_bytes(size, "little")
        return bytes(image)

    def unpack(self, image: bytes) -> dict[str, int]:
        """Values by name."""
        return {
            name: int.from_bytes(image[offset - AREA_OFFSET : offset - AREA_OFFSET + size], "little")
            for offset, size, name in self.fields
        }


def _cached_32(offset: int, name: str) -> tuple[Field, ...]:
    """Hidden part in the 32-bit map: flags, limit, base."""
    return (
        Field(offset, 4, f"{name}.flags"),
        Field(offset + 4, 4, f"{name}.limit"),
        Field(offset + 8, 4, f"{name}.base"),
    )


def _segment_64(offset: int, name: str) -> tuple[Field, ...]:
    """A segment in the 64-bit map: selector, attributes, limit, base."""
    return (
        Field(offset, 2, f"{name}.selector"),
        Field(offset + 2, 2, f"{name}.attributes"),
        Field(offset + 4, 4, f"{name}.limit"),
        Field(offset + 8, 8, f"{name}.base"),
    )


SAVE_AREA_32 = SaveArea(
    REVISION_32,
    (
        Field(0xFEF8, 4, "smbase"),
        Field(0xFEFC, 4, "smm_revision"),
        Field(0xFF14, 4, "cr4"),
        Field(0xFF1A, 1, "int_shadow"),
        *_cached_32(0xFF2C, "ds"),
        *_cached_32(0xFF38, "fs"),
        *_cached_32(0xFF44, "gs"),
        Field(0xFF54, 4, "idtr.limit"),
        Field(0xFF58, 4, "idtr.base"),
        *_cached_32(0xFF5C, "tr"),
        Field(0xFF70, 4, "gdtr.limit"),
        Field(0xFF74, 4, "gdtr.base"),
        *_cached_32(0xFF78, "ldtr"),
        *_cached_32(0xFF84, "es"),
        *_cached_32(0xFF90, "cs"),
        *_cached_32(0xFF9C, "ss"),
        *(Field(0xFFA8 + 4 * n, 4, f"{name}.selector") for n, name in enumerate((*SEGMENT_NAMES, "ldtr", "tr"))),
        Field(0xFFC8, 4, "dr7"),
        Field(0xFFCC, 4, "dr6"),
        *(Field(0xFFD0 + 4 * n, 4, name) for n, name in enumerate(GPR_NAMES[:8])),
        Field(0xFFF0, 4, "rip"),
        Field(0xFFF4, 4, "rflags"),
        Field(0xFFF8, 4, "cr3"),
        Field(0xFFFC, 4, "cr0"),
    ),
)
"""Processors without long mode (P6 style)."""

SAVE_AREA_64 = SaveArea(
    REVISION_64,
    (
        *(field for n, name in enumerate(SEGMENT_NAMES) for field in _segment_64(0xFE00 + 16 * n, name)),
        Field(0xFE64, 4, "gdtr.limit"),
        Field(0xFE68, 8, "gdtr.base"),
        *_segment_64(0xFE70, "ldtr"),
        Field(0xFE84, 4, "idtr.limit"),
        Field(0xFE88, 8, "idtr.base"),
        *_segment_64(0xFE90, "tr"),
        Field(0xFECB, 1, "int_shadow"),
        Field(0xFED0, 8, "efer"),
        Field(0xFEFC, 4, "smm_revision"),
        Field(0xFF00, 4, "smbase"),
        Field(0xFF48, 8, "cr4"),
        Field(0xFF50, 8, "cr3"),
        Field(0xFF58, 8, "cr0"),
        Field(0xFF60, 8, "dr7"),
        Field(0xFF68, 8, "dr6"),
        Field(0xFF70, 8, "rflags"),
        Field(0xFF78, 8, "rip"),
        *(Field(0xFFF8 - 8 * n, 8, name) for n, name in enumerate(GPR_NAMES)),
    ),
)
"""Processors with long mode (AMD64 style), whatever mode they are in."""


def save_area(long_mode_model: bool) -> SaveArea:
    """The map of a CPU model: CPUID's long-mode bit decides, not the present mode."""
    return SAVE_AREA_64 if long_mode_model else SAVE_AREA_32


_ATTRIBUTES = (
    ("type", 0, 15), ("s", 4, 1), ("dpl", 5, 3), ("present", 7, 1), ("avl", 12, 1), ("l", 13, 1), ("db", 14, 1),
    ("g", 15, 1),
)  # fmt: skip
"""Bits of `attributes`; the 32-bit map's `flags` are these shifted left by 8."""


def _attributes(seg: Segment) -> int:
    return sum((getattr(seg, name) & mask) << shift for name, shift, mask in _ATTRIBUTES)


def _named_segments(state: CpuState) -> list[tuple[str, Segment]]:
    return [*zip(SEGMENT_NAMES, state.segs, strict=True), ("ldtr", state.ldtr), ("tr", state.tr)]


def values(state: CpuState, revision: int) -> dict[str, int]:
    """Everything a save area can hold, by name, from the state."""
    found = dict(zip(GPR_NAMES, state.gpr, strict=True))
    for name, seg in _named_segments(state):
        attributes = _attributes(seg)
        found |= {
            f"{name}.selector": seg.selector,
            f"{name}.base": seg.base,
            f"{name}.limit": seg.limit,
            f"{name}.attributes": attributes,
            f"{name}.flags": attributes << 8,
        }
    for name, table in (("gdtr", state.gdtr), ("idtr", state.idtr)):
        found |= {f"{name}.base": table.base, f"{name}.limit": table.limit}
    for name in ("rip", "cr0", "cr3", "cr4", "efer", "dr6", "dr7", "smbase"):
        found[name] = getattr(state, name)
    return found | {"rflags": state.eflags(), "int_shadow": state.shadow, "smm_revision": revision}


def load_segments(state: CpuState, found: dict[str, int], names: tuple[str, ...]) -> None:
    """Load segment registers from unpacked values; a segment that is not present is unusable."""
    for name, seg in _named_segments(state):
        if name not in names:
            continue
        attributes = found[f"{name}.attributes"] if f"{name}.attributes" in found else found[f"{name}.flags"] >> 8
        for bit_name, shift, mask in _ATTRIBUTES:
            setattr(seg, bit_name, attributes >> shift & mask)
        seg.selector = found[f"{name}.selector"] & 0xFFFF
        seg.base, seg.limit = found[f"{name}.base"], found[f"{name}.limit"]
        seg.unusable = int(not seg.present)
        seg.refresh()


def store_smm_shadow(cpu: "Cpu") -> None:
    """Write `state.smm_shadow` into the byte that RSM loads: for a state edited from outside while inside SMM."""
    area = save_area(cpu.model.long_mode)
    offset = next(field.offset for field in area.fields if field.name == "int_shadow")
    cpu.memory.write(1, cpu.state.smbase + offset & 0xFFFFFFFF, 1, cpu.state.smm_shadow)
