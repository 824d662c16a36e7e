"""One VM under its worker's control: what it may do now, and the slice that it does next. No sockets here.

A request that takes many slices (a pause at an architectural moment, a long step) is a job; it is answered when it
ends. One job at a time: the next request to run, pause or step ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from migsvc.backends.base import HALTED, PAUSE_CONDITIONS, Backend, Moment, SavedState, SliceResult, Stop, Vm
from migsvc.backends.config import VmConfig
from migsvc.backends.console import ConsoleRing
from migsvc.backends.guard import Guard
from migsvc.backends.pacing import NO_IDLE_LIMIT_NS, Pacer, SliceSize
from migsvc.errors import ConflictError, InputError

log = logging.getLogger(__name__)

CONSOLE_EVENT_INTERVAL_NS = 20_000_000
"""News of console output at most fifty times a second: a reader fetches the bytes themselves."""

Answer = Callable[[dict[str, Any]], None]
Notify = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Job:
    """A pause or step under way. `condition` None: a step of `remaining` steps."""

    call_id: int
    answer: Answer
    remaining: int
    condition: Callable[[Moment], bool] | None
    resume: bool
    done: int = 0


class VmControl:
    """The VM of one worker, from `create` to `close`."""

    def __init__(
        self,
        vm_id: str,
        backends: Mapping[str, Backend],
        notify: Notify,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin without a VM. `notify` takes events; `clock_ns` is real time."""
        self.vm_id = vm_id
        self._backends = backends
        self._notify = notify
        self._clock_ns = clock_ns
        self._vm: Vm | None = None
        self._guard = Guard(0, incoming=True)
        self._config = VmConfig()
        self._console = ConsoleRing()
        self._running = False
        self._stop: Stop | None = None
        self._job: Job | None = None
        self._size = SliceSize()
        self._pacer = Pacer(paced=False)
        self._console_told_ns = 0
        self._console_told_end = 0

    @property
    def vm(self) -> Vm:
        """The VM.

        Raises:
            ConflictError: it has not been created.
        """
        if self._vm is None:
            raise ConflictError("the worker has no VM yet; create it first")
        return self._vm

    @property
    def busy(self) -> bool:
        """Whether `slice` has something to do."""
        return self._job is not None or (self._running and self._stop is None)

    @property
    def status(self) -> str:
        """What the VM does, in the words of the service's VmStatus."""
        if self._vm is None:
            return "creating"
        if self._stop is not None and self._stop.reason != HALTED:
            return "stopped"
        if self._guard.incoming:
            return "incoming"
        if self._running:
            return "halted" if self._stop is not None else "running"
        return "paused"

    def describe_status(self) -> dict[str, Any]:
        """Return what the agent keeps of a VM: status, stop, counters, epoch and where the first vCPU is."""
        created = self._vm is not None
        return {
            "status": self.status,
            "stop_reason": self._stop.reason if self._stop else None,
            "stop_detail": self._stop.detail if self._stop else "",
            "exit_code": self._stop.exit_code if self._stop else None,
            "epoch": self._guard.epoch,
            "incoming": self._guard.incoming,
            "fenced": self._guard.fenced,
            "searching": self._job is not None,
            "retired": self.vm.retired if created else 0,
            "console_base": self._console.base,
            "console_end": self._console.end,
            "ram_bytes": self.vm.ram_bytes if created else 0,
            "registers": self.vm.registers() if created else {},
        }

    # Life of the VM

    def create(self, config: VmConfig) -> None:
        """Make the VM.

        Raises:
            ConflictError: there is one already.
            InputError: the backend or the configuration is unknown or wrong.
        """
        if self._vm is not None:
            raise ConflictError(f"worker {self.vm_id} has its VM already")
        backend = self._backends.get(config.backend)
        if backend is None:
            raise InputError(f"there is no backend {config.backend!r}", hint=f"known: {', '.join(self._backends)}")
        self._vm = backend.create(config)
        self._config = config
        self._guard = Guard(config.epoch, incoming=config.incoming)
        self._pacer = Pacer(paced=config.paced)
        self._stop = self._vm.stopped()

    def close(self) -> None:
        """Give the VM's memory back."""
        self._running = False
        self._end_job("cancelled")
        if self._vm is not None:
            self._vm.close()
            self._vm = None

    # Ownership

    def grant(self, epoch: int) -> None:
        """Give the right to run, see `Guard.grant`."""
        self._guard.grant(epoch)

    def fence(self, epoch: int) -> None:
        """Stop the VM and take the right to run away for good, see `Guard.fence`."""
        self._guard.fence(epoch)
        self._running = False
        self._end_job("fenced")

    # Running

    def run(self, epoch: int) -> None:
        """Let the VM run.

        Raises:
            NotOwnerError: not under this epoch.
            ConflictError: it has stopped for good.
        """
        vm = self.vm
        self._guard.require(epoch)
        stop = vm.stopped()
        if stop is not None and stop.reason != HALTED:
            raise ConflictError(f"the VM has stopped ({stop.reason}) and cannot go on")
        self._end_job("superseded")
        if not self._running:
            self._stop = None
            self._running = True
            self._pacer.begin(self._clock_ns())

    def pause(self, when: str, limit_instructions: int, call_id: int, answer: Answer) -> None:
        """Pause now, or run on to the moment `when`; the answer comes then, or when the limit is reached.

        Without that moment within the limit, the VM does again what it did before.
        """
        vm = self.vm
        self._end_job("superseded")
        condition = PAUSE_CONDITIONS[when]
        if when == "any" or condition(vm.moment()):
            self._halt_running()
            answer(self._pause_answer(found=True, steps=0, reason="found"))
            return
        self._guard.require()
        if self._stop is not None:
            answer(self._pause_answer(found=False, steps=0, reason=self._stop.reason))
            return
        if not self._running:
            self._pacer.begin(self._clock_ns())
        self._job = Job(call_id, answer, limit_instructions, condition, self._running)

    def step(self, n: int, call_id: int, answer: Answer) -> None:
        """Run exactly n steps of a paused VM; fewer only if it stops or somebody interferes.

        Raises:
            ConflictError: it is running.
            NotOwnerError: it must not run here.
        """
        self._require_paused("step")
        self._guard.require()
        self._job = Job(call_id, answer, n, None, False)

    def cancel(self, call_id: int) -> None:
        """End the job of a request whose caller has gone; the VM does again what it did before."""
        if self._job is not None and self._job.call_id == call_id:
            self.drop_job()

    def drop_job(self) -> None:
        """End the job without an answer."""
        self._job = None

    def slice(self) -> int:
        """Run one slice; return how long to sleep before the next, in ns of real time."""
        vm, job = self.vm, self._job
        begin_ns = self._clock_ns()
        try:
            result = self._work(vm, job)
        except Exception as error:
            log.exception("VM %s: the backend failed", self.vm_id)
            result = SliceResult(0, stop=Stop("internal_error", detail=f"{type(error).__name__}: {error}"))
        now_ns = self._clock_ns()
        self._size.learn(result.steps, now_ns - begin_ns)
        if job is not None:
            self._advance(job, result)
        if result.stop is not None:
            self._stopped(result.stop)
        self._collect_console(vm, now_ns, at_once=not self.busy)
        if job is not None and job.condition is None:
            return 0
        return self._pacer.wait_ns(now_ns, result.virtual_ns, result.idle_ns)

    def _work(self, vm: Vm, job: Job | None) -> SliceResult:
        idle_ns = self._pacer.max_idle_ns
        if job is None:
            return vm.run_slice(self._size.steps, idle_ns)
        steps = min(self._size.steps, job.remaining)
        if job.condition is None:
            return vm.run_slice(steps, NO_IDLE_LIMIT_NS)
        return vm.run_until(job.condition, steps, idle_ns)

    def _advance(self, job: Job, result: SliceResult) -> None:
        """Take note of a job's slice and answer if it has ended."""
        job.done += result.steps
        job.remaining -= result.steps
        if result.found:
            self._running = False
        if result.found or result.stop is not None or job.remaining <= 0:
            reason = "found" if result.found else result.stop.reason if result.stop else "done"
            self._end_job(reason)

    def _end_job(self, reason: str) -> None:
        job, self._job = self._job, None
        if job is None:
            return
        if job.condition is None:
            job.answer({"steps": job.done, "reason": reason, **self._where()})
        else:
            job.answer(self._pause_answer(found=reason == "found", steps=job.done, reason=reason))

    def _stopped(self, stop: Stop) -> None:
        if stop.reason != HALTED:
            self._running = False
        elif not self._running:
            return
        self._stop = stop
        self._notify({"event": "stopped", **self.describe_status()})

    def _halt_running(self) -> None:
        self._running = False
        self._collect_console(self.vm, self._clock_ns(), at_once=True)
        if self._stop is not None and self._stop.reason == HALTED:
            self._stop = None

    def _where(self) -> dict[str, Any]:
        return {"retired": self.vm.retired, "registers": self.vm.registers()}

    def _pause_answer(self, *, found: bool, steps: int, reason: str) -> dict[str, Any]:
        return {"found": found, "steps": steps, "reason": reason, **self._where()}

    # State and events

    def save(self) -> SavedState:
        """Return the state of a VM that does not run."""
        self._require_paused("save")
        return self.vm.save()

    def load(self, saved: SavedState) -> None:
        """Replace the state of a VM that does not run, all or nothing; its console goes on where the state says."""
        self._require_paused("load")
        if self._guard.fenced:
            self._guard.require()
        self.vm.load(saved)
        self._stop = self.vm.stopped()
        if self._stop is not None and self._stop.reason == HALTED:
            self._stop = None
        self._console.restart(self.vm.console_bytes)

    def inject(self, event: Callable[[Vm], None]) -> None:
        """Make an SMI, NMI or interrupt pending; it wakes a halted VM."""
        self._guard.require()
        event(self.vm)
        if self._stop is not None and self._stop.reason == HALTED:
            self._stop = None
            self._pacer.begin(self._clock_ns())

    @property
    def console(self) -> ConsoleRing:
        """The retained console output."""
        return self._console

    def _require_paused(self, what: str) -> None:
        if self.vm is not None and (self._running or self._job is not None):
            raise ConflictError(f"the VM is running; pause it before {what}")

    def _collect_console(self, vm: Vm, now_ns: int, *, at_once: bool = False) -> None:
        self._console.append(vm.take_console())
        fresh = self._console.end > self._console_told_end
        if fresh and (at_once or now_ns - self._console_told_ns >= CONSOLE_EVENT_INTERVAL_NS):
            self._console_told_ns, self._console_told_end = now_ns, self._console.end
            self._notify({"event": "console", "end": self._console.end})
