"""The fast tier beside one vCPU: it carries state in and out, fills the tables, and decides when it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..decode import Decoded
from ..registers import CS, MASK16, MASK64
from . import record
from .compiled import Run
from .encode import encode

if TYPE_CHECKING:
    from ..cpu import Cpu

PAYS_FROM_STEPS = 48
"""Fewer steps than this between two hand-overs cost more here than in the reference tier."""
COLD_STEPS, MOST_COLD_STEPS = 64, 4096
"""So many steps the reference tier does after an entry that did not pay; twice as many after the next such one."""
PAYS_TO_LEARN_FROM_STEPS = 4096
"""Code that is forgotten before it ran so often was not worth learning."""
_PAGE = 4096
_NOTHING = np.zeros((), record.OP)


class _Tlb:
    """Translations of one privilege level: page -> offset in RAM; a subset of what the reference tier's caches hold."""

    def __init__(self) -> None:
        self.read_tags = np.full(record.TLB_ENTRIES, record.EMPTY, np.uint64)
        self.read_offsets = np.zeros(record.TLB_ENTRIES, np.int64)
        self.write_tags = np.full(record.TLB_ENTRIES, record.EMPTY, np.uint64)
        self.write_offsets = np.zeros(record.TLB_ENTRIES, np.int64)

    def clear(self) -> None:
        self.read_tags.fill(record.EMPTY)
        self.write_tags.fill(record.EMPTY)


class _View:
    """Where the decoded instructions of one code segment, mode and privilege are."""

    def __init__(self, code: dict[int, Any]) -> None:
        self.code = code
        self.tags = np.full(record.PAGE_TABLE_ENTRIES, record.EMPTY, np.uint64)
        self.bases = np.zeros(record.PAGE_TABLE_ENTRIES, np.int64)
        self.pages: dict[int, int] = {}


