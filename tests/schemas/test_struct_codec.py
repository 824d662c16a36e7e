"""Every section: raw -> model -> raw is the identity on every bit, and so is JSON."""

import json
import re
import struct
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import uapi
from schemas.c_probe import all_structs
from schemas.errors import LayoutError
from schemas.layout import CFlexArray, CFlexBytes, CStruct, CUnion
from schemas.state import VcpuState, VmState
from schemas.uapi import SECTIONS, VCPU_SECTIONS, VM_SECTIONS

ROWS = {row.name: row for row in SECTIONS}
COUNTED = {"msrs": 16, "cpuid2": 40}
FLEXIBLE = {**COUNTED, "xsave": 4, "nested_state": 4096}
NO_STATE = {"interface", "run", "run_exits"}
"""Files of structs by which a backend drives a VM; nothing of them travels."""
SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def raw_bytes(model):
    """Return a strategy: any bytes that the struct's size and count allow; every reserved byte may hold junk."""

    @st.composite
    def draw_raw(draw):
        step, bound, counter = tail_of(model)
        entries = draw(st.integers(0, min(bound, 6)))
        seed = draw(st.binary(min_size=1, max_size=64))
        raw = bytearray((seed * (model.SIZE // len(seed) + 1))[: model.SIZE])
        offsets = {row.name: row.offset for row in model.layout()}
        if counter is not None:
            struct.pack_into("<I", raw, offsets[counter], entries)
        for union in unions_of(model):
            if draw(st.booleans()):  # else it is the form of an unknown value, most probably
                chosen = draw(st.sampled_from([key for key, _ in union.arms]))
                width = {row.name: row.size for row in model.layout()}[union.by]
                raw[offsets[union.by] : offsets[union.by] + width] = chosen.to_bytes(width, "little")
        return bytes(raw) + draw(st.binary(min_size=entries * step, max_size=entries * step))

    return draw_raw()


def tail_of(model):
    """Return size of an element, bound and counter of a struct's flexible tail; zeros if it has none."""
    for field in model.model_fields.values():
        for mark in field.metadata:
            if isinstance(mark, CFlexArray):
                return get_args(field.annotation)[0].SIZE, mark.max_entries, mark.count
            if isinstance(mark, CFlexBytes):
                return mark.granule, mark.max_bytes // mark.granule, None
    return 0, 0, None


def unions_of(model):
    """Return the unions among a struct's members."""
    return [mark for field in model.model_fields.values() for mark in field.metadata if isinstance(mark, CUnion)]


@pytest.mark.parametrize("model", all_structs(), ids=lambda model: model.__name__)
def test_raw_to_model_to_raw_is_the_identity(model):
    @SOME
    @given(raw_bytes(model))
    def check(raw):
        assert model.unpack(raw).pack() == raw

    check()


@pytest.mark.parametrize("model", all_structs(), ids=lambda model: model.__name__)
def test_model_to_json_to_model_is_the_identity(model):
    @SOME
    @given(raw_bytes(model))
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


@pytest.mark.parametrize("name", FLEXIBLE)
def test_a_section_above_its_bound_is_refused(name):
    row = ROWS[name]
    step = FLEXIBLE[name]
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
    modules = {model.__module__.rsplit(".", 1)[1] for row in SECTIONS for model in (row.model, *row.parts)}
    assert files == modules | NO_STATE


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


@pytest.mark.parametrize("model", all_structs(), ids=lambda model: model.__name__)
def test_the_json_schema_is_json_and_its_defaults_are_what_it_reads(model):
    assert issubclass(model, CStruct)
    properties = json.loads(json.dumps(model.model_json_schema()))["properties"]
    for name, held in properties.items():
        if held.get("type") == "string" and "default" in held:
            assert re.fullmatch(held["pattern"], held["default"]), name
