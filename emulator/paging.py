"""Walks of the paging structures: 32-bit, PAE and 4-level, with accessed and dirty bits and exact error codes."""

from typing import NamedTuple

from .exceptions import PF, GuestFault, general_protection
from .memory import GuestMemory
from .registers import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_NXE,
    FLAG_AC,
    MASK32,
)
from .state import CpuState

PRESENT, WRITABLE, USER = 1, 2, 4
ACCESSED, DIRTY, LARGE = 1 << 5, 1 << 6, 1 << 7
NO_EXECUTE = 1 << 63

PF_PRESENT, PF_WRITE, PF_USER, PF_RESERVED, PF_FETCH = 1, 2, 4, 8, 16
"""Bits of the error code of #PF. Source: SDM vol. 3A 4.7."""

SHIFTS_4_LEVEL = (39, 30, 21, 12)
SHIFTS_PAE = (21, 12)
SHIFTS_32_BIT = (22, 12)


class Access(NamedTuple):
    """What is asked of a page; `implicit` is the processor's own access to descriptor tables and TSS."""

    write: bool = False
    user: bool = False
    fetch: bool = False
    implicit: bool = False


class Walker:
    """Translates linear to guest physical addresses by the state's control registers.

    Source: SDM vol. 3A chapter 4.
    """

    def __init__(self, state: CpuState, memory: GuestMemory, physical_bits: int) -> None:
        self._state = state
        self._memory = memory
        self._every_line = (1 << physical_bits) - 1
        self._address_mask = (1 << physical_bits) - 1 & ~0xFFF
        self._beyond_physical = ((1 << 52) - 1) & ~((1 << physical_bits) - 1)
        self._physical_bits = physical_bits

    def fault(self, linear: int, access: Access, bits: int) -> GuestFault:
        """#PF for `access` with the additional error code `bits`."""
        state = self._state
        code = bits | (PF_WRITE if access.write else 0) | (PF_USER if access.user else 0)
        if access.fetch and (state.cr4 & CR4_SMEP or (state.cr4 & CR4_PAE and state.efer & EFER_NXE)):
            code |= PF_FETCH
        return GuestFault(PF, code, linear)

    def walk(self, linear: int, access: Access) -> tuple[int, bool]:
        """Guest physical address of `linear`, and whether it may be kept: not where EFLAGS.AC decides each time.

        Raises:
            GuestFault: #PF.
        """
        state = self._state
        if not state.cr0 & CR0_PG:
            return linear & self._every_line, True
        if not state.cr4 & CR4_PAE:
            return self._walk_levels(linear, access, state.cr3 & 0xFFFFF000, SHIFTS_32_BIT)
        if state.efer & EFER_LMA:
            return self._walk_levels(linear, access, state.cr3 & self._address_mask, SHIFTS_4_LEVEL)
        pdpte = state.pdptrs[linear >> 30 & 3]
        if not pdpte & PRESENT:
            raise self.fault(linear, access, 0)
        return self._walk_levels(linear, access, pdpte & self._address_mask, SHIFTS_PAE)

    def _walk_levels(self, linear: int, access: Access, table: int, shifts: tuple[int, ...]) -> tuple[int, bool]:
        """Follow the entries; A and D are set only when the whole walk is allowed, as KVM's walker does."""
        state, memory, as_id = self._state, self._memory, int(self._state.smm)
        wide = shifts is not SHIFTS_32_BIT
        entry_bytes, index_mask = (8, 0x1FF) if wide else (4, 0x3FF)
        rights, no_execute = WRITABLE | USER, False
        path: list[tuple[int, int]] = []
        entry, shift = 0, 12
        for shift in shifts:
            address = table + (linear >> shift & index_mask) * entry_bytes
            entry = memory.read(as_id, address, entry_bytes)
            if not entry & PRESENT:
                raise self.fault(linear, access, 0)
            path.append((address, entry))
            large = self._is_large(entry, shift, shifts)
            if self._reserved_bits(entry, shift, large, shifts):
                raise self.fault(linear, access, PF_PRESENT | PF_RESERVED)
            rights &= entry
            no_execute = no_execute or bool(wide and entry & NO_EXECUTE and state.efer & EFER_NXE)
            if large:
                break
            table = entry & (self._address_mask if wide else 0xFFFFF000)
        if not self._allowed(access, rights, no_execute):
            raise self.fault(linear, access, PF_PRESENT)
        self._mark(path, entry_bytes, access.write)
        keep = access.user or not rights & USER or not state.cr4 & CR4_SMAP
        return self._frame(entry, shift, wide) | linear & (1 << shift) - 1, keep

    def _is_large(self, entry: int, shift: int, shifts: tuple[int, ...]) -> bool:
        """Whether an entry maps a page itself."""
        if shift == 12 or shift == 39:
            return False
        if shifts is SHIFTS_32_BIT and not self._state.cr4 & CR4_PSE:
            return False
        return bool(entry & LARGE)

    def _reserved_bits(self, entry: int, shift: int, large: bool, shifts: tuple[int, ...]) -> int:
        """Reserved bits that are set. Source: SDM vol. 3A tables 4-4 to 4-20."""
        if shifts is SHIFTS_32_BIT:
            # PSE-36: bits 13 to 20 are address bits 32 to 39.
            high = max(self._physical_bits - 32, 0)
            return entry & (0x3FE000 & ~((1 << 13 + min(high, 8)) - 1)) if large else 0
        reserved = self._beyond_physical
        if not self._state.efer & EFER_NXE:
            reserved |= NO_EXECUTE
        if shifts is SHIFTS_PAE:
            reserved |= 0x7FF << 52
        if large:
            reserved |= (1 << shift) - 1 & ~0x1FFF
        if shift == 39:
            reserved |= LARGE
        return entry & reserved

    def _allowed(self, access: Access, rights: int, no_execute: bool) -> bool:
        """Rights of the walk against the access. Source: SDM vol. 3A 4.6.1."""
        if access.user and not rights & USER:
            return False
        if access.fetch and no_execute:
            return False
        if rights & USER and not access.user and not self._supervisor_may(access):
            return False
        return not (access.write and not rights & WRITABLE and (access.user or self._state.cr0 & CR0_WP))

    def _supervisor_may(self, access: Access) -> bool:
        """Whether a supervisor may access a user page: SMEP and SMAP."""
        state = self._state
        if access.fetch:
            return not state.cr4 & CR4_SMEP
        return not state.cr4 & CR4_SMAP or bool(state.rflags & FLAG_AC and not access.implicit)

    def _mark(self, path: list[tuple[int, int]], entry_bytes: int, write: bool) -> None:
        """Set A in every entry used and, for a write, D in the last."""
        last = len(path) - 1
        for level, (address, entry) in enumerate(path):
            wanted = entry | ACCESSED | (DIRTY if write and level == last else 0)
            if wanted != entry:
                self._memory.write(int(self._state.smm), address, entry_bytes, wanted)

    def _frame(self, entry: int, shift: int, wide: bool) -> int:
        """Base of the page that the last entry maps."""
        if wide:
            return entry & self._address_mask & ~((1 << shift) - 1)
        if shift == 12:
            return entry & 0xFFFFF000
        return entry & 0xFFC00000 | (entry >> 13 & 0xFF) << 32


def load_pdptrs(state: CpuState, memory: GuestMemory, physical_bits: int, cr3: int) -> list[int]:
    """Read the four PDPTEs that PAE paging keeps in registers.

    Raises:
        GuestFault: #GP(0) for a present entry with reserved bits.

    Source: SDM vol. 3A 4.4.1.
    """
    base = cr3 & MASK32 & ~0x1F
    reserved = 0x1E6 | ~((1 << physical_bits) - 1)
    entries = [memory.read(int(state.smm), base + 8 * n, 8) for n in range(4)]
    if any(entry & PRESENT and entry & reserved for entry in entries):
        raise general_protection()
    return entries
