"""The view of kvm_xsave: FXSAVE image, header, and the components where CPUID leaf 0xD of the state puts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from ..errors import FieldError, Problem
from ..model import Model
from ..names.xsave import EXTENDED_OFFSET, component_name
from ..uapi.cpuid2 import KvmCpuid2
from ..uapi.xsave import XSAVE_MAX_BYTES, KvmXsave
from .parts import Bits, Gaps, Hex, Number, Part, decode_number, encode_number, join, split_gaps

XSAVE_LEAF = 0xD

CONTROL_PARTS: tuple[Part, ...] = (
    Part("FCW", 0, 2, "fcw"),
    Part("FSW", 2, 2, "fsw"),
    Part("FTW", 4, 1),
    Part("FOP", 6, 2),
    Part("FIP", 8, 8),
    Part("FDP", 16, 8),
    Part("MXCSR", 24, 4, "mxcsr"),
    Part("MXCSR_MASK", 28, 4),
    Part("XSTATE_BV", 512, 8, "xstate_bv"),
    Part("XCOMP_BV", 520, 8),
)
"""Registers of the image and of the header. Source: SDM vol. 1 tables 10-2, 13.4.2."""

ST_PARTS = tuple(Part(f"ST{n}", 32 + 16 * n, 10) for n in range(8))
XMM_PARTS = tuple(Part(f"XMM{n}", 160 + 16 * n, 16) for n in range(16))
FIXED_PARTS = (*CONTROL_PARTS, *ST_PARTS, *XMM_PARTS)
"""What lies at the same place on every processor."""


class XsavePlace(NamedTuple):
    """Where a component lies in the standard format, in bytes from the beginning of the area."""

    bit: int
    offset: int
    size: int


class XsaveComponentView(Model):
    """One component behind the header: what the area holds in its place, in use or not."""

    bit: int
    name: str
    offset: int
    data: Hex


class XsaveView(Model):
    """The area decoded; `of(xsave, cpuid).to_struct()` is the same area, whatever CPUID says.

    Source: SDM vol. 1 13.4; Linux 6.12 arch/x86/kvm/cpuid.c (leaf 0xD).
    """

    registers: dict[str, Number | Bits]
    """FCW, FSW, FTW, FOP, FIP, FDP, MXCSR, MXCSR_MASK, XSTATE_BV, XCOMP_BV."""
    st: Annotated[tuple[Hex, ...], Field(min_length=8, max_length=8)]
    """ST0 to ST7, 10 bytes each, as stored."""
    xmm: Annotated[tuple[Hex, ...], Field(min_length=16, max_length=16)]
    """XMM0 to XMM15, 16 bytes each, as stored."""
    components: tuple[XsaveComponentView, ...]
    gaps: Gaps
    """Bytes that no register and no component claims."""
    size_bytes: Annotated[int, Field(ge=KvmXsave.SIZE, le=XSAVE_MAX_BYTES, multiple_of=4)]
    """Of the whole area: 4096, or what KVM_CAP_XSAVE2 says."""

    @classmethod
    def of(cls, xsave: KvmXsave, cpuid: KvmCpuid2) -> XsaveView:
        """Return the view of an area that was saved on a host with this CPUID."""
        area = xsave.region + xsave.extra
        places = xsave_places(cpuid, len(area))
        parts = (*FIXED_PARTS, *(Part(component_name(p.bit), p.offset, p.size) for p in places))
        return cls.model_construct(
            registers={p.name: decode_number(_cut(area, p), p.bits) for p in CONTROL_PARTS},
            st=tuple(_cut(area, part) for part in ST_PARTS),
            xmm=tuple(_cut(area, part) for part in XMM_PARTS),
            components=tuple(
                XsaveComponentView.model_construct(
                    bit=p.bit, name=component_name(p.bit), offset=p.offset, data=area[p.offset : p.offset + p.size]
                )
                for p in places
            ),
            gaps=split_gaps(area, parts),
            size_bytes=len(area),
        )

    def to_struct(self) -> KvmXsave:
        """Return the area.

        Raises:
            FieldError: a number does not fit its register, or something lies outside of the area.
        """
        pieces = {part.offset: encode_number(self.registers.get(part.name, 0), part) for part in CONTROL_PARTS}
        for parts, bodies in ((ST_PARTS, self.st), (XMM_PARTS, self.xmm)):
            pieces |= {part.offset: _whole(part, body) for part, body in zip(parts, bodies, strict=True)}
        pieces |= {component.offset: component.data for component in self.components}
        area = join(self.size_bytes, pieces, self.gaps, "xsave")
        return KvmXsave(region=area[: KvmXsave.SIZE], extra=area[KvmXsave.SIZE :])

    def value(self, name: str) -> int:
        """Return a register of the image or of the header as its number."""
        part = next(part for part in CONTROL_PARTS if part.name == name)
        return int.from_bytes(encode_number(self.registers.get(name, 0), part), "little")

    def in_use(self, bit: int) -> bool:
        """Return whether XSTATE_BV says that a component is not in its initial state."""
        return bool(self.value("XSTATE_BV") >> bit & 1)


def xsave_places(cpuid: KvmCpuid2, size_bytes: int) -> list[XsavePlace]:
    """Return where CPUID leaf 0xD puts the components behind the header, lowest offset first.

    A place that is empty, of a supervisor component, outside of the area or over another one is left out: its bytes
    are a gap then, and nothing is lost.
    """
    free_from = EXTENDED_OFFSET
    found: list[XsavePlace] = []
    for place in sorted(_claimed(cpuid), key=lambda place: (place.offset, place.bit)):
        if place.offset >= free_from and place.offset + place.size <= size_bytes:
            found.append(place)
            free_from = place.offset + place.size
    return found


def _claimed(cpuid: KvmCpuid2) -> Iterator[XsavePlace]:
    """Yield the user components that leaf 0xD lists: EAX is the size, EBX the offset, ECX bit 0 supervisor."""
    for entry in cpuid.entries:
        if entry.function == XSAVE_LEAF and 2 <= entry.index < 63 and entry.eax and not entry.ecx & 1:
            yield XsavePlace(entry.index, entry.ebx, entry.eax)


def _whole(part: Part, body: bytes) -> bytes:
    """Return the register's bytes.

    Raises:
        FieldError: there are more or fewer than the register has.
    """
    if len(body) != part.size:
        raise FieldError([Problem(where=f"xsave.{part.name}", message=f"{len(body)} bytes, expected {part.size}")])
    return body


def _cut(area: bytes, part: Part) -> bytes:
    return area[part.offset : part.offset + part.size]
