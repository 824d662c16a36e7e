"""From models and raw structs to the machine. Everything is checked first, then applied."""

from collections.abc import Iterable, Mapping, Sequence

from schemas.errors import Problem, SchemaError
from schemas.invariants import require_legal
from schemas.shadow import smm_shadow
from schemas.state import MachineState, VcpuState, VmState
from schemas.uapi import VCPU_SECTIONS, VM_SECTIONS
from schemas.uapi.cpuid2 import KvmCpuid2
from schemas.uapi.sregs import KvmSegment
from schemas.uapi.sregs2 import KVM_SREGS2_FLAGS_PDPTRS_VALID
from schemas.uapi.vcpu_events import SHADOW_MASKS, VcpuEventFlags

from ..config import AS_SMM
from ..machine import Machine
from ..registers import (
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    EFER_LMA,
    FLAG_VM,
    GPR_NAMES,
    MASK64,
    MP_HALTED,
    MP_INIT_RECEIVED,
    MP_RUNNABLE,
    MP_UNINITIALIZED,
    MSR_SMBASE,
    MSR_TSC,
    MSR_TSC_DEADLINE,
    SS,
)
from ..state import XSAVE_BYTES, CpuState, Segment
from .save import cpuid_of, holds_smm_shadow, memory_map, require_sections, shadow_address, shadow_in_smram
from .tables import (
    CONTROL_FIELDS,
    DEVICE_MSRS,
    EVENT_FIELDS,
    HELD_VCPU_SECTIONS,
    HELD_VM_SECTIONS,
    SEGMENT_FIELDS,
    SEGMENTS,
)

_MP_STATES = (MP_RUNNABLE, MP_UNINITIALIZED, MP_INIT_RECEIVED, MP_HALTED)


def restore_state(machine: Machine, state: MachineState) -> None:
    """Put the machine into `state`; memory must hold its contents already.

    Everything is checked before anything is applied.

    Raises:
        InvariantError: the state is illegal by a rule; every finding is listed.
        SchemaError: this machine cannot hold the state; every reason is listed.
    """
    require_sections(machine)
    require_legal(state)
    problems = list(_obstacles(machine, state))
    if problems:
        raise SchemaError(problems)
    vm, vcpu = state.vm, state.vcpus[0]
    _load_vm(machine, vm)
    _load_registers(machine, vcpu)
    _load_events(machine, vcpu)
    machine.place_lapic(machine.cpu.state.apic_base)
    machine.lapic.load(vcpu.lapic.regs)
    machine.lapic.set_tsc_deadline(vcpu.msrs.values_by_index().get(MSR_TSC_DEADLINE, 0))
    machine.cpu.state_changed()


def load_sections(machine: Machine, vm: Mapping[str, bytes], vcpus: Sequence[Mapping[str, bytes]]) -> None:
    """Put the machine into the state that the raw structs hold.

    Raises:
        SchemaError: as `restore_state`, or the structs do not decode.
    """
    restore_state(machine, MachineState.from_sections(memory_map(machine.memory), vm, vcpus))


def _obstacles(machine: Machine, state: MachineState) -> Iterable[Problem]:
    """Why this machine cannot hold a legal state."""
    if state.memory != memory_map(machine.memory):
        yield Problem(where="memory", message="not the memory map of this machine", hint="create it with the same map")
    if len(state.vcpus) != 1:
        yield Problem(where="vcpus", message=f"{len(state.vcpus)} vCPUs, this machine has 1")
        return
    yield from _not_held(state.vm, VM_SECTIONS, HELD_VM_SECTIONS, "vm.")
    for name in HELD_VM_SECTIONS:
        if getattr(state.vm, name) is None and name != "clock":
            yield Problem(where=f"vm.{name}", message="missing, and the emulator cannot do without")
    if state.vm.machine is not None and state.vm.machine.ns_per_instruction != machine.config.ns_per_instruction:
        have, want = state.vm.machine.ns_per_instruction, machine.config.ns_per_instruction
        yield Problem(where="vm.machine.ns_per_instruction", message=f"{have}, this machine runs at {want}")
    yield from _vcpu_obstacles(machine, state.vcpus[0])


