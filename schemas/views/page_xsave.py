"""The page's x87, SSE and extended state: which components are in use, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator

from ..names.bits import REGISTERS
from ..names.xsave import component_name
from ..state import VcpuState
from .rows import Line, hex64, register_line, size_text
from .xsave import XsaveComponentView, XsaveView

_FCW_RESET, _MXCSR_RESET = 0x37F, 0x1F80
_MXCSR_FLAGS = 0x3F
_PKRU, _XTILE_CFG = 9, 17
_LEGACY = (0, 1)


def xsave_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield XSTATE_BV in words, control words that are not at reset, and a line per component in use."""
    view = XsaveView.of(vcpu.xsave, vcpu.cpuid2)
    in_use = view.value("XSTATE_BV")
    words = REGISTERS["xstate_bv"].describe(in_use)
    beyond = in_use & ~(vcpu.xcrs.xcr0 or 0) & ~3
    text = f"in use: {words}" if in_use else "all components initial"
    yield Line("XSTATE_BV", hex64(in_use), text + (" (beyond XCR0)" if beyond else ""), unusual=bool(beyond))
    compacted = view.value("XCOMP_BV")
    yield Line("XCOMP_BV", hex64(compacted), "KVM_SET_XSAVE refuses the compacted form" if compacted else "",
               unusual=bool(compacted), usual=not compacted)  # fmt: skip
    yield Line("size", str(view.size_bytes), size_text(view.size_bytes), usual=view.size_bytes == 4096)
    yield from _control_lines(view)
    for component in view.components:
        yield _component_line(component, view.in_use(component.bit))
    located = {component.bit for component in view.components}
    for bit in range(2, 63):
        if in_use >> bit & 1 and bit not in located:
            yield Line(component_name(bit), "", "in use, but CPUID leaf 0xD does not say where it is", unusual=True)
    for offset, body in view.gaps.items():
        yield Line(f"{offset:#05x}", body[:8].hex(), f"{len(body)} bytes between components, not all zero", usual=True)


def vector_lines(vcpu: VcpuState) -> Iterator[Line]:
    """Yield the x87 and XMM registers, most significant byte first; the short page has none of them."""
    view = XsaveView.of(vcpu.xsave, vcpu.cpuid2)
    for name, registers in (("st", view.st), ("xmm", view.xmm)):
        for n, body in enumerate(registers):
            yield Line(f"{name}{n}", f"{int.from_bytes(body, 'little'):0{2 * len(body)}x}", usual=True)


def _control_lines(view: XsaveView) -> Iterator[Line]:
    fcw, mxcsr = view.value("FCW"), view.value("MXCSR")
    yield register_line("FCW", fcw, "fcw", usual=fcw in (_FCW_RESET, 0))
    yield register_line("FSW", view.value("FSW"), "fsw", usual=not view.value("FSW"))
    yield Line("FTW", f"{view.value('FTW'):02x}", "abridged tag word: a bit per register that is not empty", usual=True)
    for name in ("FOP", "FIP", "FDP"):
        yield Line(name, f"{view.value(name):x}", "of the last x87 instruction", usual=True)
    yield register_line("MXCSR", mxcsr, "mxcsr", usual=mxcsr & ~_MXCSR_FLAGS in (_MXCSR_RESET, 0))
    yield Line(
        "MXCSR_MASK", f"{view.value('MXCSR_MASK'):08x}", "bits of MXCSR that the saving processor has", usual=True
    )


def _component_line(component: XsaveComponentView, in_use: bool) -> Line:
    data = component.data
    held = sum(byte != 0 for byte in data)
    text = f"{len(data)} bytes at {component.offset:#x}, {'in use' if in_use else 'initial'}"
    if in_use and component.bit == _PKRU:
        text += f": {_pkru_text(int.from_bytes(data[:4], 'little'))}"
    elif in_use and component.bit == _XTILE_CFG:
        text += f": palette {data[0]}"
    elif held:
        text += f", {held} bytes not zero" + ("" if in_use else " all the same")
    return Line(component.name, "", text, usual=not in_use)


def _pkru_text(pkru: int) -> str:
    """Return which protection keys are restricted: key 5 no access, key 6 no writing."""
    access = [n for n in range(16) if pkru >> 2 * n & 1]
    write = [n for n in range(16) if pkru >> 2 * n & 2 and n not in access]
    words = [
        f"{what}: {' '.join(map(str, keys))}" for what, keys in (("no access", access), ("no writing", write)) if keys
    ]
    return ", ".join(words) or "all keys open"
