"""What the rules look at: a state with its MSRs and CPUID leaves indexed once, and arithmetic that several rules share.

Every section of the state is an attribute of the same name. Facts are made per check and thrown away.
"""

from __future__ import annotations

from typing import NamedTuple

from ..memory import MemoryMap
from ..state import MachineState, VcpuState, VmState
from ..uapi.cpuid2 import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KvmCpuid2, KvmCpuidEntry2, vendor_of
from ..uapi.debugregs import KvmDebugregs
from ..uapi.fpu import KvmFpu
from ..uapi.lapic import KvmLapicState
from ..uapi.mp_state import KvmMpState
from ..uapi.msrs import KvmMsrs
from ..uapi.nested_state import KvmNestedState
from ..uapi.regs import KvmRegs
from ..uapi.sregs import KvmSregs
from ..uapi.sregs2 import KvmSregs2
from ..uapi.tsc_khz import MigsvcTscKhz
from ..uapi.tsc_offset import MigsvcTscOffset
from ..uapi.vcpu_events import KvmVcpuEvents
from ..uapi.xcrs import KvmXcrs
from ..uapi.xsave import KvmXsave

CR0_PE, CR0_ET, CR0_WP, CR0_NW, CR0_CD, CR0_PG = 1 << 0, 1 << 4, 1 << 16, 1 << 29, 1 << 30, 1 << 31
CR4_PAE, CR4_LA57, CR4_VMXE, CR4_PCIDE, CR4_CET = 1 << 5, 1 << 12, 1 << 13, 1 << 17, 1 << 23
EFER_LME, EFER_LMA, EFER_NX, EFER_SVME, EFER_FFXSR = 1 << 8, 1 << 10, 1 << 11, 1 << 12, 1 << 14
RFLAGS_IF, RFLAGS_VM = 1 << 9, 1 << 17
APIC_BASE_BSP, APIC_BASE_EXTD, APIC_BASE_EN = 1 << 8, 1 << 10, 1 << 11

PHYSICAL_BITS_DEFAULT = 36
"""MAXPHYADDR where CPUID has no leaf 0x80000008. Source: Linux 6.12 cpuid.c cpuid_query_maxphyaddr."""

MSR_TSC, MSR_SMBASE, MSR_TSC_DEADLINE = 0x10, 0x9E, 0x6E0


class CpuidBit(NamedTuple):
    """One feature bit: where it is, and its name in the kernel's spelling without X86_FEATURE_."""

    function: int
    subleaf: int
    register: str
    bit: int
    name: str


class VcpuFacts:
    """One vCPU, indexed."""

    regs: KvmRegs
    sregs: KvmSregs
    sregs2: KvmSregs2 | None
    events: KvmVcpuEvents
    mp_state: KvmMpState
    debugregs: KvmDebugregs
    xcrs: KvmXcrs
    xsave: KvmXsave
    msrs: KvmMsrs
    lapic: KvmLapicState
    cpuid2: KvmCpuid2
    tsc_khz: MigsvcTscKhz
    tsc_offset: MigsvcTscOffset | None
    fpu: KvmFpu | None
    nested_state: KvmNestedState | None
    index: int

    def __init__(self, state: VcpuState) -> None:
        """Index the state once."""
        self.__dict__.update(state.__dict__)
        self.state = state
        self.msr = {entry.index: entry.data for entry in state.msrs.entries}
        """MSR number -> value; the last of several wins, as in the kernel."""
        self._exact: dict[tuple[int, int], KvmCpuidEntry2] = {}
        self._any_index: dict[int, KvmCpuidEntry2] = {}
        for entry in state.cpuid2.entries:
            if entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX:
                if entry.function not in self._any_index:
                    self._exact.setdefault((entry.function, entry.index), entry)
            else:
                self._any_index.setdefault(entry.function, entry)
        self.features_known = self.leaf(1) is not None
        """Whether CPUID says which features there are: without leaf 1, rules on features are not applied."""
        extended = self.leaf(0x80000000)
        address = self.leaf(0x80000008) if extended is not None and extended.eax >= 0x80000008 else None
        self.physical_bits = PHYSICAL_BITS_DEFAULT if address is None else address.eax & 0xFF
        """MAXPHYADDR."""

    def leaf(self, function: int, index: int = 0) -> KvmCpuidEntry2 | None:
        """Return the entry that CPUID would answer from: the first that fits, as in cpuid_entry2_find."""
        return self._exact.get((function, index)) or self._any_index.get(function)

    def has(self, bit: CpuidBit) -> bool:
        """Return whether CPUID has this feature."""
        entry = self.leaf(bit.function, bit.subleaf)
        return entry is not None and bool(getattr(entry, bit.register) >> bit.bit & 1)

    @property
    def vendor(self) -> str | None:
        """Return the vendor that CPUID tells the guest, or None."""
        return vendor_of(self.leaf(0))

    @property
    def in_smm(self) -> bool:
        """Return whether the vCPU is in System Management Mode."""
        return bool(self.events.smi.smm)

    @property
    def long_mode(self) -> bool:
        """Return whether long mode is active: 64-bit or compatibility mode."""
        return bool(self.sregs.efer & EFER_LMA)

    @property
    def pae_paging(self) -> bool:
        """Return whether paging goes through the four PDPTEs."""
        s = self.sregs
        return bool(s.cr0 & CR0_PG and s.cr4 & CR4_PAE) and not s.efer & EFER_LMA

    @property
    def linear_bits(self) -> int:
        """Return the width of a linear address in 64-bit mode: 57 with five-level paging, else 48."""
        return 57 if self.sregs.cr4 & CR4_LA57 else 48


class MachineFacts:
    """A machine with the facts of each vCPU."""

    memory: MemoryMap
    vm: VmState

    def __init__(self, state: MachineState) -> None:
        """Index every vCPU once."""
        self.memory = state.memory
        self.vm = state.vm
        self.vcpus = tuple(VcpuFacts(vcpu) for vcpu in state.vcpus)


def is_canonical(address: int, bits: int) -> bool:
    """Return whether bits 63 to `bits` - 1 of a 64-bit address are equal."""
    return address >> (bits - 1) in (0, (1 << (65 - bits)) - 1)
