"""Starting a worker process and watching it by its pidfd."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import migsvc
from migsvc.backends.files import Identity, WorkerFiles
from migsvc.errors import WorkerError

PROGRAM = (sys.executable, "-P", "-m", "migsvc.backends.worker")


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended. Status and signal are known only for a worker that this process started."""

    pid: int
    status: int | None = None
    signal: int | None = None
    log_tail: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        if self.signal is not None:
            return f"worker process {self.pid} was killed by {signal.Signals(self.signal).name}"
        if self.status is not None:
            return f"worker process {self.pid} ended with status {self.status}"
        return f"worker process {self.pid} ended"


def spawn_process(files: WorkerFiles, program: Sequence[str] = PROGRAM) -> int:
    """Start a worker in a session of its own, so that it outlives the agent; return its process id.

    Its input is /dev/null, its output its log. No Popen: that object belongs to a parent that waits.

    Raises:
        WorkerError: the system does not start it.
    """
    arguments = [*program, "--run-dir", str(files.run_dir), "--vm", files.vm_id]
    root = str(Path(migsvc.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            arguments[0],
            arguments,
            {**os.environ, "PYTHONPATH": path},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(files.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as error:
        raise WorkerError(f"cannot start a worker process: {error.strerror}") from error


def open_pidfd(identity: Identity) -> int:
    """Return a pidfd of exactly that process.

    Raises:
        WorkerError: it is gone.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError as error:
        raise WorkerError(f"worker process {identity.pid} is gone") from error
    if Identity.of(identity.pid) != identity:
        os.close(descriptor)
        raise WorkerError(f"worker process {identity.pid} is gone; another process has its number")
    return descriptor


def collect(pidfd: int, pid: int, log_tail: str) -> WorkerExit:
    """Return how a process ended, and take it off the process table if it was our child."""
    status = None
    with suppress(ChildProcessError):
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if status is None:
        return WorkerExit(pid, log_tail=log_tail)
    if status.si_code == os.CLD_EXITED:
        return WorkerExit(pid, status=status.si_status, log_tail=log_tail)
    return WorkerExit(pid, signal=status.si_status, log_tail=log_tail)
