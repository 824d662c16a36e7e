"""What an agent does when it starts: adopts the workers that lived on, and decides every migration that was under way.

The decisions are `migsvc.protocol.ownership`'s tables; this file carries them out.
"""

from __future__ import annotations

import logging

from migsvc.errors import MigsvcError
from migsvc.protocol.ownership import Action, decide_destination, decide_source
from migsvc.service import workers
from migsvc.service.context import Host
from migsvc.service.destination import Destination
from migsvc.service.incoming import Incoming
from migsvc.service.jobs import Job
from migsvc.service.journal import Journal
from migsvc.service.peers import Peers
from migsvc.service.records import MigrationOptions, MigrationState, VmStatus
from migsvc.service.source import SourceEngine
from migsvc.storage.rows import MigrationRow, VmRow

log = logging.getLogger("migsvc.recovery")

INTERRUPTED = MigsvcError("the agent was stopped in the middle of the migration", hint="begin it again")


KEPT_MIGRATIONS = 10_000
"""Ended migrations that are remembered, with their events: some hundred MB at most."""


async def recover(host: Host, peers: Peers, destination: Destination) -> None:
    """Adopt, then decide. Nothing else runs on this host yet."""
    await host.catalogue.migrations.prune(KEPT_MIGRATIONS)
    unfinished = await host.catalogue.migrations.list_unfinished()
    await _adopt(host, unfinished)
    for row in unfinished:
        if row.role == "source":
            await _decide_source(host, peers, row)
        else:
            await _decide_destination(host, peers, destination, row)


async def _adopt(host: Host, unfinished: list[MigrationRow]) -> None:
    """Take up the worker of every VM that is here, and of those that a migration still speaks of."""
    rows = {row.id: row for row in await host.catalogue.vms.list_present()}
    for migration in unfinished:
        if migration.vm_id not in rows:
            await workers.adopt(host, migration.vm_id, migration.vm_name)
    for row in rows.values():
        if row.status == VmStatus.CREATING:
            await _forget_unmade(host, row)
        elif row.status != VmStatus.LOST:
            await _adopt_vm(host, row)


async def _forget_unmade(host: Host, row: VmRow) -> None:
    """A VM whose making was cut short never was: nobody has been told of it."""
    live = await workers.adopt(host, row.id, row.name)
    if live is not None:
        await workers.end(host, live)
    await host.catalogue.vms.delete(row.id)


async def _adopt_vm(host: Host, row: VmRow) -> None:
    live = await workers.adopt(host, row.id, row.name)
    if live is None:
        if row.status != VmStatus.INCOMING:
            await host.catalogue.vms.update(
                row.id, status=VmStatus.LOST, stop_reason="its worker process was gone when the agent started"
            )
        return
    if await host.catalogue.migrations.active_of_vm(row.id) is None:
        # Paused for a snapshot, or the wish to run had just been written.
        await workers.resume(host, live, stop_log=False)


async def _decide_source(host: Host, peers: Peers, row: MigrationRow) -> None:
    decision = decide_source(row.state)
    live = host.registry.find(row.vm_id)
    job = Job(Journal(host, row))
    log.info("migration %s (source, %s): %s", row.id, row.state, decision.explanation)
    engine = SourceEngine(host, peers, job, live, MigrationOptions.model_validate(row.options))
    if decision.action is Action.RESEND_COMMIT:
        job.cancel.close()
        if live is not None:
            live.migration = row.id
            await workers.fence(live, row.epoch)
        host.jobs.start(host.jobs.add(job), engine.tell())
    elif decision.action is Action.ABORT_AND_RESUME:
        if live is not None:
            await workers.resume(host, live, stop_log=True)
        await job.journal.end(MigrationState.FAILED, decision.explanation, error=INTERRUPTED)
        host.spawn(engine.call_off(str(INTERRUPTED)))


async def _decide_destination(host: Host, peers: Peers, destination: Destination, row: MigrationRow) -> None:
    decision = decide_destination(row.state)
    live = host.registry.find(row.vm_id)
    job = Job(Journal(host, row))
    log.info("migration %s (destination, %s): %s", row.id, row.state, decision.explanation)
    incoming = Incoming(host, peers, job, live)
    if decision.action is Action.DISCARD:
        await incoming.discard(MigrationState.FAILED, decision.explanation, INTERRUPTED)
    elif decision.action in (Action.ASK_SOURCE, Action.RUN):
        job.cancel.close()
        if live is not None:
            live.migration = row.id
        host.jobs.add(job)
        destination.adopt(incoming)