class FastTier:
    """Runs what the compiled interpreter can; the reference tier does the rest. `steps` is for `Cpu.many_steps`.

    Before every instruction the interpreter reads `Cpu.stop_word`, which another thread may set. With `eager` it is
    entered also where it does not pay, which tests of single instructions want. `retired` counts the steps done here.
    """

    def __init__(self, cpu: Cpu, run: Run, eager: bool = False) -> None:
        self._cpu = cpu
        self._eager = eager
        self._run = run.call
        self._bytes = np.frombuffer(cpu.memory.ram.cast("B"), np.uint8)  # a view of its own: `ram` can be released
        self._ram = np.uint64(self._bytes.ctypes.data) if run.by_address else self._bytes
        self._registers = np.zeros(record.REGISTERS, np.uint64)
        self._params = np.zeros(8, np.uint64)
        self._segment_bases = np.zeros(6, np.uint64)
        self._read_counts = np.zeros((6, 4), np.uint64)
        self._write_counts = np.zeros((6, 4), np.uint64)
        self._tlbs = (_Tlb(), _Tlb())
        self._stop = np.frombuffer(cpu.stop_word, np.int32)
        self._ops = np.zeros(record.MAX_OPS, record.OP)
        self._slots = np.zeros(record.MAX_CODE_PAGES * _PAGE, np.int32)
        self._views: dict[int, _View] = {}
        self._seen_code = self._seen_translations = self._seen_writes = -1
        self._used_ops = self._used_pages = 0
        self._cold, self._next_cold = 0, COLD_STEPS
        self._seen_segments: list[int] = []
        self._steps_since_learning = 0
        self.retired = 0
        self._forget_code()

    def _forget_code(self) -> None:
        self._views.clear()
        self._slots[: self._used_pages * _PAGE] = 0
        self._used_ops, self._used_pages = 1, 0

    def steps(self, count: int) -> None:
        """Do up to `count` steps, until one of them makes the next need care."""
        cpu = self._cpu
        end = cpu.retired + count
        if cpu.mmu.alignment_check:
            cpu.quick_steps(count)
            return
        while cpu.retired < end and not cpu.attention:
            left = end - cpu.retired
            if self._cold:
                some = min(self._cold, left)
                self._cold -= some
                cpu.quick_steps(some)
                continue
            done, reason = self._enter(left)
            if reason in (record.LIMIT, record.STOP):
                return
            if reason in (record.DECODE, record.PAGE):
                if done or not self._learn():
                    continue
                cpu.quick_steps(1)
                continue
            cpu.quick_steps(1)
            if reason != record.REFERENCE:
                self._fill(reason)
            if reason == record.REFERENCE:
                self._judge(done >= PAYS_FROM_STEPS)

    def _judge(self, paid: bool) -> None:
        """Leave the next steps to the reference tier if this was not worth while."""
        if paid or self._eager:
            self._next_cold = COLD_STEPS
        else:
            self._cold = self._next_cold
            self._next_cold = min(2 * self._next_cold, MOST_COLD_STEPS)

    def _enter(self, budget: int) -> tuple[int, int]:
        """Carry the state in, run, and carry it out: steps done and why it came back."""
        cpu, state, registers = self._cpu, self._cpu.state, self._registers
        self._revise()
        view = self._view()
        registers[:16] = state.gpr
        registers[record.RIP] = state.rip
        registers[record.RFLAGS] = state.rflags
        self._describe_segments()
        self._params[0] = budget
        tlb = self._tlbs[cpu.mmu.user]
        reason = self._run(
            registers, self._params, self._ops, self._slots, view.tags, view.bases, self._ram,
            tlb.read_tags, tlb.read_offsets, tlb.write_tags, tlb.write_offsets,
            self._segment_bases, self._read_counts, self._write_counts, self._stop,
        )  # fmt: skip
        values = registers.tolist()
        state.gpr[:] = values[:16]
        state.rip = values[record.RIP]
        state.rflags = values[record.RFLAGS]
        done: int = values[record.DONE]
        cpu.retired += done
        self.retired += done
        self._steps_since_learning += done
        return done, int(reason)

    def _revise(self) -> None:
        """Forget what the reference tier has forgotten."""
        cpu = self._cpu
        if cpu.fetcher.epoch != self._seen_code or self._used_ops + 1 >= record.MAX_OPS:
            self._seen_code = cpu.fetcher.epoch
            if self._used_pages:
                self._judge(self._steps_since_learning >= PAYS_TO_LEARN_FROM_STEPS)
            self._steps_since_learning = 0
            self._forget_code()
        if cpu.mmu.epoch != self._seen_translations:
            self._seen_translations = cpu.mmu.epoch
            for tlb in self._tlbs:
                tlb.clear()
        elif cpu.mmu.write_epoch != self._seen_writes:
            for tlb in self._tlbs:
                tlb.write_tags.fill(record.EMPTY)
        self._seen_writes = cpu.mmu.write_epoch

    def _view(self) -> _View:
        code = self._cpu.code
        view = self._views.get(id(code))
        if view is None:
            view = self._views[id(code)] = _View(code)
        return view

    def _describe_segments(self) -> None:
        """Tell the interpreter of mode and segments, if they are not as they were."""
        cpu, state = self._cpu, self._cpu.state
        facts = [cpu.bits, cpu.stack_mask, cpu.linear_mask, state.segs[CS].limit]
        for seg in state.segs:
            facts += (seg.selector, seg.base, seg.read_end, seg.write_end)
        if facts == self._seen_segments:
            return
        self._seen_segments = facts
        long_mode = cpu.bits == 64
        self._params[1:6] = (
            cpu.stack_mask, MASK64 & ~MASK16 if cpu.stack_mask == MASK16 else 0,
            cpu.linear_mask if long_mode else 0xFFFFFFFF,
            MASK64 if long_mode else state.segs[CS].limit, int(long_mode),
        )  # fmt: skip
        self._registers[record.SELECTORS : record.SELECTORS + 6] = [seg.selector for seg in state.segs]
        if long_mode:
            self._segment_bases[:] = (0, 0, 0, 0, state.segs[4].base, state.segs[5].base)
            self._read_counts.fill(MASK64)
            self._write_counts.fill(MASK64)
            return
        self._segment_bases[:] = [seg.base for seg in state.segs]
        self._read_counts[:] = [[max(seg.read_end - n, -1) + 1 for n in (0, 1, 3, 7)] for seg in state.segs]
        self._write_counts[:] = [[max(seg.write_end - n, -1) + 1 for n in (0, 1, 3, 7)] for seg in state.segs]

    def _fill(self, reason: int) -> None:
        """Take over the translation that the reference tier has just made, if it kept one."""
        mmu = self._cpu.mmu
        page = int(self._registers[record.MISSED]) >> 12
        self._revise()
        tlb = self._tlbs[mmu.user]
        place = page & record.TLB_ENTRIES - 1
        if (offset := mmu.read_tlb.get(page)) is not None:
            tlb.read_tags[place], tlb.read_offsets[place] = page, offset
        if reason == record.MISS_WRITE and (offset := mmu.write_tlb.get(page)) is not None:
            tlb.write_tags[place], tlb.write_offsets[place] = page, offset

    def _learn(self) -> bool:
        """Make a record of the instruction at RIP; True if the reference tier must do it this time."""
        cpu, state = self._cpu, self._cpu.state
        rip = state.rip
        insn = cpu.fetcher.learn(rip)
        self._revise()
        if insn is None and rip not in cpu.code:
            return True
        view = self._view()
        base = self._page_of(view, rip >> 12)
        if base is None:
            return False
        self._slots[base + (rip & _PAGE - 1)] = self._record(insn, rip, state.segs[CS].limit)
        return False

    def _page_of(self, view: _View, page: int) -> int | None:
        """Place in `slots` of a page of code, made if need be; None: the tables were full and are empty now."""
        base = view.pages.get(page)
        if base is None:
            if self._used_pages >= record.MAX_CODE_PAGES:
                self._forget_code()
                return None
            base = view.pages[page] = self._used_pages * _PAGE
            self._used_pages += 1
        place = page & record.PAGE_TABLE_ENTRIES - 1
        view.tags[place], view.bases[place] = page, base
        return base

    def _record(self, insn: Decoded | None, rip: int, cs_limit: int) -> int:
        number = self._used_ops
        self._used_ops += 1
        fields = None if insn is None else encode(insn, rip, cs_limit)
        self._ops[number] = _NOTHING
        row = self._ops[number]
        for name, value in (fields or {}).items():
            row[name] = value
        return number
