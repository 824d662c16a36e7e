"""The migrations under way in this process: their tasks and their cancel tokens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from migsvc.service.cancel import CancelToken
from migsvc.service.journal import Journal

log = logging.getLogger("migsvc.migration")


@dataclass(eq=False, slots=True)
class Job:
    """One migration under way."""

    journal: Journal
    cancel: CancelToken = field(default_factory=CancelToken)
    task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Id of the migration."""
        return self.journal.id


class Jobs:
    """The jobs by id of their migration."""

    def __init__(self) -> None:
        """Begin with none."""
        self._jobs: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        """Yield every job; the set may change meanwhile."""
        return iter(list(self._jobs.values()))

    def add(self, job: Job) -> Job:
        """Put a job in and return it."""
        self._jobs[job.id] = job
        return job

    def find(self, migration_id: str) -> Job | None:
        """Return a job, or None when nothing of that migration is under way."""
        return self._jobs.get(migration_id)

    def remove(self, migration_id: str) -> None:
        """Take a job out."""
        self._jobs.pop(migration_id, None)

    def count(self, role: str) -> int:
        """Return how many are under way in that role."""
        return sum(job.journal.row.role == role for job in self)

    def start(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Run the job's work as its task; the job goes when the task ends."""
        job.task = asyncio.create_task(self._run(job, work), name=f"migration-{job.id}")

    async def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            # The engines end every migration themselves; what comes here is a fault of theirs, or of the catalogue.
            # The journal still holds the last durable state, from which the next start decides.
            log.exception("migration %s stopped without an outcome; the next start of the agent decides it", job.id)
        finally:
            self.remove(job.id)

    async def stop(self, reason: str, grace_s: float) -> None:
        """Cancel what can be cancelled, wait for it, then end the rest: the journal says how to go on."""
        for job in self:
            job.cancel.cancel(reason)
        tasks = {job.task for job in self if job.task is not None and not job.cancel.closed}
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        rest = {job.task for job in self if job.task is not None}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=grace_s)
