"""The page's SMRAM save area: where the guest goes on after RSM, and under which interrupt shadow."""

from __future__ import annotations

from collections.abc import Iterator

from ..names.bits import REGISTERS
from ..names.segments import segment_type
from ..names.smram import SMRAM_REVISION_32, SMRAM_REVISION_64, smram_map
from .mode import SHADOW_TEXTS
from .rows import Line, hex32, register_line
from .smram import SmramView

_RESET_SMBASE = 0x30000
_CORE = ("rip", "rflags", "cr0", "cr3", "cr4", "efer")
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
_ALWAYS = {"cs", "ss"}


def smram_lines(area: bytes, *, long_mode: bool) -> Iterator[Line]:
    """Yield the save area by the map of a guest with long mode or without: first what decides where RSM goes.

    Raises:
        LayoutError: there are not 512 bytes.
    """
    view = SmramView.of(area, long_mode=long_mode)
    yield from _head_lines(view)
    digits = 16 if long_mode else 8
    fields = smram_map(long_mode)
    known = {field.name: field for field in fields}
    for name in _CORE:
        if name in known:
            yield _number_line(view, name, known[name].bits, digits)
    for name in _SEGMENTS:
        yield _segment_line(view, name, digits)
    for name in ("gdtr", "idtr"):
        raw = f"     {view.number(f'{name}.base'):0{digits}x} {view.number(f'{name}.limit'):08x}"
        yield Line(name, raw, usual=True)
    shown = {*_CORE, "int_shadow", "smbase", "smm_revision"}
    for field in fields:
        if "." not in field.name and field.name not in shown:
            line = _number_line(view, field.name, field.bits, digits)
            unread = not field.loaded and view.number(field.name) != 0
            yield line._replace(decoded="KVM does not read it", usual=False) if unread else line._replace(usual=True)
    for offset, body in view.gaps.items():
        yield Line(f"+{offset:#05x}", body[:8].hex(), f"{len(body)} reserved bytes, not all zero", usual=True)


def _head_lines(view: SmramView) -> Iterator[Line]:
    """Yield the shadow, SMBASE and the revision, by which the map can be told."""
    shadow = view.number("int_shadow")
    words = SHADOW_TEXTS.get(shadow, f"{REGISTERS['int_shadow'].describe(shadow)}: no shadow of KVM's")
    text = f"{words}: in force again after RSM" if shadow else ""
    yield Line("int_shadow", f"{shadow:02x}", text, unusual=shadow != 0)
    smbase = view.number("smbase")
    yield Line("smbase", hex32(smbase), "becomes SMBASE", usual=smbase == _RESET_SMBASE)
    revision, expected = view.number("smm_revision"), SMRAM_REVISION_64 if view.width == 64 else SMRAM_REVISION_32
    other = f"not that of the {view.width}-bit map: no SMI wrote this, or by the other map"
    wrong = "" if revision == expected else other
    yield Line("smm_revision", hex32(revision), wrong, unusual=bool(wrong), usual=not wrong)


def _number_line(view: SmramView, name: str, bits: str | None, digits: int) -> Line:
    value = view.number(name)
    if bits is None:
        return Line(name, f"{value:0{digits}x}")
    # The 32-bit map has the lower halves only.
    return register_line(name, value, bits)._replace(raw=f"{value:0{digits}x}")


def _segment_line(view: SmramView, name: str, digits: int) -> Line:
    shift = 0 if view.width == 64 else 8
    attributes = (view.number(f"{name}.attributes") | view.number(f"{name}.flags") >> shift) & 0xFFFF
    bits = REGISTERS["smram_attributes"].decode(attributes)
    raw = f"{view.number(f'{name}.selector') & 0xFFFF:04x} {view.number(f'{name}.base'):0{digits}x}"
    raw += f" {view.number(f'{name}.limit'):08x}"
    words = [segment_type(bits["S"], bits["TYPE"]), f"DPL {bits['DPL']}"]
    words += [flag for flag in ("L", "DB", "G", "AVL") if bits[flag]]
    text = ", ".join(words) if bits["P"] else "not present: unusable after RSM"
    return Line(name, raw, text, usual=name not in _ALWAYS)
