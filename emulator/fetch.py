"""Instruction fetch: decoded instructions by physical page, and the running program's view of them by RIP."""

from typing import TYPE_CHECKING

from .config import PAGE_BYTES
from .decode import MAX_BYTES, Decoded, InvalidInstruction, TruncatedInstruction, decode
from .exceptions import GuestFault, general_protection
from .instruction import Action, compile_instruction, find_block, load_families, raise_invalid
from .legacy import Decoder
from .registers import CS, MASK16, MASK32, MASK64
from .translate import canonical

if TYPE_CHECKING:
    from .cpu import Cpu

Entry = tuple[Action, int]
"""What a step needs: the function to call, and the RIP behind the instruction."""

MAX_VIEWS = 64
"""Programs switch between few code segments; beyond this many the views are rebuilt from the decoded pages."""

ContextKey = tuple[int, int, int, bool]


class Fetcher:
    """Finds the entry for a RIP.

    Decoded pages are keyed by backing page and hold functions by (mode, offset in the page). A view maps RIP to
    entries for one code segment, mode and privilege; views are emptied whenever a translation or code may have
    changed. A page with decoded code is marked in `memory.code_pages`, and its first write comes to `forget_page`.
    """

    def __init__(self, cpu: "Cpu") -> None:
        load_families()
        self._cpu = cpu
        self._memory = cpu.memory
        self._pages: dict[int, dict[int, tuple[Action, int]]] = {}
        self._views: dict[ContextKey, dict[int, Entry]] = {}
        self._mode = 0
        quirks = cpu.model.quirks
        self._decoder = Decoder(quirks.opcode_map) if quirks.opcode_map else decode
        self._wraps = quirks.wraps
        self.epoch = 0

    def select(self, mode: int, user: bool) -> dict[int, Entry]:
        """The view for the present code segment. `mode` is everything else that compiled code depends on."""
        cs = self._cpu.state.segs[CS]
        self._mode = mode
        key = (mode, cs.base, cs.limit, user)
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            view = self._views[key] = {}
        return view

    def forget_addresses(self) -> None:
        """Translations changed."""
        self.epoch += 1
        for view in self._views.values():
            view.clear()

    def forget_page(self, page: int) -> None:
        """The bytes of a backing page change."""
        self._pages.pop(page, None)
        self._memory.code_pages[page] = 0
        self.forget_addresses()

    def forget_all(self) -> None:
        """Any memory may have changed."""
        self._pages.clear()
        self._memory.code_pages[:] = bytes(len(self._memory.code_pages))
        self.forget_addresses()

    def fetch(self, rip: int) -> Entry:
        """The entry at `rip`.

        Raises:
            GuestFault: #GP for the segment limit, a non-canonical address or more than 15 bytes; #PF.
            UnsupportedInstruction: the instruction is not built.
        """
        cpu = self._cpu
        linear, room = self._linear(rip)
        gpa = cpu.mmu.fetch_physical(linear)
        offset = self._memory.page_offset(int(cpu.state.smm), gpa)
        within = linear & PAGE_BYTES - 1
        key = self._mode << 12 | within
        if offset >= 0:
            known = self._pages.get(offset >> 12, {}).get(key)
            if known is not None and known[1] <= room:
                return self._enter(rip, known)
        action, length, crosses = self._decode(linear, gpa, room)
        if offset < 0 or (crosses is not None and crosses < 0):
            return action, self._behind(rip, length)
        self._watch(offset >> 12)
        if crosses is None:
            self._pages.setdefault(offset >> 12, {})[key] = action, length
        else:
            self._watch(crosses >> 12)
        return self._enter(rip, (action, length))

    def learn(self, rip: int) -> Decoded | None:
        """The instruction at `rip` if its entry may be kept until this view is emptied, else None (as for a fault).

        It is None on a model with quirks, too, which the fast tier does not know.

        Raises:
            UnsupportedInstruction: the instruction is not built.
        """
        cpu = self._cpu
        if self._decoder is not decode:
            return None
        try:
            if rip not in cpu.code:
                self.fetch(rip)
            if rip not in cpu.code:
                return None
            linear, room = self._linear(rip)
            code = b""
            while len(code) < room:
                at = linear + len(code) & cpu.linear_mask
                part = min(room - len(code), PAGE_BYTES - (at & PAGE_BYTES - 1))
                code += self._memory.read_bytes(int(cpu.state.smm), cpu.mmu.fetch_physical(at), part)
                try:
                    insn = decode(code, cpu.bits)
                except TruncatedInstruction:
                    continue
                return insn if insn.features <= cpu.model.features and find_block(insn) else None
        except (GuestFault, InvalidInstruction):
            return None
        return None

    def _linear(self, rip: int) -> tuple[int, int]:
        """Linear address of RIP and how many bytes may be fetched there."""
        cpu = self._cpu
        if cpu.bits == 64:
            if not canonical(rip):
                raise general_protection()
            return rip, MAX_BYTES
        cs = cpu.state.segs[CS]
        if rip > cs.limit:
            raise general_protection()
        return cs.base + rip & MASK32, min(MAX_BYTES, cs.limit - rip + 1)

    def _behind(self, rip: int, length: int) -> int:
        """RIP of the next instruction. A 16-bit IP is not wrapped: it runs into the segment limit, if there is one."""
        if self._wraps:
            return rip + length & MASK16
        return rip + length & (MASK64 if self._cpu.bits == 64 else MASK32)

    def _enter(self, rip: int, known: tuple[Action, int]) -> Entry:
        """Note an entry in the present view."""
        entry = known[0], self._behind(rip, known[1])
        self._cpu.code[rip] = entry
        return entry

    def _watch(self, page: int) -> None:
        """Mark a page as holding decoded code, which ends cached writes to it."""
        if not self._memory.code_pages[page]:
            self._memory.code_pages[page] = 1
            self._cpu.mmu.flush_writes()

    def _decode(self, linear: int, gpa: int, room: int) -> tuple[Action, int, int | None]:
        """Decode and compile: the function, its length, and the second page's backing offset if it crosses."""
        cpu, memory = self._cpu, self._memory
        as_id = int(cpu.state.smm)
        first = min(room, PAGE_BYTES - (linear & PAGE_BYTES - 1))
        code = memory.read_bytes(as_id, gpa, first)
        crosses: int | None = None
        try:
            try:
                insn = self._decoder(code, cpu.bits)
            except TruncatedInstruction:
                if room < MAX_BYTES and self._wraps:
                    return self._decode_wrapped(linear)
                if first == room:
                    raise
                beyond = cpu.mmu.fetch_physical(linear + first & cpu.linear_mask)
                crosses = memory.page_offset(as_id, beyond)
                insn = self._decoder(code + memory.read_bytes(as_id, beyond, room - first), cpu.bits)
        except TruncatedInstruction:
            raise general_protection() from None
        except InvalidInstruction:
            return raise_invalid, 1, crosses
        return compile_instruction(cpu, insn, linear), insn.length, crosses

    def _decode_wrapped(self, linear: int) -> tuple[Action, int, int | None]:
        """The same for an instruction that goes on at the start of its segment; it is not kept."""
        cpu = self._cpu
        base = cpu.state.segs[CS].base
        places = [base + (linear - base + n & MASK16) for n in range(MAX_BYTES)]
        code = b"".join(self._memory.read_bytes(0, cpu.mmu.fetch_physical(at), 1) for at in places)
        insn = self._decoder(code, cpu.bits)
        return compile_instruction(cpu, insn, linear), insn.length, -1
