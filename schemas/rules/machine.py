"""Rules across vCPUs, devices and memory: INV-120 up. Their checks take a MachineState."""

from __future__ import annotations

from ..errors import Severity
from ..memory import AS_SMM
from ..state import MachineState
from ..uapi.clock import ClockFlags
from ..uapi.irqchip import ChipId
from ..uapi.pit2 import PitFlags
from ..uapi.serial import RX_FIFO_BYTES
from .row import Check, Details, Invariant

PIT_COUNT_MAX = 0x10000
"""What a count of 0 stands for; KVM stores it so."""


def _indices(m: MachineState) -> Details:
    held = [vcpu.index for vcpu in m.vcpus]
    if held != list(range(len(held))):
        yield f"indices {held[:8]}"


def _smm_memory(m: MachineState) -> Details:
    there = any(slot.as_id == AS_SMM for slot in m.memory.slots)
    for vcpu in m.vcpus:
        if vcpu.events.smi.smm and not there:
            yield f"vCPU {vcpu.index} is in SMM"


def _chip_ids(m: MachineState) -> Details:
    for name, wanted in (("pic_master", ChipId.KVM_IRQCHIP_PIC_MASTER), ("pic_slave", ChipId.KVM_IRQCHIP_PIC_SLAVE)):
        chip = getattr(m.vm, name)
        if chip is not None and chip.chip_id != wanted:
            yield f"{name}.chip_id {chip.chip_id}, expected {int(wanted)}"


def _clock(m: MachineState) -> Details:
    known = sum(ClockFlags)
    if m.vm.clock is not None and m.vm.clock.flags & ~known:
        yield f"flags {m.vm.clock.flags:#x}"


def _pit(m: MachineState) -> Details:
    if m.vm.pit2 is None:
        return
    for number, channel in enumerate(m.vm.pit2.channels):
        if channel.count > PIT_COUNT_MAX:
            yield f"channel {number}: count {channel.count:#x}"


def _pit_flags(m: MachineState) -> Details:
    if m.vm.pit2 is not None and m.vm.pit2.flags & ~sum(PitFlags):
        yield f"flags {m.vm.pit2.flags:#x}"


def _serial(m: MachineState) -> Details:
    if m.vm.serial is not None and m.vm.serial.rx_len > RX_FIFO_BYTES:
        yield f"rx_len {m.vm.serial.rx_len}"


def _booleans(m: MachineState) -> Details:
    for name, value in (
        ("serial.thri_pending", m.vm.serial and m.vm.serial.thri_pending),
        ("smi_port.timer_armed", m.vm.smi_port and m.vm.smi_port.timer_armed),
        ("machine.debug_exit_done", m.vm.machine and m.vm.machine.debug_exit_done),
    ):
        if value and value > 1:
            yield f"{name} {value}"


def _rule(number: int, severity: Severity, where: str, text: str, hint: str, source: str, check: Check) -> Invariant:
    return Invariant(f"INV-{number}", severity, where, text, hint, source, check, scope="machine")


_E, _W = Severity.ERROR, Severity.WARNING

MACHINE_RULES: tuple[Invariant, ...] = (
    _rule(120, _E, "vcpus", "vCPUs are numbered from 0 without a gap", "number them so", "ours", _indices),
    _rule(
        121, _E, "memory.slots", "a vCPU in SMM needs slots in address space 1", "add them",
        "Linux 6.12: KVM_RUN fails with EIO on the first access", _smm_memory,
    ),
    _rule(122, _E, "vm", "each PIC names its own chip", "0 is the master, 1 the slave", "api.rst 4.26", _chip_ids),
    _rule(
        123, _E, "vm.clock.flags", "only known flags", "clear the others", "Linux 6.12 KVM_SET_CLOCK: EINVAL",
        _clock,
    ),
    _rule(124, _E, "vm.pit2.channels", "a count is at most 0x10000", "0x10000 stands for 0", "i8254.c", _pit),
    _rule(125, _W, "vm.pit2.flags", "only known flags", "clear the others", "asm/kvm.h KVM_PIT_FLAGS_*", _pit_flags),
    _rule(126, _E, "vm.serial.rx_len", "the receive FIFO holds 16 bytes", "cut it", "PC16550D data sheet", _serial),
    _rule(127, _E, "vm", "flags of one byte are 0 or 1", "use 0 or 1", "ours", _booleans),
)  # fmt: skip
