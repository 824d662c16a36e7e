"""The four carriers of the shadow that an SMI puts aside."""

from itertools import product

import pytest

from schemas.errors import FieldError
from schemas.shadow import (
    CARRIERS,
    SmmCarrier,
    convert,
    decode,
    encode,
    for_stock_kernel,
    smm_shadow,
    with_smm_shadow,
)
from schemas.uapi.vcpu_events import KvmVcpuEvents

NUMBERS = {
    SmmCarrier.EVENTS_NIBBLE: (0, 0x10, 0x20, 0x30),
    SmmCarrier.SMRAM: (0, 1, 2, 3),
    SmmCarrier.NESTED_FLAGS: (0, 8, 4, 12),
    SmmCarrier.SMI_SUBSTRUCT: (0, 1, 2, 3),
}
"""What each carrier holds for no shadow, MOV SS, STI, both."""


def test_every_carrier_has_a_row():
    assert {row.carrier for row in CARRIERS} == set(SmmCarrier)
    assert len(CARRIERS) == len(SmmCarrier)


@pytest.mark.parametrize(("source", "destination", "masks"), list(product(SmmCarrier, SmmCarrier, range(4))))
def test_any_two_carriers_convert_without_loss(source, destination, masks):
    assert encode(masks, source) == NUMBERS[source][masks]
    assert decode(NUMBERS[source][masks], source) == masks
    assert convert(NUMBERS[source][masks], source, destination) == NUMBERS[destination][masks]


@pytest.mark.parametrize(
    ("carrier", "number"),
    [
        (SmmCarrier.EVENTS_NIBBLE, 0x40),
        (SmmCarrier.EVENTS_NIBBLE, 0x12),
        (SmmCarrier.SMRAM, 4),
        (SmmCarrier.SMRAM, -1),
        (SmmCarrier.NESTED_FLAGS, 1),
        (SmmCarrier.SMI_SUBSTRUCT, 0x10),
    ],
)
def test_bits_that_no_shadow_has_are_refused_not_dropped(carrier, number):
    with pytest.raises(FieldError, match="is no interrupt shadow"):
        decode(number, carrier)


@pytest.fixture
def in_smm(changed):
    return changed(KvmVcpuEvents.zero(), {"flags": 0x0D, "smi.smm": 1})


@pytest.mark.parametrize("masks", range(4))
def test_a_shadow_put_aside_is_read_back(in_smm, masks):
    events = with_smm_shadow(in_smm, masks)
    assert events.interrupt.shadow.to_byte() == masks << 4
    assert events.flags == 0x4D
    assert smm_shadow(events) == masks


def test_putting_a_shadow_aside_keeps_the_current_one(in_smm, changed):
    shadowed = in_smm.interrupt.shadow.model_copy(update={"current": 1})
    events = with_smm_shadow(changed(in_smm, {"interrupt.shadow": shadowed}), 2)
    assert events.interrupt.shadow.to_byte() == 0x21


def test_outside_smm_no_shadow_can_be_put_aside(in_smm, changed):
    outside = changed(in_smm, {"smi.smm": 0})
    assert smm_shadow(with_smm_shadow(outside, 0)) == 0
    with pytest.raises(FieldError, match="outside SMM"):
        with_smm_shadow(outside, 2)


def test_a_shadow_without_its_flag_is_not_read(in_smm, changed):
    events = with_smm_shadow(in_smm, 3)
    assert smm_shadow(changed(events, {"flags": 0x0D})) == 0


def test_a_stock_kernel_gets_neither_the_nibble_nor_the_flag(in_smm, changed):
    events = with_smm_shadow(in_smm, 2)
    events = changed(events, {"interrupt.shadow": events.interrupt.shadow.model_copy(update={"current": 1})})
    sent = for_stock_kernel(events)
    assert sent.interrupt.shadow.to_byte() == 1
    assert sent.flags == 0x0D
    assert sent.smi == events.smi
