"""raw -> view -> raw is the identity for every input, and so is the way through JSON."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import FieldError, LayoutError
from schemas.layout import CStruct
from schemas.names.smram import SMRAM_AREA_BYTES
from schemas.names.xsave import XSAVE_COMPONENTS
from schemas.uapi import SECTIONS, structs
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.lapic import KvmLapicState
from schemas.uapi.msrs import KvmMsrEntry, KvmMsrs
from schemas.uapi.nested_state import KvmNestedState
from schemas.uapi.xsave import KvmXsave
from schemas.views.cpuid import CpuidView
from schemas.views.lapic import LapicView
from schemas.views.msrs import MsrsView
from schemas.views.parts import holes
from schemas.views.sections import SECTION_VIEWS, vcpu_of, view_vcpu, view_vm, views_json, vm_of
from schemas.views.smram import SmramView
from schemas.views.structs import decode_struct, encode_struct
from schemas.views.xsave import XsaveView

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)

FIXED = [model for model in structs() if model._tail is None]


def random_bytes(size: int) -> st.SearchStrategy[bytes]:
    """Random bytes, mostly zero or mostly ones as well: where few bits are set, gaps and vectors are few."""
    full = st.binary(min_size=size, max_size=size)
    return full | st.just(bytes(size)) | st.just(b"\xff" * size)


@pytest.mark.parametrize("model", FIXED, ids=lambda model: model.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_struct_survives_its_view(model: type[CStruct], data: st.DataObject) -> None:
    raw = data.draw(random_bytes(model.SIZE))
    assert encode_struct(decode_struct(model.unpack(raw)), model).pack() == raw


@settings(max_examples=40)
@given(random_bytes(128), st.integers(0, 2), st.sampled_from([0, 1, 7]))
def test_nested_state_of_any_format(header: bytes, blocks: int, form: int) -> None:
    raw = header[:2] + form.to_bytes(2, "little") + header[4:] + bytes(range(256)) * 16 * blocks
    assert encode_struct(decode_struct(KvmNestedState.unpack(raw)), KvmNestedState).pack() == raw


@given(random_bytes(1024))
def test_lapic_page(raw: bytes) -> None:
    view = LapicView.of(KvmLapicState(regs=raw))
    assert view.to_struct().regs == raw
    assert LapicView.model_validate_json(view.model_dump_json()).to_struct().regs == raw


leaf_d = st.builds(
    KvmCpuidEntry2,
    function=st.just(0xD),
    index=st.integers(0, 70),
    flags=st.just(1),
    eax=st.integers(0, 1100) | U32,
    ebx=st.integers(500, 5000) | U32,
    ecx=st.integers(0, 3),
    edx=U32,
)


@settings(max_examples=60)
@given(random_bytes(4096), st.integers(0, 600).map(lambda n: bytes(range(4)) * n), st.lists(leaf_d, max_size=12))
def test_xsave_area_with_any_cpuid(region: bytes, extra: bytes, leaves: list[KvmCpuidEntry2]) -> None:
    cpuid = KvmCpuid2(nent=len(leaves), entries=tuple(leaves))
    view = XsaveView.of(KvmXsave(region=region, extra=extra), cpuid)
    assert view.to_struct() == KvmXsave(region=region, extra=extra)
    assert XsaveView.model_validate_json(view.model_dump_json()).to_struct() == KvmXsave(region=region, extra=extra)


KNOWN = [0x10, 0x1B, 0x277, 0x174, 0x6E0, 0xC0000080, 0xC0000082, 0x401, 0x4B564D03, 0x48, 0x8B]


@given(st.lists(st.builds(KvmMsrEntry, index=st.sampled_from(KNOWN) | U32, reserved=U32, data=U64), max_size=20), U32)
def test_msr_list(entries: list[KvmMsrEntry], pad: int) -> None:
    raw = KvmMsrs(nmsrs=len(entries), pad=pad, entries=tuple(entries)).pack()
    view = MsrsView.of(KvmMsrs.unpack(raw))
    assert view.to_struct().pack() == raw
    assert MsrsView.model_validate_json(view.model_dump_json()).to_struct().pack() == raw


FUNCTIONS = [0, 1, 4, 7, 0xD, 0x14, 0x40000001, 0x80000001, 0x80000007, 0x80000008, 0x8000000A, 0x80000021]
leaf = st.builds(
    KvmCpuidEntry2,
    function=st.sampled_from(FUNCTIONS) | U32,
    index=st.integers(0, 2),
    flags=U32,
    eax=U32,
    ebx=U32,
    ecx=U32,
    edx=U32,
    padding=st.tuples(U32, U32, U32),
)


@given(st.lists(leaf, max_size=8), U32)
def test_cpuid(entries: list[KvmCpuidEntry2], padding: int) -> None:
    raw = KvmCpuid2(nent=len(entries), padding=padding, entries=tuple(entries)).pack()
    view = CpuidView.of(KvmCpuid2.unpack(raw))
    assert view.to_struct().pack() == raw
    assert CpuidView.model_validate_json(view.model_dump_json()).to_struct().pack() == raw


@given(random_bytes(SMRAM_AREA_BYTES), st.booleans())
@example(bytes(range(256)) * 2, True)
@example(bytes(range(256)) * 2, False)
def test_smram_area_by_both_maps(raw: bytes, long_mode: bool) -> None:
    view = SmramView.of(raw, long_mode=long_mode)
    assert view.to_bytes() == raw
    assert SmramView.model_validate_json(view.model_dump_json()).to_bytes() == raw


def test_a_vcpu_and_a_vm_survive_their_views(legal_machine: Any) -> None:
    vcpu = legal_machine.vcpus[0]
    assert vcpu_of(view_vcpu(vcpu)) == vcpu
    assert vm_of(view_vm(legal_machine.vm)) == legal_machine.vm


def test_a_vcpu_and_a_vm_survive_the_json_of_their_views(legal_machine: Any, changed: Any) -> None:
    vcpu = changed(legal_machine.vcpus[0], {"sregs.cr0": 1 << 63 | 1, "sregs.apic_base": (1 << 64) - 1})
    assert vcpu_of(json.loads(json.dumps(views_json(view_vcpu(vcpu))))) == vcpu
    vm = legal_machine.vm
    assert vm_of(json.loads(json.dumps(views_json(view_vm(vm))))) == vm


LEAF = dict.fromkeys(("function", "index", "flags", "eax", "ebx", "ecx", "edx"), 0)
XSAVE = {
    "registers": {},
    "st": ["00" * 10] * 8,
    "xmm": ["00" * 16] * 16,
    "components": [],
    "gaps": {},
    "size_bytes": 4096,
}


@pytest.mark.parametrize(
    ("views", "problem"),
    [
        ({"nope": {}}, "nope: no such section"),
        ({"regs": {"rflags": {"IF": "on"}}}, "rflags.IF: str instead of a number"),
        ({"regs": {"rflags": {"IF": True}}}, "rflags.IF: bool instead of a number"),
        ({"regs": {"rflags": {"NOPE": 1}}}, "rflags.NOPE: no such bits"),
        ({"regs": {"rax": 1 << 64}}, "rax"),
        ({"lapic": {"registers": {}}}, "isr"),
        ({"sregs": 5}, "dict"),
        ({"sregs": {"cs": 5}}, "cs"),
        ({"xcrs": {"xcrs": 5}}, "xcrs"),
        ({"xsave": XSAVE | {"st": ["00"] * 8}}, "1 bytes, expected 10"),
        ({"xsave": XSAVE | {"st": []}}, "st"),
        ({"xsave": XSAVE | {"size_bytes": 1 << 40}}, "size_bytes"),
        ({"xsave": XSAVE | {"gaps": {"4090": "00" * 9}}}, "9 bytes at 0xffa do not fit 4096"),
        ({"msrs": {"entries": [{"name": "NOPE"}]}}, "no MSR is called"),
        ({"msrs": {"entries": [{"name": "0x1234"}]}}, "these bits have no names"),
        ({"cpuid2": {"entries": [{"function": "0x1"}]}}, "entries.0.index"),
        ({"xsave": XSAVE | {"size_bytes": 4098}}, "size_bytes"),
        ({"msrs": {"entries": [{"name": "0x10"}] * 1025}}, "at most 1024"),
        ({"cpuid2": {"entries": [LEAF] * 257}}, "at most 256"),
        ({"regs": {}}, "rax"),
        ({}, "regs"),
    ],
)
def test_json_that_is_no_view_is_refused(views: dict[str, Any], problem: str) -> None:
    with pytest.raises(FieldError, match=problem):
        vcpu_of(views)


def test_views_have_a_json_form(legal_machine: Any) -> None:
    shown = views_json(view_vcpu(legal_machine.vcpus[0]))
    assert shown["regs"]["rflags"]["IF"] == 0
    assert shown["debugregs"]["dr7"]["reserved"] == 0x400
    assert shown["lapic"]["registers"]["SPIV"]["VECTOR"] == 0
    assert shown["lapic"]["isr"] == []


def test_a_section_view_is_of_a_section() -> None:
    assert set(SECTION_VIEWS) <= {row.name for row in SECTIONS}


@pytest.mark.parametrize(
    ("view", "problem"),
    [
        (LapicView(registers={"NOPE": 1}, isr=(), tmr=(), irr=(), gaps={}), "no such register"),
        (LapicView(registers={"TMICT": 1 << 32}, isr=(), tmr=(), irr=(), gaps={}), "does not fit 4 bytes"),
        (LapicView(registers={"SPIV": {"NOPE": 1}}, isr=(), tmr=(), irr=(), gaps={}), "no such bits"),
        (LapicView(registers={}, isr=(256,), tmr=(), irr=(), gaps={}), "no vector"),
        (LapicView(registers={}, isr=(), tmr=(), irr=(), gaps={1020: bytes(8)}), "do not fit 1024"),
    ],
)
def test_a_view_that_no_page_has_is_refused(view: LapicView, problem: str) -> None:
    with pytest.raises(FieldError, match=problem):
        view.to_struct()


def test_a_feature_of_another_register_is_refused() -> None:
    view = CpuidView.of(
        KvmCpuid2(nent=1, entries=(KvmCpuidEntry2(function=1, index=0, flags=0, eax=0, ebx=0, ecx=0, edx=0),))
    )
    bad = view.model_dump()
    bad["entries"][0]["ecx"]["features"] = ("avx2",)
    with pytest.raises(FieldError, match="no feature 'avx2' here"):
        CpuidView.model_validate(bad).to_struct()


def test_smram_of_another_size_is_refused() -> None:
    with pytest.raises(LayoutError, match="511 bytes, expected 512"):
        SmramView.of(bytes(511), long_mode=True)


def test_supervisor_and_overlapping_components_are_gaps() -> None:
    def entry(index: int, eax: int, ebx: int, ecx: int = 0) -> KvmCpuidEntry2:
        return KvmCpuidEntry2(function=0xD, index=index, flags=1, eax=eax, ebx=ebx, ecx=ecx, edx=0)

    leaves = (entry(2, 256, 576), entry(9, 8, 700), entry(11, 16, 1000, 1), entry(5, 64, 1024), entry(6, 9999, 1100))
    view = XsaveView.of(KvmXsave(region=b"\x01" * 4096), KvmCpuid2(nent=5, entries=leaves))
    assert [(c.name, c.offset, len(c.data)) for c in view.components] == [("YMM", 576, 256), ("OPMASK", 1024, 64)]


def test_components_have_the_names_of_the_header_bits() -> None:
    from schemas.names.bits import REGISTERS

    assert {(row.bit, row.name) for row in XSAVE_COMPONENTS} == {
        (field.low, field.name) for field in REGISTERS["xstate_bv"].fields
    }


def test_holes_are_what_no_part_covers() -> None:
    from schemas.views.parts import Part

    assert holes([Part("a", 4, 4), Part("b", 2, 4), Part("c", 12, 2)], 16) == [(0, 2), (8, 12), (14, 16)]
    assert holes([Part("a", 0, 8), Part("inside", 2, 2)], 16) == [(8, 16)]
