"""The files of one worker: its socket, its process id with start time, and its log, in the run directory."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from migsvc.errors import InputError, WorkerError

VM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOG_TAIL_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process it is: ids are used again, but not with the same start time within one boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a live process, None if there is none of that id.

        Source: proc(5), /proc/pid/stat field 22, counted after the last bracket since a name may hold any character.
        """
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot_id)


@dataclass(frozen=True, slots=True)
class WorkerFiles:
    """Where the files of a VM's worker are."""

    run_dir: Path
    vm_id: str

    def __post_init__(self) -> None:
        """Refuse an id that could name another place."""
        if not VM_ID.fullmatch(self.vm_id):
            raise InputError(f"VM id {self.vm_id[:80]!r} has characters that no id has")

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.run_dir / f"{self.vm_id}.sock"

    @property
    def pid(self) -> Path:
        """The identity of the worker, locked by it as long as it lives."""
        return self.run_dir / f"{self.vm_id}.pid"

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.run_dir / f"{self.vm_id}.log"

    def prepare(self) -> None:
        """Make the run directory: whoever may enter it may command the workers, hence mode 0700.

        Raises:
            WorkerError: it cannot be made.
        """
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.run_dir.chmod(0o700)
        except OSError as error:
            raise WorkerError(f"cannot make the run directory {self.run_dir}: {error.strerror}") from error

    def identity(self) -> Identity | None:
        """Return the live process that wrote the pid file, None if there is none."""
        try:
            found = json.loads(self.pid.read_bytes()[:4096])
            wanted = Identity(int(found["pid"]), int(found["start_ticks"]), str(found["boot_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return wanted if Identity.of(wanted.pid) == wanted else None

    def log_tail(self) -> str:
        """Return the last lines that the worker printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return file.read(LOG_TAIL_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def remove(self, *, log: bool = False) -> None:
        """Remove socket and pid file, and the log if asked."""
        for path in (self.socket, self.pid, *((self.log,) if log else ())):
            path.unlink(missing_ok=True)


def claim(files: WorkerFiles) -> int:
    """Write and lock the pid file as this process; the descriptor holds the lock.

    Raises:
        WorkerError: another worker of this VM lives.
    """
    descriptor = os.open(files.pid, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise WorkerError(f"VM {files.vm_id} has a worker already") from error
    me = Identity.of(os.getpid())
    if me is None:
        raise WorkerError("/proc is not mounted; a worker cannot prove who it is without it")
    text = json.dumps({"pid": me.pid, "start_ticks": me.start_ticks, "boot_id": me.boot_id})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    return descriptor


def listen(files: WorkerFiles) -> socket.socket:
    """Bind the worker's socket. By the directory's descriptor: its path may have 107 bytes at most."""
    files.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    directory = os.open(files.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{files.socket.name}")
    finally:
        os.close(directory)
    listener.listen(4)
    return listener


def connect(files: WorkerFiles) -> socket.socket:
    """Connect to the worker's socket, non-blocking afterwards.

    Raises:
        OSError: nobody listens.
    """
    directory = os.open(files.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(5)
            peer.connect(f"/proc/self/fd/{directory}/{files.socket.name}")
            peer.setblocking(False)
        except BaseException:
            peer.close()
            raise
        return peer
    finally:
        os.close(directory)
