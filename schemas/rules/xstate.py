"""Rules on XCRs, the XSAVE area and the x87 struct: INV-082 to INV-090, INV-131 to INV-139.

Where a component lies is what CPUID leaf 0xD of the state says; it differs between processors.
"""

from __future__ import annotations

from ..errors import Severity
from ..uapi.xcrs import KVM_MAX_XCRS
from .facts import CpuidBit, VcpuFacts
from .row import At, Details, Invariant

XCR0_KNOWN = 0xFF | 1 << 9 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 62
"""x87 to AVX-512, PKRU, AMX, APX, LWP. Source: SDM vol. 1 13.1, APM vol. 2 11.5.2."""
_TOGETHER = ((0x18, "MPX"), (0xE0, "AVX-512"), (0x60000, "AMX"))
_X87, _SSE, _AVX, _AVX512 = 1 << 0, 1 << 1, 1 << 2, 0xE0

MXCSR_KNOWN = 0x2FFFF
MXCSR_MASK_DEFAULT = 0xFFBF
"""What a mask of 0 stands for. Source: SDM vol. 1 11.6.6."""

LEAF_XSTATE = 0xD
XSTATE_FIRST = 2
"""Components 0 and 1 lie in the legacy area; the others behind the header."""
XSAVE_EXTENDED_OFFSET = 576
MSR_XFD = 0x1C4
XSAVE = CpuidBit(1, 0, "ecx", 26, "XSAVE")

_X87_WORDS = (
    ("fcw", 0, 2),
    ("fsw", 2, 2),
    ("ftwx", 4, 1),
    ("last_opcode", 6, 2),
    ("last_ip", 8, 8),
    ("last_dp", 16, 8),
)
"""Member of kvm_fpu, its offset and size in the legacy area. Source: SDM vol. 1 table 13-1."""
_ST_OFFSET, _XMM_OFFSET, _REGISTER_BYTES, _ST_BYTES = 32, 160, 16, 10


def _xcrs(v: VcpuFacts) -> Details:
    if v.xcrs.nr_xcrs > KVM_MAX_XCRS:
        yield f"nr_xcrs {v.xcrs.nr_xcrs}"
    if v.xcrs.flags:
        yield f"flags {v.xcrs.flags:#x}"


def _xcr_numbers(v: VcpuFacts) -> Details:
    for entry in v.xcrs.xcrs[: min(v.xcrs.nr_xcrs, KVM_MAX_XCRS)]:
        if entry.xcr:
            yield f"xcr {entry.xcr:#x}"


def _xcr0(v: VcpuFacts) -> Details:
    value = v.xcrs.xcr0
    if value is None:
        return
    if not value & _X87:
        yield f"XCR0 {value:#x}: x87 is off"
    if value & ~XCR0_KNOWN:
        yield f"XCR0 {value:#x}: unknown {value & ~XCR0_KNOWN:#x}"
    if value & _AVX and not value & _SSE:
        yield f"XCR0 {value:#x}: AVX without SSE"
    if value & _AVX512 and not value & _AVX:
        yield f"XCR0 {value:#x}: AVX-512 without AVX"
    for bits, name in _TOGETHER:
        if value & bits not in (0, bits):
            yield f"XCR0 {value:#x}: {name} in part"


def _mxcsr(v: VcpuFacts) -> Details:
    if v.xsave.mxcsr & ~MXCSR_KNOWN:
        yield f"mxcsr {v.xsave.mxcsr:#x}"


def _mxcsr_mask(v: VcpuFacts) -> Details:
    mask = v.xsave.mxcsr_mask or MXCSR_MASK_DEFAULT
    if v.xsave.mxcsr & MXCSR_KNOWN & ~mask:
        yield f"mxcsr {v.xsave.mxcsr:#x}, mask {mask:#x}"


def _xcomp_bv(v: VcpuFacts) -> Details:
    if v.xsave.xcomp_bv:
        yield f"XCOMP_BV {v.xsave.xcomp_bv:#x}"


