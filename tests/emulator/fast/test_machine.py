"""The fast tier inside a machine: choice, stop from another thread, migration, the cache folder."""

import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("numba")

from emulator.bridge import load_sections, save_sections
from emulator.fast import compiled, loading
from emulator.fast.loading import Advance, Loader
from emulator.fast.tier import FastTier
from emulator.guests import GUESTS
from emulator.machine import Machine, StopReason, Tier

STEPS = 60_000


def machine(tier, guest="ticker64"):
    return Machine(GUESTS[guest].config({"ticks": 1_000_000}), tier=tier)


def is_fast(machine):
    return isinstance(machine.cpu.many_steps.__self__, FastTier)


@pytest.mark.parametrize("guest", ["ticker32", "ticker64"])
def test_a_machine_runs_the_same_with_either_tier(guest, machine_state):
    reference, fast = machine(Tier.REFERENCE, guest), machine(Tier.FAST, guest)
    assert is_fast(fast)
    for steps in (1, 7, 500, STEPS):
        assert reference.run(steps) == fast.run(steps)
        assert machine_state(reference) == machine_state(fast)


def test_a_machine_migrates_between_tiers_at_any_boundary(machine_state):
    """A machine that changes hosts, and tiers, every few hundred steps ends as one that stays."""
    stays, moves = machine(Tier.REFERENCE), machine(Tier.FAST)
    for leg in range(40):
        steps = 97 + 31 * leg
        stays.run(steps)
        moves.run(steps)
        after = Machine(moves.config, bytearray(moves.memory.ram), load_images=False, tier=list(Tier)[leg % 3])
        load_sections(after, *save_sections(moves))
        moves = after
    assert save_sections(stays) == save_sections(moves)
    assert stays.memory.ram == moves.memory.ram


def test_auto_brings_the_fast_tier_in_after_a_while(monkeypatch, machine_state):
    monkeypatch.setattr(loading, "PAYS_AFTER_STEPS", 5000)
    loader = Loader()
    runs, stays = machine(Tier.REFERENCE), machine(Tier.REFERENCE)
    runs.cpu.many_steps = Advance(runs.cpu, loader).steps
    runs.run(4000)
    assert loader.run is None
    runs.run(12_000)
    loader.wait(250)
    runs.run(12_000)
    assert is_fast(runs)
    stays.run(28_000)
    assert machine_state(runs) == machine_state(stays)


def test_auto_stays_with_the_reference_tier_if_loading_fails(monkeypatch, caplog):
    monkeypatch.setattr(loading, "PAYS_AFTER_STEPS", 1000)
    monkeypatch.setattr(compiled, "is_cached", lambda: True)

    def fail():
        raise ImportError("no such thing here")

    monkeypatch.setattr(compiled, "compiled", fail)
    loader, runs = Loader(), machine(Tier.REFERENCE)
    runs.cpu.many_steps = Advance(runs.cpu, loader).steps
    runs.run(3000)
    loader.wait(10)
    runs.run(3000)
    assert runs.retired == 6000
    assert runs.cpu.many_steps == runs.cpu.quick_steps
    assert "no such thing here" in caplog.text


def test_models_before_the_386_stay_with_the_reference_tier():
    cpu = SimpleNamespace(model=SimpleNamespace(features=frozenset({"INTEL8086"})), many_steps=None)
    loading.use_now(cpu)
    loading.use_if_it_pays(cpu)
    assert cpu.many_steps is None


@pytest.mark.parametrize("tier", [Tier.REFERENCE, Tier.FAST])
def test_another_thread_stops_a_run_at_a_boundary(tier):
    runs = machine(tier)
    runs.run(2000)
    results = []
    thread = threading.Thread(target=lambda: results.append(runs.run(1 << 60)))
    thread.start()
    time.sleep(0.05)
    runs.stop()
    thread.join(20)
    assert results[0].reason is StopReason.STOPPED
    assert runs.run(100).reason is StopReason.BUDGET
    assert runs.retired == 2100 + results[0].steps


def test_a_stop_before_the_run_ends_it_at_once():
    runs = machine(Tier.FAST)
    runs.stop()
    assert runs.run(100) == (StopReason.STOPPED, 0)
    assert runs.run(100) == (StopReason.BUDGET, 100)


def test_a_cache_folder_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wanted = tmp_path / "migsvc" / "fast"
    assert compiled.cache_folder.__wrapped__() == wanted
    (wanted.parent).chmod(0o777)
    other = compiled.cache_folder.__wrapped__()
    assert other != wanted
    assert compiled.is_private(other) or other.parent.stat().st_mode & 0o1000
    wanted.parent.chmod(0o755)
    wanted.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    wanted.symlink_to(elsewhere)
    assert compiled.cache_folder.__wrapped__() not in (wanted, elsewhere)


def test_the_text_that_runs_is_not_the_one_that_lies_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    text = "run = 'ours'\n"
    path = compiled._path_of(text)
    path.write_text("run = 'theirs'\n")
    assert compiled._module(text).run == "ours"
    assert path.read_text() == text
