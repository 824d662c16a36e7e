"""Linear memory access: translation caches, alignment, page crossings, data breakpoints."""

from collections.abc import Callable

from .exceptions import AC, GuestFault, general_protection
from .memory import GuestMemory
from .paging import Access, Walker
from .state import CpuState

NON_CANONICAL = 0xFFFF_0000_0000_0000
CANONICAL_HALF = 0x8000_0000_0000

Reader = Callable[[int], int]
Writer = Callable[[int, int], None]

_USER, _IMPLICIT = 1, 2
"""Kinds of access; 0 is a supervisor's. An even kind uses the supervisor's caches."""
_READ = (Access(), Access(user=True), Access(implicit=True))
_WRITE = (Access(write=True), Access(write=True, user=True), Access(write=True, implicit=True))
_FETCH = (Access(fetch=True), Access(fetch=True, user=True))


def canonical(address: int) -> bool:
    """Whether bits 63 to 47 of an address are equal (48-bit linear addresses)."""
    return not (address + CANONICAL_HALF) & NON_CANONICAL


def _reader(mmu: "Mmu", size: int, view: memoryview) -> Reader:
    """Read of one size: a cached, aligned access costs one dictionary look-up."""
    low, shift, slow = size - 1, size.bit_length() - 1, mmu.read_slow

    def read(linear: int) -> int:
        offset = mmu.read_tlb.get(linear >> 12)
        if offset is None or linear & low:
            return slow(linear, size)
        value: int = view[offset + (linear & 0xFFF) >> shift]
        return value

    return read


def _writer(mmu: "Mmu", size: int, view: memoryview) -> Writer:
    """Write of one size; `value` must fit."""
    low, shift, slow = size - 1, size.bit_length() - 1, mmu.write_slow

    def write(linear: int, value: int) -> None:
        offset = mmu.write_tlb.get(linear >> 12)
        if offset is None or linear & low:
            slow(linear, size, value)
        else:
            view[offset + (linear & 0xFFF) >> shift] = value

    return write


def _modifier(mmu: "Mmu", size: int, view: memoryview) -> Reader:
    """The read half of a read-modify-write: it faults as the write would."""
    low, shift, slow = size - 1, size.bit_length() - 1, mmu.modify_slow

    def read(linear: int) -> int:
        offset = mmu.write_tlb.get(linear >> 12)
        if offset is None or linear & low:
            return slow(linear, size)
        value: int = view[offset + (linear & 0xFFF) >> shift]
        return value

    return read


