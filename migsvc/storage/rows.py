"""The rows of the catalogue, as frozen dataclasses: what the repositories take and give.

Times are aware datetimes in UTC. `seq` is the place in the table: the catalogue gives it at the insertion, lists are in
its order and page by it. States and statuses are the strings of the service's records; the catalogue itself knows only
those of `models.OVER_STATES` and the statuses that a handover sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class HostRow:
    """This host, once per data directory: the id is made at the first start and never changes."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VmRow:
    """One VM.

    `present` is true while this host holds it, a copy on its way in included; a VM that another host has taken over
    stays as a row that is not present, so that its name is free here. `config` is the
    service's own.
    """

    id: str
    name: str
    backend: str
    status: str
    owner: str
    epoch: int
    created_at: datetime
    guest: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    ram_bytes: int = 0
    vcpus: int = 1
    stop_reason: str | None = None
    exit_code: int | None = None
    present: bool = True
    seq: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One snapshot; its bytes are a file of the snapshot store under the same id."""

    id: str
    status: str
    vm_name: str
    created_at: datetime
    name: str | None = None
    vm_id: str | None = None
    epoch: int = 0
    size_bytes: int = 0
    ram_bytes: int = 0
    state_digest: str = ""
    summary: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class PeerRow:
    """Another host, by name."""

    name: str
    url: str
    created_at: datetime
    token_file: str | None = None
    host_id: str | None = None
    migration_address: str | None = None
    profile: dict[str, Any] | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """One migration as this host knows it: the journal from which a restarted agent decides."""

    id: str
    role: str
    vm_id: str
    vm_name: str
    peer: str
    state: str
    owner: str
    epoch: int
    explanation: str
    created_at: datetime
    updated_at: datetime
    options: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    seq: int = 0


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a migration; `seq` counts from 1 within it, without a gap."""

    migration_id: str
    seq: int
    at: datetime
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event that has no number yet."""

    at: datetime
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """What was answered to a request that carried an Idempotency-Key; `status` 0 while it is being worked on."""

    key: str
    request_hash: str
    method: str
    path: str
    created_at: datetime
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
