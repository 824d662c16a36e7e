"""The export of the code: everything is in it, and what it says of structs is what they do."""

import pytest

from schemas.compat import COMPAT_RULES, HostProfile
from schemas.evolution import build_export, load_export
from schemas.evolution.members import members_of
from schemas.invariants import INVARIANTS
from schemas.memory import MemoryMap
from schemas.ordering import RESTORE_ORDER, SAVE_ORDER
from schemas.uapi import SECTIONS, structs
from schemas.uapi.vcpu_events import InterruptShadow, VcpuEventFlags
from schemas.versions import SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS


@pytest.fixture(scope="module")
def export():
    return build_export()


def test_it_reads_back_and_is_made_the_same_again(export):
    assert load_export(export.canonical()) == export
    assert build_export().canonical() == export.canonical()


def test_every_row_of_every_table_is_there(export):
    assert set(export.sections) == {row.name for row in SECTIONS}
    assert set(export.structs) == {model.__name__ for model in structs()}
    assert set(export.invariants) == {row.id for row in INVARIANTS}
    assert set(export.compat_rules) == {row.id for row in COMPAT_RULES}
    assert export.order["save"].sequence == tuple(row.name for row in SAVE_ORDER)
    assert export.order["restore"].sequence == tuple(row.name for row in RESTORE_ORDER)
    assert (export.versions.written, export.versions.read) == (SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS)


@pytest.mark.parametrize("model", structs(), ids=lambda model: model.__name__)
def test_a_struct_is_exported_as_it_is_laid_out(export, model):
    found = export.structs[model.__name__]
    assert (found.size, found.align, found.c_name) == (model.SIZE, model.ALIGN, model.C_NAME)
    rows = {row.name: row for row in model.layout() if "." not in row.name}
    assert {*found.fields, *([found.tail.name] if found.tail else [])} == set(rows) == set(model.model_fields)
    assert all((row.offset, row.size) == (rows[name].offset, rows[name].size) for name, row in found.fields.items())
    assert sum(row.size for row in found.fields.values()) == model.SIZE
    behind = {row.of for row in found.fields.values() if row.of} | {
        arm for row in found.fields.values() for arm in row.arms.values()
    }
    assert behind <= export.structs.keys() | export.packed.keys()


def test_the_bits_of_the_shadow_byte(export):
    for name, part in export.packed["InterruptShadow"].items():
        for byte in range(256):
            shown = getattr(InterruptShadow.from_byte(byte), name)
            assert (shown == 0) == (byte & part.mask == 0)
            assert shown <= part.max


def test_flags_values_and_numbers_told_to_kvm_have_their_roles(export):
    assert export.enums["VcpuEventFlags"].role == "flags"
    assert export.enums["VcpuEventFlags"].members == {flag.name: flag.value for flag in VcpuEventFlags}
    assert export.enums["MpState"].role == "value"
    assert export.enums["KvmIoctl"].role == "interface"


def test_a_document_is_flattened_to_the_paths_of_its_members():
    members = members_of(MemoryMap, frozenset())
    assert members["$"].form == {"type": "object", "closed": True}
    assert members["$.slots"].form == {"type": "array", "maxItems": 512}
    assert members["$.slots[].flags"].required is False
    assert members["$.slots[].slot"].form == {"type": "integer", "minimum": 0, "maximum": 0x7FFF}


def test_structs_are_leaves_of_documents_and_numbers_beyond_2_53_are_text():
    members = members_of(HostProfile, frozenset({"KvmCpuid2"}))
    assert members["$.cpuid"].form["struct"] == "KvmCpuid2"
    assert not any(path.startswith("$.cpuid.") for path in members)
    assert "0xffffffffffffffff" in str(members["$.max_ram_bytes"].form)


def test_sections_stand_in_the_table_of_sections_only(export):
    assert not [path for path, member in export.documents["MachineState"].items() if "struct" in member.form]


def test_a_member_with_a_default_may_be_left_out_of_a_document(export):
    events = export.structs["KvmVcpuEvents"].fields
    assert (events["flags"].optional, events["reserved"].optional) == (False, True)
