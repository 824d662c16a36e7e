"""CUnion: the sibling decides the form, every byte survives, and the wrong form is refused."""

from typing import Annotated, ClassVar

import pytest

from schemas.c_probe import expected
from schemas.errors import FieldError, LayoutError, parse_as
from schemas.layout import U8, U16, U32, CArray, CBytes, CStruct, CUnion
from schemas.uapi.nested_state import (
    VMX_NO_ADDRESS,
    KvmNestedState,
    KvmNestedStateHdrPad,
    KvmNestedStateHdrSvm,
    KvmNestedStateHdrVmx,
    KvmSvmNestedStateHdr,
    KvmVmxNestedStateHdr,
)
from schemas.uapi.run import KvmRun


class Narrow(CStruct):
    """A form of one number."""

    SIZE: ClassVar[int] = 4
    number: U32


class Pair(CStruct):
    """A form of two numbers."""

    SIZE: ClassVar[int] = 4
    low: U16
    high: U16


class Unknown(CStruct):
    """The form of any other kind."""

    SIZE: ClassVar[int] = 4
    raw: Annotated[bytes, CBytes(4)]


class Wide(CStruct):
    """A form that is too long."""

    SIZE: ClassVar[int] = 8
    raw: Annotated[bytes, CBytes(8)]


class Holder(CStruct):
    """A struct with a union."""

    SIZE: ClassVar[int] = 8
    kind: U8
    pad: Annotated[bytes, CBytes(3)] = bytes(3)
    body: Annotated[Narrow | Pair | Unknown, CUnion("kind", ((1, Narrow), (2, Pair)), Unknown)]


RAW = bytes([0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12])


@pytest.mark.parametrize(
    ("kind", "form"),
    [(1, Narrow(number=0x12345678)), (2, Pair(low=0x5678, high=0x1234)), (3, Unknown(raw=RAW[4:]))],
)
def test_the_sibling_decides_the_form(kind, form):
    raw = bytes([kind]) + RAW[1:]
    held = Holder.unpack(raw)
    assert held.body == form
    assert held.pack() == raw
    assert Holder.model_validate(held.model_dump()) == held
    assert Holder.model_validate_json(held.model_dump_json()) == held


def test_structs_with_unions_nest_in_arrays_each_with_its_own_form():
    class Row(CStruct):
        SIZE: ClassVar[int] = 32
        head: Holder
        holders: Annotated[tuple[Holder, ...], CArray(3)]

    raw = b"".join(bytes([kind]) + RAW[1:] for kind in (3, 1, 2, 9))
    row = Row.unpack(raw)
    assert [type(part.body) for part in (row.head, *row.holders)] == [Unknown, Narrow, Pair, Unknown]
    assert row.pack() == raw


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"kind": 1, "body": {"low": 1, "high": 2}}, {"body.number", "body.low", "body.high"}),
        ({"kind": 2, "body": {"low": 1 << 16, "high": 2}}, {"body.low"}),
        ({"kind": 3, "body": {"raw": "00"}}, {"body.raw"}),
        ({"kind": 1, "body": 7}, {"body"}),
        ({"kind": 1, "body": Pair(low=1, high=2)}, {"body"}),
    ],
)
def test_another_form_is_refused_with_the_place_in_the_form_that_was_due(fields, where):
    with pytest.raises(FieldError) as caught:
        parse_as(Holder, fields)
    assert {problem.where for problem in caught.value.problems} == where


def test_where_the_sibling_itself_is_wrong_that_is_told():
    with pytest.raises(FieldError) as caught:
        parse_as(Holder, {"kind": 256, "body": {"number": 1}})
    assert [problem.where for problem in caught.value.problems] == ["kind"]


def test_rows_of_every_form_are_in_the_layout():
    assert {row.name: row.offset for row in Holder.layout()} == {
        "kind": 0, "pad": 1, "body": 4, "body.number": 4, "body.low": 4, "body.high": 6, "body.raw": 4,
    }  # fmt: skip


