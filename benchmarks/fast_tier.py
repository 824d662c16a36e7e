"""The fast tier on five guest loops in three modes, beside unicorn running freely and stopping exactly by count."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import unicorn
from unicorn import x86_const

from benchmarks.guest_loops import LOOPS
from benchmarks.rows import Row
from emulator.config import ImageConfig, MachineConfig, StartConfig, ram_slots
from emulator.machine import Machine, Tier
from emulator.registers import CS

RAM_BYTES = 1 << 20
CODE, STACK, TABLES = 0x1000, 0x7000, 0x10000
STEPS = 5_000_000
SAMPLES = 3
FOREVER = 2_000_000_000
UNICORN_MODES = {16: unicorn.UC_MODE_16, 32: unicorn.UC_MODE_32, 64: unicorn.UC_MODE_64}
FREE_RUN_US = 200_000
_FLAT = {16: (0, 0xFFFF, 0), 32: (1, 0xFFFFFFFF, 0), 64: (0, 0xFFFFFFFF, 1)}


def measure() -> list[Row]:
    """Speeds and ratios, start-up, single steps and the latency of a stop."""
    rows = [_start_up("compile, empty cache", empty=True), _start_up("load from the cache", empty=False)]
    for name, codes in LOOPS.items():
        for bits, code in codes.items():
            rows += _loop(f"{name}, {bits}-bit", bytes.fromhex(code), bits)
    return [*rows, _single_step(), _stop_latency()]


def _loop(what: str, code: bytes, bits: int) -> list[Row]:
    machine = loop_machine(code, bits, Tier.FAST)
    machine.run(300_000)
    ours = _best(lambda: machine.run(STEPS).steps)
    exact = _best(lambda: _unicorn_exact(code, bits))
    free = _best(lambda: _unicorn_free(code, bits))
    return [
        Row(what, ours, "MIPS", f"{ours / exact:.1f} x unicorn by count, {ours / free:.2f} x unicorn free"),
        Row(f"  unicorn, {STEPS} by count", exact, "MIPS"),
        Row("  unicorn, free", free, "MIPS"),
    ]


def _best(run: Callable[[], int]) -> float:
    """Million steps a second, the best of a few runs."""
    speeds = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        steps = run()
        speeds.append(steps / (time.perf_counter() - begin) / 1e6)
    return max(speeds)


def loop_machine(code: bytes, bits: int, tier: Tier) -> Machine:
    """A machine about to run a loop for ever, in the wanted mode; 64-bit with the first 2 MiB mapped to themselves."""
    pages = {TABLES: TABLES + 0x1007, TABLES + 0x1000: TABLES + 0x2007, TABLES + 0x2000: 0x87}
    images = [ImageConfig(0, at, entry.to_bytes(8, "little")) for at, entry in pages.items()]
    config = MachineConfig(
        ram_bytes=RAM_BYTES,
        slots=ram_slots(RAM_BYTES),
        start=StartConfig(cs_selector=0, cs_base=0, rip=CODE),
        images=(*images, ImageConfig(0, CODE, code)),
    )
    machine = Machine(config, tier=tier)
    state = machine.cpu.state
    state.gpr[4], state.gpr[5] = STACK, FOREVER
    if bits != 16:
        state.cr0 = 0x11
        db, limit, long_code = _FLAT[bits]
        for number, segment in enumerate(state.segs):
            segment.limit, segment.g, segment.db = limit, 1, db or int(number != CS)
            segment.type = 11 if number == CS else 3
        state.segs[CS].l = long_code
    if bits == 64:
        state.cr0, state.cr3, state.cr4, state.efer = 0x80000011, TABLES, 0x20, 0x500
    machine.cpu.state_changed()
    return machine


def _unicorn(code: bytes, bits: int) -> Any:
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, UNICORN_MODES[bits])
    engine.mem_map(0, RAM_BYTES)
    engine.mem_write(CODE, code)
    for register, value in ((x86_const.UC_X86_REG_ESP, STACK), (x86_const.UC_X86_REG_EBP, FOREVER)):
        engine.reg_write(register, value)
    return engine


def _unicorn_exact(code: bytes, bits: int) -> int:
    _unicorn(code, bits).emu_start(CODE, 0, count=STEPS)
    return STEPS


def _unicorn_free(code: bytes, bits: int) -> int:
    """Run for a while; the count follows from the outer loops done and the steps that our machine needs for one."""
    engine = _unicorn(code, bits)
    engine.emu_start(CODE, 0, timeout=FREE_RUN_US)
    rounds = FOREVER - (engine.reg_read(x86_const.UC_X86_REG_EBP) & 0xFFFFFFFF)
    return rounds * _steps_of_a_round(code, bits)


def _steps_of_a_round(code: bytes, bits: int) -> int:
    steps = []
    for rounds in (1, 2):
        machine = loop_machine(code, bits, Tier.FAST)
        machine.cpu.state.gpr[5] = rounds
        steps.append(machine.run(10_000_000).steps)
    return steps[1] - steps[0]


def _start_up(what: str, *, empty: bool) -> Row:
    """A fresh process, from the import of the interpreter to its first call."""
    program = "import time; t = time.perf_counter(); from emulator.fast.compiled import compiled; compiled(); "
    command = [sys.executable, "-c", program + "print(time.perf_counter() - t)"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ({"XDG_CACHE_HOME": folder} if empty else {})
        if not empty:
            subprocess.run(command, env=environment, check=True, capture_output=True)
        seconds = float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return Row(what, seconds, "s", "import of numba included")


def _single_step() -> Row:
    machine = loop_machine(bytes.fromhex(LOOPS["register"][64]), 64, Tier.FAST)
    machine.run(10_000)
    begin = time.perf_counter()
    for _ in range(100_000):
        machine.cpu.run(1)
    return Row("single step from Python", (time.perf_counter() - begin) * 10, "us", "Cpu.run(1)")


def _stop_latency() -> Row:
    """From a request in this thread to the end of the run in the other."""
    machine = loop_machine(bytes.fromhex(LOOPS["register"][64]), 64, Tier.FAST)
    machine.run(10_000)
    delays = []
    for _ in range(50):
        ended: list[float] = []
        thread = threading.Thread(target=lambda ended=ended: (machine.run(1 << 60), ended.append(time.perf_counter())))
        thread.start()
        time.sleep(0.01)
        asked = time.perf_counter()
        machine.stop()
        thread.join()
        delays.append(ended[0] - asked)
    note = f"median of 50, at most {max(delays) * 1e3:.2f} ms"
    return Row("stop from another thread", statistics.median(delays) * 1e3, "ms", note)
