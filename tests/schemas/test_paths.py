"""Paths: parsed, formatted, followed, and used to put values."""

import importlib
import pkgutil
from enum import IntFlag

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas import uapi
from schemas.errors import FieldError
from schemas.field_names import FLAG_FIELDS, bits_of
from schemas.layout import CStruct
from schemas.paths import MAX_PATH_CHARS, format_path, get, locate, parse
from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.vcpu_events import InterruptShadow


@pytest.fixture
def vcpu(legal_vcpu, changed):
    leaf = KvmCpuidEntry2(function=7, index=1, flags=1, eax=0x10, ebx=0, ecx=0, edx=0)
    features = KvmCpuidEntry2(function=7, index=0, flags=1, eax=1, ebx=0x20, ecx=0, edx=0)
    return changed(legal_vcpu, {"cpuid2": KvmCpuid2(nent=2, entries=(features, leaf))})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("regs.rip", ("regs", "rip")),
        ("vcpus[0].regs.rip", ("vcpus", 0, "regs", "rip")),
        ("vcpus.0.regs.rip", ("vcpus", 0, "regs", "rip")),
        ("msrs[0xC0000082]", ("msrs", 0xC0000082)),
        ("msrs.0xc0000082", ("msrs", 0xC0000082)),
        ("cpuid2[0x7][1].eax", ("cpuid2", 7, 1, "eax")),
        ("cpuid2.3dnow", ("cpuid2", "3dnow")),
        ("a[1][2]", ("a", 1, 2)),
    ],
)
def test_paths_are_read_in_every_spelling(text, parts):
    assert parse(text) == parts
    assert parse(format_path(parts)) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a.", ".a", "[0]", "0.a", "a..b", "a[", "a[]", "a[-1]", "a[b]", "a]b", "a b", "a[1]b", "a.b\n", "ä"),
        *("a[0x]", "a." * MAX_PATH_CHARS + "a"),
    ],
)
def test_what_is_no_path_is_refused(text):
    with pytest.raises(FieldError, match="path"):
        parse(text)


names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)


@given(st.tuples(names, st.lists(st.one_of(names, st.integers(0, 2**32)), max_size=8)))
def test_a_formatted_path_is_read_back(given):
    parts = (given[0], *given[1])
    assert parse(format_path(parts)) == parts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("regs.rip", 0xFFF0),
        ("vcpus[0].regs.rip", 0xFFF0),
        ("regs.rflags.IF", 0),
        ("regs.rflags.if", 0),
        ("sregs.cr0.CD", 1),
        ("sregs.apic_base.BSP", 1),
        ("events.flags.VALID_SMM", 1),
        ("events.flags.VALID_TRIPLE_FAULT", 1),
        ("events.flags.VALID_SIPI_VECTOR", 0),
        ("events.interrupt.shadow.smm", 0),
        ("events.interrupt.shadow", InterruptShadow(current=0)),
        ("msrs.MSR_IA32_SMBASE", 0x30000),
        ("msrs.smbase", 0x30000),
        ("msrs[0x9e]", 0x30000),
        ("msrs[158]", 0x30000),
        ("msrs.MSR_EFER.SCE", 0),
        ("msrs.MSR_LSTAR", None),
        ("msrs.entries[0].index", 0x9E),
        ("msrs.nmsrs", 3),
        ("cpuid2[7].ebx", 0x20),
        ("cpuid2[7][1].eax", 0x10),
        ("cpuid2.avx2", 1),
        ("cpuid2.bmi1", 0),
        ("cpuid2.entries[1].eax", 0x10),
        ("xcrs.xcr0", 7),
        ("xcrs.xcr0.YMM", 1),
        ("xcrs.xcrs[0].value", 7),
        ("debugregs.db[3]", 0),
        ("lapic.TASKPRI", 0),
        ("lapic.lvtt", 0),
        ("lapic.regs[8]", 0),
        ("lapic.IRR", 0),
        ("lapic.IRR[0x31]", 0),
        ("regs.rflags[1]", 1),
        ("xsave.MXCSR", 0),
        ("xsave.XMM15", bytes(16)),
        ("xsave.region[4095]", 0),
        ("sregs2", None),
        ("tsc_khz.tsc_khz", 1_000_000),
    ],
)
def test_a_value_is_found(vcpu, path, value):
    assert get(vcpu, path) == value


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("regs.rflagz", "no field of this name.*rflags"),
        ("foo", "no field"),
        ("regs.rflags.FOO", "no bit of this name.*IF"),
        ("regs.rip.IF", "have no names"),
        ("regs.rflags.IF.X", "have no names"),
        ("lapic.IRR[256]", "below 256"),
        ("regs[0]", "no field"),
        ("sregs2.cr0", "is absent"),
        ("msrs.FOO", "no MSR"),
        ("msrs.MSR_LSTAR.X", "is absent"),
        ("cpuid2[9].eax", "no CPUID leaf 0x9"),
        ("cpuid2[7][2].eax", r"no CPUID leaf 0x7\.0x2"),
        ("cpuid2.foo", "no CPUID feature"),
        ("cpuid2.sse3", "no CPUID leaf 0x1"),
        ("xcrs.xcr1", "no register"),
        ("xcrs.xcr", "no register"),
        ("lapic.FOO", "no register.*LVTT"),
        ("xsave.region[4096]", "index below 4096"),
        ("debugregs.db[4]", "index below 4"),
        ("debugregs.db.x", "index below 4"),
        ("vcpus[1].regs.rip", "this is vCPU 0"),
        ("events.interrupt.shadow.foo", "no field"),
    ],
)
def test_a_path_into_nothing_says_what_there_is(vcpu, path, what):
    with pytest.raises(FieldError, match=what):
        locate(vcpu, path)


