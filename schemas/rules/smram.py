"""Rules on the save area of a vCPU in SMM: INV-170 to INV-179. They need guest memory, so they are asked for apart.

An SMI handler may write anything into the area: nothing here is an error, a guest can bring all of it about. Most
say that RSM will shut the vCPU down.
Source: Linux 6.12 arch/x86/kvm/smm.c, smm.h; APM vol. 2 10.2.3, SDM vol. 3C 33.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import Severity
from ..memory import AS_SMM
from ..uapi.vcpu_events import SHADOW_MASKS, ShadowMask, VcpuEventFlags
from .facts import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LME,
    MSR_SMBASE,
    RFLAGS_IF,
    CpuidBit,
    VcpuFacts,
)
from .nested import SVM
from .registers import CR4_KNOWN, EFER_KNOWN
from .row import INTEL, Check, Details, Invariant

if TYPE_CHECKING:
    from ..shadow import SmramAccess

AREA_OFFSET, AREA_BYTES = 0xFE00, 512
LM = CpuidBit(0x80000001, 0, "edx", 29, "LM")
REVISION_OFFSET = 0xFEFC
REVISION_MAP64 = 0x64
"""Low word of the revision where the area has the 64-bit map; 0 is the 32-bit one."""


class SaveField(NamedTuple):
    """A field of the save area: offset from SMBASE and size in bytes."""

    offset: int
    size: int


MAP32: dict[str, SaveField] = {
    "cr4": SaveField(0xFF14, 4), "int_shadow": SaveField(0xFF1A, 1), "dr7": SaveField(0xFFC8, 4),
    "dr6": SaveField(0xFFCC, 4), "rflags": SaveField(0xFFF4, 4), "cr3": SaveField(0xFFF8, 4),
    "cr0": SaveField(0xFFFC, 4),
}  # fmt: skip
MAP64: dict[str, SaveField] = {
    "int_shadow": SaveField(0xFECB, 1), "efer": SaveField(0xFED0, 8), "svm_guest_flag": SaveField(0xFED8, 8),
    "cr4": SaveField(0xFF48, 8), "cr3": SaveField(0xFF50, 8), "cr0": SaveField(0xFF58, 8), "dr7": SaveField(0xFF60, 8),
    "dr6": SaveField(0xFF68, 8), "rflags": SaveField(0xFF70, 8),
}  # fmt: skip
"""The fields that rules look at, of each map. Source: Linux 6.12 smm.h kvm_smram_state_32, kvm_smram_state_64."""


class SmramFacts:
    """A vCPU in SMM and its save area. CPUID decides which map RSM reads, whatever the area was written as."""

    def __init__(self, vcpu: VcpuFacts, area: bytes) -> None:
        """Keep both."""
        self.vcpu = vcpu
        self.area = area
        self.long_map = vcpu.has(LM)

    def read(self, name: str) -> int:
        """Return a field of the map that RSM reads, 0 where that map has none."""
        field = (MAP64 if self.long_map else MAP32).get(name)
        return 0 if field is None else self.at(field)

    def at(self, field: SaveField) -> int:
        """Return a field by its place."""
        start = field.offset - AREA_OFFSET
        return int.from_bytes(self.area[start : start + field.size], "little")


def save_area(vcpu: VcpuFacts, memory: SmramAccess) -> SmramFacts | None:
    """Return the vCPU with its save area, or None outside SMM and where SMBASE or the memory is not known."""
    smbase = vcpu.msr.get(MSR_SMBASE)
    if not vcpu.in_smm or smbase is None:
        return None
    try:
        area = memory.read(AS_SMM, smbase + AREA_OFFSET & 0xFFFF_FFFF, AREA_BYTES)
    except LookupError:
        return None
    return SmramFacts(vcpu, area)


def _shadow(s: SmramFacts) -> Details:
    events = s.vcpu.events
    held = s.read("int_shadow") & SHADOW_MASKS
    flagged = events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW)
    if flagged and events.interrupt.shadow.smm != held:
        yield f"events {events.interrupt.shadow.smm}, save area {held}"


def _shadow_bits(s: SmramFacts) -> Details:
    if junk := s.read("int_shadow") & ~SHADOW_MASKS:
        yield f"int_shadow {s.read('int_shadow'):#x}: {junk:#x}"


def _map(s: SmramFacts) -> Details:
    revision = s.at(SaveField(REVISION_OFFSET, 4))
    if (revision & 0xFFFF == REVISION_MAP64) != s.long_map:
        yield f"revision {revision:#x}, CPUID {'has' if s.long_map else 'lacks'} LM"


def _sti_without_if(s: SmramFacts) -> Details:
    shadow = s.read("int_shadow") & SHADOW_MASKS
    if shadow == ShadowMask.KVM_X86_SHADOW_INT_STI and not s.read("rflags") & RFLAGS_IF:
        yield f"int_shadow {shadow}, rflags {s.read('rflags'):#x}"


def _control(s: SmramFacts) -> Details:
    cr0, cr4, efer = s.read("cr0"), s.read("cr4"), s.read("efer")
    if cr0 >> 32 or (cr0 & CR0_NW and not cr0 & CR0_CD) or (cr0 & CR0_PG and not cr0 & CR0_PE):
        yield f"cr0 {cr0:#x}"
    if cr4 & ~CR4_KNOWN:
        yield f"cr4 {cr4:#x}"
    if efer & ~EFER_KNOWN:
        yield f"efer {efer:#x}"
    long_mode = efer & EFER_LME and cr0 & CR0_PG
    if long_mode and not cr4 & CR4_PAE:
        yield f"efer {efer:#x}, cr4 {cr4:#x}: long mode needs PAE"
    if cr4 & CR4_PCIDE and not long_mode:
        yield f"cr4 {cr4:#x}: PCIDE outside long mode"
    if s.read("cr3") >> s.vcpu.physical_bits and s.vcpu.features_known:
        yield f"cr3 {s.read('cr3'):#x}, MAXPHYADDR {s.vcpu.physical_bits}"


def _debug(s: SmramFacts) -> Details:
    for name in ("dr6", "dr7"):
        if s.read(name) >> 32:
            yield f"{name} {s.read(name):#x}"


def _guest_flag(s: SmramFacts) -> Details:
    if s.read("svm_guest_flag") and s.vcpu.features_known and not s.vcpu.has(SVM):
        yield f"svm_guest_flag {s.read('svm_guest_flag'):#x}, CPUID has no SVM"


def _rule(number: int, where: str, text: str, hint: str, source: str, check: Check) -> Invariant:
    return Invariant(f"INV-{number}", Severity.WARNING, where, text, hint, source, check, scope="smram")


_SHUTDOWN = "Linux 6.12 smm.c rsm_load_state_64, rsm_enter_protected_mode: triple fault"
_EDITED = "the handler wrote it; RSM would shut the vCPU down"

SMRAM_RULES: tuple[Invariant, ...] = (
    _rule(
        170, "events.interrupt.shadow", "events and save area agree on the shadow put aside",
        "the events win: a restore writes the save area", "ours; Linux 6.2 smm.c enter_smm", _shadow,
    ),
    _rule(
        171, "events.interrupt.shadow", "the saved shadow is a set of masks: 1, 2, 3",
        "the handler wrote it; SVM takes any nonzero byte as a shadow", "Linux 6.12 smm.h int_shadow", _shadow_bits,
    ),
    _rule(
        172, "cpuid2", "the save area has the map that RSM will read", "give the vCPU the CPUID that it had at the SMI",
        "Linux 6.12 smm.c: CPUID 0x80000001 edx bit 29 chooses", _map,
    ),
    Invariant(
        "INV-173", Severity.WARNING, "events.interrupt.shadow", "a saved STI shadow needs IF in the saved RFLAGS",
        "the entry after RSM would fail", "SDM vol. 3C 27.3.1.5", _sti_without_if, scope="smram", host_vendor=INTEL,
        host_severity=Severity.WARNING,
    ),
    _rule(174, "sregs", "the saved CR0, CR3, CR4 and EFER are legal", _EDITED, _SHUTDOWN, _control),
    _rule(175, "debugregs", "the saved DR6 and DR7 have 32 bits", _EDITED, _SHUTDOWN, _debug),
    _rule(
        176, "nested_state", "the save area returns to a nested guest only on SVM", _EDITED,
        "Linux 6.12 svm.c svm_leave_smm", _guest_flag,
    ),
)  # fmt: skip
