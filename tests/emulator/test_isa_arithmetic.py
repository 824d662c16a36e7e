"""Arithmetic that neither the native comparison nor the recorded 80286 covers, in every operand size."""

import random

import pytest

RAX, RCX, RDX, RBX = 0, 1, 2, 3
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
SIZES = {1: ("", 0), 2: ("66", 1), 4: ("", 1), 8: ("48", 1)}


def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"])
def test_results_and_flags_follow_from_integers(emulate, operation, size):
    rng, bits = random.Random(size), 8 * size
    prefix, wide = SIZES[size]
    opcode = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].index(operation) * 8 + wide
    for _ in range(12):
        a, b = (rng.choice((0, 1, (1 << bits) - 1, 1 << bits - 1, rng.getrandbits(bits))) for _ in "ab")
        carry = rng.getrandbits(1)
        machine = emulate("long", f"{prefix}{opcode:02x}c8", registers={RAX: a, RCX: b}, flags=2 | carry)
        with_carry = carry if operation in ("adc", "sbb") else 0
        exact, exact_signed, nibble = {
            "+": (a + b + with_carry, signed(a, bits) + signed(b, bits) + with_carry, (a & 15) + (b & 15) + with_carry),
            "-": (a - b - with_carry, signed(a, bits) - signed(b, bits) - with_carry, (a & 15) - (b & 15) - with_carry),
            "l": ({"or": a | b, "and": a & b, "xor": a ^ b}.get(operation, 0),) * 3,
        }["+" if operation in ("add", "adc") else "l" if operation in ("or", "and", "xor") else "-"]
        result = exact & (1 << bits) - 1
        flags = ZF * (result == 0) | SF * (result >> bits - 1) | PF * (bin(result & 0xFF).count("1") % 2 == 0)
        logical = operation in ("or", "and", "xor")
        if not logical:
            flags |= (
                CF * (exact != result) | OF * (exact_signed != signed(result, bits)) | AF * (nibble not in range(16))
            )
        mask = 0x8D5 if not logical else 0x8C5
        assert machine.state.rflags & mask == flags, (operation, size, hex(a), hex(b), carry)
        assert machine.state.gpr[RAX] & (1 << bits) - 1 == (a if operation == "cmp" else result)


@pytest.mark.parametrize(
    ("code", "registers", "quotient", "remainder"),
    [
        ("f7f1", {RAX: 7, RDX: 1, RCX: 2}, 0x80000003, 1),
        ("48f7f1", {RAX: 0, RDX: 1, RCX: 3}, 0x5555555555555555, 1),
        ("48f7f9", {RAX: -7 & (1 << 64) - 1, RDX: (1 << 64) - 1, RCX: 2}, -3 & (1 << 64) - 1, -1 & (1 << 64) - 1),
        ("f7f9", {RAX: 7, RDX: 0, RCX: -2 & 0xFFFFFFFF}, -3 & 0xFFFFFFFF, 1),
        ("66f7f1", {RAX: 0x1234, RDX: 0x0001, RCX: 0x10}, 0x1123, 4),
    ],
)
def test_division_rounds_towards_zero(emulate, code, registers, quotient, remainder):
    machine = emulate("long", code, registers=registers)
    size = {"48": (1 << 64) - 1, "66": 0xFFFF}.get(code[:2], 0xFFFFFFFF)
    assert machine.state.gpr[RAX] & size == quotient
    assert machine.state.gpr[RDX] & size == remainder


@pytest.mark.parametrize(
    ("code", "registers"),
    [
        ("f7f1", {RCX: 0}),
        ("f7f1", {RAX: 0, RDX: 5, RCX: 5}),
        ("f7f9", {RAX: 0x80000000, RDX: 0xFFFFFFFF, RCX: 0xFFFFFFFF}),
        ("f6f1", {RAX: 0x100, RCX: 1}),
        ("f6f9", {RAX: 0x80, RCX: 1}),
        ("48f7f9", {RAX: 0, RDX: 1 << 63, RCX: (1 << 64) - 1}),
    ],
)
def test_quotient_that_does_not_fit_is_a_divide_error_and_changes_nothing(emulate, code, registers):
    machine = emulate("long", code, registers=registers)
    assert machine.pending() == (0, None, None)
    assert machine.state.rip == 0x1000
    assert machine.state.gpr[RAX] == registers.get(RAX, 0)


def test_smallest_quotient_fits(emulate):
    machine = emulate("long", "f6f9", registers={RAX: -128 & 0xFFFF, RCX: 1})
    assert machine.state.gpr[RAX] & 0xFFFF == 0x0080


