"""Entry into System Management Mode.

Source: Linux 6.12 arch/x86/kvm/smm.c enter_smm(); SDM vol. 3C 32.4.
"""

from typing import TYPE_CHECKING

from ..exceptions import TripleFault
from ..registers import CR0_EM, CR0_PE, CR0_PG, CR0_TS, CS, DR7_RESET, FLAG_FIXED
from .layout import AREA_BYTES, AREA_OFFSET, ENTRY_OFFSET, save_area, values

if TYPE_CHECKING:
    from ..cpu import Cpu


def enter_smm(cpu: "Cpu") -> None:
    """Save the state at SMBASE + 0xFE00 of the SMM address space and go to SMBASE + 0x8000.

    The interrupt shadow goes into the image and aside to `smm_shadow`, and is zero inside; a CPU that does not keep
    it drops it.

    Raises:
        TripleFault: there is no memory behind the save area; KVM declares the VM dead.
    """
    state, memory = cpu.state, cpu.memory
    area = save_area(cpu.model.long_mode)
    aside = state.shadow if cpu.keeps_smm_shadow else 0
    image = area.pack(values(state, area.revision) | {"int_shadow": aside})
    address = state.smbase + AREA_OFFSET & 0xFFFFFFFF
    last = address + AREA_BYTES - 1
    if min(memory.writable_page_offset(1, address), memory.writable_page_offset(1, last)) < 0:
        raise TripleFault(f"SMRAM save area at {address:#x} has no memory")
    state.smm = True
    memory.write_bytes(1, address, image)
    state.smm_inside_nmi = state.nmi_masked
    state.nmi_masked = True
    state.smm_shadow, state.shadow = aside, 0
    state.rflags = FLAG_FIXED
    state.rip = ENTRY_OFFSET
    state.cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG)
    state.cr4 = 0
    state.idtr.base = state.idtr.limit = 0
    state.dr7 = DR7_RESET
    _load_flat_segments(cpu)
    if cpu.model.long_mode:
        state.efer = 0
    state.cpl = 0
    cpu.breakpoints.refresh()
    cpu.flush_tlb()
    cpu.update_mode()


def _load_flat_segments(cpu: "Cpu") -> None:
    """CS at SMBASE, the others at zero, all with a limit of 4 GiB."""
    state = cpu.state
    for index, seg in enumerate(state.segs):
        seg.selector, seg.base = (state.smbase >> 4 & 0xFFFF, state.smbase) if index == CS else (0, 0)
        seg.limit, seg.type, seg.s, seg.dpl, seg.present = 0xFFFFFFFF, 3, 1, 0, 1
        seg.avl, seg.l, seg.db, seg.g, seg.unusable = 0, 0, 0, 1, 0
        seg.refresh()
