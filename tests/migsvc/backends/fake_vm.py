"""A VM for tests of the worker: it counts, dirties pages, prints, idles and passes through shadows. Also runnable as
the program of a worker process that has this backend instead of the product's."""

import struct
import sys
from pathlib import Path

import numpy

from migsvc.backends.base import HALTED, Backend, Moment, SavedState, SliceResult, Stop
from migsvc.backends.config import VmConfig
from migsvc.backends.ram import PAGE_BYTES, GuestRam
from migsvc.backends.worker import main
from migsvc.errors import IllegalStateError

NS_PER_STEP = 1000
STATE = struct.Struct("<QQQ")
PROGRAM = (sys.executable, str(Path(__file__)))


class FakeVm:
    """Params: stop_after (steps, 0 never), halt_after, idle_every (steps) with idle_ns, crash_after, print_every."""

    def __init__(self, config: VmConfig) -> None:
        self.params = dict(config.guest_params)
        self._ram = GuestRam.create(config.ram_bytes or 64 * PAGE_BYTES)
        self.ram_bytes = self._ram.size_bytes
        self.retired = 0
        self.console_bytes = 0
        self.woken = 0
        self._printed = bytearray()
        self._log = None

    @property
    def ram_fd(self) -> int:
        return self._ram.fd

    def stopped(self) -> Stop | None:
        if 0 < self.params.get("stop_after", 0) <= self.retired:
            return Stop("debug_exit", exit_code=7)
        if 0 < self.params.get("halt_after", 0) <= self.retired and not self.woken:
            return Stop(HALTED)
        return None

    def _step(self) -> int:
        self.retired += 1
        if self.retired == self.params.get("crash_after", 0):
            raise RuntimeError("the fake broke")
        page = self.retired % (self.ram_bytes // PAGE_BYTES)
        self._ram.map[page * PAGE_BYTES : page * PAGE_BYTES + 8] = self.retired.to_bytes(8, "little")
        if self._log is not None:
            self._log[page] = 1
        if self.retired % self.params.get("print_every", 1000) == 0:
            self._printed += b"*"
            self.console_bytes += 1
        every = self.params.get("idle_every", 0)
        return self.params["idle_ns"] if every and self.retired % every == 0 else 0

    def run_slice(self, max_steps: int, max_idle_ns: int) -> SliceResult:
        return self.run_until(lambda moment: False, max_steps, max_idle_ns)

    def run_until(self, condition, max_steps: int, max_idle_ns: int) -> SliceResult:
        steps = idle_ns = 0
        while steps < max_steps and idle_ns < max_idle_ns:
            if condition(self.moment()):
                break
            if (stop := self.stopped()) is not None:
                return SliceResult(steps, steps * NS_PER_STEP + idle_ns, idle_ns, stop=stop)
            idle_ns += self._step()
            steps += 1
        found = condition(self.moment())
        return SliceResult(steps, steps * NS_PER_STEP + idle_ns, idle_ns, found=found)

    def moment(self) -> Moment:
        smm = 200 <= self.retired % 1000 < 220
        return Moment(
            smm, 2 if not smm and self.retired % 97 == 5 else 0, 2 if smm and self.retired % 2000 < 1000 else 0
        )

    def registers(self):
        return {"rip": f"0x{self.retired:x}"}

    def describe(self):
        slot = {"as_id": 0, "slot": 0, "gpa": 0, "size_bytes": self.ram_bytes, "flags": 0, "backing_offset_bytes": 0}
        return {"memory": {"slots": [slot], "ram_bytes": self.ram_bytes}, "vcpus": 1, "machine": {}}

    def save(self) -> SavedState:
        return SavedState({"fake": STATE.pack(self.retired, self.console_bytes, self.woken)}, [{"cpu": b"x"}])

    def load(self, saved: SavedState) -> None:
        raw = saved.vm.get("fake", b"")
        if len(raw) != STATE.size:
            raise IllegalStateError("bad state", [{"rule": "FAKE-1", "message": "wrong size"}])
        self.retired, self.console_bytes, self.woken = STATE.unpack(raw)

    def smi(self) -> None:
        self.woken = 1

    def nmi(self) -> None:
        self.woken = 2

    def interrupt(self, vector: int) -> None:
        self.woken = vector

    def take_console(self) -> bytes:
        data = bytes(self._printed)
        self._printed.clear()
        return data

    def dirty_start(self) -> None:
        self._log = bytearray(self.ram_bytes // PAGE_BYTES)

    def dirty_fetch(self) -> bytes:
        log, self._log = self._log, bytearray(len(self._log))
        return numpy.packbits(numpy.frombuffer(log, numpy.uint8), bitorder="little").tobytes()

    def dirty_stop(self) -> None:
        self._log = None

    def close(self) -> None:
        self._ram.close()


BACKENDS = {"fake": Backend("fake", FakeVm, lambda name: None)}  # type: ignore[arg-type, return-value]

if __name__ == "__main__":
    sys.exit(main(backends=BACKENDS))
