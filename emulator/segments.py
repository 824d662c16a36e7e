"""Segmentation: limit and right checks, descriptors, loading of segment registers.

Source: SDM vol. 3A chapter 3 and 5, instruction pages of MOV, LLDT, LTR.
"""

from typing import TYPE_CHECKING, NamedTuple

from .exceptions import GP, NP, SS, GuestFault, general_protection, stack_fault
from .registers import CR0_PE, EFER_LMA, MASK16, MASK32
from .registers import SS as SS_INDEX
from .state import Segment

if TYPE_CHECKING:
    from .cpu import Cpu
    from .state import CpuState

TYPE_CODE, TYPE_CONFORMING, TYPE_WRITABLE, TYPE_ACCESSED = 8, 4, 2, 1
TYPE_EXPAND_DOWN, TYPE_READABLE = 4, 2
TYPE_LDT = 2


def check(state: "CpuState", index: int, offset: int, size: int, write: bool) -> None:
    """Full check of an access through segment register `index`; the derived ends of `Segment` are its fast path.

    Raises:
        GuestFault: #GP(0), or #SS(0) for SS.

    Source: SDM vol. 3A 5.3 and 5.5.
    """
    seg = state.segs[index]
    protected = state.cr0 & CR0_PE
    last = offset + size - 1
    code = seg.type & TYPE_CODE
    if not code and seg.type & TYPE_EXPAND_DOWN:
        fits = offset > seg.limit and last <= (MASK32 if seg.db else MASK16)
    else:
        fits = last <= seg.limit
    if protected:
        if seg.unusable or not seg.present:
            fits = False
        elif write:
            fits = fits and not code and bool(seg.type & TYPE_WRITABLE)
        elif code:
            fits = fits and bool(seg.type & TYPE_READABLE)
    if not fits:
        raise stack_fault() if index == SS_INDEX else general_protection()


class Descriptor(NamedTuple):
    """A descriptor of the GDT or LDT: its 8 bytes and where they are."""

    raw: int
    address: int
    selector: int

    @property
    def type(self) -> int:
        """Type field, 4 bits."""
        return self.raw >> 40 & 15

    @property
    def s(self) -> int:
        """1 for code and data, 0 for system descriptors."""
        return self.raw >> 44 & 1

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.raw >> 45 & 3

    @property
    def present(self) -> int:
        """Present bit."""
        return self.raw >> 47 & 1

    @property
    def long(self) -> int:
        """L: 64-bit code."""
        return self.raw >> 53 & 1

    @property
    def db(self) -> int:
        """D/B: default operand or stack size."""
        return self.raw >> 54 & 1

    @property
    def base(self) -> int:
        """Base, 32 bits."""
        return self.raw >> 16 & 0xFFFFFF | (self.raw >> 56 & 0xFF) << 24

    @property
    def limit(self) -> int:
        """Limit in bytes, granularity applied."""
        limit = self.raw & 0xFFFF | self.raw >> 32 & 0xF0000
        return limit << 12 | 0xFFF if self.raw >> 55 & 1 else limit

    @property
    def is_code(self) -> bool:
        """A code segment."""
        return bool(self.s and self.type & TYPE_CODE)

    @property
    def conforming(self) -> bool:
        """A conforming code segment."""
        return bool(self.type & TYPE_CONFORMING)

    @property
    def error_code(self) -> int:
        """The selector as an error code."""
        return self.selector & 0xFFFC


def read_descriptor(cpu: "Cpu", selector: int, vector: int = GP, ext: int = 0) -> Descriptor:
    """Fetch the descriptor of a non-null selector.

    Raises:
        GuestFault: `vector` with the selector (and EXT) where it lies outside its table; #PF.
    """
    state = cpu.state
    if selector & 4:
        base, limit, exists = state.ldtr.base, state.ldtr.limit, not state.ldtr.unusable
    else:
        base, limit, exists = state.gdtr.base, state.gdtr.limit, True
    if not exists or (selector | 7) > limit:
        raise GuestFault(vector, selector & 0xFFFC | ext)
    address = cpu.linear_mask & base + (selector & 0xFFF8)
    return Descriptor(cpu.mmu.read_slow(address, 8, 0), address, selector)


def fill(seg: Segment, descriptor: Descriptor) -> None:
    """Put a descriptor into a segment register's hidden part."""
    raw = descriptor.raw
    seg.selector = descriptor.selector
    seg.base = descriptor.base
    seg.limit = descriptor.limit
    seg.type = descriptor.type
    seg.s = descriptor.s
    seg.dpl = descriptor.dpl
    seg.present = descriptor.present
    seg.avl = raw >> 52 & 1
    seg.l = descriptor.long
    seg.db = descriptor.db
    seg.g = raw >> 55 & 1
    seg.unusable = 0
    seg.refresh()


def fill_null(seg: Segment, selector: int, dpl: int = 0) -> None:
    """Put a null selector into a segment register. Source: Linux 6.12 arch/x86/kvm/x86.c emulator_set_segment()."""
    seg.selector = selector
    seg.base = seg.limit = seg.type = seg.s = seg.present = seg.avl = seg.l = seg.db = seg.g = 0
    seg.dpl = dpl
    seg.unusable = 1
    seg.refresh()


