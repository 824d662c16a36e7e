"""The state in which a vCPU begins, from its description."""

from .config import FlatStart, StartConfig
from .registers import CR0_ET, CR0_PE, CS, MASK32
from .state import CpuState, Segment

CODE_TYPE, DATA_TYPE = 11, 3
"""Accessed code that can be read, and accessed data that can be written. Source: SDM vol. 3A table 3-1."""


def begin(state: CpuState, start: StartConfig) -> None:
    """Put a vCPU that has just been reset where `start` says; `Cpu.state_changed` must follow."""
    state.rip = start.rip
    state.segs[CS].selector = start.cs_selector
    state.segs[CS].base = start.cs_base
    for register, value in start.registers:
        state.gpr[register] = value
    if start.flat is not None:
        _enter_flat(state, start.flat)


def _enter_flat(state: CpuState, flat: FlatStart) -> None:
    state.cr0 = CR0_PE | CR0_ET
    state.gdtr.base, state.gdtr.limit = flat.gdt_base, flat.gdt_limit
    for number, segment in enumerate(state.segs):
        code = number == CS
        segment.copy_from(_flat_segment(flat.code_selector if code else flat.data_selector, code))


def _flat_segment(selector: int, code: bool) -> Segment:
    segment = Segment(selector=selector, base=0, limit=MASK32, type_=CODE_TYPE if code else DATA_TYPE)
    segment.db = segment.g = 1
    return segment
