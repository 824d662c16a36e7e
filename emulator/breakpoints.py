"""DR7 breakpoints: on instructions, on data, and on I/O ports.

Source: SDM vol. 3B 18.2.
"""

from typing import TYPE_CHECKING

from .exceptions import DB, GuestFault
from .registers import CR4_DE, CS, DR6_BS, EFER_LMA, MASK32, MASK64
from .state import CpuState

if TYPE_CHECKING:
    from .translate import Mmu

EXECUTE, WRITE, PORT, READ_WRITE = range(4)
_LENGTHS = (1, 2, 8, 4)


class DebuggerStop(Exception):  # noqa: N818 - not a mistake of anybody
    """A debugger's breakpoint lies on the instruction at RIP; the state is that before it.

    What was due is delivered: a breakpoint on the first instruction of a handler is met inside the handler.
    """


class Breakpoints:
    """Armed breakpoints and the hits of the instruction at hand.

    Pages with data breakpoints stay out of the translation caches, so that every access to them is looked at.
    `debugger` holds linear addresses at which a run ends with DebuggerStop; the guest sees nothing of them. Call
    `refresh` after changing it.
    """

    def __init__(self, state: CpuState, mmu: "Mmu") -> None:
        self._state = state
        self._mmu = mmu
        self._hits = 0
        self._rows: list[tuple[int, int, int, int]] = []
        self.armed = False
        self.debugger: frozenset[int] = frozenset()
        self._code = False
        mmu.on_watched = self._data_access

    def refresh(self) -> None:
        """Derive from DR0 to DR3 and DR7."""
        dr7 = self._state.dr7
        self._rows = [
            (n, dr7 >> 16 + 4 * n & 3, self._state.dr[n] & ~(_LENGTHS[dr7 >> 18 + 4 * n & 3] - 1), length)
            for n in range(4)
            if dr7 >> 2 * n & 3
            for length in (_LENGTHS[dr7 >> 18 + 4 * n & 3],)
        ]
        self.armed = bool(self._rows or self.debugger)
        self._code = any(kind == EXECUTE for _, kind, _, _ in self._rows)
        self._mmu.watched_pages = frozenset(at >> 12 for _, kind, at, _ in self._rows if kind in (WRITE, READ_WRITE))
        self._mmu.flush()

    def begin(self, rip: int, suppressed: bool) -> None:
        """Before an instruction: forget hits, and fault if a breakpoint lies on it.

        Raises:
            GuestFault: #DB.
            DebuggerStop: the breakpoint is a debugger's.
        """
        self._hits = 0
        if not self._code and not self.debugger:
            return
        state = self._state
        flat = state.efer & EFER_LMA and state.segs[CS].l
        linear = rip & MASK64 if flat else state.segs[CS].base + rip & MASK32
        if linear in self.debugger:
            raise DebuggerStop
        if not self._code or suppressed:
            return
        hits = sum(1 << n for n, kind, at, _ in self._rows if kind == EXECUTE and at == linear)
        if hits:
            raise GuestFault(DB, None, hits)

    def _data_access(self, linear: int, size: int, write: bool) -> None:
        """An access to a page with breakpoints."""
        for n, kind, at, length in self._rows:
            if (kind == READ_WRITE or (kind == WRITE and write)) and linear < at + length and at < linear + size:
                self._hits |= 1 << n

    def port_access(self, port: int, size: int) -> None:
        """IN, OUT, INS or OUTS; ports break only with CR4.DE."""
        if not self.armed or not self._state.cr4 & CR4_DE:
            return
        for n, kind, at, length in self._rows:
            if kind == PORT and port < at + length and at < port + size:
                self._hits |= 1 << n

    def take(self, traced: bool) -> int:
        """Payload of the #DB that is due after the instruction, 0 for none."""
        return self._hits | (DR6_BS if traced else 0)
