"""Rows of peers."""

from __future__ import annotations

from migsvc.storage import models
from migsvc.storage.repositories.base import Repository
from migsvc.storage.rows import PeerRow


class PeerRepository(Repository[PeerRow]):
    """The hosts that migrations may go to or come from, by name."""

    TABLE = models.peers
    ROW = PeerRow
    KEY = "name"
    WHAT = "peer"
