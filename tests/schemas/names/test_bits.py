"""Register bits: decoding is lossless, and every name has one place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FieldError
from schemas.names.bits import REGISTERS, RESERVED, BitField, RegisterBits


@pytest.mark.parametrize("name", REGISTERS)
def test_fields_are_apart_and_fit(name: str) -> None:
    row = REGISTERS[name]
    assert row.name == name
    assert row.source
    seen = 0
    for field in row.fields:
        assert field.width >= 1
        assert not field.mask & seen, f"{field.name} overlaps"
        assert field.mask < 1 << row.width, f"{field.name} is outside of the register"
        assert all(0 <= value < 1 << field.width for value in field.values or ())
        seen |= field.mask
    assert not row.ones & seen, "a bit that is always 1 has a name"
    names = [field.name.lower() for field in row.fields]
    assert len(set(names)) == len(names)
    assert RESERVED not in names


@given(st.sampled_from(sorted(REGISTERS)), st.integers(0, 2**64 - 1))
def test_every_value_survives(name: str, value: int) -> None:
    row = REGISTERS[name]
    value &= (1 << row.width) - 1
    assert row.encode(row.decode(value)) == value


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("rflags", 0xB046, "PF ZF IOPL=3 reserved=0x8000"),
        ("rflags", 0x44, "PF ZF cleared=0x2"),
        ("rflags", 2, "-"),
        ("cr0", 0x80050033, "PE MP ET NE WP AM PG"),
        ("cr4", 0x6A0, "PAE PGE OSFXSR OSXMMEXCPT"),
        ("efer", 0xD01, "SCE LME LMA NX"),
        ("dr6", 0xFFFF0FF0, "-"),
        ("dr6", 0xFFFF4FF1, "B0 BS"),
        ("dr6", 0xFFFE0FF0, "RTM"),
        ("dr7", 0x400, "-"),
        ("dr7", 0x000D0402, "G0 RW0=write LEN0=4"),
        ("pat", 0x0007040600070406, "PA0=WB PA1=WT PA2=UC- PA3=UC PA4=WB PA5=WT PA6=UC- PA7=UC"),
        ("apic_base", 0xFEE00D00, "BSP EXTD EN BASE=0xfee00"),
        ("xcr0", 0xE7, "FP SSE YMM OPMASK ZMM_Hi256 Hi16_ZMM"),
        ("lvtt", 0x400EC, "VECTOR=0xec TIMER=TSC-deadline"),
        ("redirtbl", 0x1000000000010931, "VECTOR=0x31 MODE=lowest LOGICAL MASKED DEST=0x10"),
        ("syscall_mask", 0x47700, "TF IF DF IOPL=3 NT AC"),
    ],
)
def test_a_value_in_words(name: str, value: int, text: str) -> None:
    assert REGISTERS[name].describe(value) == text


def test_fields_are_found_in_any_case() -> None:
    assert REGISTERS["rflags"].field("if") == REGISTERS["rflags"].field("IF")
    with pytest.raises(FieldError, match=r"rflags\.nope: no such bits"):
        REGISTERS["rflags"].field("nope")


def test_a_field_is_replaced_in_a_value() -> None:
    iopl = REGISTERS["rflags"].field("IOPL")
    assert iopl.put(0x3202, 1) == 0x1202
    assert iopl.get(0x1202) == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"IOPL": 4}, "IOPL: 0x4 does not fit 2 bits"),
        ({"NOPE": 1}, r"rflags\.NOPE: no such bits"),
        ({RESERVED: 1}, "0x1 has a name and is not reserved"),
        ({RESERVED: 1 << 64}, "does not fit 64 bits"),
        ({"CF": -1}, "does not fit 1 bit"),
    ],
)
def test_what_no_value_has_is_refused(fields: dict[str, int], problem: str) -> None:
    with pytest.raises(FieldError, match=problem):
        REGISTERS["rflags"].encode(fields)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_value_that_is_too_wide_is_refused(value: int) -> None:
    with pytest.raises(FieldError, match="does not fit 64 bits"):
        REGISTERS["cr0"].decode(value)


def test_an_active_low_bit_is_told_when_it_is_clear() -> None:
    row = RegisterBits("r", 8, (BitField("X", 0, active_low=True),), "test")
    assert (row.describe(0), row.describe(1)) == ("X", "-")
