import json
import lzma
from pathlib import Path

import pytest

from emulator.vectors import EXCLUSIONS, Excluder, VectorBench, VectorError, parse_vector

DATA = Path(__file__).parents[1] / "data" / "sst-80286"
REGISTERS = dict.fromkeys(("ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di"), 0)


def vector(code, final=None, form="40", name="inc ax", exception=None, memory=(), final_memory=(), **registers):
    regs = {**REGISTERS, "ip": 0x100, "sp": 0x800, "flags": 2, **registers}
    ram = [[0x100 + n, byte] for n, byte in enumerate(bytes.fromhex(code))]
    return {
        "form": form,
        "name": name,
        "init": {"regs": regs, "ram": ram + [list(row) for row in memory]},
        "final": {"regs": final or {}, "ram": [list(row) for row in final_memory]},
        **({"exception": exception} if exception else {}),
    }


def outcome(raw, **options):
    return VectorBench(**options).run(parse_vector(raw))


def test_a_vector_that_agrees_passes():
    assert outcome(vector("40f4", {"ax": 1, "ip": 0x102})).passed


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (vector("40f4", {"ax": 2, "ip": 0x102}), {"ax": (1, 2)}),
        (vector("40f4", {"ax": 1, "ip": 0x103}), {"ip": (0x102, 0x103)}),
        (vector("40f4", {"ax": 1, "ip": 0x102, "flags": 3}), {"flags": (0, 1)}),
        (vector("a20003f4", {"ip": 0x104}, ax=0x55), {"0x300": (0x55, 0)}),
        (vector("90f4", {"ip": 0x102}, final_memory=[(0x300, 9)]), {"0x300": (0, 9)}),
    ],
)
def test_every_kind_of_difference_is_found(raw, found):
    assert outcome(raw).differences == found


def test_bits_of_flags_that_a_form_does_not_define_are_not_compared():
    raw = vector("40f4", {"ax": 1, "ip": 0x102, "flags": 3})
    assert outcome(raw, defined_flags={"40": 0xFFFE}).passed


def test_a_fault_is_delivered_and_its_undefined_flags_are_masked():
    raw = vector(
        "f6f3f4", {"ip": 0x401, "sp": 0x7FA}, form="F6.6", name="div bl", exception={"vector": 0},
        memory=[(0, 0), (1, 4), (0x400, 0xF4)],
        final_memory=[(0x7FE, 2 | 0x80), (0x7FF, 0), (0x7FC, 0), (0x7FD, 0), (0x7FA, 0), (0x7FB, 1)],
    )  # fmt: skip
    assert outcome(raw).differences == {"0x7fe": (2, 0x82)}
    result = outcome(raw, defined_flags={"F6.6": 0xFF2A & ~0x80})
    assert result.passed
    assert result.faulted == 0


def test_one_vector_leaves_nothing_to_the_next():
    bench = VectorBench()
    first = vector("a20003f4", {"ip": 0x104}, final_memory=[(0x300, 0x55)], ax=0x55)
    second = vector("a00003f4", {"ip": 0x104})
    assert bench.run(parse_vector(first)).passed
    assert bench.run(parse_vector(second)).passed


def test_a_runaway_ends():
    assert not outcome(vector("ebfe", {"ip": 0x102})).passed


def test_what_is_not_emulated_is_a_failure_with_a_reason(monkeypatch):
    from emulator.exceptions import UnsupportedInstruction

    bench = VectorBench()

    def refuse(steps):
        raise UnsupportedInstruction("XYZ", 0x100, b"\x0f")

    monkeypatch.setattr(bench.cpu, "run", refuse)
    result = bench.run(parse_vector(vector("40f4")))
    assert not result.passed
    assert "XYZ" in result.unsupported


@pytest.mark.parametrize(
    "raw",
    [
        None, [], {}, {"form": "40"}, {**vector("40f4"), "init": {"regs": {}, "ram": []}},
        {**vector("40f4"), "init": {"regs": {**REGISTERS, "ip": 1 << 16, "flags": 0}, "ram": []}},
        {**vector("40f4"), "init": {"regs": {**REGISTERS, "ip": 0, "flags": 0, "zz": 1}, "ram": []}},
        vector("40f4", memory=[(1 << 24, 0)]), vector("40f4", memory=[(-1, 0)]), vector("40f4", memory=[(0, 256)]),
        vector("40f4", memory=[(0, 1, 2)]), vector("40f4", final_memory=[("x", 0)]),
        vector("40f4", exception={"vector": 256}), vector("40f4", exception={"vector": "x"}),
    ],
)  # fmt: skip
def test_what_is_no_vector_is_refused(raw):
    with pytest.raises(VectorError):
        parse_vector(raw)


def test_exclusions_by_name_form_and_pattern():
    lock = parse_vector(vector("f040f4", name="lock inc ax"))
    plain = parse_vector(vector("40f4"))
    for names in (["lock"], ["lock *"], ["40"]):
        assert Excluder(names).before(lock)
    assert Excluder(["lock", "lock *"]).before(plain) is None
    assert Excluder(["40"]).before(plain)
    stack = parse_vector(vector("40f4", exception={"vector": 13}))
    assert Excluder(["stack-overrun"]).before(stack) is None
    assert Excluder(["stack-overrun"]).after(stack, 12)
    assert Excluder(["stack-overrun"]).after(stack, 13) is None


def test_the_recorded_sample_passes_and_every_exclusion_is_needed():
    masks = json.loads((DATA / "defined_flags.json").read_text())
    bench = VectorBench("x86-64", {form: int(mask, 16) for form, mask in masks.items()})
    excluder, needed, wrong = Excluder(list(EXCLUSIONS)), set(), []
    with lzma.open(DATA / "sample.jsonl.xz", "rt") as lines:
        for line in lines:
            test = parse_vector(json.loads(line))
            if why := excluder.before(test):
                needed.add(why)
                continue
            result = bench.run(test)
            if not result.passed:
                if why := excluder.after(test, result.faulted):
                    needed.add(why)
                else:
                    wrong.append((test.form, test.name, result))
    assert not wrong
    assert needed == {rule.reason for rule in EXCLUSIONS.values()}


def test_the_fast_tier_is_compared_as_well():
    pytest.importorskip("numba")
    bench = VectorBench(fast=True)
    for _ in range(3):
        assert bench.run(parse_vector(vector("40f4", {"ax": 1, "ip": 0x102}))).passed
        assert bench.run(parse_vector(vector("40f4", {"ax": 2, "ip": 0x102}))).differences == {"ax": (1, 2)}
    assert bench.fast_steps == 6
    with pytest.raises(ValueError, match="286"):
        VectorBench("286", fast=True)
