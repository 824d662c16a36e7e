"""The view of an SMRAM save area: the 512 bytes from SMBASE + 0xFE00 on, by either map."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from ..errors import FieldError, LayoutError, Problem
from ..memory import AS_SMM
from ..model import Model
from ..names.smram import SMRAM_AREA_BYTES, SMRAM_AREA_OFFSET, SMRAM_REVISION_64, smram_map
from ..shadow import MSR_IA32_SMBASE, SmramAccess, in_smm
from ..state import VcpuState
from .parts import Bits, Gaps, Number, Part, decode_number, encode_number, join, split_gaps

_PARTS = {
    width: tuple(Part(f.name, f.offset - SMRAM_AREA_OFFSET, f.size, f.bits) for f in smram_map(width == 64))
    for width in (32, 64)
}


class SmramView(Model):
    """What an SMI saved and RSM will load.

    The state does not say which map an area has: CPUID does (0x80000001 EDX bit 29), and the revision in the area.
    Source: Linux 6.12 arch/x86/kvm/smm.c enter_smm, emulator_leave_smm.
    """

    width: Literal[32, 64]
    """Of the map, in bits."""
    fields: dict[str, Number | Bits]
    """Field name ("cs.selector", "rip", "int_shadow") -> number, or its named bits."""
    gaps: Gaps
    """Offset in the area -> bytes that no field claims."""

    @classmethod
    def of(cls, area: bytes, *, long_mode: bool) -> SmramView:
        """Return the view of an area by the map of a guest with long mode, or without.

        Raises:
            LayoutError: there are not 512 bytes.
        """
        if len(area) != SMRAM_AREA_BYTES:
            text = f"{len(area)} bytes, expected {SMRAM_AREA_BYTES}"
            raise LayoutError([Problem(where="smram", message=text)])
        width: Literal[32, 64] = 64 if long_mode else 32
        parts = _PARTS[width]
        fields = {part.name: decode_number(area[part.offset : part.offset + part.size], part.bits) for part in parts}
        return cls.model_construct(width=width, fields=fields, gaps=split_gaps(area, parts))

    def to_bytes(self) -> bytes:
        """Return the 512 bytes.

        Raises:
            FieldError: a field is not of this map, or its number does not fit.
        """
        known = {part.name: part for part in _PARTS[self.width]}
        problems = [
            Problem(where=f"smram.{name}", message=f"not of the {self.width}-bit map")
            for name in self.fields
            if name not in known
        ]
        if problems:
            raise FieldError(problems)
        pieces = {known[name].offset: encode_number(value, known[name]) for name, value in self.fields.items()}
        return join(SMRAM_AREA_BYTES, pieces, self.gaps, "smram")

    def number(self, name: str) -> int:
        """Return a field as its number; 0 for one that this map does not have."""
        part = next((part for part in _PARTS[self.width] if part.name == name), None)
        return int.from_bytes(encode_number(self.fields.get(name, 0), part), "little") if part else 0


def save_areas(vcpus: Iterable[VcpuState], memory: SmramAccess) -> dict[int, bytes]:
    """Return index -> save area of the vCPUs that are in SMM and whose SMBASE the state tells and the memory has."""
    found: dict[int, bytes] = {}
    for vcpu in vcpus:
        smbase = vcpu.msrs.values_by_index().get(MSR_IA32_SMBASE)
        if smbase is None or not in_smm(vcpu.events):
            continue
        with suppress(LookupError):
            found[vcpu.index] = memory.read(AS_SMM, smbase + SMRAM_AREA_OFFSET & 0xFFFFFFFF, SMRAM_AREA_BYTES)
    return found


def looks_64_bit(area: bytes) -> bool:
    """Return whether the revision in the area is that of the 64-bit map; both maps have it in the same place."""
    at = 0xFEFC - SMRAM_AREA_OFFSET
    return int.from_bytes(area[at : at + 4], "little") == SMRAM_REVISION_64
