"""Everything a vCPU is, as plain ints: what a snapshot must hold and nothing that can be derived."""

from dataclasses import dataclass, field

from .registers import CS, DR6_RESET, DR7_RESET, FLAG_FIXED, MASK32, MP_RUNNABLE

XSAVE_BYTES = 4096
SMBASE_RESET = 0x30000
APIC_BASE_RESET = 0xFEE00900
"""Enabled, boot processor. Source: SDM vol. 3A figure 11-5."""


class Segment:
    """A segment register with its hidden part, in the fields of kvm_segment; `limit` counts bytes.

    `read_end` and `write_end` are derived: the highest offset that can be read or written without further thought,
    or -1 where the checks of `segments.check` decide. Call `refresh` after changing fields.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h struct kvm_segment.
    """

    __slots__ = (
        "avl", "base", "db", "dpl", "g", "l", "limit", "present", "read_end", "s", "selector", "type", "unusable",
        "write_end",
    )  # fmt: skip

    def __init__(self, selector: int = 0, base: int = 0, limit: int = 0xFFFF, type_: int = 3, s: int = 1) -> None:
        self.selector = selector
        self.base = base
        self.limit = limit
        self.type = type_
        self.s = s
        self.dpl = 0
        self.present = 1
        self.avl = 0
        self.l = 0
        self.db = 0
        self.g = 0
        self.unusable = 0
        self.read_end = self.write_end = -1
        self.refresh()

    def refresh(self) -> None:
        """Derive `read_end` and `write_end`."""
        self.read_end = self.write_end = -1
        if self.unusable or not self.present or not self.s:
            return
        if self.type & 8:
            self.read_end = self.limit if self.type & 2 else -1
        elif not self.type & 4:
            self.read_end = self.limit
            self.write_end = self.limit if self.type & 2 else -1

    def copy_from(self, other: "Segment") -> None:
        """Take over every field; the object keeps its identity, which compiled instructions hold."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def load_real(self, selector: int) -> None:
        """Load as real mode does: only selector and base change. Source: SDM vol. 3B 21.1.1."""
        self.selector = selector
        self.base = selector << 4


@dataclass(slots=True)
class DescriptorTable:
    """GDTR or IDTR."""

    base: int = 0
    limit: int = 0xFFFF


def _system_segment(type_: int) -> Segment:
    """LDTR or TR after reset."""
    return Segment(type_=type_, s=0)


def _reset_segments() -> list[Segment]:
    """Segment registers after reset, before the machine places CS. Source: SDM vol. 3A table 9-1."""
    segments = [Segment() for _ in range(6)]
    segments[CS] = Segment(selector=0xF000, base=0xFFFF0000, type_=11)
    return segments


@dataclass(slots=True)
class CpuState:
    """One vCPU. Lists and segments keep their identity: change them in place, then call `Cpu.state_changed()`.

    `gpr` is indexed by hardware encoding (registers.RAX...), `segs` by registers.ES... . `tsc_offset` is added to
    the machine's TSC. `shadow` is the interrupt shadow now (1 MOV SS, 2 STI), `smm_shadow` the one put aside on
    entry to SMM, which the byte int_shadow of the SMRAM image mirrors. Fields of events have the names and meanings of
    kvm_vcpu_events. `cpl` is derived from SS.DPL by `Cpu.state_changed()`.

    Source: SDM vol. 3A table 9-1 (reset values); Linux 6.12 arch/x86/include/uapi/asm/kvm.h.
    """

    gpr: list[int] = field(default_factory=lambda: [0] * 16)
    rip: int = 0xFFF0
    rflags: int = FLAG_FIXED
    segs: list[Segment] = field(default_factory=_reset_segments)
    ldtr: Segment = field(default_factory=lambda: _system_segment(2))
    tr: Segment = field(default_factory=lambda: _system_segment(11))
    gdtr: DescriptorTable = field(default_factory=DescriptorTable)
    idtr: DescriptorTable = field(default_factory=DescriptorTable)
    cr0: int = 0x60000010
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    apic_base: int = APIC_BASE_RESET
    pdptrs: list[int] = field(default_factory=lambda: [0] * 4)
    dr: list[int] = field(default_factory=lambda: [0] * 4)
    dr6: int = DR6_RESET
    dr7: int = DR7_RESET
    msrs: dict[int, int] = field(default_factory=dict)
    tsc_offset: int = 0
    xcr0: int = 1
    xsave: bytes = bytes(XSAVE_BYTES)

    cpl: int = 0
    mp_state: int = MP_RUNNABLE
    shadow: int = 0

    exception_pending: bool = False
    exception_injected: bool = False
    exception_nr: int = 0
    exception_has_error_code: bool = False
    exception_error_code: int = 0
    exception_has_payload: bool = False
    exception_payload: int = 0
    interrupt_injected: bool = False
    interrupt_nr: int = 0
    interrupt_soft: bool = False
    nmi_injected: bool = False
    nmi_pending: int = 0
    nmi_masked: bool = False
    sipi_vector: int = 0
    triple_fault: bool = False

    smm: bool = False
    smm_shadow: int = 0
    smi_pending: bool = False
    smm_inside_nmi: bool = False
    latched_init: bool = False
    smbase: int = SMBASE_RESET

    def eflags(self) -> int:
        """RFLAGS as a program sees them: the low 32 bits, bit 1 set."""
        return self.rflags & MASK32 | FLAG_FIXED
