"""The page's machine: memory slots, clock, interrupt controllers, timer, our own devices."""

from __future__ import annotations

from collections.abc import Iterator

from ..field_names import bits_of
from ..memory import MemoryMap
from ..names.bits import REGISTERS
from ..state import VmState
from ..uapi.clock import KvmClockData
from ..uapi.ioapic import KvmIrqchipIoapic
from ..uapi.irqchip import KvmIrqchip
from ..uapi.pit2 import KvmPitState2
from ..uapi.serial import MigsvcSerial
from .rows import Line, bit_list, duration, hex32, hex64, junk_line, size_text

_PIT_HZ = 1_193_182
_SERIAL_HZ = 115_200
_MASKED = 1 << 16
_PERIODIC = (2, 3)
_NOT_SET = 0xFF
_PIT_MODES = (
    "interrupt on terminal count",
    "one-shot",
    "rate generator",
    "square wave",
    "software strobe",
    "hardware strobe",
)


def memory_lines(memory: MemoryMap) -> Iterator[Line]:
    """Yield the memory slots by address space."""
    yield Line("ram", hex64(memory.ram_bytes), size_text(memory.ram_bytes))
    for slot in memory.slots:
        where = "SMM" if slot.as_id else "normal"
        flags = [text for bit, text in ((1, "log dirty pages"), (2, "read-only")) if slot.flags & bit]
        backing = f"RAM from {slot.backing_offset_bytes:#x}"
        text = ", ".join([f"{size_text(slot.size_bytes)}, {where} address space, {backing}", *flags])
        yield Line(f"slot {slot.as_id}:{slot.slot}", f"{slot.gpa:#x}-{max(slot.end - 1, 0):#x}", text)


def vm_lines(vm: VmState) -> Iterator[Line]:
    """Yield the devices that the VM has."""
    if vm.clock is not None:
        yield from _clock_lines(vm.clock)
    for name, chip in (("pic_master", vm.pic_master), ("pic_slave", vm.pic_slave)):
        if chip is not None:
            yield from _pic_lines(name, chip)
    if vm.ioapic is not None:
        yield from _ioapic_lines(vm.ioapic)
    if vm.pit2 is not None:
        yield from _pit_lines(vm.pit2)
    if vm.serial is not None:
        yield _serial_line(vm.serial)
    if vm.smi_port is not None:
        port = vm.smi_port
        text = f"timer due at {duration(port.timer_deadline_ns)} of virtual time" if port.timer_armed else "timer off"
        raw = f"command {port.command:02x} status {port.status:02x}"
        yield Line("smi_port", raw, text, unusual=bool(port.timer_armed), usual=not (port.command or port.status))
        yield from junk_line("smi_port pad", port.pad)
    if vm.machine is not None:
        machine = vm.machine
        text = f"{duration(machine.now_ns)} of virtual time, {machine.ns_per_instruction} ns per instruction"
        yield Line("machine", str(machine.retired_instructions), f"instructions retired, {text}")
        if machine.debug_exit_done:
            yield Line("debug_exit", f"{machine.debug_exit_code:02x}", "the guest has ended", unusual=True)
        yield from junk_line("machine pad", machine.pad)


def _clock_lines(clock: KvmClockData) -> Iterator[Line]:
    bits = bits_of(KvmClockData, "flags")
    yield Line("clock", hex64(clock.clock), f"kvmclock at {duration(clock.clock)}")
    words = bits.describe(clock.flags) if bits else ""
    yield Line("clock flags", hex32(clock.flags), words, unusual="reserved" in words, usual=True)
    yield Line("clock realtime", hex64(clock.realtime), "ns since 1970", usual=True)
    yield Line("clock host_tsc", hex64(clock.host_tsc), "", usual=True)


def _pic_lines(name: str, chip: KvmIrqchip) -> Iterator[Line]:
    pic = chip.chip.pic
    words = [f"IRQ 0-7 are vectors {pic.irq_base:#x}-{pic.irq_base + 7:#x}" if pic.irq_base else "vectors not set"]
    words += [
        f"{text} {bit_list(mask, 8)}" for text, mask in _pic_masks(pic.irr, pic.isr, ~pic.imr & 0xFF, pic.elcr) if mask
    ]
    words += ["waits for ICW"] * bool(pic.init_state) + ["automatic EOI"] * bool(pic.auto_eoi)
    odd = bool(pic.init_state or pic.isr)
    yield Line(name, f"irr {pic.irr:02x} isr {pic.isr:02x} imr {pic.imr:02x}", ", ".join(words), unusual=odd)
    yield from junk_line(f"{name} rest", chip.chip.rest)


def _pic_masks(irr: int, isr: int, enabled: int, elcr: int) -> tuple[tuple[str, int], ...]:
    return (("requested", irr), ("in service", isr), ("enabled", enabled), ("level-triggered", elcr))


def _ioapic_lines(chip: KvmIrqchipIoapic) -> Iterator[Line]:
    ioapic, bits = chip.chip.ioapic, REGISTERS["redirtbl"]
    text = f"at {ioapic.base_address:#x}, requested pins {bit_list(ioapic.irr, 24)}"
    yield Line("ioapic", f"id {ioapic.id:x}", text, unusual=ioapic.base_address != 0xFEC00000)
    for pin, entry in enumerate(ioapic.redirtbl):
        odd = bool(entry & ~bits.named)
        yield Line(f"ioapic pin {pin}", hex64(entry), bits.describe(entry), unusual=odd, usual=bool(entry & _MASKED))
    yield from junk_line("ioapic rest", chip.chip.rest)


def _pit_lines(pit: KvmPitState2) -> Iterator[Line]:
    for n, channel in enumerate(pit.channels):
        mode = channel.mode
        name = _PIT_MODES[mode] if mode < len(_PIT_MODES) else "mode not set"
        rate = f", {_PIT_HZ / channel.count:.6g} Hz" if channel.count and mode in _PERIODIC else ""
        off = "" if channel.gate else ", gate closed"
        yield Line(f"pit {n}", hex32(channel.count), f"{name}{rate}{off}", usual=mode == _NOT_SET)
    bits = bits_of(KvmPitState2, "flags")
    yield Line("pit flags", hex32(pit.flags), bits.describe(pit.flags) if bits else "", usual=not pit.flags)


def _serial_line(serial: MigsvcSerial) -> Line:
    rate = f"{_SERIAL_HZ // serial.divisor} baud" if serial.divisor else "no divisor"
    bits = 5 + (serial.lcr & 3)
    text = f"{rate}, {bits} data bits, {serial.tx_bytes} bytes sent, {serial.rx_len} waiting to be read"
    return Line("serial", f"ier {serial.ier:02x} lcr {serial.lcr:02x} mcr {serial.mcr:02x}", text)
