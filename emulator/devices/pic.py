"""The pair of 8259A interrupt controllers, in the fields of `struct kvm_pic_state`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

MASTER_COMMAND = 0x20
SLAVE_COMMAND = 0xA0
MASTER_ELCR = 0x4D0
SLAVE_ELCR = 0x4D1
CASCADE_IRQ = 2

_NONE = 8
"""Priority of "nothing"."""


@dataclass(slots=True)
class PicChip:
    """One 8259A. Field names are those of `struct kvm_pic_state`.

    `last_irr` is the level each line had last, which an edge is measured against; `init_state` counts through the
    initialisation command words; `init4` says that ICW4 will come.
    """

    last_irr: int = 0
    irr: int = 0
    imr: int = 0
    isr: int = 0
    priority_add: int = 0
    irq_base: int = 0
    read_reg_select: int = 0
    poll: int = 0
    special_mask: int = 0
    init_state: int = 0
    auto_eoi: int = 0
    rotate_on_auto_eoi: int = 0
    special_fully_nested_mode: int = 0
    init4: int = 0
    elcr: int = 0
    elcr_mask: int = 0

    def set_line(self, irq: int, level: int) -> None:
        """Drive input `irq`; level or edge triggered as ELCR says."""
        mask = 1 << irq
        if level:
            if self.elcr & mask or not self.last_irr & mask:
                self.irr |= mask
            self.last_irr |= mask
        else:
            if self.elcr & mask:
                self.irr &= ~mask
            self.last_irr &= ~mask

    def _priority(self, mask: int) -> int:
        """Position of the most urgent bit of `mask` in the present rotation, 8 for none."""
        for position in range(8):
            if mask >> ((position + self.priority_add) & 7) & 1:
                return position
        return _NONE

    def request(self, cascade: bool) -> int:
        """Input that asks for service now, or -1. `cascade`: this is the master."""
        wanted = self._priority(self.irr & ~self.imr)
        in_service = self.isr
        if self.special_mask:
            in_service &= ~self.imr
        if self.special_fully_nested_mode and cascade:
            in_service &= ~(1 << CASCADE_IRQ)
        return (wanted + self.priority_add) & 7 if wanted < self._priority(in_service) else -1

    def acknowledge(self, irq: int) -> None:
        """INTA: move `irq` from request to service."""
        self.isr |= 1 << irq
        if not self.elcr >> irq & 1:
            self.irr &= ~(1 << irq)
        if self.auto_eoi:
            self.isr &= ~(1 << irq)
            if self.rotate_on_auto_eoi:
                self.priority_add = (irq + 1) & 7

    def command(self, value: int) -> None:
        """Write to the even port: ICW1, OCW2 or OCW3."""
        if value & 0x10:
            self._icw1(value)
        elif value & 0x08:
            if value & 0x04:
                self.poll = 1
            if value & 0x02:
                self.read_reg_select = value & 1
            if value & 0x40:
                self.special_mask = value >> 5 & 1
        else:
            self._ocw2(value >> 5, value & 7)

    def _icw1(self, value: int) -> None:
        self.init4 = value & 1
        self.last_irr = 0
        self.irr &= self.elcr
        self.imr = self.isr = self.priority_add = self.special_mask = self.read_reg_select = 0
        if not self.init4:
            self.special_fully_nested_mode = self.auto_eoi = 0
        self.init_state = 1

    def _ocw2(self, action: int, level: int) -> None:
        if action in (0, 4):
            self.rotate_on_auto_eoi = action >> 2
            return
        if action in (1, 5):
            position = self._priority(self.isr)
            if position == _NONE:
                return
            level = (position + self.priority_add) & 7
        if action & 1:
            self.isr &= ~(1 << level)
        if action in (5, 6, 7):
            self.priority_add = (level + 1) & 7

    def data(self, value: int) -> None:
        """Write to the odd port: the mask, or ICW2 to ICW4 during initialisation."""
        match self.init_state:
            case 0:
                self.imr = value
            case 1:
                self.irq_base = value & 0xF8
                self.init_state = 2
            case 2:
                self.init_state = 3 if self.init4 else 0
            case _:
                self.special_fully_nested_mode = value >> 4 & 1
                self.auto_eoi = value >> 1 & 1
                self.init_state = 0

    def read(self, odd: bool) -> int:
        """Read the mask (odd port), or the register that OCW3 chose (even port)."""
        if odd:
            return self.imr
        return self.isr if self.read_reg_select else self.irr


class Pic:
    """Master and slave 8259A at ports 0x20, 0xA0, 0x4D0 and 0x4D1.

    `on_change` is called after anything that may change `output`.

    Source: Intel 8259A data sheet; Linux 6.12 arch/x86/kvm/i8259.c.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.master = PicChip(elcr_mask=0xF8)
        self.slave = PicChip(elcr_mask=0xDE)
        self.output = False
        self._on_change = on_change

    def set_irq(self, irq: int, level: int) -> None:
        """Drive ISA interrupt line `irq` (0 to 15)."""
        chip = self.slave if irq & 8 else self.master
        chip.set_line(irq & 7, level)
        self._update()

    def pulse_irq(self, irq: int) -> None:
        """Raise and lower a line: one edge. Source: Linux 6.12 arch/x86/kvm/i8254.c pit_do_work."""
        self.set_irq(irq, 1)
        self.set_irq(irq, 0)

    def edge_would_interrupt(self, irq: int) -> bool:
        """Whether an edge on line `irq` would raise the output, were it to come now."""
        master, slave = PicChip(**asdict(self.master)), PicChip(**asdict(self.slave))
        (slave if irq & 8 else master).set_line(irq & 7, 1)
        if irq & 8 and slave.request(cascade=False) >= 0:
            master.set_line(CASCADE_IRQ, 1)
        return master.request(cascade=True) >= 0

    def _update(self) -> None:
        if self.slave.request(cascade=False) >= 0:
            self.master.set_line(CASCADE_IRQ, 1)
            self.master.set_line(CASCADE_IRQ, 0)
        self.output = self.master.request(cascade=True) >= 0
        self._on_change()

    def acknowledge(self) -> int:
        """INTA cycle: return the vector; 7 of the chip is the spurious one."""
        irq = self.master.request(cascade=True)
        if irq < 0:
            vector = self.master.irq_base + 7
        elif irq == CASCADE_IRQ:
            self.master.acknowledge(irq)
            inner = self.slave.request(cascade=False)
            if inner >= 0:
                self.slave.acknowledge(inner)
            vector = self.slave.irq_base + (inner if inner >= 0 else 7)
        else:
            self.master.acknowledge(irq)
            vector = self.master.irq_base + irq
        self._update()
        return vector

    def _chip_at(self, port: int) -> PicChip:
        return self.slave if port in (SLAVE_COMMAND, SLAVE_COMMAND + 1, SLAVE_ELCR) else self.master

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN from a command, mask or ELCR port."""
        chip = self._chip_at(port)
        if port in (MASTER_ELCR, SLAVE_ELCR):
            return chip.elcr
        if not chip.poll:
            return chip.read(bool(port & 1))
        # A poll is an acknowledge through the data bus: bit 7 says that something was there.
        chip.poll = 0
        irq = chip.request(cascade=chip is self.master)
        if irq >= 0:
            chip.acknowledge(irq)
        self._update()
        return 0x80 | irq if irq >= 0 else 0

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT to a command, mask or ELCR port."""
        chip = self._chip_at(port)
        if port in (MASTER_ELCR, SLAVE_ELCR):
            chip.elcr = value & chip.elcr_mask
        elif port & 1:
            chip.data(value)
        else:
            chip.command(value)
        self._update()

    def snapshot(self) -> tuple[dict[str, int], dict[str, int]]:
        """Both chips in the fields of `struct kvm_pic_state`, master first."""
        return asdict(self.master), asdict(self.slave)

    def load(self, master: dict[str, int], slave: dict[str, int]) -> None:
        """Take both chips over, then compute the output line from them."""
        self.master = PicChip(**master)
        self.slave = PicChip(**slave)
        self.output = self.master.request(cascade=True) >= 0
        self._on_change()