def _xstate_bv(v: VcpuFacts) -> Details:
    if unknown := v.xsave.xstate_bv & ~XCR0_KNOWN:
        yield f"XSTATE_BV {v.xsave.xstate_bv:#x}: unknown {unknown:#x}"


def _xstate_off(v: VcpuFacts) -> Details:
    enabled = (v.xcrs.xcr0 or 0) | _X87 | _SSE
    if extra := v.xsave.xstate_bv & XCR0_KNOWN & ~enabled:
        yield f"XSTATE_BV {v.xsave.xstate_bv:#x}, XCR0 {enabled:#x}: {extra:#x}"


def _xsave_header(v: VcpuFacts) -> Details:
    if any(v.xsave.region[528:576]):
        yield f"bytes 528-575 are {v.xsave.region[528:576].hex()}"


def _xcr0_supported(v: VcpuFacts) -> Details:
    value = v.xcrs.xcr0
    if value is None or value == _X87 or not v.features_known:
        return
    leaf = v.leaf(LEAF_XSTATE) if v.has(XSAVE) else None
    supported = _X87 if leaf is None else leaf.eax | leaf.edx << 32 | _X87
    if value & ~supported:
        yield f"XCR0 {value:#x}, CPUID allows {supported:#x}"


def _places(v: VcpuFacts) -> list[tuple[int, int, int]]:
    """Return (component, offset, size) of each extended component that XSTATE_BV names and CPUID places."""
    found = []
    rest = v.xsave.xstate_bv & XCR0_KNOWN
    for component in range(XSTATE_FIRST, rest.bit_length()):
        leaf = v.leaf(LEAF_XSTATE, component) if rest >> component & 1 else None
        if leaf is not None and leaf.eax:
            found.append((component, leaf.ebx, leaf.eax))
    return found


def _unplaced(v: VcpuFacts) -> Details:
    rest = v.xsave.xstate_bv & XCR0_KNOWN & ~(_X87 | _SSE)
    if not rest or not v.features_known:
        return
    for component, _, _ in _places(v):
        rest &= ~(1 << component)
    if rest:
        yield f"XSTATE_BV {v.xsave.xstate_bv:#x}: no place for {rest:#x}"


def _behind_end(v: VcpuFacts) -> Details:
    length = len(v.xsave.region) + len(v.xsave.extra)
    for component, offset, size in _places(v):
        if offset + size > length:
            yield f"component {component} lies at {offset}, {size} bytes; the area has {length}"


def _overlap(v: VcpuFacts) -> Details:
    end, before = XSAVE_EXTENDED_OFFSET, 0
    for component, offset, size in sorted(_places(v), key=lambda place: place[1]):
        if offset < end:
            yield f"component {component} begins at {offset}, inside component {before} or the header"
        end, before = offset + size, component


def _xfd(v: VcpuFacts) -> Details:
    if lost := v.msr.get(MSR_XFD, 0) & v.xsave.xstate_bv:
        yield At("msrs.0x1c4", f"IA32_XFD {v.msr[MSR_XFD]:#x}, XSTATE_BV {v.xsave.xstate_bv:#x}: {lost:#x}")


def _fpu(v: VcpuFacts) -> Details:
    """Compare only what XSTATE_BV says is there: of a component in its initial state the area holds old bytes."""
    fpu, region, held = v.fpu, v.xsave.region, v.xsave.xstate_bv
    if fpu is None:
        return
    if held & _X87:
        for name, offset, size in _X87_WORDS:
            if getattr(fpu, name) != int.from_bytes(region[offset : offset + size], "little"):
                yield At(f"fpu.{name}", f"{name} differs from the XSAVE area")
        stack = region[_ST_OFFSET:_XMM_OFFSET]
        raw = fpu.pack()
        for at in range(0, _XMM_OFFSET - _ST_OFFSET, _REGISTER_BYTES):
            if raw[at : at + _ST_BYTES] != stack[at : at + _ST_BYTES]:
                yield At("fpu.fpr", f"register {at // _REGISTER_BYTES} differs from the XSAVE area")
    if held & _SSE and fpu.pack()[152:408] != region[_XMM_OFFSET : _XMM_OFFSET + 256]:
        yield At("fpu.xmm", "differs from the XSAVE area")


