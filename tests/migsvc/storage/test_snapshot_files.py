import errno
import os

import pytest

from migsvc.errors import ConflictError, InputError, LimitError, NotFoundError, StorageError
from migsvc.storage import snapshots
from migsvc.storage.snapshots import SnapshotStore


class FullDisk:
    """A file on a disk with room for `room` bytes; short writes first, then none."""

    def __init__(self, path, room, *, sync_error=0):
        self.file = open(path, "xb", buffering=0)  # noqa: SIM115
        self.room = room
        self.sync_error = sync_error

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.file.write(memoryview(data)[: min(self.room, 7)])
        self.room -= done
        return done

    def fileno(self):
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        return self.file.fileno()

    def close(self):
        self.file.close()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def put(store, snapshot_id, *buffers):
    with store.create(snapshot_id) as writer:
        writer.write(*buffers)
        return writer.commit()


def test_a_committed_snapshot_is_listed_and_reads_back(tmp_path):
    store = SnapshotStore(tmp_path / "snapshots")
    assert put(store, "s-1", b"abc", memoryview(b"def")) == 6
    assert (store.list(), store.size("s-1")) == (["s-1"], 6)
    with store.open_read("s-1") as file:
        assert file.read() == b"abcdef"
    store.delete("s-1")
    assert names(store.directory) == []


def test_a_snapshot_is_not_there_before_its_commit_and_gone_after_an_abort(tmp_path):
    store = SnapshotStore(tmp_path)
    with store.create("s-1") as writer:
        writer.write(b"abc")
        writer.sync()
        assert store.list() == []
        assert writer.partial_path.read_bytes() == b"abc"
        with pytest.raises(NotFoundError):
            store.open_read("s-1")
        with pytest.raises(ConflictError):
            store.create("s-1")
    assert names(tmp_path) == []
    with pytest.raises(StorageError, match="no longer"):
        writer.write(b"x")


def test_file_name_and_directory_reach_the_disk_in_that_order(tmp_path, monkeypatch):
    store, order = SnapshotStore(tmp_path), []
    fsync = os.fsync

    def spy(descriptor):
        order.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}"), names(tmp_path)))
        fsync(descriptor)

    monkeypatch.setattr(snapshots.os, "fsync", spy)
    put(store, "s-1", b"abc")
    assert order == [
        ("fsync", str(tmp_path / ".s-1.partial"), [".s-1.partial"]),
        ("fsync", str(tmp_path), ["s-1.migstream"]),
    ]


def test_what_a_crash_left_half_written_goes_at_the_start(tmp_path):
    store = SnapshotStore(tmp_path)
    put(store, "s-1", b"whole")
    (tmp_path / ".s-2.partial").write_bytes(b"half")
    assert SnapshotStore(tmp_path).list() == ["s-1"]
    assert names(tmp_path) == ["s-1.migstream"]


def test_a_full_disk_is_explained_and_leaves_the_old_snapshots_alone(tmp_path):
    put(SnapshotStore(tmp_path), "s-1", b"whole")
    store = SnapshotStore(tmp_path, create=lambda path: FullDisk(path, 20))
    writer = store.create("s-2")
    writer.write(b"0123456789")
    with pytest.raises(StorageError, match=r"No space left on device.*free space"):
        writer.write(b"0123456789X")
    assert names(tmp_path) == ["s-1.migstream"]
    assert store.size("s-1") == 5


def test_a_disk_that_fails_to_sync_gives_no_snapshot(tmp_path):
    store = SnapshotStore(tmp_path, create=lambda path: FullDisk(path, 99, sync_error=errno.EIO))
    with pytest.raises(StorageError, match="sync snapshot"):
        put(store, "s-1", b"abc")
    assert names(tmp_path) == []


def test_a_directory_that_fails_to_sync_gives_no_snapshot(tmp_path, monkeypatch):
    store = SnapshotStore(tmp_path)

    def fail(_directory):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(snapshots, "sync_directory", fail)
    with pytest.raises(StorageError, match="commit snapshot"):
        put(store, "s-1", b"abc")
    assert names(tmp_path) == []


def test_a_short_write_is_continued(tmp_path):
    store = SnapshotStore(tmp_path, create=lambda path: FullDisk(path, 1000))
    put(store, "s-1", bytes(range(100)), b"end")
    assert store.path("s-1").read_bytes() == bytes(range(100)) + b"end"


def test_more_than_the_bound_is_refused_and_removed(tmp_path):
    writer = SnapshotStore(tmp_path).create("s-1", max_bytes=10)
    writer.write(b"0123456789")
    with pytest.raises(LimitError):
        writer.write(b"0")
    assert names(tmp_path) == []


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden", "a\0", "x" * 200])
def test_an_id_that_could_name_another_place_is_refused(tmp_path, bad):
    with pytest.raises(InputError):
        SnapshotStore(tmp_path).create(bad)


def test_a_directory_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot open the snapshot directory"):
        SnapshotStore(tmp_path / "file" / "snapshots")
