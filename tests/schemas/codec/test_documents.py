"""vCPUs and machines as JSON and MessagePack documents: identity for everything legal in size, errors with the path."""

import json
import random

import msgpack
import pytest
from hypothesis import given, settings

from schemas.codec.documents import (
    machine_from_json,
    machine_from_value,
    pack_machine,
    pack_vcpu,
    unpack_machine,
    unpack_vcpu,
    vcpu_from_json,
)
from schemas.errors import MAX_PROBLEMS, DecodeError, SchemaError
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MAX_VCPUS, MachineState, VcpuState

from .conftest import ROWS, SEEDS, raw_section, raw_sections

FEW = settings(max_examples=30, deadline=None)
MEMORY = MemoryMap(
    slots=(MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=1 << 20, backing_offset_bytes=0),), ram_bytes=1 << 20
)


def machine(seed, vcpus=2):
    return MachineState.from_sections(
        MEMORY, raw_sections("vm", seed), [raw_sections("vcpu", seed + i) for i in range(vcpus)]
    )


@pytest.mark.parametrize("name", ROWS)
def test_every_struct_comes_back_from_octets_and_from_json(name):
    row = ROWS[name]

    @FEW
    @given(SEEDS)
    def check(seed):
        raw = raw_section(row, random.Random(seed))
        held = row.model.unpack(raw)
        assert held.pack() == raw
        assert row.model.misfit(raw) is None
        assert row.model.model_validate_json(held.model_dump_json()) == held

    check()


@pytest.mark.parametrize("name", ROWS)
def test_misfit_says_what_unpack_says(name):
    model = ROWS[name].model
    for size in (0, model.SIZE - 1, model.SIZE, model.SIZE + 1, model.SIZE + 40, ROWS[name].max_bytes + 16):
        for filler in (b"\x00", b"\xff"):
            raw = filler * size
            problem = model.misfit(raw)
            if problem is None:
                assert model.unpack(raw).pack() == raw
            else:
                with pytest.raises(SchemaError) as caught:
                    model.unpack(raw)
                assert caught.value.problems == [problem]


@FEW
@given(SEEDS)
def test_a_vcpu_comes_back_from_json_and_messagepack(seed):
    vcpu = VcpuState.from_sections(raw_sections("vcpu", seed), index=seed % MAX_VCPUS)
    assert vcpu_from_json(vcpu.model_dump_json()) == vcpu
    assert unpack_vcpu(pack_vcpu(vcpu)) == vcpu


@FEW
@given(SEEDS)
def test_a_machine_comes_back_from_json_and_messagepack(seed):
    state = machine(seed)
    assert machine_from_json(state.model_dump_json()) == state
    assert unpack_machine(pack_machine(state)) == state


def vcpu_document(vcpu, **changes):
    return msgpack.packb({**msgpack.unpackb(pack_vcpu(vcpu)), **changes})


BAD_VCPU = {
    "no map": (lambda v: b"\x90", "document", "must have index, schema_version, sections"),
    "a key too many": (lambda v: vcpu_document(v, more=1), "document", "nothing else"),
    "unknown version": (lambda v: vcpu_document(v, schema_version=99), "schema_version", "99 is not known"),
    "version true": (lambda v: vcpu_document(v, schema_version=True), "schema_version", "True is not known"),
    "index text": (lambda v: vcpu_document(v, index="0"), "index", "'0' is no integer"),
    "index true": (lambda v: vcpu_document(v, index=True), "index", "True is no integer"),
    "index negative": (lambda v: vcpu_document(v, index=-1), "index", "-1 is no integer"),
    "index too large": (lambda v: vcpu_document(v, index=MAX_VCPUS), "index", "1024 is no integer"),
    "index huge": (lambda v: vcpu_document(v, index=2**64 - 1), "index", "is no integer"),
    "sections no map": (lambda v: vcpu_document(v, sections=b""), "sections", "bytes instead of a map"),
    "sections empty": (lambda v: vcpu_document(v, sections={}), "vcpus.0.regs", "missing"),
    "float": (lambda v: vcpu_document(v, index=0.0), "index", "float"),
    "deep": (lambda v: vcpu_document(v, sections={"regs": {"a": {}, "b": [[]]}}), "sections.regs", "deeper than 2"),
}


