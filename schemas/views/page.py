"""The page of a state: what a kernel developer likes to read about a vCPU or a machine.

    for section in page(state): section.title, section.rows

By default it has the core registers and what differs from a processor after reset; with `everything`, all there is.
Nothing is printed here: `schemas.views.text` makes lines of it, and every section has a JSON form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..state import MachineState, VcpuState
from .mode import has_long_mode, mode_line
from .page_cpu import control_lines, debug_lines, general_lines, segment_lines
from .page_events import event_lines
from .page_lapic import lapic_lines
from .page_smram import smram_lines
from .page_system import cpuid_lines, msr_lines, nested_lines, time_lines
from .page_vm import memory_lines, vm_lines
from .page_xsave import vector_lines, xsave_lines
from .rows import PageRow, PageSection, section

__all__ = ["PageRow", "PageSection", "page"]

GENERAL_COLUMNS = 4
VECTOR_COLUMNS = 2


SaveAreas = Mapping[int, bytes]
"""Index of a vCPU -> the 512 bytes at SMBASE + 0xFE00 of address space 1, for those that are in SMM."""


def page(
    state: MachineState | VcpuState, *, everything: bool = False, save_areas: SaveAreas = MappingProxyType({})
) -> list[PageSection]:
    """Return the page of a machine or of a vCPU, section by section.

    The first section of a vCPU has its mode in the title: "vCPU 0: 64-bit long mode, CPL 0, 4-level paging, …".
    A state that no processor could have has a page too: what is odd about it is marked as unusual. `save_areas` is for
    those who have the guest's memory: what RSM will load.

    Raises:
        LayoutError: a save area has not 512 bytes.
    """
    if isinstance(state, VcpuState):
        return list(_vcpu(state, everything, save_areas))
    return [
        *section("memory", memory_lines(state.memory), everything=everything),
        *section("devices", vm_lines(state.vm), everything=everything),
        *(part for vcpu in state.vcpus for part in _vcpu(vcpu, everything, save_areas)),
    ]


def _vcpu(vcpu: VcpuState, everything: bool, save_areas: SaveAreas) -> Iterator[PageSection]:
    title = f"vCPU {vcpu.index}: {mode_line(vcpu)}"
    yield from section(title, general_lines(vcpu), everything=everything, columns=GENERAL_COLUMNS)
    yield from section("control", control_lines(vcpu), everything=everything)
    yield from section("segments: selector, base, limit", segment_lines(vcpu), everything=everything)
    yield from section("events", event_lines(vcpu), everything=everything)
    if vcpu.index in save_areas:
        lines = smram_lines(save_areas[vcpu.index], long_mode=has_long_mode(vcpu))
        yield from section("SMRAM save area: what RSM loads", lines, everything=everything)
    yield from section("debug registers", debug_lines(vcpu), everything=everything)
    yield from section("local APIC", lapic_lines(vcpu), everything=everything)
    yield from section("x87, SSE and extended state", xsave_lines(vcpu), everything=everything)
    yield from section("x87 and XMM registers", vector_lines(vcpu), everything=everything, columns=VECTOR_COLUMNS)
    yield from section("time", time_lines(vcpu), everything=everything)
    yield from section("MSRs", msr_lines(vcpu), everything=everything)
    if vcpu.nested_state is not None:
        yield from section("nested virtualization", nested_lines(vcpu.nested_state), everything=everything)
    yield from section("CPUID", cpuid_lines(vcpu.cpuid2), everything=everything)
