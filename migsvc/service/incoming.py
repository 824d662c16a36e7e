"""The destination's part of one migration: the copy that arrives, until it is taken over or discarded.

A copy is bound by its word from Prepared on: it is run when the source says that it committed, discarded when the
source says that it gave up, and kept paused as long as the source says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from migsvc.errors import ConflictError, MigsvcError, PeerError, WorkerError
from migsvc.protocol.events import (
    PROTOCOL_VERSION,
    Hello,
    Outcome,
    Prepare,
    Query,
    Welcome,
)
from migsvc.protocol.ownership import Action, answer_of, decide_destination
from migsvc.protocol.transitions import Role
from migsvc.service import workers
from migsvc.service.cancel import CancelToken
from migsvc.service.carried import carried_summary
from migsvc.service.context import Host
from migsvc.service.dialect import Dialect, RamView, from_version, own_dialect
from migsvc.service.hosts import host_profile
from migsvc.service.jobs import Job
from migsvc.service.journal import now
from migsvc.service.link import Link, Patience
from migsvc.service.peers import Peers
from migsvc.service.records import MigrationState, Translation, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.stream import STREAM_VERSION, Config
from schemas.shadow import SmmCarrier
from schemas.versions import SUPPORTED_SCHEMA_VERSIONS
from schemas.versions.converters import Converted

log = logging.getLogger("migsvc.migration")

_FIRST_VERSION = min(SUPPORTED_SCHEMA_VERSIONS)
"""What a source spoke that did not yet say which version it spoke."""

ASK_INTERVAL_S = 0.5
"""How often a source that has not answered is asked how the migration ended. There is no last time."""


class Incoming:
    """One copy on its way in. Its journal says how far it is."""

    def __init__(self, host: Host, peers: Peers, job: Job, live: LiveVm | None) -> None:
        """Work for `job`; `live` is the worker that holds the copy, None if it is gone."""
        self._host = host
        self._peers = peers
        self.job = job
        self._live = live
        self._deciding = asyncio.Lock()
        self.lost = CancelToken()
        if live is not None:
            live.handle.exited.add_done_callback(lambda _exit: self.lost.cancel("the copy's worker has ended"))

    @property
    def live(self) -> LiveVm:
        """The worker of the copy.

        Raises:
            WorkerError: it is gone.
        """
        if self._live is None or not self._live.handle.alive:
            raise WorkerError(f"the copy of VM {self.job.journal.row.vm_name} is gone: its worker has ended")
        return self._live

    @property
    def state(self) -> str:
        """The journal's state."""
        return self.job.journal.row.state

    async def load(self, config: Config, vm: dict[str, bytes], vcpus: list[dict[str, bytes]], console: bytes) -> None:
        """Put state and console into the copy; `config` says in which schema version the state came.

        Raises:
            IllegalStateError: the state breaks the rules; every finding is listed.
            WorkerError: the worker is gone.
        """
        own = own_dialect(await host_profile(self._host))
        memory = RamView(config.memory, memoryview(await self.live.handle.ram()))
        read = from_version(vm, vcpus, config.schema_version, own, memory)
        stats = self.job.journal.stats
        stats.carried = carried_summary(read.sections.vm, read.sections.vcpus)
        stats.translation = _translation(read, config.schema_version, own)
        await self.live.handle.call("load", vm=read.sections.vm, vcpus=read.sections.vcpus)
        status = await self.live.handle.call("status")
        if console:
            await self.live.handle.call("console_import", offset=status["console_end"] - len(console), data=console)

    async def prepare(self, prepare: Prepare) -> None:
        """Journal that the copy is verified and loaded: from here on only the source decides."""
        journal = self.job.journal
        # A request to cancel here must lose from now on; one that came before wins.
        self.job.cancel.close()
        await journal.enter(
            MigrationState.PREPARED,
            f"{self._host.name} holds a verified copy and waits for the word of {journal.row.peer}, "
            "which owns the VM until it commits",
            config={**journal.row.config, "run": prepare.run},
        )

    async def commit(self, epoch: int) -> None:
        """Take the VM over and run it; may be repeated.

        Raises:
            ConflictError: the epoch is stale, or the copy has been discarded.
            WorkerError: the copy is gone.
        """
        async with self._deciding:
            journal = self.job.journal
            if self.state == MigrationState.COMPLETED:
                return
            await self._host.stall("destination", "committing", None)
            live = self.live
            name = self._host.name
            explanation = f"{journal.row.peer} committed the handover and {name} took the VM over"
            await self._host.catalogue.take_ownership(
                journal.id,
                live.id,
                owner=name,
                epoch=epoch,
                explanation=explanation,
                at=now(),
                event=journal.commit_event(name, epoch, explanation),
            )
            await journal.committed()
            await self._begin_to_run(live, epoch)
            await journal.end(
                MigrationState.COMPLETED,
                f"{name} owns the VM: {journal.row.peer} committed the handover",
                allowed_from=(MigrationState.COMMITTED,),
            )

    async def _begin_to_run(self, live: LiveVm, epoch: int) -> None:
        """Use the right to run that has just been taken durably."""
        await live.handle.call("grant", epoch=epoch)
        live.migration = None
        if not self.job.journal.row.config.get("run"):
            return
        with suppress(ConflictError):  # the guest had stopped for good: it is as stopped here
            await live.handle.call("run", epoch=epoch)
        await self._host.catalogue.vms.update(live.id, status=VmStatus.RUNNING)

    async def discard(self, state: MigrationState, explanation: str, error: Exception | None = None) -> None:
        """Destroy the copy wholly and journal the end; may be repeated."""
        async with self._deciding:
            journal = self.job.journal
            if journal.ended or self.state == MigrationState.COMMITTED:
                return
            if self._live is not None:
                await workers.end(self._host, self._live)
                self._live = None
            await self._host.catalogue.vms.discard_incoming(journal.row.vm_id)
            await journal.end(state, explanation, error=error)

    # Asking the source

    async def settle(self) -> None:
        """Ask the source how the migration ended until it is known, then do what follows. Never on a timeout."""
        while self.state == MigrationState.PREPARED:
            outcome: Outcome | None = None
            try:
                outcome = await self._ask()
            except MigsvcError as error:
                log.info("migration %s: %s does not answer yet: %s", self.job.id, self.job.journal.row.peer, error)
            if await self._follow(outcome):
                return
            await asyncio.sleep(ASK_INTERVAL_S)
        if self.state == MigrationState.COMMITTED:
            await self.commit(self.job.journal.row.epoch)

    async def _follow(self, outcome: Outcome | None) -> bool:
        """Do what an answer says; return whether the migration has ended."""
        journal = self.job.journal
        epoch = journal.row.epoch + 1
        answer = None if outcome is None else answer_of(outcome, epoch)
        if self.state != MigrationState.PREPARED:
            return True
        decision = decide_destination(MigrationState.PREPARED, answer)
        try:
            if decision.action is Action.RUN:
                await self.commit(epoch)
                return True
            if decision.action is Action.DISCARD:
                error = PeerError(f"{journal.row.peer} gave the migration up: {outcome.explanation if outcome else ''}")
                await self.discard(MigrationState.CANCELLED, decision.explanation, error)
                return True
        except (WorkerError, ConflictError) as error:
            await journal.trouble(error)
        if decision.explanation != journal.row.explanation and answer is not None:
            await journal.note(explanation=decision.explanation)
        return False

    async def _ask(self) -> Outcome:
        """Ask the source over a connection of its own."""
        row = self.job.journal.row
        link = await Link.dial(self._host, Role.RECOVERY, await self._source_address())
        try:
            hello = Hello(
                protocol_version=PROTOCOL_VERSION,
                stream_version=STREAM_VERSION,
                schema_version=row.config.get("schema_version", _FIRST_VERSION),
                migration_id=row.id,
                vm_id=row.vm_id,
                vm_name=row.vm_name,
                epoch=row.epoch,
                source_host=row.peer,
                token=row.config.get("answer_token"),
            )
            await link.send(hello)
            welcome = await link.expect(Welcome, patience=Patience.ANSWER)
            if welcome.host_id != row.config.get("source_host_id"):
                raise PeerError(f"host {welcome.host_name} answers, not {row.peer}")
            await link.send(Query(row.id))
            return await link.expect(Outcome, patience=Patience.ANSWER)
        finally:
            link.close()

    async def _source_address(self) -> str:
        """Return where the source takes migrations now: what a registered peer says, else what it said then."""
        config = self.job.journal.row.config
        found = await self._peers.address_of(str(config.get("source_host_id")))
        return found or str(config.get("source_address"))


def _translation(read: Converted, version: int, own: Dialect) -> Translation:
    """Return how the state arrived; what a host keeps where it arrived has not been said differently."""
    carried_on = own.carrier is SmmCarrier.EVENTS_NIBBLE or version < own.schema_version
    return Translation(
        schema_version=version,
        smm_carrier=None if own.carrier is None else str(own.carrier),
        losses=[finding.model_dump(mode="json") for finding in read.losses],
        notes=[finding.model_dump(mode="json") for finding in read.notes if carried_on],
    )
