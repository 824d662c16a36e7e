"""Rows of snapshots; the bytes are files, see `storage.snapshots`."""

from __future__ import annotations

from migsvc.storage import models
from migsvc.storage.repositories.base import Repository
from migsvc.storage.rows import SnapshotRow


class SnapshotRepository(Repository[SnapshotRow]):
    """The snapshots of this host."""

    TABLE = models.snapshots
    ROW = SnapshotRow
    WHAT = "snapshot"
