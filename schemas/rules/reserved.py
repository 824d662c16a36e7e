"""The rules on reserved bytes: INV-130 of a vCPU, INV-199 of what vCPUs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, get_args

from ..errors import Severity
from ..layout import CStruct
from ..uapi import VCPU_SECTIONS, VM_SECTIONS
from .facts import MachineFacts, VcpuFacts
from .row import At, Details, Invariant

_RESERVED = frozenset({
    "reserved", "pad", "pad0", "pad1", "pad2", "padding", "vmx_rest", "svm_rest", "rest",
})  # fmt: skip


class _Field(NamedTuple):
    """A reserved field: how to read it, and what it holds when it is clean."""

    name: str
    get: Callable[[Any], Any]
    clean: Any


class _Plan(NamedTuple):
    """Where a struct has reserved bytes: fields that are reserved, fields and arrays of structs that have some."""

    reserved: tuple[_Field, ...]
    structs: tuple[str, ...]
    arrays: tuple[str, ...]


@cache
def _plan(model: type[CStruct]) -> _Plan:
    names = [name for name in model.model_fields if name in _RESERVED]
    zero = model.zero() if names else None
    reserved = tuple(_Field(name, attrgetter(name), getattr(zero, name)) for name in names)
    structs: list[str] = []
    arrays: list[str] = []
    for name, field in model.model_fields.items():
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if _has_reserved(part)]
        if name not in names and inner:
            (structs if field.annotation in inner or len(inner) > 1 else arrays).append(name)
    return _Plan(reserved, tuple(structs), tuple(arrays))


def _has_reserved(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, CStruct) and any(_plan(part))


def _junk(value: CStruct, where: str) -> Iterator[At]:
    plan, fields = _plan(type(value)), value.__dict__
    for field in plan.reserved:
        if fields[field.name] != field.clean:
            yield At(f"{where}.{field.name}", f"{where}.{field.name}")
    for name in plan.structs:
        yield from _junk(fields[name], f"{where}.{name}")
    for name in plan.arrays:
        yield from _junk_in(fields[name], f"{where}.{name}")


def _junk_in(elements: tuple[CStruct, ...], where: str) -> Iterator[At]:
    """Look at one reserved field of all elements at once: there may be hundreds, and nearly always all are clean."""
    if not elements:
        return
    plan = _plan(type(elements[0]))
    clean = all(set(map(field.get, elements)) == {field.clean} for field in plan.reserved)
    if plan.structs or plan.arrays or not clean:
        for number, element in enumerate(elements):
            yield from _junk(element, f"{where}.{number}")


def _of(holder: object, names: Iterable[str], prefix: str) -> Details:
    for name in names:
        section = getattr(holder, name)
        if section is not None:
            yield from _junk(section, prefix + name)


def _vcpu(v: VcpuFacts) -> Details:
    return _of(v, VCPU_SECTIONS, "")


def _machine(m: MachineFacts) -> Details:
    return _of(m.vm, VM_SECTIONS, "vm.")


_TEXT = "reserved bytes are not zero; they are carried, kernels ignore them"
_SOURCE = "Linux 6.12: zeroed on GET, unread on SET"

RESERVED_RULES: tuple[Invariant, ...] = (
    Invariant("INV-130", Severity.NOTE, "", _TEXT, "clear them", _SOURCE, _vcpu),
    Invariant("INV-199", Severity.NOTE, "vm", _TEXT, "clear them", _SOURCE, _machine, scope="machine"),
)
