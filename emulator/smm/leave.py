"""RSM: leaving System Management Mode.

Source: Linux 6.12 arch/x86/kvm/smm.c emulator_leave_smm(), rsm_load_state_32(), rsm_load_state_64().
"""

from typing import TYPE_CHECKING

from .. import control_registers
from ..exceptions import GuestFault, TripleFault
from ..registers import (
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    DR6_RESET,
    DR6_VOLATILE,
    DR7_RESET,
    DR7_VOLATILE,
    EFER_LMA,
    FLAG_FIXED,
    FLAG_VM,
    FLAGS_DEFINED,
    GPR_NAMES,
    SEGMENT_NAMES,
    SS,
)
from ..registers import CS as CS_INDEX
from .layout import AREA_BYTES, AREA_OFFSET, load_segments, save_area

if TYPE_CHECKING:
    from ..cpu import Cpu

_SHADOW_BITS = 3


def leave_smm(cpu: "Cpu") -> None:
    """Load the image and go on where it says, with the interrupt shadow that it holds.

    The byte int_shadow in the image decides, as on a real kernel: a handler may edit it, and `smm_shadow` only mirrors
    it; a CPU that does not keep the shadow ignores the byte. NMIs are unmasked unless the SMI came while they were.

    Raises:
        TripleFault: the image cannot be read or holds what no processor can be in.
    """
    state = cpu.state
    area = save_area(cpu.model.long_mode)
    address = state.smbase + AREA_OFFSET & 0xFFFFFFFF
    if min(cpu.memory.page_offset(1, address), cpu.memory.page_offset(1, address + AREA_BYTES - 1)) < 0:
        raise TripleFault(f"SMRAM save area at {address:#x} has no memory")
    found = area.unpack(cpu.memory.read_bytes(1, address, AREA_BYTES))
    if not state.smm_inside_nmi:
        state.nmi_masked = False
    state.smm = state.smm_inside_nmi = False
    state.smm_shadow = 0
    cpu.flush_tlb()
    _to_safe_mode(cpu)
    try:
        _load(cpu, found)
    except GuestFault as fault:
        raise TripleFault(f"RSM cannot load its image: {fault}") from fault
    if state.rflags & FLAG_VM and (state.efer & EFER_LMA or not state.cr0 & CR0_PE):
        raise TripleFault("RSM: virtual-8086 mode outside protected mode")
    state.shadow = found["int_shadow"] & _SHADOW_BITS if cpu.keeps_smm_shadow else 0
    state.cpl = 0 if not state.cr0 & CR0_PE else 3 if state.rflags & FLAG_VM else state.segs[SS].dpl
    cpu.breakpoints.refresh()
    cpu.flush_tlb()
    cpu.update_mode()


def _to_safe_mode(cpu: "Cpu") -> None:
    """Real mode without PAE and EFER, from which control registers can be loaded in order."""
    state = cpu.state
    if state.cr0 & CR0_PE:
        state.cr0 &= ~(CR0_PG | CR0_PE)
    if cpu.model.long_mode:
        state.segs[CS_INDEX].l = 0
        state.cr4 &= ~CR4_PAE
        state.efer = 0


def _load(cpu: "Cpu", found: dict[str, int]) -> None:
    """Load the image in the kernel's order.

    Raises:
        TripleFault: DR6 or DR7 has high bits.
        GuestFault: a control register refuses its value.
    """
    state = cpu.state
    for number, name in enumerate(GPR_NAMES):
        if name in found:
            state.gpr[number] = found[name]
    state.rip = found["rip"]
    state.rflags = found["rflags"] & FLAGS_DEFINED | FLAG_FIXED
    if (found["dr6"] | found["dr7"]) >> 32:
        raise TripleFault("RSM: DR6 or DR7 has bits above 31")
    state.dr6 = found["dr6"] & DR6_VOLATILE | DR6_RESET
    state.dr7 = found["dr7"] & DR7_VOLATILE | DR7_RESET
    state.smbase = found["smbase"]
    for name, table in (("gdtr", state.gdtr), ("idtr", state.idtr)):
        table.base, table.limit = found[f"{name}.base"], found[f"{name}.limit"] & 0xFFFF
    load_segments(state, found, ("tr", "ldtr"))
    if "efer" in found:
        control_registers.write_efer(cpu, found["efer"] & ~EFER_LMA)
    else:
        load_segments(state, found, SEGMENT_NAMES)
    control_registers.write_cr3(cpu, found["cr3"])
    control_registers.write_cr4(cpu, found["cr4"])
    control_registers.write_cr0(cpu, found["cr0"])
    if "efer" in found:
        load_segments(state, found, SEGMENT_NAMES)