def fill_v86(seg: Segment, selector: int) -> None:
    """Make a segment register what virtual-8086 mode has: 64 KiB of data for ring 3 at 16 times the selector."""
    seg.selector, seg.base, seg.limit = selector, selector << 4, 0xFFFF
    seg.type, seg.s, seg.dpl, seg.present = 3, 1, 3, 1
    seg.avl = seg.l = seg.db = seg.g = seg.unusable = 0
    seg.refresh()


def mark_accessed(cpu: "Cpu", descriptor: Descriptor) -> Descriptor:
    """Set the accessed bit in the table if it is clear, and return the descriptor with it."""
    if descriptor.type & TYPE_ACCESSED:
        return descriptor
    cpu.mmu.write_slow(descriptor.address + 5, 1, (descriptor.raw >> 40 & 0xFF) | TYPE_ACCESSED, 0)
    return descriptor._replace(raw=descriptor.raw | TYPE_ACCESSED << 40)


def load_data_segment(cpu: "Cpu", index: int, selector: int) -> None:
    """MOV, POP, Lxx of DS, ES, FS, GS or SS in any mode.

    Raises:
        GuestFault: #GP, #NP, #SS, #PF.
    """
    state = cpu.state
    seg = state.segs[index]
    if cpu.real_segments:
        seg.load_real(selector)
        return
    if index == SS_INDEX:
        load_stack_segment(cpu, selector)
        return
    if not selector & 0xFFFC:
        fill_null(seg, selector)
        return
    fill(seg, mark_accessed(cpu, check_data_descriptor(cpu, selector, state.cpl, GP, 0)))


def check_data_descriptor(cpu: "Cpu", selector: int, cpl: int, vector: int, ext: int) -> Descriptor:
    """Descriptor for DS, ES, FS or GS at privilege `cpl`.

    Raises:
        GuestFault: `vector` (#GP, or #TS for a new task) where it may not be read, #NP, #PF.
    """
    descriptor = read_descriptor(cpu, selector, vector, ext)
    readable = descriptor.s and (not descriptor.is_code or descriptor.type & TYPE_READABLE)
    checked = not descriptor.is_code or not descriptor.conforming
    if not readable or (checked and descriptor.dpl < max(cpl, selector & 3)):
        raise GuestFault(vector, descriptor.error_code | ext)
    if not descriptor.present:
        raise GuestFault(NP, descriptor.error_code | ext)
    return descriptor


def load_stack_segment(cpu: "Cpu", selector: int) -> None:
    """SS in protected mode by MOV, POP and LSS."""
    state = cpu.state
    if not selector & 0xFFFC:
        if cpu.bits != 64 or state.cpl == 3 or selector & 3 != state.cpl:
            raise general_protection()
        fill_null(state.segs[SS_INDEX], selector, state.cpl)
    else:
        descriptor = check_stack_descriptor(cpu, selector, state.cpl, GP, 0)
        fill(state.segs[SS_INDEX], mark_accessed(cpu, descriptor))
    cpu.update_mode()


def check_stack_descriptor(cpu: "Cpu", selector: int, cpl: int, vector: int, ext: int) -> Descriptor:
    """Descriptor of a stack for privilege `cpl`.

    Raises:
        GuestFault: `vector` (#GP, or #TS for a stack from the TSS) where it is not such a segment, #SS if absent.
    """
    descriptor = read_descriptor(cpu, selector, vector, ext)
    writable = descriptor.s and not descriptor.is_code and descriptor.type & TYPE_WRITABLE
    if selector & 3 != cpl or descriptor.dpl != cpl or not writable:
        raise GuestFault(vector, descriptor.error_code | ext)
    if not descriptor.present:
        raise GuestFault(SS, descriptor.error_code | ext)
    return descriptor


def load_system_segment(cpu: "Cpu", seg: Segment, selector: int, types: tuple[int, ...]) -> Descriptor:
    """LDTR or TR from the GDT: 16-byte descriptors in long mode.

    Raises:
        GuestFault: #GP for a selector into the LDT, a wrong type or a non-canonical base; #NP; #PF.
    """
    if selector & 4:
        raise general_protection(selector & 0xFFFC)
    descriptor = read_descriptor(cpu, selector)
    if descriptor.s or descriptor.type not in types:
        raise general_protection(descriptor.error_code)
    if not descriptor.present:
        raise GuestFault(NP, descriptor.error_code)
    high = 0
    if cpu.state.efer & EFER_LMA:
        if (selector & 0xFFF8) + 15 > cpu.state.gdtr.limit:
            raise general_protection(descriptor.error_code)
        upper = cpu.mmu.read_slow(descriptor.address + 8, 8, 0)
        high = upper & MASK32
        base = high << 32 | descriptor.base
        if upper >> 40 & 0x1F or (base + (1 << 47)) >> 48 & 0xFFFF:
            raise general_protection(descriptor.error_code)
    fill(seg, descriptor)
    seg.base |= high << 32
    return descriptor