def test_a_machine_has_vcpus_vm_and_memory(legal_machine):
    assert get(legal_machine, "vcpus[0].regs.rip") == 0xFFF0
    assert get(legal_machine, "vm.pic_slave.chip_id") == 1
    assert get(legal_machine, "vm.ioapic.chip.ioapic.redirtbl[3].MASKED") == 0
    assert get(legal_machine, "memory.slots[1].as_id") == 1
    with pytest.raises(FieldError, match=r"vcpus\[0\]\.regs\.rip"):
        locate(legal_machine, "regs.rip")
    with pytest.raises(FieldError, match="index below 1"):
        locate(legal_machine, "vcpus[1].regs.rip")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("regs.rip", 1),
        ("regs.rflags.IOPL", 3),
        ("msrs.MSR_LSTAR", 5),
        ("msrs.MSR_EFER", 0x100),
        ("msrs.MSR_EFER.SCE", 1),
        ("cpuid2.bmi1", 1),
        ("cpuid2[7][1].edx", 9),
        ("xcrs.xcr0", 3),
        ("lapic.LVTT.VECTOR", 0x31),
        ("lapic.regs[1000]", 255),
        ("lapic.IRR[0x31]", 1),
        ("lapic.ISR", 1 << 255 | 1),
        ("regs.rflags[9]", 1),
        ("xsave.MXCSR", 0x1F80),
        ("xsave.ST7", b"\x01" * 10),
        ("debugregs.db[2]", 0x1000),
        ("events.interrupt.shadow.smm", 2),
        ("sregs.cs.type", 11),
    ],
)
def test_a_value_that_is_put_is_found_and_the_rest_stays(vcpu, path, value):
    made = locate(vcpu, path).replace(value)
    assert get(made, path) == value
    back = locate(made, path).replace(get(vcpu, path))
    assert back.to_sections() == vcpu.to_sections()


def test_an_msr_that_is_taken_out_is_gone(vcpu):
    made = locate(vcpu, "msrs.MSR_IA32_SMBASE").replace(None)
    assert made.msrs.nmsrs == 2
    assert [entry.index for entry in made.msrs.entries] == [0x1B, 0xC0000080]


def test_every_value_of_a_machine_can_be_reached(legal_machine):
    seen = 0
    for parts, value in leaves((), legal_machine):
        assert get(legal_machine, parts) == value
        assert parse(format_path(parts)) == parts
        seen += 1
    assert seen > 400


def leaves(parts, value):
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from leaves((*parts, name), getattr(value, name))
    elif isinstance(value, tuple | list):
        for n, element in enumerate(value):
            yield from leaves((*parts, n), element)
    else:
        yield parts, value


def test_the_bits_of_every_flag_word_have_names():
    """A struct with a field `flags` for which its module declares flags needs a row in FLAG_FIELDS."""
    lacking = []
    for info in pkgutil.iter_modules(uapi.__path__):
        module = importlib.import_module(f"schemas.uapi.{info.name}")
        held = [o for o in vars(module).values() if isinstance(o, type) and o.__module__ == module.__name__]
        flags = {o for o in held if issubclass(o, IntFlag)} - UNUSED
        used = {row[0] for key, row in FLAG_FIELDS.items() if key[0].__module__ == module.__name__}
        lacking += [f"{info.name}.{flag.__name__}" for flag in flags - used]
    assert lacking == []


UNUSED = {
    importlib.import_module("schemas.uapi.vcpu_events").ShadowMask,  # words for the whole set: VALUE_WORDS
    importlib.import_module("schemas.uapi.dirty_log").DirtyGfnFlags,  # of a ring that is no section
}


def test_names_of_flags_are_cut_to_what_tells_them_apart():
    for (owner, field), (flags, prefix) in FLAG_FIELDS.items():
        assert all(flag.name.startswith(prefix) for flag in flags)
        row = bits_of(owner, field)
        assert row is not None
        assert {f.low for f in row.fields} >= {flag.value.bit_length() - 1 for flag in flags}
        assert field in owner.model_fields
        assert not issubclass(owner, CStruct) or owner.SIZE
