"""The rule on reserved bytes: INV-130."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import Severity
from ..layout import CStruct
from ..state import VcpuState
from ..uapi import VCPU_SECTIONS
from .row import Details, Invariant

_RESERVED = frozenset({"reserved", "pad", "pad0", "padding"})


def _reserved(v: VcpuState) -> Details:
    for name in VCPU_SECTIONS:
        section = getattr(v, name)
        if section is not None:
            yield from _junk(section, name)


def _junk(value: CStruct, where: str) -> Iterator[str]:
    for name, held in value.__dict__.items():
        if name in _RESERVED:
            if any(held) if isinstance(held, bytes | tuple) else held:
                yield f"{where}.{name}"
        elif isinstance(held, CStruct):
            yield from _junk(held, f"{where}.{name}")
        elif isinstance(held, tuple):
            yield from _junk_in(held, f"{where}.{name}")


def _junk_in(elements: tuple[Any, ...], where: str) -> Iterator[str]:
    for number, element in enumerate(elements):
        if isinstance(element, CStruct):
            yield from _junk(element, f"{where}.{number}")


RESERVED_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-130", Severity.NOTE, "", "reserved bytes are not zero; they are carried, kernels ignore them",
        "clear them", "Linux 6.12: zeroed on GET, unread on SET", _reserved,
    ),
)  # fmt: skip
