"""Every section: raw -> model -> raw is the identity on every bit, and so is JSON."""

import json
import struct
import timeit
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import uapi
from schemas.errors import LayoutError
from schemas.kvm_numbers import KvmIoctl
from schemas.layout import CStruct
from schemas.state import VcpuState, VmState
from schemas.uapi import SECTIONS, VCPU_SECTIONS, VM_SECTIONS, structs
from schemas.uapi.sregs import KvmSregs

ROWS = {row.name: row for row in SECTIONS}
COUNTED = {"msrs": 16, "cpuid2": 40}
SOME = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def raw_sections(draw, name):
    """Return any bytes that the section's size and count allow: every reserved byte may hold junk."""
    model = ROWS[name].model
    if name in COUNTED:
        entries = draw(st.integers(0, 6))
        junk = draw(st.binary(min_size=4, max_size=4))
        size = entries * COUNTED[name]
        return struct.pack("<I", entries) + junk + draw(st.binary(min_size=size, max_size=size))
    extra = 4 * draw(st.integers(0, 16)) if name == "xsave" else 0
    seed = draw(st.binary(min_size=1, max_size=64))
    return (
        (seed * (model.SIZE // len(seed) + 1))[: model.SIZE] + bytes(extra)
        if model.SIZE > 512
        else draw(st.binary(min_size=model.SIZE, max_size=model.SIZE))
    )


@pytest.mark.parametrize("name", ROWS)
def test_raw_to_model_to_raw_is_the_identity(name):
    @SOME
    @given(raw_sections(name))
    def check(raw):
        assert ROWS[name].model.unpack(raw).pack() == raw

    check()


@pytest.mark.parametrize("name", ROWS)
def test_model_to_json_to_model_is_the_identity(name):
    model = ROWS[name].model

    @SOME
    @given(raw_sections(name))
    def check(raw):
        held = model.unpack(raw)
        assert model.model_validate_json(held.model_dump_json()) == held
        assert model.model_validate(held.model_dump()).pack() == raw

    check()


@pytest.mark.parametrize("name", ROWS)
def test_a_raw_section_of_the_wrong_length_is_refused_with_both_lengths(name):
    model = ROWS[name].model
    for raw in (b"", bytes(model.SIZE - 1), bytes(model.SIZE + 1)):
        with pytest.raises(LayoutError, match=f"{len(raw)} bytes, expected {model.SIZE}"):
            model.unpack(raw)


@pytest.mark.parametrize("name", COUNTED)
def test_a_count_that_contradicts_the_entries_is_refused(name):
    raw = struct.pack("<II", 2, 0) + bytes(COUNTED[name])
    with pytest.raises(LayoutError, match="says 2, but 1 are there"):
        ROWS[name].model.unpack(raw)


@pytest.mark.parametrize("name", [*COUNTED, "xsave"])
def test_a_section_above_its_bound_is_refused(name):
    row = ROWS[name]
    step = COUNTED.get(name, 4)
    count = (row.max_bytes - row.model.SIZE) // step + 1
    head = struct.pack("<II", count, 0) if name in COUNTED else bytes(row.model.SIZE)
    with pytest.raises(LayoutError, match=f"{count} elements, at most {count - 1}"):
        row.model.unpack(head + bytes(count * step))
    assert not row.size_fits(row.max_bytes + step)
    assert row.size_fits(row.max_bytes)


def test_memoryview_and_bytearray_unpack_like_bytes():
    raw = bytes(range(144))
    model = ROWS["regs"].model
    assert model.unpack(memoryview(raw)) == model.unpack(bytearray(raw)) == model.unpack(raw)


def test_every_file_of_the_folder_has_a_row():
    folder = Path(uapi.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    modules = {row.model.__module__.rsplit(".", 1)[1] for row in SECTIONS}
    assert files == modules


def test_every_row_is_a_field_of_its_state_and_the_reverse():
    assert list(VCPU_SECTIONS) == [name for name in VcpuState.model_fields if name != "index"]
    assert list(VM_SECTIONS) == list(VmState.model_fields)
    for rows, state in ((VCPU_SECTIONS, VcpuState), (VM_SECTIONS, VmState)):
        for name, row in rows.items():
            assert state.model_fields[name].is_required() == row.required
            annotation = state.model_fields[name].annotation
            assert row.model in (annotation, *get_args(annotation))


def test_section_names_are_unique():
    assert len(ROWS) == len(SECTIONS)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.get_ioctl is not None])
def test_an_ioctl_encodes_the_size_of_its_struct(name):
    row = ROWS[name]
    assert row.set_ioctl is not None
    for request in (row.get_ioctl, row.set_ioctl):
        size = request >> 16 & 0x3FFF
        plain_argument = request in (KvmIoctl.KVM_GET_TSC_KHZ, KvmIoctl.KVM_SET_TSC_KHZ)
        assert size == (0 if plain_argument else row.model.SIZE)


def test_every_declared_json_schema_is_json():
    for model in structs():
        json.dumps(model.model_json_schema())
        assert isinstance(model, type)
        assert issubclass(model, CStruct)


def test_unpacking_kvm_sregs_takes_well_under_100_us():
    raw = bytes(range(256)) + bytes(56)
    best = min(timeit.repeat(lambda: KvmSregs.unpack(raw), number=5, repeat=300)) / 5
    assert best < 100e-6
