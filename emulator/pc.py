"""The PC board: what an i440FX PC adds to the minimal machine, and how its chipset maps memory."""

from typing import TYPE_CHECKING, Any, Protocol

from .config import AS_NORMAL, AS_SMM, GIB, MIB, MachineConfig
from .devices.acpi_pm import ACPI_DISABLE, ACPI_ENABLE, PM_PORTS, SCI_IRQ, AcpiPm
from .devices.debug_ports import BOCHS_CONSOLE, FIRMWARE_CONSOLE, DebugConsole, PostPort
from .devices.fw_cfg import DATA_PORT as FW_CFG_DATA
from .devices.fw_cfg import SELECT_PORT as FW_CFG_SELECT
from .devices.fw_cfg import FwCfg, e820_file
from .devices.ioapic import IOAPIC_GPA, TIMER_PIN, Ioapic
from .devices.keyboard_controller import KBC_COMMAND, KBC_DATA, SYSTEM_CONTROL, KeyboardController
from .devices.pci import (
    ADDRESS_PORT,
    DATA_PORT,
    DEVACTB,
    DEVACTB_APMC,
    HOST_BRIDGE,
    KINDS,
    PAM,
    PAM_BYTES,
    PM_BASE,
    PM_ENABLES,
    POWER_MANAGEMENT,
    SMRAM,
    SMRAM_ENABLED,
    SMRAM_OPEN,
    PciBus,
    PciFunction,
)
from .devices.rtc import DATA_PORT as RTC_DATA
from .devices.rtc import INDEX_PORT as RTC_INDEX
from .devices.rtc import RTC_IRQ, Rtc
from .devices.serial import COM1_IRQ
from .devices.unit_test_device import FLUSH_PORT, IRQ_LINES, IRQ_PORT, SCRATCH_PORT, UnitTestDevice
from .memory import Window

if TYPE_CHECKING:
    from .machine import Machine

SMRAM_START, SMRAM_END = 0xA0000, 0xC0000
SHADOW_START, SHADOW_SEGMENT_BYTES = 0xC0000, 0x4000
BIOS_START = 0xF0000
LOW_ROM_BYTES = 128 * 1024
ROM_END = 4 * GIB
PAM_READ, PAM_WRITE = 1, 2
SHADOW_IN_RAM = bytes([0x30] + [0x33] * (PAM_BYTES - 1))
"""PAM registers as firmware leaves them: all of [C0000h, 100000h) is RAM."""
ISA_LINES = 16
_HOLE = -1


class TimedDevice(Protocol):
    """A device that acts at a point in virtual time."""

    @property
    def deadline_ns(self) -> int | None:
        """When it acts next."""

    def due(self, now_ns: int) -> None:
        """Do what falls due up to `now_ns`."""


