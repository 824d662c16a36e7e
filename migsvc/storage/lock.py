"""The lock that keeps a second agent off a data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from migsvc.errors import StorageError


class DirectoryLock:
    """An exclusive lock on a file, held until `release` or the death of the process, whichever comes first.

    The kernel drops it with the process (flock), so that a killed agent leaves nothing to clean up. The file itself
    stays: removing it would let two agents lock two files of one name.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Keep what `acquire` took."""
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Take the lock, or say who holds it.

        Raises:
            StorageError: another agent holds it, or the file cannot be made.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"cannot open the lock file {path}: {error.strerror}", hint="give the agent a directory it may write to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageError(
                f"data directory {path.parent} is in use by another agent (process {holder})",
                hint="stop that agent, or give this one a directory of its own with --data-dir",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(path, descriptor)

    def release(self) -> None:
        """Let go; more calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
