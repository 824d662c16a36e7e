"""What a row of the MSR table says; the rows stand in `msr_rows_intel`, `msr_rows_amd` and `msr_rows_pv`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class MsrClass(StrEnum):
    """What a register is for."""

    FEATURE = "feature"
    """Says what the processor can do; the same on every vCPU, never written by the guest."""
    CONTROL = "control"
    SYSCALL = "syscall"
    """SYSENTER and SYSCALL targets, segment bases."""
    TIME = "time"
    """Counts or compares time: differs between any two moments."""
    COUNTER = "counter"
    """Counts events without being set up for it."""
    PMU = "pmu"
    MTRR = "mtrr"
    """Memory types: MTRRs and PAT."""
    MCE = "mce"
    DEBUG = "debug"
    """Branch records and debug controls."""
    TRACE = "trace"
    """Processor Trace."""
    APIC = "apic"
    SMM = "smm"
    SPECULATION = "speculation"
    XSTATE = "xstate"
    """XSAVE extensions, MPX, CET, protection keys: state that XSAVES knows too."""
    POWER = "power"
    """Frequency, thermal and energy."""
    PLATFORM = "platform"
    """Chipset and firmware: addresses, locks, microcode."""
    SGX = "sgx"
    RESCTRL = "resctrl"
    VMX = "vmx"
    """What nested VMX offers."""
    SVM = "svm"
    SEV = "sev"
    HYPERV = "hyperv"
    KVM = "kvm"
    """Paravirtual interface of KVM."""


class RestorePhase(StrEnum):
    """When a register is written on restore; a value with a dot is a part of that step of RESTORE_ORDER.

    The order of the members is the order of the phases. Source: Linux 6.12 arch/x86/kvm/x86.c kvm_set_msr_common,
    arch/x86/kvm/lapic.c kvm_set_lapic_tscdeadline_msr; QEMU target/i386/kvm/kvm.c kvm_put_msrs.
    """

    NEVER = "never"
    """Read-only, or a command: not part of what is restored."""
    SREGS = "sregs"
    """Travels in kvm_sregs; writing it again changes nothing."""
    LAPIC = "lapic"
    """Another view of kvm_lapic_state; not written as an MSR."""
    FEATURES = "msrs.features"
    """Bounds what other registers, and nested state, may hold: before them."""
    TIME = "msrs.time"
    """The TSC: before all that counts in it."""
    MSRS = "msrs"
    ENABLE = "msrs.enable"
    """Switches on what the others set up (PMU global control): after them."""
    TSC_DEADLINE = "msrs.tsc_deadline"
    """Last: dropped without an error unless the local APIC is in deadline mode."""


class MsrRow(NamedTuple):
    """One register, or a run of `length` registers that are `step` apart.

    `bits` is the key of REGISTERS under which its bits have names.
    """

    number: int
    name: str
    msr_class: MsrClass
    restore_phase: RestorePhase
    source: str
    bits: str | None = None
    length: int = 1
    step: int = 1

    def registers(self) -> Iterator[tuple[int, str]]:
        """Yield number and name of each register of the row."""
        for n in range(self.length):
            yield self.number + n * self.step, self.name.replace("{n}", str(n))


Entry = (
    tuple[int, str]
    | tuple[int, str, str | None]
    | tuple[int, str, str | None, int]
    | tuple[int, str, str | None, int, int]
)
"""A row in short: number, name, bits, length, step."""


def group(msr_class: MsrClass, phase: RestorePhase, source: str, *entries: Entry) -> tuple[MsrRow, ...]:
    """Return the rows of registers that share class, phase and source."""
    return tuple(MsrRow(entry[0], entry[1], msr_class, phase, source, *entry[2:]) for entry in entries)
