"""Writes to CR0, CR3, CR4 and EFER with the processor's checks.

Source: SDM vol. 3A 2.5, 4.1; Linux 6.12 arch/x86/kvm/x86.c kvm_set_cr0(), kvm_set_cr4().
"""

from typing import TYPE_CHECKING

from .exceptions import general_protection
from .paging import load_pdptrs
from .registers import (
    CR0_CD,
    CR0_DEFINED,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    CS,
    EFER_LMA,
    EFER_LME,
    MASK32,
)

if TYPE_CHECKING:
    from .cpu import Cpu


def _pae(cr0: int, cr4: int, efer: int) -> bool:
    """PAE paging outside long mode, which keeps PDPTEs in registers."""
    return bool(cr0 & CR0_PG and cr4 & CR4_PAE and not efer & EFER_LMA)


def _reload_pdptrs(cpu: "Cpu", cr3: int) -> None:
    state = cpu.state
    state.pdptrs[:] = load_pdptrs(state, cpu.memory, cpu.model.physical_bits, cr3)


def write_cr0(cpu: "Cpu", value: int) -> None:
    """Write CR0; ET stays set, EFER.LMA follows PG.

    Raises:
        GuestFault: #GP(0) for an illegal combination or illegal PDPTEs.
    """
    state = cpu.state
    value &= cpu.model.cr0_mask | ~CR0_DEFINED
    if value >> 32 or (value & CR0_PG and not value & CR0_PE) or (value & CR0_NW and not value & CR0_CD):
        raise general_protection()
    value = value & cpu.model.cr0_mask | CR0_ET
    efer, cs_long = state.efer, state.segs[CS].l
    if value & CR0_PG and not state.cr0 & CR0_PG and efer & EFER_LME:
        if not state.cr4 & CR4_PAE or cs_long:
            raise general_protection()
        efer |= EFER_LMA
    elif not value & CR0_PG and efer & EFER_LMA:
        if cs_long:
            raise general_protection()
        efer &= ~EFER_LMA
    changed = value ^ state.cr0
    if _pae(value, state.cr4, efer) and changed & (CR0_PG | CR0_CD | CR0_NW):
        _reload_pdptrs(cpu, state.cr3)
    state.cr0, state.efer = value, efer
    if not value & CR0_PE:
        state.cpl = 0
    cpu.flush_tlb()
    cpu.update_mode()


def write_cr3(cpu: "Cpu", value: int) -> None:
    """Write CR3 and forget translations.

    Raises:
        GuestFault: #GP(0) for address bits the model lacks (long mode) or illegal PDPTEs.
    """
    state = cpu.state
    if not state.efer & EFER_LMA and not cpu.model.long_mode:
        value &= MASK32
    if value >> cpu.model.physical_bits:
        raise general_protection()
    if _pae(state.cr0, state.cr4, state.efer):
        _reload_pdptrs(cpu, value)
    state.cr3 = value
    cpu.flush_tlb()


def write_cr4(cpu: "Cpu", value: int) -> None:
    """Write CR4.

    Raises:
        GuestFault: #GP(0) for bits the model lacks, clearing PAE in long mode, or illegal PDPTEs.
    """
    state = cpu.state
    if value & ~cpu.model.cr4_mask or (state.efer & EFER_LMA and not value & CR4_PAE):
        raise general_protection()
    changed = value ^ state.cr4
    if _pae(state.cr0, value, state.efer) and changed & (CR4_PAE | CR4_PSE | CR4_PGE):
        _reload_pdptrs(cpu, state.cr3)
    state.cr4 = value
    cpu.breakpoints.refresh()
    cpu.flush_tlb()


def write_efer(cpu: "Cpu", value: int) -> None:
    """Write EFER; LMA is the processor's own.

    Raises:
        GuestFault: #GP(0) for bits the model lacks or a change of LME while paging is on.
    """
    state = cpu.state
    if value & ~cpu.model.efer_mask or (state.cr0 & CR0_PG and (value ^ state.efer) & EFER_LME):
        raise general_protection()
    state.efer = value & ~EFER_LMA | state.efer & EFER_LMA
    cpu.flush_tlb()
