"""kvm_vcpu_events: the shadow byte, and what KVM_SET_VCPU_EVENTS makes of a struct."""

import json

import pytest
from pydantic import ValidationError

from schemas.uapi.vcpu_events import InterruptShadow, KvmVcpuEvents, VcpuEventFlags

ALL = 0x7F


@pytest.mark.parametrize("byte", range(256))
def test_every_value_of_the_shadow_byte_has_a_form_of_its_own(byte):
    raw = bytearray(64)
    raw[11] = byte
    events = KvmVcpuEvents.unpack(raw)
    assert events.interrupt.shadow == InterruptShadow(current=byte % 16, smm=byte // 16)
    assert events.pack() == bytes(raw)
    assert KvmVcpuEvents.model_validate_json(events.model_dump_json()) == events


def test_the_shadow_is_structured_in_json_and_the_plain_byte_is_read_too():
    events = KvmVcpuEvents.unpack(bytes(11) + b"\x21" + bytes(52))
    shown = json.loads(events.model_dump_json())
    assert shown["interrupt"]["shadow"] == {"current": 1, "smm": 2}
    shown["interrupt"]["shadow"] = 0x21
    assert KvmVcpuEvents.model_validate(shown) == events


@pytest.mark.parametrize("form", [256, -1, True, "0x21", {"current": 16, "smm": 0}, {"current": "1"}, {"smm": 1}])
def test_a_shadow_out_of_range_is_refused(form):
    data = KvmVcpuEvents.zero().model_dump()
    data["interrupt"]["shadow"] = form
    with pytest.raises(ValidationError, match=r"interrupt\.shadow"):
        KvmVcpuEvents.model_validate(data)


def test_the_smm_shadow_flag_is_the_first_free_bit():
    assert VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW == 0x40


NORMALISED = {
    "a pending exception is not injected too": (
        {"flags": ALL, "exception.pending": 1, "exception.injected": 1, "exception_has_payload": 1},
        {"exception.pending": 1, "exception.injected": 0, "exception_has_payload": 1},
    ),
    "without a pending exception there is no payload": (
        {"flags": ALL, "exception.injected": 1, "exception_has_payload": 1, "exception_payload": 5},
        {"exception.injected": 1, "exception_has_payload": 0, "exception_payload": 5},
    ),
    "pending does not count without VALID_PAYLOAD": (
        {"flags": ALL & ~0x10, "exception.pending": 1, "exception.injected": 1, "exception_has_payload": 1},
        {"exception.pending": 0, "exception.injected": 1, "exception_has_payload": 0},
    ),
    "the shadow does not count without VALID_SHADOW": (
        {"flags": ALL & ~0x04, "interrupt.shadow": InterruptShadow(current=2)},
        {"interrupt.shadow": InterruptShadow(current=0)},
    ),
    "the upper nibble counts with its flag in SMM": (
        {"flags": ALL, "smi.smm": 1, "interrupt.shadow": InterruptShadow(current=1, smm=2)},
        {"interrupt.shadow": InterruptShadow(current=1, smm=2)},
    ),
    "the upper nibble does not count outside SMM": (
        {"flags": ALL, "interrupt.shadow": InterruptShadow(current=1, smm=2)},
        {"interrupt.shadow": InterruptShadow(current=1, smm=0)},
    ),
    "the upper nibble does not count without its flag": (
        {"flags": ALL & ~0x40, "smi.smm": 1, "interrupt.shadow": InterruptShadow(current=0, smm=2)},
        {"interrupt.shadow": InterruptShadow(current=0, smm=0)},
    ),
    "nothing of SMM counts without VALID_SMM": (
        {
            "flags": ALL & ~0x08,
            "smi.smm": 1,
            "smi.pending": 1,
            "smi.latched_init": 1,
            "interrupt.shadow": InterruptShadow(current=0, smm=2),
        },
        {"smi.smm": 0, "smi.pending": 0, "smi.latched_init": 0, "interrupt.shadow": InterruptShadow(current=0)},
    ),
    "smm_inside_nmi does not count outside SMM": (
        {"flags": ALL, "smi.smm_inside_nmi": 1, "smi.pending": 1},
        {"smi.smm_inside_nmi": 0, "smi.pending": 1},
    ),
    "pending NMIs do not count without their flag": (
        {"flags": ALL & ~0x01, "nmi.pending": 2, "nmi.masked": 1, "nmi.injected": 1},
        {"nmi.pending": 0, "nmi.masked": 1, "nmi.injected": 1},
    ),
    "the SIPI vector does not count without its flag": ({"flags": ALL & ~0x02, "sipi_vector": 9}, {"sipi_vector": 0}),
    "the SIPI vector counts with its flag": ({"flags": ALL, "sipi_vector": 9}, {"sipi_vector": 9}),
    "a triple fault does not count without its flag": (
        {"flags": ALL & ~0x20, "triple_fault.pending": 1},
        {"triple_fault.pending": 0},
    ),
    "reserved bytes do not count": ({"flags": ALL, "reserved": b"\1" * 26}, {"reserved": bytes(26)}),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_events_are_what_the_kernel_reads(name, changed):
    given, wanted = NORMALISED[name]
    before = changed(KvmVcpuEvents.zero(), given)
    after = before.normalised()
    assert after == changed(before, wanted)
    assert after.normalised() == after
    KvmVcpuEvents.model_validate(after.model_dump())