@pytest.mark.parametrize("name", BAD_VCPU)
def test_a_messagepack_document_that_does_not_fit_is_refused_with_the_place(name, vcpu):
    make, where, message = BAD_VCPU[name]
    with pytest.raises(SchemaError, match=message) as caught:
        unpack_vcpu(make(vcpu))
    assert where in {problem.where for problem in caught.value.problems}


def test_sections_of_a_later_version_are_foreign_to_an_earlier_one(vcpu, all_sections):
    body = vcpu_document(vcpu, schema_version=1, sections=all_sections)
    with pytest.raises(SchemaError, match="schema version 1 has no such section") as caught:
        unpack_vcpu(body)
    assert "sections.nested_state" in {problem.where for problem in caught.value.problems}


def machine_value(**changes):
    return {**json.loads(machine(1).model_dump_json()), **changes}


def with_vcpu(value, **changes):
    return {**value, "vcpus": [value["vcpus"][0], {**value["vcpus"][1], **changes}]}


BAD_MACHINE = {
    "a list": ([], "document"),
    "no memory": ({"vm": {}, "vcpus": []}, "document"),
    "no vCPUs": (machine_value(vcpus=[]), "vcpus"),
    "vCPUs no list": (machine_value(vcpus={"0": 1}), "vcpus"),
    "too many vCPUs": (machine_value(vcpus=[0] * (MAX_VCPUS + 1)), "vcpus"),
    "a vCPU that is none": (machine_value(vcpus=[0]), "vcpus.0.VcpuState"),
    "an unknown section": (with_vcpu(machine_value(), nonsense={}), "vcpus.1.nonsense"),
    "a register": (with_vcpu(machine_value(), mp_state={"mp_state": -1}), "vcpus.1.mp_state.mp_state"),
    "memory": (machine_value(memory={"slots": [], "ram_bytes": "0x10000000000000000"}), "memory.ram_bytes"),
    "vm": (machine_value(vm={"clock": 1}), "vm.clock"),
}


@pytest.mark.parametrize("name", BAD_MACHINE)
def test_a_machine_that_does_not_fit_is_refused_with_the_place(name):
    value, where = BAD_MACHINE[name]
    with pytest.raises(SchemaError) as caught:
        machine_from_value(value)
    assert where in {problem.where for problem in caught.value.problems}
    with pytest.raises(SchemaError):
        machine_from_json(json.dumps(value))


def test_a_machine_of_nothing_but_mistakes_has_a_bounded_list_of_them():
    with pytest.raises(SchemaError) as caught:
        machine_from_value(machine_value(vcpus=[{f"x{n}": 0 for n in range(60)}] * MAX_VCPUS))
    assert len(caught.value.problems) < 2 * MAX_PROBLEMS


BAD_PACKED_MACHINE = {
    "no map": b"\xc0",
    "vcpus nil": {"vcpus": None},
    "vcpus of nil": {"vcpus": [None]},
    "memory": {"memory": {}},
    "memory of nil": {"memory": None},
    "vm": {"vm": {"clock": b""}},
    "version": {"schema_version": 0},
}


@pytest.mark.parametrize("name", BAD_PACKED_MACHINE)
def test_a_packed_machine_that_does_not_fit_is_refused(name):
    change = BAD_PACKED_MACHINE[name]
    body = (
        change if isinstance(change, bytes) else msgpack.packb({**msgpack.unpackb(pack_machine(machine(1))), **change})
    )
    with pytest.raises(SchemaError) as caught:
        unpack_machine(body)
    assert caught.value.problems


def test_json_with_a_section_twice_is_refused_before_anything_is_built(vcpu):
    text = vcpu.model_dump_json()
    twice = text[:-1] + ',"regs":' + json.dumps(json.loads(text)["regs"]) + "}"
    with pytest.raises(DecodeError, match="'regs' occurs twice"):
        vcpu_from_json(twice)