def test_32_bit_results_clear_the_upper_half_and_16_bit_ones_do_not(emulate):
    ones = (1 << 64) - 1
    assert emulate("long", "01c8", registers={RAX: ones, RCX: 1}).state.gpr[RAX] == 0
    assert emulate("long", "6601c8", registers={RAX: ones, RCX: 1}).state.gpr[RAX] == ones & ~0xFFFF
    assert emulate("long", "00cc", registers={RAX: ones, RCX: 1}).state.gpr[RAX] == ones & ~0xFF00  # add ah, cl


@pytest.mark.parametrize(
    ("code", "al", "flags_in", "al_out", "flags_out"),
    [
        ("27", 0x9A, 0, 0x00, CF | AF | ZF | PF),
        ("27", 0x79, AF, 0x7F, AF),
        ("27", 0x15, CF, 0x75, CF),
        ("2f", 0x00, CF | AF, 0x9A, CF | AF | SF | PF),
        ("2f", 0x05, AF, 0xFF, CF | AF | SF | PF),
    ],
)
def test_packed_decimal_adjustment(emulate, code, al, flags_in, al_out, flags_out):
    machine = emulate("protected", code, registers={RAX: al}, flags=2 | flags_in)
    assert machine.state.gpr[RAX] == al_out
    assert machine.state.rflags & 0xD5 == flags_out


def test_aam_by_zero_is_a_divide_error(emulate):
    assert emulate("protected", "d400", registers={RAX: 5}).pending() == (0, None, None)


def test_decimal_adjustment_does_not_exist_in_64_bit_mode(emulate):
    for code in ("27", "2f", "37", "3f", "d40a", "d50a"):
        assert emulate("long", code).pending() == (6, None, None)


@pytest.mark.parametrize(
    ("code", "value", "found"), [("0fbcc1", 0x8010, 4), ("0fbdc1", 0x8010, 15), ("480fbdc1", 1 << 63, 63)]
)
def test_bit_scans(emulate, code, value, found):
    machine = emulate("long", code, registers={RCX: value})
    assert machine.state.gpr[RAX] == found
    assert not machine.state.rflags & ZF


def test_bit_scan_of_zero_keeps_the_destination(emulate):
    machine = emulate("long", "480fbcc1", registers={RAX: 77, RCX: 0})
    assert machine.state.gpr[RAX] == 77
    assert machine.state.rflags & ZF


@pytest.mark.parametrize(("offset", "byte", "bit"), [(3, 0, 3), (37, 4, 5), (-1, -1, 7), (-33, -5, 7)])
def test_bit_offset_in_a_register_reaches_beyond_the_operand(emulate, offset, byte, bit):
    machine = emulate("protected", "0fab0b", registers={RCX: offset & 0xFFFFFFFF, RBX: 0x3000})  # bts [ebx], ecx
    assert machine.get(0x3000 + byte, 1) == 1 << bit
    assert not machine.state.rflags & CF


def test_compare_and_exchange_of_wide_operands(lab):
    for code, size in (("0fc70b", 4), ("480fc70b", 8)):
        machine = lab().long(code * 2)
        machine.state.gpr[:4] = [5, 9, 6, 0x3000]  # rbx is both pointer and new low half
        machine.put(0x3000, 5, size)
        machine.put(0x3000 + size, 6, size)
        machine.run()
        assert machine.state.rflags & ZF
        assert (machine.get(0x3000, size), machine.get(0x3000 + size, size)) == (0x3000, 9)
        machine.run()
        assert not machine.state.rflags & ZF
        assert (machine.state.gpr[RAX], machine.state.gpr[RDX]) == (0x3000, 9)


def test_sixteen_byte_exchange_must_be_aligned(emulate):
    assert emulate("long", "480fc70b", registers={RBX: 0x3008}).pending() == (13, 0, None)


def test_lock_is_an_undefined_opcode_where_nothing_can_be_locked(emulate):
    assert emulate("protected", "f001c8").pending() == (6, None, None)
    assert emulate("protected", "f08b03").pending() == (6, None, None)
    assert emulate("protected", "f00103", registers={RBX: 0x3000}).pending() is None


def test_popcount_and_movbe(emulate):
    assert emulate("long", "f3480fb8c1", registers={RCX: 0xF0F1}).state.gpr[RAX] == 9
    machine = emulate("long", "0f38f003", registers={RBX: 0x3000})
    assert machine.state.gpr[RAX] == 0
    machine = emulate("long", "0f38f103", registers={RBX: 0x3000, RAX: 0x11223344})
    assert machine.ram[0x3000:0x3004] == bytes.fromhex("11223344")
