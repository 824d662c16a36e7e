"""The table of instructions against an independent description of each."""

import iced_x86
import pytest

from emulator.cpu_model import MODELS
from emulator.decode import InvalidInstruction, TruncatedInstruction, decode
from emulator.exceptions import UnsupportedInstruction
from emulator.instruction import BLOCKS, FAMILIES, find_block, load_families

load_families()
LETTERS = {"O": 1, "S": 2, "Z": 4, "A": 8, "C": 16, "P": 32, "D": 64, "I": 128}  # iced_x86.RflagsBits
MNEMONICS = {value: name for name, value in vars(iced_x86.Mnemonic).items() if isinstance(value, int)}
CODES = [value for name, value in vars(iced_x86.Code).items() if isinstance(value, int) and "VEX_" not in name]
DELIVERED = {"INT", "INT1", "INT3", "INTO", "RSM", "SYSCALL", "SYSENTER", "LAR", "LSL", "SYSRET", "SYSRETQ"}


def bits(letters):
    return sum(LETTERS.get(letter, 0) for letter in set(letters))


def described(mnemonic):
    for code in CODES:
        insn = iced_x86.Instruction()
        insn.code = code
        if MNEMONICS[insn.mnemonic] == mnemonic:
            yield insn


@pytest.mark.parametrize("mnemonic", sorted(set(BLOCKS) - DELIVERED - {"MOV"}))
def test_flags_written_and_undefined_are_those_of_the_manual(mnemonic):
    written, undefined = set(), set()
    for insn in described(mnemonic):
        written.add(insn.rflags_written | insn.rflags_cleared | insn.rflags_set)
        undefined.add(insn.rflags_undefined)
    blocks = BLOCKS[mnemonic]
    if mnemonic in ("CLC", "STC", "CLD", "STD"):
        assert all(w & bits(blocks[0].flags_written) for w in written)
        return
    for block in blocks:
        for wanted in written | undefined:
            missing = wanted & 0xFF & ~bits(block.flags_written + block.flags_undefined)
            assert not missing, f"{block.syntax}: flags {missing:#x} of the manual are not in the block"


def test_every_family_has_blocks_and_every_block_a_syntax_and_a_description():
    families = {block.family for blocks in BLOCKS.values() for block in blocks}
    assert families == set(FAMILIES)
    assert all(block.syntax and block.build.__doc__ for blocks in BLOCKS.values() for block in blocks)


def test_two_blocks_never_take_the_same_form():
    for mnemonic, blocks in BLOCKS.items():
        forms = [block.form for block in blocks]
        assert len(forms) == len(set(forms)), mnemonic


PREFIXES = {
    16: ("", "66", "f2", "f3", "67"),
    32: ("", "66", "f2", "f3", "67"),
    64: ("", "66", "f2", "f3", "48", "f348"),
}
MODRMS = [mod << 6 | reg << 3 | 3 for mod in (0, 3) for reg in range(8)]
ALL_MODRMS = range(256)
GROUPS = {("0f", 0x01), ("0f", 0xAE), ("0f", 0xC7), ("0f", 0x1E), ("", 0xFF)}
"""Opcodes whose ModRM is more than a register and an operand."""
LATER = {"FPU", "FPU287", "FPU387", "MMX", "SSE", "SSE2", "SSE3", "FXSR"}
"""Instruction sets of the coprocessors, which no model offers."""


def encodings(bits):
    """Every opcode of the one-, two- and three-byte maps with each ModRM register field."""
    for prefix in PREFIXES[bits]:
        for escape in ("", "0f", "0f38", "0f3a"):
            for opcode in range(256):
                for modrm in ALL_MODRMS if (escape, opcode) in GROUPS else MODRMS:
                    yield (bytes.fromhex(prefix + escape) + bytes([opcode, modrm]) + bytes(range(0x11, 0x1C)))[:15]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_every_instruction_of_the_models_is_built(bits):
    missing, built = set(), set()
    for code in encodings(bits):
        try:
            insn = decode(code, bits)
        except (InvalidInstruction, TruncatedInstruction):
            continue
        if any(insn.features <= model.features for model in MODELS.values()):
            (built if find_block(insn) else missing).add(insn.mnemonic)
    assert not missing
    assert len(built) > 190


def test_no_model_offers_the_coprocessors_instructions():
    assert not any(model.features & LATER for model in MODELS.values())


def test_bytes_that_end_early_and_bytes_that_mean_nothing_are_told_apart():
    with pytest.raises(TruncatedInstruction):
        decode(bytes.fromhex("6681c0"), 32)
    with pytest.raises(InvalidInstruction):
        decode(bytes.fromhex("8ec8"), 64)


def test_instruction_of_the_model_without_a_block_is_ours_to_report(lab, monkeypatch):
    monkeypatch.delitem(BLOCKS, "ADD")
    machine = lab().protected("01c8")
    with pytest.raises(UnsupportedInstruction) as caught:
        machine.run()
    assert (caught.value.address, caught.value.code) == (0x1000, bytes.fromhex("01c8"))
    assert machine.state.rip == 0x1000
    assert machine.cpu.retired == 0


@pytest.mark.parametrize(
    ("code", "mode"), [("0f28c1", "long"), ("d9c0", "protected"), ("0f77", "long"), ("c5f877", "long")]
)
def test_instruction_outside_the_model_is_undefined_to_the_guest(emulate, code, mode):
    assert emulate(mode, code).pending() == (6, None, None)


def test_coprocessor_escape_asks_for_the_coprocessor_first(lab):
    machine = lab().protected("d9c0")
    machine.state.cr0 |= 8
    assert machine.run().pending() == (7, None, None)


def test_sixteen_bytes_are_too_many(emulate):
    for code in ("66" * 15 + "90", "66" * 13 + "81c0ffff"):
        assert emulate("protected", code).pending() == (13, 0, None)
    assert emulate("protected", "66" * 14 + "90").pending() is None
    assert emulate("protected", "66" * 13 + "8ec8").pending() == (6, None, None)
