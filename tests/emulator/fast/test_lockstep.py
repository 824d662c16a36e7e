"""The fast tier beside the reference tier: nothing that a guest or a snapshot can see may differ."""

import random

import pytest

pytest.importorskip("numba")

from emulator.fast.compiled import compiled, interpreted
from emulator.fast.handlers import HANDLERS
from tests.emulator.fast.lockstep import Lockstep, always_fast, attach, handlers_known, state_of

ROUNDS = 60
LOOPS = {
    "BT_MR": "0fa306ffc0ebf9",
    "BTX_MR": "0fab06ffc0ebf9",
    "POPCNT": "f30fb8c8ffc0ebf8",
    "POP_M": "568f06ebfb",
    "CALL_X": "ffd3ebfcc3",
}
"""Loops in 64-bit mode for handlers that random programs seldom reach."""
CAMPAIGN_STEPS, CAMPAIGN_PARTS = 10_000_000, 20


@pytest.fixture(autouse=True)
def _always_fast(monkeypatch):
    always_fast(monkeypatch)


def programs_in_step(lab, run, seeds, rounds=ROUNDS):
    """Steps done by both, and by the fast tier alone."""
    steps = fast = 0
    for seed in seeds:
        pair = Lockstep(seed, lab, run)
        pair.go(rounds)
        steps, fast = steps + pair.steps, fast + pair.tier.done
    return steps, fast


def test_random_programs_run_the_same_in_both_tiers(lab):
    steps, fast = programs_in_step(lab, compiled(), range(60))
    assert steps > 20_000
    assert fast > 5_000


def test_the_text_as_plain_python_does_the_same(lab):
    assert programs_in_step(lab, interpreted(), range(1000, 1008), 25)[1] > 500


def test_no_array_is_accessed_beyond_its_bounds(lab):
    assert programs_in_step(lab, compiled(bounds_checks=True), range(2000, 2040))[1] > 3_000


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(CAMPAIGN_PARTS))
def test_ten_million_steps_without_a_difference(lab, part):
    steps, seed = 0, 1_000_000 * (part + 1)
    while steps < CAMPAIGN_STEPS // CAMPAIGN_PARTS:
        steps += programs_in_step(lab, compiled(), [seed])[0]
        seed += 1


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_rare_instructions(lab, name):
    pair = [lab().long(LOOPS[name]) for _ in range(2)]
    for each in pair:
        each.state.gpr[0], each.state.gpr[3], each.state.gpr[6] = 0, 0x1004, 0xA100
    tier = attach(pair[1], compiled())
    for budget in (30, 1, 200):
        for each in pair:
            each.cpu.run(budget)
        assert state_of(pair[0]) == state_of(pair[1])
        assert pair[0].ram == pair[1].ram
    assert tier.done > 180
    assert handlers_known(tier)[name] == 1


def test_every_handler_runs(lab):
    """One instruction at a time, so that each handler that finishes is seen by name."""
    missing, run = {handler.name for handler in HANDLERS} - set(LOOPS), compiled()
    for seed in range(3000, 3400):
        pair = Lockstep(seed, lab, run)
        fast, tier = pair.labs[1], pair.tier
        seen = []
        enter = tier._enter

        def watched(budget, fast=fast, tier=tier, seen=seen, enter=enter):
            rip = fast.state.rip
            done, reason = enter(budget)
            if done:
                seen.append(handler_at(tier, rip))
            return done, reason

        tier._enter = watched
        while fast.cpu.retired < 300 and fast.cpu.run(2):  # the first step of a run is the reference tier's
            pass
        missing.difference_update(seen)
        if not missing:
            return
    assert not missing


def handler_at(tier, rip):
    """Name of the handler of the record at `rip`."""
    number = int(tier._slots[tier._view().pages[rip >> 12] + (rip & 0xFFF)])
    return HANDLERS[int(tier._ops["handler"][number]) - 1].name


def test_a_run_stops_at_a_thousand_random_points_as_the_reference_does(lab):
    """A loop with memory, calls and a repeated string instruction, cut anywhere."""
    code = "be00810000bf40a00000b91400000048ffc0e80a000000ffc975f4b10af3a4ebdf5001065ac3"
    pair = [lab().long(code) for _ in range(2)]
    tier = attach(pair[1], compiled())
    rng = random.Random(7)
    for _ in range(1000):
        budget = rng.randrange(1, 400)
        assert [each.cpu.run(budget) for each in pair] == [budget, budget]
        assert state_of(pair[0]) == state_of(pair[1])
        assert pair[0].ram == pair[1].ram
    assert tier.done > 100_000


def test_code_that_changes_itself_is_seen(lab):
    """INC the immediate of the next instruction: it stands in the same page."""
    code = "fe05040000004883c000" + "fec890" + "ebf1"
    pair = [lab().long(code) for _ in range(2)]
    attach(pair[1], compiled())
    for budget in (1, 2, 3, 50, 500):
        for each in pair:
            each.cpu.run(budget)
        assert state_of(pair[0]) == state_of(pair[1])
    assert pair[0].ram == pair[1].ram


def test_a_first_write_after_a_cleared_log_is_logged_again(lab):
    machine = lab().long("48ff0500700000ebf7")
    tier = attach(machine, compiled())
    machine.cpu.run(1000)
    page = (0x1007 + 0x7000) >> 12
    assert machine.memory.dirty[page]
    machine.memory.clear_dirty()
    machine.cpu.run(2)
    assert machine.memory.dirty[page]
    machine.cpu.run(1000)
    assert tier.done > 900
    assert handlers_known(tier)["INC"] == 1


def test_the_reference_tier_takes_over_where_the_fast_one_does_not_pay(lab, monkeypatch):
    monkeypatch.undo()
    machine = lab().long("0fa2" * 20 + "ebd6")  # CPUID
    tier = attach(machine, compiled())
    entries = []
    enter = tier._enter
    tier._enter = lambda budget: (entries.append(budget), enter(budget))[1]
    machine.cpu.run(20_000)
    assert machine.cpu.retired == 20_000
    assert len(entries) < 100
