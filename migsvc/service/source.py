"""The source's part of a migration: from the connection to the destination until that runs the VM.

Up to the commit point every failure and every cancellation leads back to a VM that does here what it did before.
After it there is no way back: the VM is fenced, and the destination is told until it confirms.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import ParamSpec, TypeVar

from migsvc.errors import (
    CancelledError,
    ConflictError,
    MigsvcError,
    PeerError,
    StorageError,
    WorkerError,
)
from migsvc.protocol.events import (
    PROTOCOL_VERSION,
    Cancel,
    Commit,
    Gone,
    Hello,
    Running,
    Welcome,
)
from migsvc.protocol.transitions import Role
from migsvc.service import workers
from migsvc.service.context import Host
from migsvc.service.dialect import Dialect, agree, spoken_versions
from migsvc.service.jobs import Job
from migsvc.service.journal import now
from migsvc.service.link import Link, Patience
from migsvc.service.outgoing import Outgoing, both
from migsvc.service.peers import Peers, PeerTarget
from migsvc.service.records import MigrationOptions, MigrationState
from migsvc.service.registry import LiveVm
from migsvc.service.workers import fence, resume
from migsvc.stream import STREAM_VERSION

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("migsvc.migration")

TELL_FIRST_S, TELL_MOST_S = 0.2, 5.0
"""The destination is told of the commit again after this long, doubling up to the second figure, without an end."""

CANCEL_TRIES = 5
"""How often a destination that hung up is told of a cancellation; it asks by itself if it is bound by its word."""


class SourceEngine:
    """Moves one VM away. `run` is the whole of it; `tell` alone is the part after the commit point."""

    def __init__(self, host: Host, peers: Peers, job: Job, live: LiveVm | None, options: MigrationOptions) -> None:
        """Work for `job`; `live` is the VM, None when only the destination is left to be told."""
        self._host = host
        self._peers = peers
        self._job = job
        self._journal = job.journal
        self._live = live
        self._options = options
        self._link: Link | None = None
        self._target: PeerTarget | None = None
        self._welcome: Welcome | None = None
        self._out: Outgoing | None = None
        self._committed = False

    # The whole

    async def run(self) -> None:
        """Move the VM; the journal tells how it ended."""
        loop = asyncio.get_running_loop()
        timeout_s = self._options.timeout_s
        timer = loop.call_later(timeout_s, self._job.cancel.cancel, f"not committed within {timeout_s:g} s")
        try:
            await self._until_commit()
        except asyncio.CancelledError:
            raise  # the agent stops; the journal says how to go on
        except Exception as error:
            if not self._committed:
                await self._go_back(error)
                return
            log.exception("migration %s: trouble behind the commit point", self._journal.id)
        finally:
            timer.cancel()
        await self.tell()

    async def _until_commit(self) -> None:
        journal, cancel = self._journal, self._job.cancel
        await self._enter(MigrationState.CONNECTING, "the peer is being called")
        with journal.phase("connect"):
            self._target = await cancel.race(self._peers.target(journal.row.peer))
            self._link = await cancel.race(Link.dial(self._host, Role.SOURCE, self._target.address))
        await self._enter(MigrationState.NEGOTIATING, "the peer is asked whether it can hold it")
        with journal.phase("negotiate"):
            dialect = await self._greet(self._link, self._target)
            out = self._out = Outgoing(self._host, self._job, self._vm, self._link, self._options, dialect)
            config = await out.negotiate()
        await self._enter(MigrationState.PRECOPY, "its memory is copied behind its back")
        with journal.phase("precopy"):
            pending = await out.precopy(config)
        await self._enter(MigrationState.STOP_AND_COPY, "it is paused for the last pages")
        digest = await out.stop_and_copy(pending, config.memory)
        with journal.phase("verify"):
            verifying = self._enter(MigrationState.VERIFYING, "the peer compares digests")
            # The journal need not be ahead here: both states lead the same way back.
            await both(out.prepare(digest), verifying)
        with journal.phase("commit"):
            await self._commit()

    async def _enter(self, state: MigrationState, what: str) -> None:
        await self._journal.enter(state, f"{self._host.name} owns the VM; {what}", cancel=self._job.cancel)

    # Phases

    async def _greet(self, link: Link, target: PeerTarget) -> Dialect:
        """Say Hello, and make sure that the right host answers; return what it understands."""
        row, spoken = self._journal.row, spoken_versions(self._host.settings)
        version = agree(spoken, target.name, target.profile).schema_version
        hello = Hello(
            protocol_version=PROTOCOL_VERSION,
            stream_version=STREAM_VERSION,
            schema_version=version,
            migration_id=row.id,
            vm_id=row.vm_id,
            vm_name=row.vm_name,
            epoch=self._epoch_before,
            source_host=self._host.name,
            token=target.token,
        )
        await link.send(hello)
        welcome = await link.expect(Welcome, patience=Patience.ANSWER, cancel=self._job.cancel)
        if welcome.host_id != target.host_id:
            raise PeerError(
                f"{target.address} is host {welcome.host_name} ({welcome.host_id}), "
                f"not {target.name} ({target.host_id})",
                hint="something else listens at the peer's migration address",
            )
        if welcome.host_name == self._host.name:
            raise ConflictError(
                f"both hosts are named {welcome.host_name!r}; nobody could tell who owns the VM",
                hint="give one of them another name (MIGSVC_NAME)",
            )
        self._welcome = welcome
        return agree((version,), welcome.host_name, welcome.profile)

    async def _commit(self) -> None:
        """The commit point: one durable transaction, then the fence."""
        live, journal = self._vm, self._journal
        await self._host.stall("source", "committing", self._job.cancel)
        await self._channel.require_quiet()
        self._job.cancel.close()
        owner, epoch = self._peer_name, journal.row.epoch + 1
        explanation = f"{self._host.name} committed the handover after {owner} had verified and journalled its copy"
        try:
            await self._host.catalogue.commit_handover(
                journal.id,
                live.id,
                expected_owner=self._host.name,
                expected_epoch=journal.row.epoch,
                new_owner=owner,
                explanation=explanation,
                at=now(),
                event=journal.commit_event(owner, epoch, explanation),
            )
        except StorageError as error:
            await self._require_committed(error)
        self._committed = True  # from here on there is no way back, whatever fails
        await fence(live, epoch)
        await journal.committed()

    async def _require_committed(self, error: StorageError) -> None:
        """After a commit of which nobody knows whether it reached the disk: look, as long as it takes.

        Raises:
            StorageError: it did not; the VM may go on here.
        """
        state = ""
        while not state:
            with suppress(StorageError):
                state = (await self._host.catalogue.migrations.get(self._journal.id)).state
            await asyncio.sleep(0 if state else TELL_FIRST_S)
        if state != MigrationState.COMMITTED:
            raise error

    # After the commit point

    async def tell(self) -> None:
        """Tell the destination that it owns the VM until it confirms, then end the worker here."""
        delay_s = TELL_FIRST_S
        with self._journal.phase("resume"):
            while True:
                try:
                    epoch = self._epoch_before + 1
                    link = self._link or await self._redial()
                    await link.send(Commit(epoch))
                    await link.expect(Running, patience=Patience.WORK)
                    break
                except MigsvcError as error:
                    await self._journal.trouble(error)
                    await self._hang_up()
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, TELL_MOST_S)
        await self._complete()

    async def _complete(self) -> None:
        journal = self._journal
        out = self._out
        if out is not None and out.paused_ns is not None and out.runs:
            journal.stats.downtime_ns = time.monotonic_ns() - out.paused_ns
        if out is not None and out.copier is not None and out.last_round is not None:
            journal.stats.bytes = out.copier.bytes
            await journal.round(out.last_round)
        await self._hang_up()
        live = self._live
        if live is not None:
            await workers.end(self._host, live)
        await journal.end(
            MigrationState.COMPLETED,
            f"{journal.row.owner} confirmed that it owns the VM",
            allowed_from=(MigrationState.COMMITTED,),
        )

    async def _redial(self) -> Link:
        """Open a fresh connection to the destination, wherever it listens now."""
        target = await self._peers.target(self._journal.row.peer)
        link = await Link.dial(self._host, Role.RECOVERY, target.address)
        try:
            await self._greet(link, target)
        except BaseException:
            link.close()
            raise
        self._link = link
        return link

    # The way back

    async def _go_back(self, error: Exception) -> None:
        """Let the VM do here what it did before, tell the destination, and journal the end."""
        cancelled = isinstance(error, CancelledError)
        reason = str(error) if isinstance(error, MigsvcError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, MigsvcError):
            log.exception("migration %s failed by a fault of ours", self._journal.id, exc_info=error)
        await resume(self._host, self._vm, stop_log=True)
        self._vm.migration = None
        if self._out is not None and self._out.copier is not None:
            self._journal.stats.bytes = self._out.copier.bytes
        await self._journal.end(
            MigrationState.CANCELLED if cancelled else MigrationState.FAILED,
            f"nothing had been committed, so {self._host.name} keeps the VM, which does there what it did before",
            error=error,
        )
        if self._welcome is not None:
            await self.call_off(reason)
        await self._hang_up()

    async def call_off(self, reason: str) -> None:
        """Tell the destination that there will be no commit; over a fresh connection if this one is of no use."""
        self._job.cancel = type(self._job.cancel)()
        for attempt in range(CANCEL_TRIES):
            try:
                link = self._link or await self._redial()
                if link.over:
                    raise PeerError("the conversation is over")
                await link.send(Cancel(reason[:1000]))
                await link.expect(Gone, patience=Patience.ANSWER)
                return
            except MigsvcError as error:
                log.info("migration %s: the destination has not heard of its end: %s", self._journal.id, error)
                await self._hang_up()
                await asyncio.sleep(TELL_FIRST_S * attempt)

    async def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    # Odds and ends

    @property
    def _vm(self) -> LiveVm:
        if self._live is None:
            raise WorkerError(f"VM {self._journal.row.vm_name} has no worker on this host")
        return self._live

    @property
    def _channel(self) -> Link:
        if self._link is None:
            raise PeerError("the connection to the destination is closed")
        return self._link

    @property
    def _peer_name(self) -> str:
        return self._welcome.host_name if self._welcome is not None else self._journal.row.peer

    @property
    def _epoch_before(self) -> int:
        row = self._journal.row
        return row.epoch - 1 if row.state in (MigrationState.COMMITTED, MigrationState.COMPLETED) else row.epoch
