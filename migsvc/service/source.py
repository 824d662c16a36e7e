"""The source's part of a migration: from the connection to the destination until that runs the VM.

Up to the commit point every failure and every cancellation leads back to a VM that does here what it did before.
After it there is no way back: the VM is fenced, and the destination is told until it confirms.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import numpy as np

from migsvc.errors import (
    CancelledError,
    ConflictError,
    IncompatibleError,
    MigsvcError,
    PeerError,
    StorageError,
    WorkerError,
)
from migsvc.protocol.events import (
    PROTOCOL_VERSION,
    Accept,
    Cancel,
    Commit,
    Event,
    Gone,
    Hello,
    Offer,
    Prepare,
    Prepared,
    Refuse,
    RoundAck,
    Running,
    Welcome,
)
from migsvc.protocol.frames import MAX_OCTETS
from migsvc.protocol.precopy import PrecopyPolicy, PrecopyVerdict, RoundFigures, bandwidth_bytes_per_s
from migsvc.protocol.transitions import Role
from migsvc.service import workers
from migsvc.service.carried import carried_summary
from migsvc.service.context import Host
from migsvc.service.copying import MachineCopier
from migsvc.service.jobs import Job
from migsvc.service.journal import now
from migsvc.service.link import Link, Patience
from migsvc.service.offer import make_summary, offered_config
from migsvc.service.peers import Peers, PeerTarget
from migsvc.service.records import MigrationOptions, MigrationState, PauseWhen, RoundStats, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.service.snapshot_files import machine_config
from migsvc.service.vm_state import machine_state, memory_map, pause_worker, sample
from migsvc.service.workers import fence, resume
from migsvc.stream import STREAM_VERSION, Config, Digest, StreamHeader, StreamWriter
from migsvc.transport.pages import Pages, all_pages, pages_of_bitmap
from schemas.memory import MemoryMap
from schemas.versions import SCHEMA_VERSION

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
        self._copier: MachineCopier | None = None
        self._dirty_log = False
        self._paused_ns: int | None = None
        self._runs = False

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
            await self._go_back(error)
            return
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
            await self._greet(self._link, self._target)
            config = await self._negotiate()
        await self._enter(MigrationState.PRECOPY, "its memory is copied behind its back")
        with journal.phase("precopy"):
            pending = await self._precopy(config)
        await self._enter(MigrationState.STOP_AND_COPY, "it is paused for the last pages")
        digest = await self._stop_and_copy(pending, config.memory)
        with journal.phase("verify"):
            verifying = self._enter(MigrationState.VERIFYING, "the peer compares digests")
            # The journal need not be ahead here: both states lead the same way back.
            await both(self._prepare(digest), verifying)
        with journal.phase("commit"):
            await self._commit()

    async def _enter(self, state: MigrationState, what: str) -> None:
        await self._journal.enter(state, f"{self._host.name} owns the VM; {what}", cancel=self._job.cancel)

    # Phases

    async def _greet(self, link: Link, target: PeerTarget) -> None:
        """Say Hello, and make sure that the right host answers."""
        row = self._journal.row
        hello = Hello(
            protocol_version=PROTOCOL_VERSION,
            stream_version=STREAM_VERSION,
            schema_version=SCHEMA_VERSION,
            migration_id=row.id,
            vm_id=row.vm_id,
            vm_name=row.vm_name,
            epoch=self._epoch_before,
            source_host=self._host.name,
            token=target.token,
        )
        await link.send(hello)
        welcome = await link.expect(Welcome, patience=Patience.ANSWER, cancel=self._job.cancel)
        assert isinstance(welcome, Welcome)
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

    async def _negotiate(self) -> Config:
        """Offer the VM; the destination checks whether it can hold every part of it."""
        live, link = self._vm, self._channel
        vm = await self._host.catalogue.vms.get(live.id)
        self._runs = vm.status == VmStatus.RUNNING
        if not self._runs and self._options.pause_when != PauseWhen.ANY:
            raise ConflictError(
                f"VM {vm.name} is paused and migrates as it is; it cannot be run on to {self._options.pause_when!s}",
                hint="pause it at that moment first, or leave pause_when at any",
            )
        async with live.lock:
            saved, described = await sample(live, vm.epoch)
        state = machine_state(memory_map(described), saved)
        config = machine_config(vm, described, self._host.name)
        answer_token = secrets.token_hex(16)
        await self._journal.note(config={**self._journal.row.config, "answer_token": answer_token})
        summary = make_summary(
            config,
            state,
            source_address=self._host.migration_address,
            source_host_id=self._host.id,
            answer_token=answer_token,
        )
        await link.send(Offer(offered_config(config), summary))
        answer = await self._hear(Accept, Refuse)
        if isinstance(answer, Refuse):
            findings = [dict(finding) for finding in answer.findings]
            raise IncompatibleError(
                f"{self._peer_name} refuses VM {vm.name}: {_first(findings)}",
                findings,
                hint="nothing was moved; the findings give every reason",
            )
        return config

    async def _precopy(self, config: Config) -> Pages:
        """Copy memory in rounds while the VM runs; return what is dirty at the end."""
        live = self._vm
        ram = memoryview(await live.handle.ram())
        await live.handle.call("dirty_start")
        self._dirty_log = True
        self._channel.limit_bandwidth(self._options.bandwidth_limit_bytes)
        writer = StreamWriter(StreamHeader(secrets.token_bytes(16), time.time_ns(), SCHEMA_VERSION))
        copier = MachineCopier(writer, ram, self._channel.write_record, self._job.cancel.check)
        self._copier = copier
        policy = PrecopyPolicy(self._options.downtime_limit_ms * 1_000_000, self._options.max_rounds)
        await self._threaded(copier.begin, config)
        pending = all_pages(config.memory)
        figures: list[RoundFigures] = []
        while True:
            stats = await self._round(copier, pending)
            pending = await self._fetch_dirty(config.memory)
            stats.dirty_pages_after = len(pending)
            await self._journal.round(stats)
            figures.append(
                RoundFigures(stats.round, stats.pages, stats.zero_pages, stats.bytes, max(stats.duration_ns, 1))
            )
            bandwidth = bandwidth_bytes_per_s(figures)
            decision = policy.decide(figures, stats.dirty_pages_after, bandwidth)
            await self._journal.progress(
                round=stats.round,
                remaining_pages=stats.dirty_pages_after,
                bytes=copier.bytes,
                bandwidth_bytes_per_s=bandwidth,
                estimated_downtime_ns=decision.estimated_downtime_ns,
                reason=decision.reason,
            )
            if decision.verdict is PrecopyVerdict.STOP_AND_COPY:
                return pending

    async def _round(self, copier: MachineCopier, pages: Pages) -> RoundStats:
        """Send one round, hash it meanwhile, and wait until it has been applied."""
        begun_ns = time.monotonic_ns()
        stats = await self._threaded(copier.round, pages)
        await both(self._hear(RoundAck), self._threaded(copier.hash))
        stats.duration_ns = time.monotonic_ns() - begun_ns
        return stats

    async def _stop_and_copy(self, pending: Pages, memory: MemoryMap) -> Digest:
        """Pause the VM at the wanted moment, send what is left, its state and the digests."""
        live, journal, copier = self._vm, self._journal, self._copier
        assert copier is not None
        options = self._options
        with journal.phase("pause"):
            asked_ns = time.monotonic_ns()
            async with live.lock:
                if self._runs:
                    await self._job.cancel.race(
                        pause_worker(live, options.pause_when, options.pause_limit_instructions)
                    )
            # A search for a moment is no downtime: the guest runs until it is found.
            self._paused_ns = asked_ns if options.pause_when is PauseWhen.ANY else time.monotonic_ns()
        with journal.phase("last_pages"):
            pages = np.union1d(pending, await self._fetch_dirty(memory))
            stats = await self._threaded(copier.round, pages)
        with journal.phase("state_save"):
            saved = await live.handle.call("save")
            exported = await live.handle.call("console_export")
            self._console = exported["data"][-MAX_OCTETS:]
        journal.stats.carried = carried_summary(saved["vm"], saved["vcpus"])
        self._rounds = stats.round
        self._last_round = stats
        with journal.phase("send"):
            return await self._threaded(copier.finish, saved["vm"], saved["vcpus"])

    async def _prepare(self, digest: Digest) -> None:
        """Ask the destination to get ready, and compare what it verified with what was sent."""
        link = self._channel
        await link.send(Prepare(round=self._rounds, root=digest.root, run=self._runs, console=self._console))
        prepared = await self._hear(Prepared)
        assert isinstance(prepared, Prepared)
        if prepared.root != digest.root:
            raise PeerError("the destination verified another machine than the one that was sent")

    async def _commit(self) -> None:
        """The commit point: one durable transaction, then the fence."""
        live, journal = self._vm, self._journal
        await self._host.stall("source", "committing", self._job.cancel)
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
        await journal.note(config={**journal.row.config, "epoch_before": epoch - 1})
        await fence(live, epoch)
        await journal.committed()

    async def _require_committed(self, error: StorageError) -> None:
        """After a commit of which nobody knows whether it reached the disk: look, as long as it takes.

        Raises:
            StorageError: it did not; the VM may go on here.
        """
        while True:
            with suppress(StorageError):
                row = await self._host.catalogue.migrations.get(self._journal.id)
                if row.state == MigrationState.COMMITTED:
                    return
                raise_error = error
                break
            await asyncio.sleep(TELL_FIRST_S)
        raise raise_error

    # After the commit point

    async def tell(self) -> None:
        """Tell the destination that it owns the VM until it confirms, then end the worker here."""
        epoch, delay_s = self._journal.row.epoch, TELL_FIRST_S
        with self._journal.phase("resume"):
            while True:
                try:
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
        if self._paused_ns is not None and self._runs:
            journal.stats.downtime_ns = time.monotonic_ns() - self._paused_ns
        if self._copier is not None:
            journal.stats.bytes = self._copier.bytes
            await journal.round(self._last_round)
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
        await resume(self._host, self._vm, stop_log=self._dirty_log)
        self._vm.migration = None
        if self._copier is not None:
            self._journal.stats.bytes = self._copier.bytes
        ran = "goes on running" if self._runs else "stays as it was"
        await self._journal.end(
            MigrationState.CANCELLED if cancelled else MigrationState.FAILED,
            f"nothing had been committed, so {self._host.name} keeps the VM, which {ran} there",
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

    async def _fetch_dirty(self, memory: MemoryMap) -> Pages:
        answer = await self._vm.handle.call("dirty_fetch")
        return pages_of_bitmap(answer["bitmap"], memory)

    async def _hear(self, *wanted: type[Event], patience: Patience = Patience.WORK) -> Event:
        return await self._channel.expect(*wanted, patience=patience, cancel=self._job.cancel)

    async def _threaded(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work that sends; if the connection broke, the peer may have said why."""
        try:
            return await self._channel.threaded(self._job.cancel, work, *args, **kwargs)
        except PeerError as error:
            raise await self._channel.reason(error) from error


async def both(first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]) -> None:
    """Await two things at once to the end of both; the error of the first counts more."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _first(findings: list[dict[str, Any]]) -> str:
    """Return the first finding in words, and how many there are."""
    if not findings:
        return "no reason was given"
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{findings[0].get('message', findings[0])}{more}"
