"""CPUID, time-stamp counter and model-specific registers.

Source: SDM vol. 2, pages of CPUID, RDMSR, WRMSR, RDTSC, RDTSCP.
"""

from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import general_protection
from ..instruction import Action, op
from ..msrs import read_msr, write_msr
from ..operands import register_load, register_store
from ..registers import CR4_OSXSAVE, CR4_TSD, MASK32, MSR_TSC, MSR_TSC_AUX, RAX, RBX, RCX, RDX
from .system import privileged

_OSXSAVE = 1 << 27
_APIC, _APIC_BASE_ENABLE = 1 << 9, 1 << 11


@op("CPUID", syntax="CPUID")
def cpuid(cpu: Cpu, _insn: Decoded) -> Action:
    """The model's leaves; leaf 1 ECX bit 27 follows CR4.OSXSAVE, EDX bit 9 the local APIC's enable bit."""
    state, model = cpu.state, cpu.model
    function, index = register_load(cpu, RAX, 4), register_load(cpu, RCX, 4)
    puts = [register_store(cpu, number, 4) for number in (RAX, RBX, RCX, RDX)]

    def run() -> None:
        leaf = function()
        eax, ebx, ecx, edx = model.cpuid_values(leaf, index())
        if leaf == 1 and state.cr4 & CR4_OSXSAVE:
            ecx |= _OSXSAVE
        if leaf == 1 and not state.apic_base & _APIC_BASE_ENABLE:
            edx &= ~_APIC
        for put, value in zip(puts, (eax, ebx, ecx, edx), strict=True):
            put(value)

    return run


@op("RDTSC", "RDTSCP", syntax="RDTSC; RDTSCP")
def rdtsc(cpu: Cpu, insn: Decoded) -> Action:
    """EDX:EAX = time-stamp counter, RDTSCP also ECX = TSC_AUX; #GP(0) above CPL 0 with CR4.TSD."""
    state, with_aux = cpu.state, insn.mnemonic == "RDTSCP"
    low, high, aux = register_store(cpu, RAX, 4), register_store(cpu, RDX, 4), register_store(cpu, RCX, 4)

    def run() -> None:
        if state.cpl and state.cr4 & CR4_TSD:
            raise general_protection()
        value = read_msr(cpu, MSR_TSC)
        low(value & MASK32)
        high(value >> 32)
        if with_aux:
            aux(state.msrs.get(MSR_TSC_AUX, 0))

    return run


@op("RDMSR", syntax="RDMSR")
def rdmsr(cpu: Cpu, _insn: Decoded) -> Action:
    """EDX:EAX = MSR[ECX]."""
    index, low, high = register_load(cpu, RCX, 4), register_store(cpu, RAX, 4), register_store(cpu, RDX, 4)

    def run() -> None:
        value = read_msr(cpu, index())
        low(value & MASK32)
        high(value >> 32)

    return privileged(cpu, run)


@op("WRMSR", syntax="WRMSR")
def wrmsr(cpu: Cpu, _insn: Decoded) -> Action:
    """MSR[ECX] = EDX:EAX."""
    index, low, high = register_load(cpu, RCX, 4), register_load(cpu, RAX, 4), register_load(cpu, RDX, 4)
    return privileged(cpu, lambda: write_msr(cpu, index(), high() << 32 | low()))
