"""When the fast tier comes in: at once, never, or in the background as soon as a machine has run for a while.

Compiling takes seconds, loading what is in the cache some tenths of one. Meanwhile, and where it fails, the reference
tier does the work; the guest sees no difference.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from . import available

if TYPE_CHECKING:
    from ..cpu import Cpu
    from .compiled import Run

log = logging.getLogger(__name__)

OLDEST_FEATURE = "INTEL386"
"""Models before the 386 wrap, fault and shift in ways of their own, which only the reference tier knows."""
PAYS_AFTER_STEPS = 1_000_000
"""A machine that runs for less than this is not worth loading the fast tier for."""
COMPILE_TIMEOUT_S = 600


class Loader:
    """Loads the interpreter once a process, in a thread; the compiler runs in a process of its own beforehand."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.failed = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin, if nobody has yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._load, name="fast-tier", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until it is loaded or has failed."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _load(self) -> None:
        try:
            from . import compiled

            if not compiled.is_cached():
                log.info("the fast tier is compiled in the background")
                command = [sys.executable, "-m", "emulator.fast"]
                subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
            self.run = compiled.compiled()
            log.info("the fast tier is loaded")
        except Exception as error:  # whatever it is, the reference tier goes on
            self.failed = True
            log.warning("no fast tier, the reference tier goes on: %s", error)


LOADER = Loader()


class Advance:
    """`Cpu.many_steps` of a machine that may get the fast tier."""

    def __init__(self, cpu: Cpu, loader: Loader = LOADER) -> None:
        self._cpu = cpu
        self._loader = loader
        self._done = 0

    def steps(self, count: int) -> None:
        """Do up to `count` steps in the reference tier, and hand over once the fast tier is there."""
        cpu, loader = self._cpu, self._loader
        if self._done >= PAYS_AFTER_STEPS:
            if loader.run is not None:
                use(cpu, loader.run)
                cpu.many_steps(count)
                return
            loader.begin()
        before = cpu.retired
        cpu.quick_steps(min(count, PAYS_AFTER_STEPS))
        self._done += cpu.retired - before
        if loader.failed:
            cpu.many_steps = cpu.quick_steps


def use(cpu: Cpu, run: Run) -> None:
    """Give a CPU the fast tier."""
    from .tier import FastTier

    cpu.many_steps = FastTier(cpu, run).steps


def use_now(cpu: Cpu) -> None:
    """Load the fast tier and give it to a CPU that it can serve.

    Raises:
        ImportError: numba is not installed (`pip install migsvc[fast]`).
    """
    from .compiled import compiled

    if OLDEST_FEATURE in cpu.model.features:
        use(cpu, compiled())


def use_if_it_pays(cpu: Cpu) -> None:
    """Let a CPU have the fast tier later, if numba is there and the machine runs for long."""
    if available() and OLDEST_FEATURE in cpu.model.features:
        cpu.many_steps = Advance(cpu).steps
