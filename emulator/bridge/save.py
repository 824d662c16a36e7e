"""From the machine to models and raw structs."""

from typing import Any, TypeVar

from schemas.errors import Problem, SchemaError
from schemas.layout import CStruct
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineSections, MachineState, VcpuState, VmState
from schemas.uapi.clock import KvmClockData
from schemas.uapi.cpuid2 import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.debugregs import KvmDebugregs
from schemas.uapi.irqchip import ChipId, KvmIrqchip, KvmIrqchipChip, KvmPicState
from schemas.uapi.lapic import KvmLapicState
from schemas.uapi.machine import MigsvcMachine
from schemas.uapi.mp_state import KvmMpState
from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs
from schemas.uapi.pit2 import KvmPitChannelState, KvmPitState2
from schemas.uapi.regs import KvmRegs
from schemas.uapi.serial import MigsvcSerial
from schemas.uapi.smi_port import MigsvcSmiPort
from schemas.uapi.sregs import KvmDtable, KvmSegment, KvmSregs
from schemas.uapi.sregs2 import KVM_SREGS2_FLAGS_PDPTRS_VALID, KvmSregs2
from schemas.uapi.tsc_khz import MigsvcTscKhz
from schemas.uapi.vcpu_events import SHADOW_MASKS, InterruptShadow, KvmVcpuEvents, VcpuEventFlags
from schemas.uapi.xcrs import KVM_MAX_XCRS, KvmXcr, KvmXcrs
from schemas.uapi.xsave import KvmXsave

from ..config import AS_SMM
from ..cpu_model import CpuModel
from ..machine import Machine
from ..memory import GuestMemory
from ..registers import CR0_PG, CR4_PAE, EFER_LMA, GPR_NAMES, MASK32, MASK64, MSR_SMBASE, MSR_TSC, MSR_TSC_DEADLINE
from ..state import DescriptorTable, Segment
from .tables import CONTROL_FIELDS, DEVICE_MSRS, EVENT_FIELDS, INT_SHADOW_OFFSET, SEGMENT_FIELDS, SEGMENTS

T = TypeVar("T", bound=CStruct)

_EVENT_FLAGS = (
    VcpuEventFlags.KVM_VCPUEVENT_VALID_NMI_PENDING
    | VcpuEventFlags.KVM_VCPUEVENT_VALID_SHADOW
    | VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM
    | VcpuEventFlags.KVM_VCPUEVENT_VALID_PAYLOAD
    | VcpuEventFlags.KVM_VCPUEVENT_VALID_TRIPLE_FAULT
)
_NO_EVENTS = KvmVcpuEvents.zero()


def _make(model: type[T], fields: dict[str, Any]) -> T:
    """Build a struct without validation: `pack` bounds every value once more, and saving is in the downtime."""
    made: T = model.model_construct(**fields)  # type: ignore[assignment]  # the plugin types it as CStruct
    return made


def memory_map(memory: GuestMemory) -> MemoryMap:
    """The machine's slots as the schemas have them."""
    return MemoryMap(slots=tuple(MemorySlot(**slot._asdict()) for slot in memory.slots), ram_bytes=memory.ram_bytes)


def save_state(machine: Machine) -> MachineState:
    """State of the machine at the present boundary, without the contents of memory.

    Raises:
        SchemaError: the machine has devices that no section holds.
    """
    require_sections(machine)
    return MachineState.model_construct(
        memory=memory_map(machine.memory), vm=_save_vm(machine), vcpus=[_save_vcpu(machine)]
    )


def require_sections(machine: Machine) -> None:
    """Refuse a machine whose state would be saved in part.

    Raises:
        SchemaError: the machine has devices that no section holds.
    """
    if machine.pc is not None:
        text = "the devices of a PC board have no sections in this schema version: it cannot be saved or restored"
        raise SchemaError([Problem(where="vm", message=text, hint="use the minimal board")])


def save_sections(machine: Machine) -> MachineSections:
    """The same as raw structs."""
    return save_state(machine).to_sections()


def _save_vcpu(machine: Machine) -> VcpuState:
    state, model = machine.cpu.state, machine.cpu.model
    pae = bool(state.cr0 & CR0_PG and state.cr4 & CR4_PAE and not state.efer & EFER_LMA)
    common = _save_special_registers(machine)
    return VcpuState.model_construct(
        index=0,
        regs=_make(KvmRegs, {**dict(zip(GPR_NAMES, state.gpr, strict=True)), "rip": state.rip, "rflags": state.rflags}),
        sregs=_make(KvmSregs, {**common, "interrupt_bitmap": (0,) * 4}),
        sregs2=_make(KvmSregs2, {**common, "flags": KVM_SREGS2_FLAGS_PDPTRS_VALID, "pdptrs": tuple(state.pdptrs)})
        if pae
        else None,
        events=_save_events(machine),
        mp_state=KvmMpState.model_construct(mp_state=state.mp_state),
        debugregs=KvmDebugregs.model_construct(db=tuple(state.dr), dr6=state.dr6, dr7=state.dr7, flags=0),
        xcrs=_save_xcrs(state.xcr0),
        xsave=KvmXsave.model_construct(region=state.xsave),
        msrs=_save_msrs(machine),
        lapic=KvmLapicState.model_construct(regs=machine.lapic.snapshot()),
        cpuid2=cpuid_of(model),
        tsc_khz=MigsvcTscKhz.model_construct(tsc_khz=machine.config.tsc_khz),
    )


