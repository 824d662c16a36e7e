"""The local snapshot store: one stream file per snapshot in one directory.

A file appears under its name only whole and on the disk: it is written as `.ID.partial`, synced, renamed, and the
directory is synced after it. What a crash leaves under a partial name goes at the next start. The calls block: run
them in a thread.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from migsvc.errors import ConflictError, InputError, LimitError, NotFoundError, StorageError

SUFFIX = ".migstream"
PARTIAL = ".partial"
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an id may be: it becomes part of a path."""

Buffer = bytes | bytearray | memoryview


class SnapshotFile(Protocol):
    """The part of an unbuffered binary file that a writer uses; tests pass ones that fail."""

    def write(self, data: Buffer, /) -> int | None:
        """Write some of the bytes and return how many."""

    def fileno(self) -> int:
        """Return the descriptor, for fsync."""

    def close(self) -> None:
        """Close the file."""


def _create(path: Path) -> SnapshotFile:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)


class SnapshotStore:
    """The snapshots in one directory; ids are the catalogue's."""

    def __init__(self, directory: Path, create: Callable[[Path], SnapshotFile] = _create) -> None:
        """Open the store: make the directory (mode 0700) and remove what a crash left half-written.

        Raises:
            StorageError: the directory cannot be made or read.
        """
        self.directory = directory
        self._create = create
        with _explained(f"open the snapshot directory {directory}"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in directory.glob(f".*{PARTIAL}"):
                leftover.unlink()

    def create(self, snapshot_id: str, max_bytes: int | None = None) -> SnapshotWriter:
        """Begin a snapshot; it exists once the writer has committed.

        Raises:
            ConflictError: there is a snapshot of that id, or one is being written.
            StorageError: the file cannot be made.
        """
        final = self.path(snapshot_id)
        partial = final.with_name(f".{snapshot_id}{PARTIAL}")
        if final.exists() or partial.exists():
            raise ConflictError(f"snapshot {snapshot_id} exists already or is being written")
        with _explained(f"create {partial}"):
            file = self._create(partial)
        return SnapshotWriter(file, partial, final, max_bytes)

    def path(self, snapshot_id: str) -> Path:
        """Return where a snapshot is or would be.

        Raises:
            InputError: the id has characters that no id has.
        """
        if not ID_PATTERN.fullmatch(snapshot_id):
            raise InputError(f"snapshot id {snapshot_id[:80]!r} has characters that no id has")
        return self.directory / f"{snapshot_id}{SUFFIX}"

    def open_read(self, snapshot_id: str) -> BinaryIO:
        """Open a snapshot for reading.

        Raises:
            NotFoundError: there is none.
        """
        path = self.path(snapshot_id)
        with _explained(f"read {path}"):
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise NotFoundError(f"there is no snapshot file {path.name}") from None

    def size(self, snapshot_id: str) -> int:
        """Return a snapshot's size in bytes.

        Raises:
            NotFoundError: there is none.
        """
        path = self.path(snapshot_id)
        with _explained(f"read {path}"):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                raise NotFoundError(f"there is no snapshot file {path.name}") from None

    def list(self) -> list[str]:
        """Return the ids of the whole snapshots, sorted."""
        with _explained(f"read {self.directory}"):
            names = [path.name for path in self.directory.glob(f"*{SUFFIX}")]
        return sorted(name.removesuffix(SUFFIX) for name in names if not name.startswith("."))

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot for good.

        Raises:
            NotFoundError: there is none.
        """
        path = self.path(snapshot_id)
        with _explained(f"delete {path}"):
            try:
                path.unlink()
            except FileNotFoundError:
                raise NotFoundError(f"there is no snapshot file {path.name}") from None
            sync_directory(self.directory)


class SnapshotWriter:
    """A snapshot being written. As a context manager it aborts unless `commit` was called."""

    def __init__(self, file: SnapshotFile, partial: Path, final: Path, max_bytes: int | None) -> None:
        """Write to `file`, which is `partial`, until the commit renames it to `final`."""
        self._file = file
        self._partial = partial
        self._final = final
        self._max_bytes = max_bytes
        self._open = True
        self.size_bytes = 0

    @property
    def partial_path(self) -> Path:
        """The file as written so far: what is to be verified before it is committed."""
        return self._partial

    def write(self, *buffers: Buffer) -> None:
        """Append bytes.

        Raises:
            LimitError: more than the bound of this snapshot.
            StorageError: the disk is full or fails; the partial file is gone then.
        """
        total = self.size_bytes + sum(memoryview(buffer).nbytes for buffer in buffers)
        if self._max_bytes is not None and total > self._max_bytes:
            self.abort()
            raise LimitError(f"the snapshot is larger than {self._max_bytes} bytes", limit=self._max_bytes)
        with self._or_abort("write"):
            for buffer in buffers:
                self._write_all(memoryview(buffer).cast("B"))

    def write_all(self, buffers: Iterable[Buffer]) -> None:
        """Append every buffer."""
        for buffer in buffers:
            self.write(buffer)

    def sync(self) -> None:
        """Bring what was written to the disk.

        Raises:
            StorageError: the disk fails.
        """
        with self._or_abort("sync"):
            os.fsync(self._file.fileno())

    def commit(self) -> int:
        """Make the snapshot exist: file to the disk, then its name, then the directory. Returns its bytes.

        Raises:
            StorageError: the disk fails; there is no snapshot then.
        """
        self.sync()
        with self._or_abort("commit"):
            self._file.close()
            self._partial.rename(self._final)
            self._partial = self._final  # what an abort removes from here on
            sync_directory(self._final.parent)
            self._open = False
        return self.size_bytes

    def abort(self) -> None:
        """Remove what was written; after a commit or an abort, do nothing."""
        if self._open:
            self._open = False
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._partial.unlink()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed."""
        self.abort()

    def _write_all(self, view: memoryview) -> None:
        while view:
            done = self._file.write(view)
            if not done:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.size_bytes += done
            view = view[done:]

    @contextmanager
    def _or_abort(self, what: str) -> Iterator[None]:
        if not self._open:
            raise StorageError(f"snapshot {self._final.name} is no longer being written")
        with _explained(f"{what} snapshot {self._final.name}"):
            try:
                yield
            except OSError:
                self.abort()
                raise


def sync_directory(directory: Path) -> None:
    """Bring a directory's names to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"cannot {what}: {error.strerror or error}",
            hint="free space on that disk or delete snapshots" if full else "see that this user may write there",
        ) from error