def test_a_union_whose_forms_differ_in_size_is_refused():
    with pytest.raises(LayoutError, match="different sizes"):

        class Uneven(CStruct):
            SIZE: ClassVar[int] = 8
            kind: U32
            body: Annotated[Narrow | Wide, CUnion("kind", ((1, Narrow),), Wide)]


def test_a_union_before_its_sibling_is_refused():
    with pytest.raises(LayoutError, match="kind is not before it"):

        class Backward(CStruct):
            SIZE: ClassVar[int] = 8
            body: Annotated[Narrow | Unknown, CUnion("kind", ((1, Narrow),), Unknown)]
            kind: U32


def nested(kind, flags=0, data=b""):
    return KvmNestedState.unpack(
        flags.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + (128 + len(data)).to_bytes(4, "little")
        + bytes(range(120))
        + data
    )


def test_the_header_of_nested_state_is_that_of_its_format():
    vmx, svm, other = nested(0, 1, bytes(8192)), nested(1, 0x100), nested(7)
    assert isinstance(vmx.hdr, KvmNestedStateHdrVmx)
    assert isinstance(svm.hdr, KvmNestedStateHdrSvm)
    assert isinstance(other.hdr, KvmNestedStateHdrPad)
    assert vmx.vmx == KvmVmxNestedStateHdr.unpack(bytes(range(32)))
    assert svm.svm == KvmSvmNestedStateHdr.unpack(bytes(range(16)))
    assert (vmx.svm, svm.vmx, other.vmx, other.svm) == (None,) * 4
    assert (vmx.guest_mode, svm.guest_mode) == (True, False)
    assert svm.svm.gpat == int.from_bytes(bytes(range(8, 16)), "little")


def test_a_header_that_a_person_writes_needs_only_what_matters():
    text = '{"flags":0,"format":0,"size":128,"hdr":{"vmx":{"vmxon_pa":"0xffffffffffffffff","vmcs12_pa":"0x1000"}}}'
    held = KvmNestedState.model_validate_json(text)
    assert held.vmx is not None
    assert (held.vmx.vmxon_pa, held.vmx.smm.flags) == (VMX_NO_ADDRESS, 0)
    assert len(held.pack()) == 128


@pytest.mark.parametrize("size", [1, 4095, 4097, 3 * 4096])
def test_a_body_of_nested_state_is_one_or_two_blocks(size):
    with pytest.raises(LayoutError, match=r"kvm_nested_state"):
        KvmNestedState.unpack(bytes(128 + size))


@pytest.mark.parametrize(
    ("reason", "member"),
    [(0, "hw"), (2, "io"), (3, "hypercall"), (4, "debug"), (6, "mmio"), (9, "fail_entry"), (17, "internal"),
     (24, "system_event"), (29, "msr"), (30, "msr"), (37, "notify"), (39, "memory_fault"), (5, "padding"),
     (1000, "padding")],
)  # fmt: skip
def test_what_an_exit_leaves_is_read_by_its_reason(reason, member):
    raw = bytearray(KvmRun.SIZE)
    raw[8:12] = reason.to_bytes(4, "little")
    assert hasattr(KvmRun.unpack(bytes(raw)).exit, member)
    assert expected()[f"offsetof kvm_run {member}"] == 32


def test_an_emulation_failure_is_an_internal_error_of_that_kind():
    raw = bytearray(KvmRun.SIZE)
    raw[8:12] = (17).to_bytes(4, "little")
    raw[32:36] = (1).to_bytes(4, "little")
    raw[48:51] = b"\x02\x0f\x0b"
    found = KvmRun.unpack(bytes(raw)).emulation_failure
    assert found is not None
    assert found.insn_bytes[: found.insn_size] == b"\x0f\x0b"
    raw[32] = 3
    assert KvmRun.unpack(bytes(raw)).emulation_failure is None
    raw[8], raw[32] = 2, 1
    assert KvmRun.unpack(bytes(raw)).emulation_failure is None