class Mmu:
    """Memory as instructions see it: by linear address, at the current privilege, in the current address space.

    `read`, `write` and `modify` map a size in bytes to the access function of that size. The translation caches
    map a linear page to the backing offset of its RAM; the write cache holds only pages that are dirty already and
    hold no decoded code, so that the first write to a page and self-modifying code both come through `write_slow`.
    """

    def __init__(self, state: CpuState, memory: GuestMemory, physical_bits: int) -> None:
        self._state = state
        self._memory = memory
        self._walker = Walker(state, memory, physical_bits)
        self._read_tlbs: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._write_tlbs: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.user = 0
        self.read_tlb, self.write_tlb = self._read_tlbs[0], self._write_tlbs[0]
        self.alignment_check = False
        self.epoch = self.write_epoch = 0
        self.watched_pages: frozenset[int] = frozenset()
        self.on_watched: Callable[[int, int, bool], None] = lambda _linear, _size, _write: None
        ram = memory.ram
        views = {1: ram.cast("B"), 2: ram.cast("H"), 4: ram.cast("I"), 8: ram.cast("Q")}
        self.read: dict[int, Reader] = {size: _reader(self, size, view) for size, view in views.items()}
        self.write: dict[int, Writer] = {size: _writer(self, size, view) for size, view in views.items()}
        self.modify: dict[int, Reader] = {size: _modifier(self, size, view) for size, view in views.items()}

    def select(self, user: bool) -> None:
        """Take the caches and rights of user (CPL 3) or supervisor accesses."""
        self.user = int(user)
        self.read_tlb, self.write_tlb = self._read_tlbs[self.user], self._write_tlbs[self.user]

    def flush(self) -> None:
        """Forget every translation."""
        self.epoch += 1
        for tlb in (*self._read_tlbs, *self._write_tlbs):
            tlb.clear()

    def flush_writes(self) -> None:
        """Forget which pages may be written without thought."""
        self.write_epoch += 1
        for tlb in self._write_tlbs:
            tlb.clear()

    def physical(self, linear: int, access: Access) -> int:
        """Guest physical address for `access`, uncached.

        Raises:
            GuestFault: #PF.
        """
        return self._walker.walk(linear, access)[0]

    def fetch_physical(self, linear: int) -> int:
        """Guest physical address of an instruction byte."""
        return self._walker.walk(linear, _FETCH[self.user])[0]

    def _kind(self, user: int | None) -> int:
        """Kind of access of a caller that asks for an implicit supervisor access with 0."""
        return self.user if user is None else user or _IMPLICIT

    def _check(self, linear: int, size: int, kind: int, write: bool) -> None:
        """What every access that misses the caches must pass first."""
        if (linear + CANONICAL_HALF) & NON_CANONICAL or (linear + size - 1 + CANONICAL_HALF) & NON_CANONICAL:
            raise general_protection()
        if self.alignment_check and kind == _USER and linear & size - 1:
            raise GuestFault(AC, 0)
        if self.watched_pages and {linear >> 12, linear + size - 1 >> 12} & self.watched_pages:
            self.on_watched(linear, size, write)

    def _translate_read(self, linear: int, kind: int) -> int:
        """Physical address for a read, filling the cache."""
        gpa, keep = self._walker.walk(linear, _READ[kind])
        offset = self._memory.page_offset(int(self._state.smm), gpa)
        if keep and offset >= 0 and linear >> 12 not in self.watched_pages:
            self._read_tlbs[kind & _USER][linear >> 12] = offset
        return gpa

    def _translate_write(self, linear: int, kind: int) -> int:
        """Physical address for a write, marking the page dirty and filling the cache."""
        gpa, keep = self._walker.walk(linear, _WRITE[kind])
        offset = self._memory.writable_page_offset(int(self._state.smm), gpa)
        if offset >= 0:
            # The page is written right after this; the log and the code caches hear of it here, once.
            self._memory.mark_dirty(offset >> 12)
            if keep and linear >> 12 not in self.watched_pages and not self._memory.code_pages[offset >> 12]:
                self._write_tlbs[kind & _USER][linear >> 12] = offset
        return gpa

    def read_slow(self, linear: int, size: int, user: int | None = None) -> int:
        """Read `size` bytes at any alignment; `user` 0 is an implicit supervisor access (descriptor tables, TSS).

        Raises:
            GuestFault: #GP(0) for a non-canonical address, #AC, #PF.
        """
        kind = self._kind(user)
        self._check(linear, size, kind, False)
        return self._read_translated(linear, size, kind, self._translate_read)

    def modify_slow(self, linear: int, size: int) -> int:
        """As `read_slow`, with the rights of a write."""
        self._check(linear, size, self.user, True)
        return self._read_translated(linear, size, self.user, self._translate_write)

    def _read_translated(self, linear: int, size: int, kind: int, translate: Callable[[int, int], int]) -> int:
        as_id = int(self._state.smm)
        head = 0x1000 - (linear & 0xFFF)
        gpa = translate(linear, kind)
        if size <= head:
            return self._memory.read(as_id, gpa, size)
        rest = translate(self._following(linear, head), kind)
        return self._memory.read(as_id, gpa, head) | self._memory.read(as_id, rest, size - head) << 8 * head

    def _following(self, linear: int, head: int) -> int:
        """Start of the next page: a 32-bit linear address wraps, a 64-bit one that would is not canonical."""
        return linear + head if linear > 0xFFFFFFFF or self._state.efer & 0x400 else linear + head & 0xFFFFFFFF

    def write_slow(self, linear: int, size: int, value: int, user: int | None = None) -> None:
        """Write `size` bytes at any alignment: nothing is written unless all of it can be.

        Raises:
            GuestFault: #GP(0) for a non-canonical address, #AC, #PF.
        """
        kind = self._kind(user)
        self._check(linear, size, kind, True)
        as_id = int(self._state.smm)
        head = 0x1000 - (linear & 0xFFF)
        gpa = self._translate_write(linear, kind)
        if size <= head:
            self._memory.write(as_id, gpa, size, value)
            return
        rest = self._translate_write(self._following(linear, head), kind)
        self._memory.write(as_id, gpa, head, value & (1 << 8 * head) - 1)
        self._memory.write(as_id, rest, size - head, value >> 8 * head)

    def probe_write(self, linear: int, size: int, user: int | None = None) -> None:
        """Fault now if a write of `size` bytes, at most a page, would."""
        kind = self._kind(user)
        self._check(linear, size, kind, True)
        self._translate_write(linear, kind)
        if (linear & 0xFFF) + size > 0x1000:
            self._translate_write(self._following(linear, 0x1000 - (linear & 0xFFF)), kind)
