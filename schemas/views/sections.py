"""SECTION_VIEWS: how each section of state is shown, and a vCPU or VM as a whole.

To give a section a view of its own, add a row; every other section is shown by `schemas.views.structs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from ..errors import FieldError, Problem, parse_as
from ..state import VcpuState, VmState
from ..uapi import VCPU_SECTIONS, VM_SECTIONS, Section
from .cpuid import CpuidView
from .lapic import LapicView
from .msrs import MsrsView
from .parts import json_number
from .structs import decode_struct, encode_struct
from .xsave import XsaveView


class SectionView(NamedTuple):
    """A view of a section's own, made from the struct and the vCPU that it belongs to; `to_struct` is the way back."""

    model: type[LapicView | XsaveView | MsrsView | CpuidView]
    decode: Callable[[Any, VcpuState], BaseModel]


SECTION_VIEWS: dict[str, SectionView] = {
    "lapic": SectionView(LapicView, lambda lapic, _: LapicView.of(lapic)),
    "xsave": SectionView(XsaveView, lambda xsave, vcpu: XsaveView.of(xsave, vcpu.cpuid2)),
    "msrs": SectionView(MsrsView, lambda msrs, _: MsrsView.of(msrs)),
    "cpuid2": SectionView(CpuidView, lambda cpuid, _: CpuidView.of(cpuid)),
}

Views = dict[str, Any]
"""Section name -> its view: a model of SECTION_VIEWS, or a dict of `decode_struct`."""


def view_vcpu(vcpu: VcpuState) -> Views:
    """Return the views of all sections that the vCPU has."""
    found: Views = {}
    for name in VCPU_SECTIONS:
        struct = getattr(vcpu, name)
        if struct is not None:
            row = SECTION_VIEWS.get(name)
            found[name] = row.decode(struct, vcpu) if row else decode_struct(struct)
    return found


def view_vm(vm: VmState) -> Views:
    """Return the views of all sections that the VM has."""
    held = ((name, getattr(vm, name)) for name in VM_SECTIONS)
    return {name: decode_struct(struct) for name, struct in held if struct is not None}


def vcpu_of(views: Mapping[str, Any], *, index: int = 0) -> VcpuState:
    """Return the vCPU that its views, or their JSON form, show; the inverse of `view_vcpu`.

    Raises:
        FieldError: a view holds names or numbers that its section cannot.
    """
    return parse_as(VcpuState, {"index": index, **_structs(views, VCPU_SECTIONS)})


def vm_of(views: Mapping[str, Any]) -> VmState:
    """Return the VM state that its views, or their JSON form, show; the inverse of `view_vm`.

    Raises:
        FieldError: a view holds names or numbers that its section cannot.
    """
    return parse_as(VmState, _structs(views, VM_SECTIONS))


def _structs(views: Mapping[str, Any], rows: Mapping[str, Section]) -> dict[str, Any]:
    unknown = [name for name in views if name not in rows]
    if unknown:
        known = ", ".join(rows)
        raise FieldError(
            [Problem(where=name[:64], message="no such section", hint=f"known: {known}") for name in unknown]
        )
    made: dict[str, Any] = {}
    for name, view in views.items():
        own = SECTION_VIEWS.get(name)
        if own is None:
            made[name] = encode_struct(view, rows[name].model)
        else:
            made[name] = (view if isinstance(view, own.model) else parse_as(own.model, view)).to_struct()
    return made


def views_json(views: Mapping[str, Any]) -> dict[str, Any]:
    """Return the views as JSON values: bytes in hex, numbers from 2^53 on as "0x…"."""
    return {name: _json(view) for name, view in views.items()}


def _json(view: Any) -> Any:
    if isinstance(view, BaseModel):
        return view.model_dump(mode="json")
    if isinstance(view, dict):
        return {name: _json(value) for name, value in view.items()}
    if isinstance(view, list | tuple):
        return [_json(value) for value in view]
    if isinstance(view, bytes):
        return view.hex()
    return json_number(view)
