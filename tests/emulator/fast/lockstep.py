"""Two CPUs over equal memory, one with the fast tier, kept in step and compared."""

import random
from collections import Counter

from emulator.fast import tier as tiers
from emulator.fast.handlers import HANDLERS
from emulator.fast.tier import FastTier
from tests.emulator.fast import programs

MODES = {"real": 16, "protected": 32, "long": 64}
VECTOR = 0x40
HANDLER = 0x4000
SMI_ENTRY = 0x38000
PAGE = 0x1000


class Mismatch(AssertionError):
    """The tiers differ."""


def always_fast(monkeypatch):
    """Let the fast tier try everything, whether it pays or not."""
    monkeypatch.setattr(tiers, "PAYS_FROM_STEPS", 0)
    monkeypatch.setattr(tiers, "PAYS_TO_LEARN_FROM_STEPS", 0)


def attach(lab, run):
    """Give a CPU the fast tier; its steps are counted."""
    tier = FastTier(lab.cpu, run)
    enter, tier.done = tier._enter, 0

    def counting(budget):
        done, reason = enter(budget)
        tier.done += done
        return done, reason

    tier._enter = counting
    lab.cpu.many_steps = tier.steps
    return tier


def handlers_known(tier):
    """How often the decoded instructions name each handler; they are forgotten with the code."""
    numbers = tier._ops["handler"][: tier._used_ops]
    return Counter(HANDLERS[number - 1].name for number in numbers.tolist() if number)


def state_of(lab):
    """Everything of a CPU that instructions and events change."""
    state = lab.state
    values = {
        name: getattr(state, name) for name in state.__slots__ if name not in ("gpr", "segs", "ldtr", "tr", "msrs")
    }
    tables = {name: (table.base, table.limit) for name, table in values.items() if name in ("gdtr", "idtr")}
    segs = [[getattr(seg, name) for name in seg.__slots__] for seg in (*state.segs, state.ldtr, state.tr)]
    plain = {name: value for name, value in values.items() if isinstance(value, int | bool)}
    return {"gpr": list(state.gpr), "segs": segs, **tables, **plain, "retired": lab.cpu.retired}


class Lockstep:
    """One random program in both tiers."""

    def __init__(self, seed, make_lab, run):
        self.seed, self.rng = seed, random.Random(seed)
        rng = self.rng
        self.mode, self.user = rng.choice(list(MODES)), rng.random() < 0.3
        self.bits = MODES[self.mode]
        code = programs.program(rng, self.bits, 2500) + b"\xf4" * 64
        start = rng.getrandbits(64)
        self.labs = [self._prepare(make_lab(), code, random.Random(start)) for _ in range(2)]
        self.tier = attach(self.labs[1], run)
        self.steps = 0

    def _prepare(self, lab, code, rng):
        getattr(lab, self.mode)(code.hex(), **({} if self.mode == "real" else {"user": self.user}))
        programs.set_registers(rng, lab.state, self.bits)
        lab.memory.write_bytes(0, programs.DATA, rng.randbytes(PAGE))
        for vector in (2, VECTOR):  # return from events; exceptions end the program in HLT
            lab.memory.write_bytes(0, HANDLER + 8 * vector, b"\x48\xcf" if self.bits == 64 else b"\xcf")
        lab.memory.write_bytes(0, SMI_ENTRY, b"\x40\x0f\xaa")
        if self.mode != "long" and rng.random() < 0.3:
            seg = lab.state.segs[rng.choice((0, 3, 4))]
            seg.base, seg.limit = rng.choice((0, 0x10, 0x123)), rng.choice((0xA800, 0xFFFF, 0xAFFF))
        lab.state.rflags |= 0x200 if rng.random() < 0.5 else 0
        lab.cpu.state_changed()
        return lab

    def both(self, action):
        """Do the same to both."""
        return [action(lab) for lab in self.labs]

    def disturb(self):
        """Something from outside, sometimes."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            self.both(lambda lab: lab.memory.clear_dirty())
        elif kind < 0.14:
            self.both(lambda lab: lab.cpu.request_smi())
        elif kind < 0.18:
            self.both(lambda lab: lab.cpu.request_nmi())
        elif kind < 0.24:
            self.both(lambda lab: setattr(lab.cpu, "interrupt_line", True))
        elif kind < 0.28:  # somebody writes code
            at, data = 0x1000 + rng.randrange(2500), rng.randbytes(1)
            self.both(lambda lab: lab.memory.write_bytes(0, at, data))
        elif kind < 0.3 and self.bits == 64:  # a page goes away and comes back
            gone = programs.DATA >> 12
            value = rng.choice((0, gone << 12 | 5, gone << 12 | 7))
            self.both(lambda lab: (lab.put(lab.pte(programs.DATA), value, 8), lab.cpu.flush_tlb()))

    def go(self, rounds, budgets=(1, 2, 3, 7, 20, 100, 300), disturbed=True):
        """Run rounds of random budgets, comparing after each; stop where the program ends."""
        for _ in range(rounds):
            if disturbed:
                self.disturb()
            budget = self.rng.choice(budgets)
            done = self.both(lambda lab, budget=budget: lab.cpu.run(budget))
            self.steps += done[0]
            self.compare(done)
            if not done[0]:
                break

    def compare(self, done):
        """Raise Mismatch unless both are the same."""
        reference, fast = self.labs
        where = f"seed {self.seed}, {self.mode}{' user' if self.user else ''}, after {reference.cpu.retired} steps"
        if done[0] != done[1]:
            raise Mismatch(f"{where}: {done} steps done")
        states = state_of(reference), state_of(fast)
        if states[0] != states[1]:
            different = {
                name: (value, states[1][name]) for name, value in states[0].items() if value != states[1][name]
            }
            raise Mismatch(f"{where}: {different}")
        if reference.ram != fast.ram:
            raise Mismatch(f"{where}: memory differs")
        if reference.memory.dirty != fast.memory.dirty:
            raise Mismatch(f"{where}: the dirty logs differ")
