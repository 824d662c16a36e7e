"""The I/O APIC's redirection entries, and small helpers of structs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.uapi.fpu import KvmFpu
from schemas.uapi.interface import KvmMsrIndex, KvmMsrList
from schemas.uapi.ioapic import KVM_IOAPIC_NUM_PINS, KvmIrqchipIoapic, RedirectionEntry


@given(st.integers(0, (1 << 64) - 1))
def test_an_entry_survives_its_fields(bits):
    assert RedirectionEntry.of(bits).bits == bits


def test_an_entry_has_the_kernels_bit_fields():
    # Vector 0x31, lowest priority, logical, level, masked, remote IRR, destination 0xFF.
    entry = RedirectionEntry.of(0xFF00_0000_0001_C931)
    assert entry == RedirectionEntry(
        vector=0x31, delivery_mode=1, dest_mode=1, delivery_status=0, polarity=0, remote_irr=1, trig_mode=1, mask=1,
        reserved=0, dest_id=0xFF,
    )  # fmt: skip
    assert RedirectionEntry.of(1 << 12).delivery_status == RedirectionEntry.of(1 << 13).polarity == 1
    assert RedirectionEntry.of(1 << 17).reserved == 1
    assert RedirectionEntry.of(1 << 55).reserved == 1 << 38


def test_the_table_has_an_entry_per_pin():
    raw = bytearray(KvmIrqchipIoapic.SIZE)
    raw[8 + 24 + 8 * 2] = 0x30
    chip = KvmIrqchipIoapic.unpack(bytes(raw)).chip.ioapic
    assert [entry.vector for entry in chip.entries] == [0, 0, 0x30] + [0] * (KVM_IOAPIC_NUM_PINS - 3)


def test_an_x87_register_is_ten_bytes_of_sixteen():
    fpu = KvmFpu.unpack(bytes(range(256)) + bytes(160))
    assert fpu.st(0) == bytes(range(10))
    assert fpu.st(7) == bytes(range(112, 122))
    for number in (-1, 8):
        with pytest.raises(ValueError, match="ST0 to ST7"):
            fpu.st(number)


def test_a_list_of_msrs_gives_its_numbers():
    held = KvmMsrList(nmsrs=2, indices=(KvmMsrIndex(index=0x10), KvmMsrIndex(index=0xC0000080)))
    assert held.numbers == (0x10, 0xC0000080)
    assert KvmMsrList.unpack(held.pack()) == held
