"""CStruct: what it refuses to be declared as, and which values and JSON forms its fields take."""

import json
from typing import Annotated, ClassVar

import pytest
from pydantic import ValidationError

from schemas.errors import FieldError, LayoutError, parse_as, problems_of
from schemas.layout import U8, U16, U32, U64, CArray, CBytes, CFlexArray, CStruct, FieldLayout
from schemas.uapi.debugregs import KvmDebugregs
from schemas.uapi.lapic import KvmLapicState
from schemas.uapi.mp_state import KvmMpState
from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs
from schemas.uapi.pit2 import KvmPitChannelState
from schemas.uapi.regs import KvmRegs
from schemas.uapi.vcpu_events import KvmVcpuEvents
from schemas.uapi.xsave import KvmXsave


def test_a_declared_size_that_the_members_do_not_add_up_to_is_refused():
    with pytest.raises(LayoutError, match="members take 4 bytes, SIZE says 8"):

        class Wrong(CStruct):
            SIZE: ClassVar[int] = 8
            a: U32


def test_a_hole_between_members_is_refused_because_nothing_would_carry_it():
    with pytest.raises(LayoutError, match="offset 1 is not aligned to 4: declare the padding"):

        class Holed(CStruct):
            SIZE: ClassVar[int] = 8
            a: U8
            b: U32


def test_a_hole_at_the_end_is_refused():
    with pytest.raises(LayoutError, match="members take 9 bytes"):

        class Short(CStruct):
            SIZE: ClassVar[int] = 9
            a: U64
            b: U8


def test_a_member_behind_a_flexible_one_is_refused():
    with pytest.raises(LayoutError, match="follows a flexible member"):

        class Behind(CStruct):
            SIZE: ClassVar[int] = 8
            n: U32
            entries: Annotated[tuple[KvmMsrEntry, ...], CFlexArray(4, count="n")]
            last: U32


def test_a_field_that_is_no_c_type_is_refused():
    with pytest.raises(LayoutError, match="is no C type"):

        class Text(CStruct):
            SIZE: ClassVar[int] = 8
            text: str


def test_nested_arrays_of_structs_have_one_codec():
    class Inner(CStruct):
        SIZE: ClassVar[int] = 4
        a: U16
        b: Annotated[bytes, CBytes(2)]

    class Outer(CStruct):
        SIZE: ClassVar[int] = 16
        head: U32
        inner: Annotated[tuple[Inner, ...], CArray(2)]
        tail: Annotated[tuple[U16, ...], CArray(2)]

    raw = bytes(range(16))
    held = Outer.unpack(raw)
    assert held.inner[1] == Inner(a=0x0908, b=b"\x0a\x0b")
    assert held.tail == (0x0D0C, 0x0F0E)
    assert held.pack() == raw
    assert Outer.layout() == (
        FieldLayout("head", 0, 4, "u32"),
        FieldLayout("inner", 4, 8, "struct[2]"),
        FieldLayout("tail", 12, 4, "u16[2]"),
    )


def test_layout_rows_name_nested_members_with_dots():
    rows = {row.name: (row.offset, row.size, row.ctype) for row in KvmVcpuEvents.layout()}
    assert rows["interrupt.shadow"] == (11, 1, "u8")
    assert rows["smi.latched_init"] == (27, 1, "u8")
    assert rows["exception_payload"] == (56, 8, "u64")


def test_64_bit_values_are_hex_strings_in_json_and_narrower_ones_numbers():
    regs = KvmRegs.zero().model_copy(update={"rip": 0xFFFF_FFFF_8000_1234})
    shown = json.loads(regs.model_dump_json())
    assert shown["rip"] == "0xffffffff80001234"
    assert json.loads(KvmMpState(mp_state=3).model_dump_json()) == {"mp_state": 3}
    assert regs.model_dump()["rip"] == 0xFFFF_FFFF_8000_1234


@pytest.mark.parametrize("form", ["0x10", "0X10", 16])
def test_both_forms_of_an_integer_are_read(form):
    assert parse_as(KvmMpState, {"mp_state": form}) == KvmMpState(mp_state=16)
    assert parse_as(KvmRegs, {**KvmRegs.zero().model_dump(), "rax": form}).rax == 16


@pytest.mark.parametrize(
    "form",
    ["16", "", "0x", "0xg", " 0x10", "0x10\n", "0x1_0", "0x1" + "0" * 16, "-0x1", True, 1.0, None, [], -1, 1 << 64],
)
def test_anything_else_is_refused_with_the_name_of_the_field(form):
    with pytest.raises(FieldError) as caught:
        parse_as(KvmRegs, {**KvmRegs.zero().model_dump(), "r9": form})
    assert [problem.where for problem in caught.value.problems] == ["r9"]


def test_signed_values_have_both_signs_in_json():
    channel = KvmPitChannelState.zero().model_copy(update={"count_load_time": -5})
    assert json.loads(channel.model_dump_json())["count_load_time"] == "-0x5"
    assert KvmPitChannelState.model_validate_json(channel.model_dump_json()) == channel


