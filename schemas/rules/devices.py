"""Rules on what vCPUs share: INV-122 to INV-127, INV-192 to INV-199.

Kernels copy PIC, PIT and I/O APIC state without a look at it; what no write of a guest produces is an error here.
Source: Linux 6.12 arch/x86/kvm/{i8259,i8254,ioapic}.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Severity
from ..layout import CStruct
from ..uapi.clock import ClockFlags
from ..uapi.irqchip import ChipId, KvmPicState
from ..uapi.pit2 import PitFlags
from ..uapi.serial import RX_FIFO_BYTES
from .facts import MachineFacts
from .row import At, Check, Details, Invariant

PIT_COUNT_MAX = 0x10000
"""What a count of 0 stands for; KVM stores it so."""

_PIC_LIMITS = (
    ("priority_add", 7), ("read_reg_select", 1), ("poll", 1), ("special_mask", 1), ("init_state", 3), ("auto_eoi", 1),
    ("rotate_on_auto_eoi", 1), ("special_fully_nested_mode", 1), ("init4", 1),
)  # fmt: skip
_PIT_LIMITS = (
    ("count_latched", 4), ("status_latched", 1), ("read_state", 4), ("write_state", 4), ("rw_mode", 4), ("mode", 5),
    ("bcd", 1), ("gate", 1),
)  # fmt: skip
"""Field and its largest value. Source: Linux 6.12 i8259.c pic_ioport_write, i8254.c pit_ioport_write."""
PIT_MODE_NONE = 0xFF
"""The mode of a channel that nobody has programmed since reset. Source: Linux 6.12 i8254.c kvm_pit_reset_reinject."""
_PIC_VECTOR_BITS = 0xF8
_ELCR_MASKS = {"pic_master": 0xF8, "pic_slave": 0xDE}
"""The lines that ELCR can make level triggered. Source: Linux 6.12 i8259.c kvm_pic_init."""

IOAPIC_PINS_MASK, IOAPIC_ID_MASK, IOAPIC_REGISTER_MASK = 0xFF_FFFF, 0xF, 0xFF
_FIXED_MODES = (0, 1)


def _over(value: CStruct, limits: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, int]]:
    held = value.__dict__
    for field, most in limits:
        if held[field] > most:
            yield field, held[field]


def _chip_ids(m: MachineFacts) -> Details:
    for name, wanted in (
        ("pic_master", ChipId.KVM_IRQCHIP_PIC_MASTER),
        ("pic_slave", ChipId.KVM_IRQCHIP_PIC_SLAVE),
        ("ioapic", ChipId.KVM_IRQCHIP_IOAPIC),
    ):
        chip = getattr(m.vm, name)
        if chip is not None and chip.chip_id != wanted:
            yield At(f"vm.{name}.chip_id", f"{name}.chip_id {chip.chip_id}, expected {int(wanted)}")


def _clock(m: MachineFacts) -> Details:
    known = sum(ClockFlags)
    if m.vm.clock is not None and m.vm.clock.flags & ~known:
        yield f"flags {m.vm.clock.flags:#x}"


def _clock_values(m: MachineFacts) -> Details:
    clock = m.vm.clock
    if clock is None:
        return
    for flag, name in ((ClockFlags.KVM_CLOCK_REALTIME, "realtime"), (ClockFlags.KVM_CLOCK_HOST_TSC, "host_tsc")):
        if clock.flags & flag and not getattr(clock, name):
            yield At(f"vm.clock.{name}", f"{name} 0, flags {clock.flags:#x}")


def _pit(m: MachineFacts) -> Details:
    if m.vm.pit2 is None:
        return
    for number, channel in enumerate(m.vm.pit2.channels):
        if channel.count > PIT_COUNT_MAX:
            yield f"channel {number}: count {channel.count:#x}"


def _pit_modes(m: MachineFacts) -> Details:
    if m.vm.pit2 is None:
        return
    for number, channel in enumerate(m.vm.pit2.channels):
        for field, value in _over(channel, _PIT_LIMITS):
            if field == "mode" and value == PIT_MODE_NONE:
                continue
            yield At(f"vm.pit2.channels.{number}.{field}", f"channel {number}: {field} {value}")


def _pit_flags(m: MachineFacts) -> Details:
    if m.vm.pit2 is not None and m.vm.pit2.flags & ~sum(PitFlags):
        yield f"flags {m.vm.pit2.flags:#x}"


def _pics(m: MachineFacts) -> Iterator[tuple[str, KvmPicState]]:
    for name in ("pic_master", "pic_slave"):
        chip = getattr(m.vm, name)
        if chip is not None:
            yield name, chip.chip.pic


def _pic_modes(m: MachineFacts) -> Details:
    for name, pic in _pics(m):
        for field, value in _over(pic, _PIC_LIMITS):
            yield At(f"vm.{name}.chip.pic.{field}", f"{name}: {field} {value}")
        if pic.irq_base & ~_PIC_VECTOR_BITS:
            yield At(f"vm.{name}.chip.pic.irq_base", f"{name}: irq_base {pic.irq_base:#x} is no multiple of 8")


def _pic_elcr(m: MachineFacts) -> Details:
    for name, pic in _pics(m):
        if pic.elcr & ~_ELCR_MASKS[name]:
            yield At(f"vm.{name}.chip.pic.elcr", f"{name}: elcr {pic.elcr:#x}, lines {_ELCR_MASKS[name]:#x}")


def _pic_pair(m: MachineFacts) -> Details:
    if (m.vm.pic_master is None) != (m.vm.pic_slave is None):
        yield f"pic_{'slave' if m.vm.pic_slave is None else 'master'} is missing"


def _ioapic(m: MachineFacts) -> Details:
    if m.vm.ioapic is None:
        return
    chip = m.vm.ioapic.chip.ioapic
    for name, value, known in (
        ("irr", chip.irr, IOAPIC_PINS_MASK),
        ("id", chip.id, IOAPIC_ID_MASK),
        ("ioregsel", chip.ioregsel, IOAPIC_REGISTER_MASK),
    ):
        if value & ~known:
            yield At(f"vm.ioapic.chip.ioapic.{name}", f"{name} {value:#x}")


def _redirection(m: MachineFacts) -> Details:
    if m.vm.ioapic is None:
        return
    for pin, entry in enumerate(m.vm.ioapic.chip.ioapic.entries):
        where = f"vm.ioapic.chip.ioapic.redirtbl.{pin}"
        if entry.remote_irr and not entry.trig_mode:
            yield At(where, f"pin {pin}: remote IRR, edge triggered")
        if not entry.mask and entry.delivery_mode in _FIXED_MODES and entry.vector < 16:
            yield At(where, f"pin {pin}: vector {entry.vector}")


def _serial(m: MachineFacts) -> Details:
    if m.vm.serial is not None and m.vm.serial.rx_len > RX_FIFO_BYTES:
        yield f"rx_len {m.vm.serial.rx_len}"


def _booleans(m: MachineFacts) -> Details:
    for name, value in (
        ("serial.thri_pending", m.vm.serial and m.vm.serial.thri_pending),
        ("smi_port.timer_armed", m.vm.smi_port and m.vm.smi_port.timer_armed),
        ("machine.debug_exit_done", m.vm.machine and m.vm.machine.debug_exit_done),
    ):
        if value and value > 1:
            yield At(f"vm.{name}", f"{name} {value}")


def _rule(number: int, severity: Severity, where: str, text: str, hint: str, source: str, check: Check) -> Invariant:
    return Invariant(f"INV-{number}", severity, where, text, hint, source, check, scope="machine")


_E, _W = Severity.ERROR, Severity.WARNING

DEVICE_RULES: tuple[Invariant, ...] = (
    _rule(
        122, _E, "vm", "each interrupt controller names its own chip", "0 master, 1 slave, 2 I/O APIC",
        "api.rst 4.26", _chip_ids,
    ),
    _rule(
        123, _E, "vm.clock.flags", "only known flags", "clear the others", "Linux 6.12 KVM_SET_CLOCK: EINVAL", _clock
    ),
    _rule(124, _E, "vm.pit2.channels", "a count is at most 0x10000", "0x10000 stands for 0", "i8254.c", _pit),
    _rule(125, _W, "vm.pit2.flags", "only known flags", "clear the others", "asm/kvm.h KVM_PIT_FLAGS_*", _pit_flags),
    _rule(126, _E, "vm.serial.rx_len", "the receive FIFO holds 16 bytes", "cut it", "PC16550D data sheet", _serial),
    _rule(127, _E, "vm", "flags of one byte are 0 or 1", "use 0 or 1", "ours", _booleans),
    _rule(
        192, _E, "vm.pit2.channels", "a PIT channel is in a mode that exists", "mode 0-5, flags 0 or 1", "i8254.c",
        _pit_modes,
    ),
    _rule(193, _E, "vm", "a PIC is in a mode that exists", "correct the field", "i8259.c", _pic_modes),
    _rule(
        194, _W, "vm", "a PIC line that cannot be level triggered is not", "clear it in elcr", "i8259.c kvm_pic_init",
        _pic_elcr,
    ),
    _rule(195, _W, "vm", "the PICs come as a pair", "add the other", "api.rst 4.24 KVM_CREATE_IRQCHIP", _pic_pair),
    _rule(
        196, _E, "vm.ioapic", "the I/O APIC's registers have bits that exist", "clear the others",
        "ioapic.c; 82093AA data sheet 3", _ioapic,
    ),
    _rule(
        197, _W, "vm.ioapic", "a redirection entry can deliver", "clear remote_irr, or use a vector from 16 on",
        "82093AA data sheet 3.2.4", _redirection,
    ),
    _rule(
        198, _W, "vm.clock", "a time that its flag says is there is not 0", "clear the flag",
        "Linux 6.12 KVM_SET_CLOCK: the clock jumps by decades", _clock_values,
    ),
)  # fmt: skip