def _not_held(state: VmState | VcpuState, known: Iterable[str], held: Iterable[str], where: str) -> Iterable[Problem]:
    """Say which sections the state has and this machine has no place for: dropping one would lose state in silence."""
    for name in known:
        if name not in held and getattr(state, name) is not None:
            hint = "choose a host whose profile lists the section"
            yield Problem(where=where + name, message="the emulator cannot hold this section", hint=hint)


def _vcpu_obstacles(machine: Machine, vcpu: VcpuState) -> Iterable[Problem]:
    yield from _not_held(vcpu, VCPU_SECTIONS, HELD_VCPU_SECTIONS, "vcpus.0.")
    model = machine.cpu.model
    if vcpu.mp_state.mp_state not in _MP_STATES:
        yield Problem(where="vcpus.0.mp_state", message=f"{vcpu.mp_state.mp_state} is not emulated")
    if len(vcpu.xsave.region) + len(vcpu.xsave.extra) != XSAVE_BYTES:
        yield Problem(where="vcpus.0.xsave", message=f"longer than {XSAVE_BYTES} bytes")
    if smm_shadow(vcpu.events) and not machine.config.keeps_smm_shadow:
        yield Problem(
            where="vcpus.0.events.interrupt.shadow",
            message="a shadow put aside by an SMI, and this machine does not keep it",
            hint="restore it after RSM, or on another host",
        )
    if vcpu.tsc_khz.tsc_khz != machine.config.tsc_khz:
        text = f"{vcpu.tsc_khz.tsc_khz}, this machine's TSC runs at {machine.config.tsc_khz} kHz"
        yield Problem(where="vcpus.0.tsc_khz", message=text)
    if _leaves(vcpu.cpuid2) != _leaves(cpuid_of(model)):
        text = f"not the CPUID of the CPU model {model.name!r}"
        yield Problem(where="vcpus.0.cpuid2", message=text, hint="create the machine with the state's CPU model")
    for entry in vcpu.msrs.entries:
        if entry.index not in model.msr_indices:
            yield Problem(where=f"vcpus.0.msrs.{entry.index:#x}", message=f"CPU model {model.name!r} has no such MSR")


def _leaves(cpuid: KvmCpuid2) -> set[tuple[int, ...]]:
    return {(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx) for e in cpuid.entries}


def _load_vm(machine: Machine, vm: VmState) -> None:
    """Time first: the devices compute their deadlines from it."""
    if vm.machine is not None:
        machine.set_clock(vm.machine.now_ns, vm.machine.retired_instructions)
        machine.debug_exit.load(vm.machine.debug_exit_code if vm.machine.debug_exit_done else None)
        machine.cpu.exit_request = machine.exit_code is not None
    machine.clock_offset_ns = 0 if vm.clock is None else vm.clock.clock - machine.now_ns
    if vm.pic_master is not None and vm.pic_slave is not None:
        machine.pic.load(vm.pic_master.chip.pic.model_dump(), vm.pic_slave.chip.pic.model_dump())
    if vm.pit2 is not None:
        machine.pit.load({"channels": [dict(channel) for channel in vm.pit2.channels], "flags": vm.pit2.flags})
    if vm.serial is not None:
        machine.serial.load({name: value for name, value in vm.serial if name != "pad"})
    if vm.smi_port is not None:
        machine.smi_port.load({name: value for name, value in vm.smi_port if name != "pad"})