def _fpu_mxcsr(v: VcpuFacts) -> Details:
    if v.fpu is not None and v.fpu.mxcsr and v.fpu.mxcsr != v.xsave.mxcsr:
        yield f"mxcsr {v.fpu.mxcsr:#x}, in the XSAVE area {v.xsave.mxcsr:#x}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_XSAVE = "Linux 6.12 KVM_SET_XSAVE: EINVAL"
_LEAF_D = "SDM vol. 1 13.2"

XSTATE_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-082", _E, "xcrs", "at most 16 XCRs, no flags", "only XCR0 exists", "Linux 6.12 …_set_xcrs: EINVAL", _xcrs
    ),
    Invariant("INV-083", _W, "xcrs.xcrs", "only XCR0 exists; others are ignored", "remove them", "ours", _xcr_numbers),
    Invariant("INV-084", _E, "xcrs.xcrs", "XCR0 is a legal combination", "SDM vol. 1 13.3", "XSETBV: #GP", _xcr0),
    Invariant("INV-085", _E, "xsave.region", "MXCSR has known bits only", "clear the others", _XSAVE, _mxcsr),
    Invariant(
        "INV-086", _W, "xsave.region", "MXCSR stays within the mask saved with it", "clear the others",
        "SDM vol. 1 11.6.6", _mxcsr_mask,
    ),
    Invariant(
        "INV-087", _E, "xsave.region", "the standard format, not the compacted", "XCOMP_BV = 0", _XSAVE, _xcomp_bv
    ),
    Invariant(
        "INV-088", _E, "xsave.region", "XSTATE_BV has known components only", "clear the others", _XSAVE, _xstate_bv
    ),
    Invariant(
        "INV-089", _N, "xsave.region", "a component holds data although XCR0 has it off", "nothing to do",
        "SDM vol. 1 13.6", _xstate_off,
    ),
    Invariant(
        "INV-090", _E, "xsave.region", "the XSAVE header's reserved bytes are 0", "clear them", _XSAVE, _xsave_header
    ),
    Invariant(
        "INV-131", _E, "xcrs.xcrs", "XCR0 has only components of CPUID leaf 0xD", "offer them, or clear the bits",
        "Linux 6.12 x86.c __kvm_set_xcr: EINVAL", _xcr0_supported,
    ),
    Invariant(
        "INV-132", _W, "xsave.region", "CPUID leaf 0xD places every component that holds data",
        "add the subleaves of the host that saved it", _LEAF_D, _unplaced,
    ),
    Invariant(
        "INV-133", _E, "xsave.extra", "the area reaches to the end of every component that holds data",
        "save as many bytes as KVM_CAP_XSAVE2 says", "api.rst 4.42, 5.5 KVM_GET_XSAVE2", _behind_end,
    ),
    Invariant(
        "INV-134", _W, "cpuid2", "components of the XSAVE area do not overlap", "correct CPUID leaf 0xD", _LEAF_D,
        _overlap,
    ),
    Invariant(
        "INV-135", _W, "xsave.region", "a component that XFD disables holds no data",
        "write MSR 0x1c4 after the area, or clear its bit", "Linux 6.12 xstate.c: SET clears it from XSTATE_BV", _xfd,
    ),
    Invariant(
        "INV-136", _E, "fpu", "kvm_fpu and the XSAVE area say the same", "change both, or leave fpu out",
        "Linux 6.12 x86.c kvm_arch_vcpu_ioctl_get_fpu: two views of one area", _fpu, needs="fpu",
    ),
    Invariant(
        "INV-137", _N, "fpu.mxcsr", "KVM_SET_FPU does not read mxcsr; it travels in the XSAVE area", "nothing to do",
        "Linux 6.12 x86.c kvm_arch_vcpu_ioctl_set_fpu", _fpu_mxcsr, needs="fpu",
    ),
)  # fmt: skip
