"""The journal of one migration: its durable state, its figures and its events.

Every state is on the disk before the step that depends on it, so that a restarted agent can decide from the journal
alone. Between states only events and figures are written, and those at most once a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from migsvc.service.faults import fault_json
from migsvc.service.records import MigrationState, MigrationStats, RoundStats
from migsvc.storage.rows import EventDraft, MigrationRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migsvc.service.cancel import CancelToken
    from migsvc.service.context import Host

log = logging.getLogger("migsvc.migration")

ENDED = (MigrationState.COMPLETED, MigrationState.CANCELLED, MigrationState.FAILED)
"""States with nothing left to do."""

PROGRESS_INTERVAL_NS = 1_000_000_000
"""Progress events are for people; each is a write to the disk."""


def now() -> datetime:
    """Return the time as records carry it."""
    return datetime.now(UTC)


class Journal:
    """Writes the course of one migration on this host."""

    def __init__(self, host: Host, row: MigrationRow) -> None:
        """Go on from `row`, which is in the catalogue."""
        self._host = host
        self.row = row
        self.stats = MigrationStats.model_validate(row.stats)
        self._begun_ns = time.monotonic_ns()
        self._progress_ns = 0
        self._trouble = ""

    @property
    def id(self) -> str:
        """Id of the migration."""
        return self.row.id

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.row.state in ENDED

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the block to the figures."""
        begun_ns = time.monotonic_ns()
        try:
            yield
        finally:
            spent_ns = time.monotonic_ns() - begun_ns
            self.stats.phases_ns[name] = self.stats.phases_ns.get(name, 0) + spent_ns

    async def enter(
        self,
        state: MigrationState,
        explanation: str,
        *,
        cancel: CancelToken | None = None,
        allowed_from: Collection[str] | None = None,
        **changes: Any,
    ) -> None:
        """Move to `state` durably, tell whoever watches, then stall there if a test asks for it.

        Raises:
            ConflictError: the outcome is fixed already.
            CancelledError: `cancel` was asked for while stalled.
        """
        self.row = await self._host.catalogue.migrations.transition(
            self.id,
            state,
            at=now(),
            allowed_from=allowed_from,
            event=self._draft("state", state, explanation, changes),
            explanation=explanation,
            stats=self.stats.model_dump(mode="json"),
            **changes,
        )
        self._tell(state, explanation)
        await self._host.stall(self.row.role, state, cancel)

    async def end(
        self,
        state: MigrationState,
        explanation: str,
        *,
        error: BaseException | None = None,
        allowed_from: Collection[str] | None = None,
        **changes: Any,
    ) -> None:
        """Move to a final state with the error that caused it, if any."""
        self.stats.total_ns = (self.stats.total_ns or 0) + time.monotonic_ns() - self._begun_ns
        fault = None if error is None else fault_json(error)
        self.row = await self._host.catalogue.migrations.transition(
            self.id,
            state,
            at=now(),
            allowed_from=allowed_from,
            event=self._draft("end", state, explanation, {**changes, "error": fault}),
            explanation=explanation,
            error=fault,
            stats=self.stats.model_dump(mode="json"),
            **changes,
        )
        self._tell(state, explanation)

    async def committed(self) -> None:
        """Take up the state that one of the catalogue's two handover transactions has written."""
        self.row = await self._host.catalogue.migrations.get(self.id)
        self._tell(MigrationState(self.row.state), self.row.explanation)
        await self._host.stall(self.row.role, self.row.state, None)

    def commit_event(self, owner: str, epoch: int, explanation: str) -> EventDraft:
        """Return the event that goes into a handover transaction."""
        changes = {"owner": owner, "epoch": epoch}
        return self._draft("state", MigrationState.COMMITTED, explanation, changes)

    async def round(self, figures: RoundStats) -> None:
        """Note one finished round."""
        self.stats.rounds.append(figures)
        self.stats.pages += figures.pages
        self.stats.zero_pages += figures.zero_pages
        await self._event("round", figures.model_dump(mode="json"))

    async def progress(self, **data: Any) -> None:
        """Tell how far it is, at most once a second."""
        at_ns = time.monotonic_ns()
        if at_ns - self._progress_ns >= PROGRESS_INTERVAL_NS:
            self._progress_ns = at_ns
            await self._event("progress", data)

    async def trouble(self, error: BaseException) -> None:
        """Tell of an error that does not end the migration; the same one over and over is told once."""
        if str(error) == self._trouble:
            return
        self._trouble = str(error)
        log.warning("migration %s (%s): %s", self.id, self.row.role, error)
        await self._event("error", fault_json(error))

    async def note(self, **changes: Any) -> None:
        """Write columns without a change of state."""
        self.row = await self._host.catalogue.migrations.update(self.id, **changes)

    async def _event(self, kind: str, data: dict[str, Any]) -> None:
        await self._host.catalogue.migrations.add_event(self.id, EventDraft(at=now(), type=kind, data=data))
        self._host.hub.tell(self.id)

    def _draft(self, kind: str, state: str, explanation: str, changes: dict[str, Any]) -> EventDraft:
        shown = {key: changes[key] for key in ("owner", "epoch", "error") if changes.get(key) is not None}
        base = {"state": str(state), "owner": self.row.owner, "epoch": self.row.epoch, "explanation": explanation}
        return EventDraft(at=now(), type=kind, data={**base, **shown})

    def _tell(self, state: MigrationState, explanation: str) -> None:
        log.info("migration %s (%s): %s: %s", self.id, self.row.role, state, explanation)
        self._host.hub.tell(self.id)
