"""VcpuState, VmState, MachineState: sections and JSON."""

import hashlib
import struct

import pytest
from pydantic import ValidationError

from schemas.errors import SchemaError
from schemas.state import SCHEMA_VERSION, MachineState, VcpuState, VmState, section_problems, sections_digest
from schemas.uapi import SECTIONS, VCPU_SECTIONS
from schemas.uapi.sregs2 import KvmSregs2


def test_a_vcpu_survives_sections_and_json(legal_vcpu):
    sections = legal_vcpu.to_sections()
    assert VcpuState.from_sections(sections) == legal_vcpu
    assert VcpuState.from_sections(sections).to_sections() == sections
    assert VcpuState.model_validate_json(legal_vcpu.model_dump_json()) == legal_vcpu


def test_sections_come_in_the_order_of_the_table(legal_vcpu, legal_machine):
    order = [row.name for row in SECTIONS]
    for names in (list(legal_vcpu.to_sections()), list(legal_machine.vm.to_sections())):
        assert names == [name for name in order if name in names]


def test_an_optional_section_is_left_out_when_it_is_not_there(legal_vcpu):
    assert "sregs2" not in legal_vcpu.to_sections()
    with_it = legal_vcpu.model_copy(update={"sregs2": KvmSregs2.zero()})
    assert VcpuState.from_sections(with_it.to_sections()).sregs2 == KvmSregs2.zero()


def test_a_vm_needs_no_section():
    assert VmState.from_sections({}) == VmState()
    assert VmState().to_sections() == {}


def test_a_machine_survives_sections_and_json(legal_machine):
    raw = legal_machine.to_sections()
    assert MachineState.from_sections(legal_machine.memory, raw.vm, raw.vcpus) == legal_machine
    assert MachineState.model_validate_json(legal_machine.model_dump_json()) == legal_machine


def test_from_sections_reports_every_problem(legal_vcpu):
    sections = legal_vcpu.to_sections()
    del sections["regs"]
    sections["events"] = sections["events"][:-1]
    sections["msrs"] = struct.pack("<II", 9, 0)
    sections["smells"] = b""
    with pytest.raises(SchemaError) as caught:
        VcpuState.from_sections(sections, index=3)
    assert {problem.where: problem.message for problem in caught.value.problems} == {
        "vcpus.3.smells": "unknown section",
        "vcpus.3.regs": "required section is missing",
        "vcpus.3.events": "kvm_vcpu_events: 63 bytes, expected 64",
        "vcpus.3.msrs": "kvm_msrs.nmsrs: says 9, but 0 are there",
    }


@pytest.mark.parametrize("value", [None, 5, "00", [1]])
def test_a_section_that_is_no_bytes_is_refused(legal_vcpu, value):
    sections = {**legal_vcpu.to_sections(), "regs": value}
    assert [problem.where for problem in section_problems(sections, "vcpu")] == ["vcpus.0.regs"]


def test_a_machine_reports_the_problems_of_all_its_parts(legal_machine):
    raw = legal_machine.to_sections()
    broken = {**raw.vcpus[0], "regs": b""}
    with pytest.raises(SchemaError) as caught:
        MachineState.from_sections(legal_machine.memory, {"nose": b""}, [raw.vcpus[0], broken])
    assert [problem.where for problem in caught.value.problems] == ["vm.nose", "vcpus.1.regs"]


def test_a_machine_without_a_vcpu_is_refused(legal_machine):
    with pytest.raises(SchemaError, match="0 vCPUs"):
        MachineState.from_sections(legal_machine.memory, {}, [])
    with pytest.raises(ValidationError, match="vcpus"):
        MachineState(memory=legal_machine.memory, vm=VmState(), vcpus=[])


def test_unknown_fields_of_json_are_refused(legal_vcpu):
    with pytest.raises(ValidationError, match="surprise"):
        VcpuState.model_validate({**legal_vcpu.model_dump(), "surprise": 1})


def test_the_digest_is_that_of_its_definition():
    sections = {"b": b"xyz", "a": b""}
    wanted = hashlib.sha256(b"\1\0\0\0a" + bytes(8) + b"\1\0\0\0b" + b"\3" + bytes(7) + b"xyz").digest()
    assert sections_digest(sections) == wanted == sections_digest(dict(reversed(sections.items())))


def test_the_digest_tells_apart_what_only_shifts_bytes_between_sections():
    assert sections_digest({"a": b"bc"}) != sections_digest({"ab": b"c"})
    assert sections_digest({"a": b"", "b": b"x"}) != sections_digest({"a": b"x", "b": b""})


def test_junk_in_every_byte_travels(legal_vcpu):
    sections = {
        name: raw if name in ("msrs", "cpuid2") else bytes([0xA5]) * len(raw)
        for name, raw in legal_vcpu.to_sections().items()
    }
    assert VcpuState.from_sections(sections).to_sections() == sections


def test_the_schema_version_is_2():
    assert SCHEMA_VERSION == 2
    assert sum(row.required for row in VCPU_SECTIONS.values()) == 11
