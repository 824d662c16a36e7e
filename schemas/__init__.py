"""KVM x86 state as Pydantic models with exact binary layouts, and the rules on it. No I/O, no clock.

The public names are loaded when they are first used: `import schemas` costs nothing, `schemas.VcpuState` loads Pydantic
and the structs, `schemas.check_compat` the compatibility rules too. What is not listed here is internal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec.documents import (
        machine_from_json,
        pack_machine,
        pack_vcpu,
        unpack_machine,
        unpack_vcpu,
        vcpu_from_json,
    )
    from .codec.sections import LazyVcpu, decode_sections, encode_sections
    from .codec.text import decode_json
    from .compat import CompatReport, HostProfile, MachineSummary, Verdict, check_compat
    from .diff import diff_states
    from .edit import edit_state
    from .errors import (
        DecodeError,
        FieldError,
        Finding,
        InvariantError,
        LayoutError,
        Problem,
        SchemaError,
        Severity,
    )
    from .evolution import build_export, compare, load_export
    from .invariants import INVARIANTS, check_state, require_legal
    from .layout import CStruct, FieldLayout
    from .memory import MemoryMap, MemorySlot
    from .ordering import check_order, restore_order, save_order
    from .shadow import SmmCarrier, carrier_shadow, convert_carrier
    from .state import MachineState, VcpuState, VmState, section_problems, sections_digest
    from .uapi import SECTIONS, VCPU_SECTIONS, VM_SECTIONS, Section
    from .versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS

_HOMES = {
    "INVARIANTS": "invariants",
    "SCHEMA_VERSION": "versions",
    "SECTIONS": "uapi",
    "SUPPORTED_SCHEMA_VERSIONS": "versions",
    "VCPU_SECTIONS": "uapi",
    "VM_SECTIONS": "uapi",
    "CStruct": "layout",
    "CompatReport": "compat",
    "DecodeError": "errors",
    "FieldError": "errors",
    "FieldLayout": "layout",
    "Finding": "errors",
    "HostProfile": "compat",
    "InvariantError": "errors",
    "LayoutError": "errors",
    "LazyVcpu": "codec.sections",
    "MachineState": "state",
    "MachineSummary": "compat",
    "MemoryMap": "memory",
    "MemorySlot": "memory",
    "Problem": "errors",
    "SchemaError": "errors",
    "Section": "uapi",
    "Severity": "errors",
    "SmmCarrier": "shadow",
    "VcpuState": "state",
    "Verdict": "compat",
    "VmState": "state",
    "build_export": "evolution",
    "carrier_shadow": "shadow",
    "check_compat": "compat",
    "check_order": "ordering",
    "check_state": "invariants",
    "compare": "evolution",
    "convert_carrier": "shadow",
    "decode_json": "codec.text",
    "decode_sections": "codec.sections",
    "diff_states": "diff",
    "edit_state": "edit",
    "encode_sections": "codec.sections",
    "load_export": "evolution",
    "machine_from_json": "codec.documents",
    "pack_machine": "codec.documents",
    "pack_vcpu": "codec.documents",
    "require_legal": "invariants",
    "restore_order": "ordering",
    "save_order": "ordering",
    "section_problems": "state",
    "sections_digest": "state",
    "unpack_machine": "codec.documents",
    "unpack_vcpu": "codec.documents",
    "vcpu_from_json": "codec.documents",
}
"""Public name -> module below this package."""

__all__ = [
    "INVARIANTS",
    "SCHEMA_VERSION",
    "SECTIONS",
    "SUPPORTED_SCHEMA_VERSIONS",
    "VCPU_SECTIONS",
    "VM_SECTIONS",
    "CStruct",
    "CompatReport",
    "DecodeError",
    "FieldError",
    "FieldLayout",
    "Finding",
    "HostProfile",
    "InvariantError",
    "LayoutError",
    "LazyVcpu",
    "MachineState",
    "MachineSummary",
    "MemoryMap",
    "MemorySlot",
    "Problem",
    "SchemaError",
    "Section",
    "Severity",
    "SmmCarrier",
    "VcpuState",
    "Verdict",
    "VmState",
    "build_export",
    "carrier_shadow",
    "check_compat",
    "check_order",
    "check_state",
    "compare",
    "convert_carrier",
    "decode_json",
    "decode_sections",
    "diff_states",
    "edit_state",
    "encode_sections",
    "load_export",
    "machine_from_json",
    "pack_machine",
    "pack_vcpu",
    "require_legal",
    "restore_order",
    "save_order",
    "section_problems",
    "sections_digest",
    "unpack_machine",
    "unpack_vcpu",
    "vcpu_from_json",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