def _load_registers(machine: Machine, vcpu: VcpuState) -> None:
    state = machine.cpu.state
    state.gpr[:] = [getattr(vcpu.regs, name) for name in GPR_NAMES]
    state.rip, state.rflags = vcpu.regs.rip, vcpu.regs.rflags
    for name, number in SEGMENTS:
        _load_segment(state.segs[number], getattr(vcpu.sregs, name))
    _load_segment(state.tr, vcpu.sregs.tr)
    _load_segment(state.ldtr, vcpu.sregs.ldt)
    for table, held in ((state.gdtr, vcpu.sregs.gdt), (state.idtr, vcpu.sregs.idt)):
        table.base, table.limit = held.base, held.limit
    for name in CONTROL_FIELDS:
        setattr(state, name, getattr(vcpu.sregs, name))
    state.cpl = _privilege_level(state)
    state.pdptrs[:] = _pdptrs(machine, vcpu)
    state.dr[:] = vcpu.debugregs.db
    state.dr6, state.dr7 = vcpu.debugregs.dr6, vcpu.debugregs.dr7
    state.xcr0 = vcpu.xcrs.xcr0 if vcpu.xcrs.xcr0 is not None else 1
    state.xsave = vcpu.xsave.region
    state.mp_state = vcpu.mp_state.mp_state
    for index, value in vcpu.msrs.values_by_index().items():
        if index == MSR_TSC:
            state.tsc_offset = (value - machine.tsc()) & MASK64
        elif index == MSR_SMBASE:
            state.smbase = value
        elif index not in (*DEVICE_MSRS, MSR_TSC_DEADLINE):
            state.msrs[index] = value


def _load_segment(segment: Segment, held: KvmSegment) -> None:
    for name in SEGMENT_FIELDS:
        setattr(segment, name, getattr(held, name))
    segment.refresh()


def _privilege_level(state: CpuState) -> int:
    """CPL is SS.DPL; real mode has 0 and virtual-8086 mode 3. Source: SDM vol. 3C 25.4.1 (SS access rights)."""
    if not state.cr0 & CR0_PE:
        return 0
    return 3 if state.rflags & FLAG_VM else state.segs[SS].dpl


def _pdptrs(machine: Machine, vcpu: VcpuState) -> list[int]:
    """The four pointers: from sregs2 if it has them, else from memory as KVM_SET_SREGS reads them."""
    if vcpu.sregs2 is not None and vcpu.sregs2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID:
        return list(vcpu.sregs2.pdptrs)
    as_id = 1 if vcpu.events.smi.smm else 0
    table = vcpu.sregs.cr3 & 0xFFFFFFE0
    pae = vcpu.sregs.cr0 & CR0_PG and vcpu.sregs.cr4 & CR4_PAE and not vcpu.sregs.efer & EFER_LMA
    return [machine.memory.read(as_id, table + 8 * n, 8) for n in range(4)] if pae else [0] * 4


def _load_events(machine: Machine, vcpu: VcpuState) -> None:
    state, events = machine.cpu.state, vcpu.events.normalised()
    for group, name, attribute in EVENT_FIELDS:
        value = getattr(getattr(events, group) if group else events, name)
        kind = type(getattr(state, attribute))  # int, or bool where KVM has a flag
        setattr(state, attribute, kind(value))
    state.shadow = events.interrupt.shadow.current
    state.smm_shadow = 0
    if holds_smm_shadow(machine):
        if events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW):
            _put_shadow_aside(machine, events.interrupt.shadow.smm)
        state.smm_shadow = shadow_in_smram(machine)


def _put_shadow_aside(machine: Machine, shadow: int) -> None:
    """Make RSM bring back the shadow that the events carry.

    After a migration the save area holds it already; it does not where somebody has changed the events, or where
    another carrier was converted to this one.
    """
    held = shadow_in_smram(machine)
    if held != shadow:
        address = shadow_address(machine)
        byte = machine.memory.read(AS_SMM, address, 1)
        machine.memory.write(AS_SMM, address, 1, byte & ~SHADOW_MASKS | shadow)
