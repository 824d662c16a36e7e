"""The hot path: raw structs in MessagePack, checked for name, type, size and count; models only when somebody looks.

body = encode_sections(vcpu.to_sections(), "vcpu")
held = LazyVcpu(decode_sections(body, "vcpu"))
held.events.smi.smm              # decodes this one section, once
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgpack

from ..errors import SchemaError
from ..state import Sections, VcpuState, section_problems
from ..uapi import VCPU_SECTIONS
from .packing import SCAN_ABOVE_BYTES, Bounds, PackedError, unpack

if TYPE_CHECKING:
    from ..layout import CStruct

__all__ = ["SECTIONS_BOUNDS", "LazyVcpu", "decode_sections", "encode_sections"]

SECTIONS_BOUNDS = Bounds(max_bytes=1 << 20, max_depth=2, max_values=256)
"""A map of names to octets; a container where octets belong is told by its name.

The sections of a vCPU have bounds of their own, about 400 KiB together.
"""


def encode_sections(sections: Mapping[str, bytes], scope: Literal["vcpu", "vm"], *, index: int = 0) -> bytes:
    """Return raw sections as MessagePack: a map of section name to octets.

    Raises:
        SchemaError: a reader would refuse them; every problem is listed.
    """
    _require(sections, scope, index)
    body: bytes = msgpack.packb(sections)  # a map of names to bytes after that check
    return body


def decode_sections(body: bytes, scope: Literal["vcpu", "vm"], *, index: int = 0) -> Sections:
    """Return the raw sections of a MessagePack map; every one unpacks, none has been unpacked.

    Raises:
        DecodeError: not MessagePack of the strict form.
        SchemaError: unknown, missing or ill-sized sections; every problem is listed with its path.
    """
    if len(body) <= SCAN_ABOVE_BYTES:
        try:
            # What this lets through beside bytes, nested values and extensions included, is no section.
            sections: Any = msgpack.unpackb(body)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            sections = None  # the slow way says what it is
        if type(sections) is dict and len(sections) == _claimed(body) and not section_problems(sections, scope, index):
            return sections
    sections = unpack(body, SECTIONS_BOUNDS)
    if type(sections) is not dict:
        raise PackedError("form", "", f"a map of sections is needed, not {type(sections).__name__}")
    _require(sections, scope, index)
    return sections


def _claimed(body: bytes) -> int:
    """Return how many entries the map at the start says to have: with one key twice, fewer remain."""
    octet = body[0]
    return octet & 0x0F if octet <= 0x8F else int.from_bytes(body[1 : 3 if octet == 0xDE else 5], "big")


def _require(sections: Mapping[str, Any], scope: Literal["vcpu", "vm"], index: int) -> None:
    problems = section_problems(sections, scope, index)
    if problems:
        raise SchemaError(problems)


class LazyVcpu:
    """A vCPU in raw sections; a section becomes a model when it is first asked for, by its name as an attribute."""

    __slots__ = ("_built", "index", "sections")

    def __init__(self, sections: Mapping[str, bytes], *, index: int = 0) -> None:
        """Take sections that `decode_sections` or `section_problems` has passed.

        Raises:
            SchemaError: they do not fit; nothing is found out later.
        """
        _require(sections, "vcpu", index)
        self.index = index
        self.sections = sections
        self._built: dict[str, CStruct | None] = {}

    def __getattr__(self, name: str) -> Any:
        """Return the section's model, None if the vCPU does not have it."""
        built = self._built
        if name not in built:
            row = VCPU_SECTIONS.get(name)
            if row is None:
                raise AttributeError(f"a vCPU has no section {name!r}; it has {', '.join(VCPU_SECTIONS)}")
            raw = self.sections.get(name)
            built[name] = None if raw is None else row.model.unpack(raw)
        return built[name]

    def state(self) -> VcpuState:
        """Return all of it as models."""
        return VcpuState.model_construct(index=self.index, **{name: getattr(self, name) for name in VCPU_SECTIONS})