@pytest.mark.parametrize("form", ["0x100", "0x010", "256"])
def test_a_string_has_no_more_digits_than_the_type(form):
    data = KvmVcpuEvents.zero().model_dump()
    data["smi"]["smm"] = form
    with pytest.raises(FieldError, match=r"smi\.smm"):
        parse_as(KvmVcpuEvents, data)


@pytest.mark.parametrize("value", [-(1 << 63), -1, 0, (1 << 63) - 1])
def test_signed_limits_have_a_string_form(value):
    assert parse_as(KvmPitChannelState, {**KvmPitChannelState.zero().model_dump(), "count_load_time": hex(value)})
    for beyond in (-(1 << 63) - 1, 1 << 63):
        with pytest.raises(FieldError, match="count_load_time"):
            parse_as(KvmPitChannelState, {**KvmPitChannelState.zero().model_dump(), "count_load_time": hex(beyond)})


def test_every_problem_is_reported_not_only_the_first():
    data = KvmRegs.zero().model_dump()
    data.update(rax=-1, r15="xyz", surprise=1)
    del data["rbx"]
    with pytest.raises(FieldError) as caught:
        parse_as(KvmRegs, data)
    assert {problem.where for problem in caught.value.problems} == {"rax", "rbx", "r15", "surprise"}


def test_a_nested_problem_names_the_whole_path():
    data = KvmVcpuEvents.zero().model_dump()
    data["smi"]["smm"] = 256
    with pytest.raises(ValidationError) as caught:
        KvmVcpuEvents.model_validate(data)
    assert problems_of(caught.value)[0].where == "smi.smm"


def test_padding_may_be_left_out_of_json_and_is_zero_then():
    data = KvmDebugregs.zero().model_dump()
    del data["reserved"]
    assert KvmDebugregs.model_validate(data) == KvmDebugregs.zero()


def test_an_array_of_another_length_is_refused():
    data = KvmDebugregs.zero().model_dump()
    with pytest.raises(FieldError, match="db"):
        parse_as(KvmDebugregs, {**data, "db": [0, 0, 0]})


@pytest.mark.parametrize("region", ["", "00" * 4095, "00" * 4097, "0" * 8191, "zz" * 4096, "00 " * 4096, 7])
def test_bytes_of_another_length_or_form_are_refused(region):
    with pytest.raises(FieldError, match="region"):
        parse_as(KvmXsave, {"region": region})


def test_a_flexible_tail_in_part_of_an_element_is_refused():
    with pytest.raises(FieldError, match="multiple of 4"):
        parse_as(KvmXsave, {"region": "00" * 4096, "extra": "000000"})


def test_the_count_of_entries_may_be_left_out_and_must_be_right_if_given():
    entries = [{"index": 0x10, "data": "0x5"}]
    assert parse_as(KvmMsrs, {"entries": entries}).nmsrs == 1
    with pytest.raises(FieldError, match="nmsrs says 2, but entries has 1"):
        parse_as(KvmMsrs, {"nmsrs": 2, "entries": entries})


def test_packing_a_value_forced_past_validation_names_the_field():
    broken = KvmVcpuEvents.zero()
    broken = broken.model_copy(update={"smi": broken.smi.model_copy(update={"smm": 300}), "flags": -1})
    with pytest.raises(FieldError) as caught:
        broken.pack()
    assert {problem.where for problem in caught.value.problems} == {"kvm_vcpu_events.smi.smm", "kvm_vcpu_events.flags"}


def test_structs_are_frozen():
    with pytest.raises(ValidationError):
        KvmMpState(mp_state=0).mp_state = 1  # type: ignore[misc]


def test_an_unpacked_struct_equals_and_copies_like_a_validated_one():
    held = KvmMpState.unpack(b"\3\0\0\0")
    assert held == KvmMpState(mp_state=3)
    assert hash(held) == hash(KvmMpState(mp_state=3))
    assert held.model_copy(update={"mp_state": 1}) == KvmMpState(mp_state=1)
    assert held.model_copy(deep=True) == held


def test_the_local_apic_has_registers_at_every_sixteenth_byte():
    page = bytearray(0x400)
    page[0x320:0x324] = b"\x78\x56\x34\x12"
    lapic = KvmLapicState(regs=bytes(page))
    assert lapic.register(0x320) == 0x12345678
    for offset in (0x321, 0x400, -16):
        with pytest.raises(ValueError, match="no local APIC register"):
            lapic.register(offset)


def test_the_json_schema_says_what_is_read():
    shadow = KvmVcpuEvents.model_json_schema()["$defs"]["InterruptShadow"]
    assert {form["type"] for form in shadow["anyOf"]} == {"object", "integer"}
    assert KvmVcpuEvents.model_json_schema(mode="serialization")["$defs"]["InterruptShadow"]["type"] == "object"
    db = KvmDebugregs.model_json_schema()["properties"]["db"]
    assert (db["minItems"], db["maxItems"]) == (4, 4)
    entries = KvmMsrs.model_json_schema()["properties"]["entries"]
    assert entries["maxItems"] == 1024
