"""Rows of the catalogue as the service's records."""

from __future__ import annotations

from migsvc.service.records import (
    MigrationEvent,
    MigrationOptions,
    MigrationRecord,
    MigrationState,
    MigrationStats,
    PeerRecord,
    SnapshotRecord,
    SnapshotStatus,
)
from migsvc.storage.rows import EventRow, MigrationRow, PeerRow, SnapshotRow


def peer_record(row: PeerRow) -> PeerRecord:
    """Return the record of a peer."""
    return PeerRecord(
        name=row.name,
        url=row.url,
        host_id=row.host_id,
        migration_address=row.migration_address,
        created_at=row.created_at,
    )


def snapshot_record(row: SnapshotRow) -> SnapshotRecord:
    """Return the record of a snapshot."""
    return SnapshotRecord(
        id=row.id,
        name=row.name,
        status=SnapshotStatus(row.status),
        vm=row.vm_id,
        vm_name=row.vm_name,
        epoch=row.epoch,
        size_bytes=row.size_bytes,
        ram_bytes=row.ram_bytes,
        state_digest=row.state_digest,
        summary=row.summary,
        error=row.error,
        created_at=row.created_at,
    )


def migration_record(row: MigrationRow) -> MigrationRecord:
    """Return the record of a migration."""
    return MigrationRecord(
        id=row.id,
        role="source" if row.role == "source" else "destination",
        vm=row.vm_id,
        vm_name=row.vm_name,
        peer=row.peer,
        state=MigrationState(row.state),
        owner=row.owner,
        epoch=row.epoch,
        explanation=row.explanation,
        options=MigrationOptions.model_validate(row.options),
        stats=MigrationStats.model_validate(row.stats),
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def event_record(row: EventRow) -> MigrationEvent:
    """Return the record of an event."""
    return MigrationEvent.model_validate({"seq": row.seq, "at": row.at, "type": row.type, "data": row.data})