def _save_special_registers(machine: Machine) -> dict[str, Any]:
    state = machine.cpu.state
    fields: dict[str, Any] = {name: _save_segment(state.segs[number]) for name, number in SEGMENTS}
    fields.update(tr=_save_segment(state.tr), ldt=_save_segment(state.ldtr))
    fields.update(gdt=_save_table(state.gdtr), idt=_save_table(state.idtr))
    fields.update({name: getattr(state, name) for name in CONTROL_FIELDS}, cr8=machine.lapic.tpr >> 4)
    return fields


def _save_segment(segment: Segment) -> KvmSegment:
    return _make(KvmSegment, {name: getattr(segment, name) for name in SEGMENT_FIELDS})


def _save_table(table: DescriptorTable) -> KvmDtable:
    return KvmDtable.model_construct(base=table.base, limit=table.limit)


def _save_events(machine: Machine) -> KvmVcpuEvents:
    state = machine.cpu.state
    groups: dict[str, dict[str, int]] = {}
    fields: dict[str, Any] = {}
    for group, name, attribute in EVENT_FIELDS:
        value = int(getattr(state, attribute))
        if group:
            groups.setdefault(group, {})[name] = value
        else:
            fields[name] = value
    aside = shadow_in_smram(machine) if holds_smm_shadow(machine) else 0
    shadow = InterruptShadow.model_construct(current=state.shadow, smm=aside)
    flags = _EVENT_FLAGS
    if holds_smm_shadow(machine):
        flags |= VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW
    if state.sipi_vector:
        flags |= VcpuEventFlags.KVM_VCPUEVENT_VALID_SIPI_VECTOR
    zero = _NO_EVENTS
    parts = {name: getattr(zero, name).model_copy(update=values) for name, values in groups.items()}
    parts["interrupt"] = parts["interrupt"].model_copy(update={"shadow": shadow})
    return zero.model_copy(update={**parts, **fields, "flags": int(flags)})


def holds_smm_shadow(machine: Machine) -> bool:
    """Whether an SMI has put a shadow aside, be it none: in SMM, on a machine that keeps it."""
    return machine.cpu.state.smm and machine.config.keeps_smm_shadow


def shadow_in_smram(machine: Machine) -> int:
    """The shadow put aside, as the save area holds it now: what RSM will bring back, a handler's edit included."""
    return machine.memory.read(AS_SMM, shadow_address(machine), 1) & SHADOW_MASKS


def shadow_address(machine: Machine) -> int:
    """Where the save area has the shadow, in address space 1."""
    return machine.cpu.state.smbase + INT_SHADOW_OFFSET[machine.cpu.model.long_mode] & MASK32


def _save_xcrs(xcr0: int) -> KvmXcrs:
    held = KvmXcr.model_construct(xcr=0, value=xcr0)
    empty = KvmXcr.model_construct(xcr=0, value=0)
    return KvmXcrs.model_construct(nr_xcrs=1, flags=0, xcrs=(held, *(empty,) * (KVM_MAX_XCRS - 1)))


def saved_msrs(model: CpuModel) -> tuple[int, ...]:
    """Indices of the MSRs that a saved state holds, in their order."""
    return tuple(index for index in model.msr_indices if index not in DEVICE_MSRS)


def _save_msrs(machine: Machine) -> KvmMsrs:
    state = machine.cpu.state
    values = dict(state.msrs)
    values[MSR_SMBASE] = state.smbase
    values[MSR_TSC_DEADLINE] = machine.lapic.tsc_deadline
    values[MSR_TSC] = (machine.tsc() + state.tsc_offset) & MASK64
    indices = saved_msrs(machine.cpu.model)
    entries = tuple(KvmMsrEntry.model_construct(index=index, data=values.get(index, 0)) for index in indices)
    return KvmMsrs.model_construct(nmsrs=len(entries), entries=entries)


def cpuid_of(model: CpuModel) -> KvmCpuid2:
    """A CPU model's CPUID leaves."""
    entries = tuple(
        KvmCpuidEntry2.model_construct(
            function=leaf.function,
            index=leaf.index or 0,
            flags=0 if leaf.index is None else KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax=leaf.eax,
            ebx=leaf.ebx,
            ecx=leaf.ecx,
            edx=leaf.edx,
        )
        for leaf in model.cpuid
    )
    return KvmCpuid2.model_construct(nent=len(entries), entries=entries)


def _save_vm(machine: Machine) -> VmState:
    master, slave = machine.pic.snapshot()
    pit = machine.pit.snapshot()
    code = machine.exit_code
    return VmState.model_construct(
        clock=KvmClockData.model_construct(
            clock=(machine.now_ns + machine.clock_offset_ns) & MASK64, flags=0, realtime=0, host_tsc=0
        ),
        pit2=KvmPitState2.model_construct(
            channels=tuple(_make(KvmPitChannelState, channel) for channel in pit["channels"]),
            flags=pit["flags"],
        ),
        pic_master=_save_pic(ChipId.KVM_IRQCHIP_PIC_MASTER, master),
        pic_slave=_save_pic(ChipId.KVM_IRQCHIP_PIC_SLAVE, slave),
        serial=_make(MigsvcSerial, machine.serial.snapshot()),
        smi_port=_make(MigsvcSmiPort, machine.smi_port.snapshot()),
        machine=MigsvcMachine.model_construct(
            now_ns=machine.now_ns,
            retired_instructions=machine.retired,
            ns_per_instruction=machine.config.ns_per_instruction,
            debug_exit_done=int(code is not None),
            debug_exit_code=code or 0,
        ),
    )


def _save_pic(chip_id: ChipId, fields: dict[str, int]) -> KvmIrqchip:
    chip = KvmIrqchipChip.model_construct(pic=_make(KvmPicState, fields))
    return KvmIrqchip.model_construct(chip_id=int(chip_id), chip=chip)
