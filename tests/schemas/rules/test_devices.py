"""Rules on what vCPUs share: clock, PIC, PIT, I/O APIC, and our devices."""

import pytest

from schemas.uapi.serial import RX_FIFO_BYTES, MigsvcSerial
from schemas.uapi.smi_port import MigsvcSmiPort

SERIAL = MigsvcSerial.zero().model_copy(update={"rx_len": RX_FIFO_BYTES, "thri_pending": 1})
PORT = MigsvcSmiPort.zero().model_copy(update={"timer_armed": 1})

EXAMPLES = {
    "INV-122": {"bad": {"vm.pic_slave.chip_id": 0}, "good": {"vm.pic_slave.chip_id": 1}},
    "INV-123": {"bad": {"vm.clock.flags": 1}, "good": {"vm.clock.flags": 2}},
    "INV-124": {"bad": {"vm.pit2.channels.2.count": 0x10001}, "good": {"vm.pit2.channels.2.count": 0x10000}},
    "INV-125": {"bad": {"vm.pit2.flags": 4}, "good": {"vm.pit2.flags": 3}},
    "INV-126": {"bad": {"vm.serial": SERIAL, "vm.serial.rx_len": 17}, "good": {"vm.serial": SERIAL}},
    "INV-127": {"bad": {"vm.smi_port": PORT, "vm.smi_port.timer_armed": 2}, "good": {"vm.smi_port": PORT}},
    "INV-192": {"bad": {"vm.pit2.channels.0.mode": 6}, "good": {"vm.pit2.channels.0.mode": 0xFF}},
    "INV-193": {
        "bad": {"vm.pic_master.chip.pic.init_state": 4},
        "good": {"vm.pic_master.chip.pic.init_state": 3, "vm.pic_master.chip.pic.irq_base": 0x30},
    },
    "INV-194": {"bad": {"vm.pic_master.chip.pic.elcr": 1}, "good": {"vm.pic_slave.chip.pic.elcr": 0xDE}},
    "INV-195": {"bad": {"vm.pic_slave": None}, "good": {"vm.pic_slave": None, "vm.pic_master": None}},
    "INV-196": {"bad": {"vm.ioapic.chip.ioapic.irr": 1 << 24}, "good": {"vm.ioapic.chip.ioapic.irr": 1 << 23}},
    "INV-197": {
        "bad": {"vm.ioapic.chip.ioapic.redirtbl.2": 0x4030},
        "good": {"vm.ioapic.chip.ioapic.redirtbl.2": 0xC030},
    },
    "INV-198": {
        "bad": {"vm.clock.flags": 4, "vm.clock.realtime": 0},
        "good": {"vm.clock.flags": 4, "vm.clock.realtime": 1},
    },
    "INV-199": {"bad": {"vm.pit2.reserved": (1, *[0] * 8)}, "good": {"vm.pit2.reserved": (0,) * 9}},
}
for _example in EXAMPLES.values():
    _example["base"] = "machine"


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_alone_and_its_counterpart_breaks_none(rule, holds):
    holds(rule, EXAMPLES[rule])