class PcBoard:
    """Devices and chipset of the PC board around `machine`, whose PICs, PIT, local APIC and serial port it shares.

    A machine without a ROM begins as its firmware would have left it, with RAM in all of [C0000h, 100000h). SMRAM's
    D_CLS bit is held and has no effect, as in QEMU; a reset of the whole board (port 0xCF9) is not there.

    Source: Intel 82441FX data sheet 3.2.18 (PAM), 3.2.20 (SMRAM); QEMU 7.2 hw/pci-host/i440fx.c.
    """

    def __init__(self, machine: "Machine", config: MachineConfig) -> None:
        self._machine = machine
        self._memory = machine.memory
        self._rom_offset, self._rom_bytes = _rom_of(config)
        now, changed = lambda: machine.now_ns, machine.timers_changed
        self.ioapic = Ioapic(machine.lapic)
        self.rtc = Rtc(config.rtc_start_s, now, lambda level: machine.set_irq(RTC_IRQ, level), changed)
        self.pm = AcpiPm(now, lambda level: machine.set_irq(SCI_IRQ, level), changed)
        self.keyboard = KeyboardController(self._set_a20, machine.cpu.request_init)
        self.console = DebugConsole()
        self.post = PostPort()
        self.unit_test = UnitTestDevice(self._set_line)
        self.fw_cfg = self._describe(config)
        reactions = {HOST_BRIDGE: self._map_memory, POWER_MANAGEMENT: self._map_power_management}
        self.pci = PciBus(
            {number: PciFunction(kind, reactions.get(number, _nothing)) for number, kind in KINDS.items()}
        )
        self._mapping: tuple[bytes, int] | None = None
        if not self._rom_bytes:
            self._host.config[PAM : PAM + PAM_BYTES] = SHADOW_IN_RAM
        self._register_ports(config)
        self._memory.map_mmio(IOAPIC_GPA, self.ioapic)
        for gpa, page in self.unit_test.pages():
            self._memory.map_mmio(gpa, page)
        self._map_memory()

    @property
    def _host(self) -> PciFunction:
        return self.pci.functions[HOST_BRIDGE]

    def _describe(self, config: MachineConfig) -> FwCfg:
        """Tell firmware of the memory, through CMOS and fw_cfg."""
        plain = [slot for slot in config.slots if slot.as_id == AS_NORMAL and not slot.flags]
        low = max((slot.gpa + slot.size_bytes for slot in plain if slot.gpa < ROM_END), default=0)
        high = sum(slot.size_bytes for slot in plain if slot.gpa >= ROM_END)
        self.rtc.describe_memory(low, high)
        ranges = ((0, low), (ROM_END, high)) if high else ((0, low),)
        return FwCfg(low + high, config.vcpus, {"etc/e820": e820_file(ranges)})

    def _register_ports(self, config: MachineConfig) -> None:
        for device, first, last, wide in (
            (self.rtc, RTC_INDEX, RTC_DATA, False),
            (self.keyboard, KBC_DATA, KBC_DATA, False),
            (self.keyboard, KBC_COMMAND, KBC_COMMAND, False),
            (self.keyboard, SYSTEM_CONTROL, SYSTEM_CONTROL, False),
            (self.console, FIRMWARE_CONSOLE, FIRMWARE_CONSOLE, False),
            (self.console, BOCHS_CONSOLE, BOCHS_CONSOLE, False),
            (self.post, config.post_port, config.post_port, False),
            (self.fw_cfg, FW_CFG_SELECT, FW_CFG_SELECT, True),
            (self.fw_cfg, FW_CFG_DATA, FW_CFG_DATA, False),
            (self.pci, ADDRESS_PORT, DATA_PORT + 3, True),
            (self.unit_test, SCRATCH_PORT, FLUSH_PORT + 3, True),
            (self.unit_test, IRQ_PORT, IRQ_PORT + IRQ_LINES - 1, False),
        ):
            self._machine.ports.register(device, first, last, wide)

    def _set_line(self, line: int, level: int) -> None:
        """Drive a line of the I/O APIC; the first 16 are ISA interrupts, which the PICs see as well."""
        if line < ISA_LINES:
            self._machine.set_irq(line, level)
        else:
            self.ioapic.set_pin(line, level)

    @property
    def timed(self) -> tuple[tuple[TimedDevice, int], ...]:
        """Devices that act in time, and the interrupt that they raise."""
        return (self.rtc, RTC_IRQ), (self.pm, SCI_IRQ)

    # ---- SMI and ACPI mode ----

    def apm_command(self, command: int) -> None:
        """A write to port 0xB2: change the ACPI mode, and raise an SMI if the chipset is told to.

        Source: Intel 82371AB data sheet 7.1.13 (DEVACTB); QEMU 7.2 hw/acpi/piix4.c apm_ctrl_changed().
        """
        if command in (ACPI_ENABLE, ACPI_DISABLE):
            self.pm.set_acpi_mode(command == ACPI_ENABLE)
        enabled = self.pci.functions[POWER_MANAGEMENT].register(DEVACTB, 4) & DEVACTB_APMC
        if enabled and self.pm.smi_enabled:
            self._machine.inject_smi()

    def _map_power_management(self) -> None:
        """Show the power management ports where configuration says."""
        function = self.pci.functions[POWER_MANAGEMENT]
        base = function.register(PM_BASE, 4) & 0xFFC0 if function.config[PM_ENABLES] & 1 else 0
        if base == self.pm.base:
            return
        self._machine.ports.release(self.pm)
        self.pm.base = base
        if base:
            self._machine.ports.claim(self.pm, base, base + PM_PORTS - 1)

    # ---- memory below 1 MiB ----

    def _set_a20(self, passes: bool) -> None:
        self._memory.set_a20(passes)
        self._machine.cpu.flush_tlb()

    def _map_memory(self) -> None:
        """Show RAM, ROM or nothing in [A0000h, 100000h) as PAM and SMRAM say."""
        mapping = bytes(self._host.config[PAM : PAM + PAM_BYTES]), self._host.config[SMRAM]
        if mapping == self._mapping:
            return
        self._mapping = mapping
        pam, smram = mapping
        shadow = [(BIOS_START, MIB, pam[0] >> 4)]
        for n in range(2 * (PAM_BYTES - 1)):
            start = SHADOW_START + n * SHADOW_SEGMENT_BYTES
            shadow.append((start, start + SHADOW_SEGMENT_BYTES, pam[1 + n // 2] >> 4 * (n & 1)))
        windows = [self._shadow(as_id, *row) for row in shadow for as_id in (AS_NORMAL, AS_SMM)]
        for as_id, seen in ((AS_NORMAL, SMRAM_OPEN), (AS_SMM, SMRAM_OPEN | SMRAM_ENABLED)):
            offset = SMRAM_START if smram & seen else _HOLE
            windows.append(Window(as_id, SMRAM_START, SMRAM_END, offset, offset))
        self._memory.set_windows(windows)
        self._machine.cpu.flush_tlb()

    def _shadow(self, as_id: int, start: int, end: int, attributes: int) -> Window:
        """RAM lies in the backing where it lies in memory; the ROM's end is behind all that is not RAM."""
        in_rom = start >= MIB - min(self._rom_bytes, LOW_ROM_BYTES)
        rom = self._rom_offset + self._rom_bytes - (MIB - start) if in_rom else _HOLE
        read = start if attributes & PAM_READ else rom
        return Window(as_id, start, end, read, start if attributes & PAM_WRITE else _HOLE)

    # ---- state ----

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """State of every device of this board."""
        state = {name: device.snapshot() for name, device in self._devices().items()}
        return {**state, "ioapic": self.ioapic.snapshot()}

    def load(self, fields: dict[str, dict[str, Any]]) -> None:
        """Take the state over, after virtual time, the PICs, the local APIC and the serial port."""
        for name, device in self._devices().items():
            device.load(fields[name])
        asked = self.unit_test.lines
        lines = asked & ~1 | (asked & 1) << TIMER_PIN
        lines |= self._machine.serial.line << COM1_IRQ | self.rtc.line << RTC_IRQ | self.pm.line << SCI_IRQ
        self.ioapic.load(fields["ioapic"], lines)

    def _devices(self) -> dict[str, Any]:
        return {
            "pci": self.pci,
            "rtc": self.rtc,
            "pm": self.pm,
            "keyboard": self.keyboard,
            "console": self.console,
            "post": self.post,
            "fw_cfg": self.fw_cfg,
            "unit_test": self.unit_test,
        }


def _nothing() -> None:
    """Nothing follows from this function's registers."""


def _rom_of(config: MachineConfig) -> tuple[int, int]:
    """Backing offset and size of the read-only slot that ends at 4 GiB; size 0 if there is none."""
    for slot in config.slots:
        if slot.as_id == AS_NORMAL and slot.flags and slot.gpa + slot.size_bytes == ROM_END:
            return slot.backing_offset_bytes, slot.size_bytes
    return 0, 0
