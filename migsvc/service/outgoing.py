"""A VM on its way out: offered, copied behind its back, paused, and copied to the last page. Nothing here commits."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from migsvc.errors import ConflictError, IncompatibleError, PeerError
from migsvc.protocol.events import Accept, Offer, Prepare, Prepared, Refuse, RoundAck
from migsvc.protocol.frames import MAX_OCTETS
from migsvc.protocol.precopy import PrecopyPolicy, PrecopyVerdict, RoundFigures, bandwidth_bytes_per_s
from migsvc.service.carried import carried_summary
from migsvc.service.context import Host
from migsvc.service.copying import MachineCopier
from migsvc.service.dialect import Dialect, RamView
from migsvc.service.jobs import Job
from migsvc.service.link import Link, Patience
from migsvc.service.offer import make_summary, offered_config
from migsvc.service.records import MigrationOptions, PauseWhen, RoundStats, VmStatus
from migsvc.service.registry import LiveVm
from migsvc.service.snapshot_files import machine_config
from migsvc.service.translation import Translator
from migsvc.service.vm_state import machine_state, memory_map, pause_worker, sample
from migsvc.stream import PAGE_BYTES, Config, Digest, StreamHeader, StreamWriter
from migsvc.transport.pages import Pages, all_pages, pages_of_bitmap
from schemas.memory import MemoryMap
from schemas.versions.converters import Converted

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")


class Outgoing:
    """One VM being copied over one connection. The calls come in the order in which they stand here."""

    def __init__(
        self, host: Host, job: Job, live: LiveVm, link: Link, options: MigrationOptions, dialect: Dialect
    ) -> None:
        """Copy `live` over `link`, on which both hosts have greeted each other, in the destination's `dialect`."""
        self._host = host
        self._journal = job.journal
        self._cancel = job.cancel
        self._live = live
        self._link = link
        self._options = options
        self._translator = Translator(dialect, options.smm_shadow_loss, job.journal.row.peer)
        self._console = b""
        self.copier: MachineCopier | None = None
        self.last_round: RoundStats | None = None
        self.runs = False
        self.paused_ns: int | None = None

    async def negotiate(self) -> Config:
        """Offer the VM; the destination checks whether it can hold every part of it."""
        live = self._live
        vm = await self._host.catalogue.vms.get(live.id)
        self.runs = vm.status == VmStatus.RUNNING
        if not self.runs and self._options.pause_when != PauseWhen.ANY:
            raise ConflictError(
                f"VM {vm.name} is paused and migrates as it is; it cannot be run on to {self._options.pause_when!s}",
                hint="pause it at that moment first, or leave pause_when at any",
            )
        async with live.lock:
            saved, described = await sample(live, vm.epoch)
        said = await self._say(saved, memory_map(described))
        self._translator.require(said, moving=not self.runs)
        state = machine_state(memory_map(described), said.sections._asdict())
        config = machine_config(vm, described, self._host.name, said.version)
        answer_token = secrets.token_hex(16)
        await self._journal.note(config={**self._journal.row.config, "answer_token": answer_token})
        summary = make_summary(
            config,
            state,
            source_address=self._host.migration_address,
            source_host_id=self._host.id,
            answer_token=answer_token,
        )
        await self._link.send(Offer(offered_config(config), summary))
        answer = await self._hear(Accept, Refuse)
        if isinstance(answer, Refuse):
            findings = [dict(finding) for finding in answer.findings]
            raise IncompatibleError(
                f"{self._journal.row.peer} refuses VM {vm.name}: {_first(findings)}",
                findings,
                hint="nothing was moved; the findings give every reason",
            )
        return config

    async def precopy(self, config: Config) -> Pages:
        """Copy memory in rounds while the VM runs; return what is dirty at the end."""
        live = self._live
        ram = memoryview(await live.handle.ram())
        await live.handle.call("dirty_start")
        self._link.limit_bandwidth(self._options.bandwidth_limit_bytes)
        writer = StreamWriter(StreamHeader(secrets.token_bytes(16), time.time_ns(), config.schema_version))
        copier = MachineCopier(writer, ram, self._link.write_record, self._cancel.check)
        self.copier = copier
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

    async def stop_and_copy(self, pending: Pages, memory: MemoryMap) -> Digest:
        """Pause the VM at the wanted moment, send what is left, its state and the digests."""
        live, journal, options, copier = self._live, self._journal, self._options, self._copying()
        with journal.phase("pause"):
            asked_ns = time.monotonic_ns()
            async with live.lock:
                if self.runs:
                    await self._cancel.race(pause_worker(live, options.pause_when, options.pause_limit_instructions))
            # A search for a moment is no downtime: the guest runs until it is found.
            self.paused_ns = asked_ns if options.pause_when is PauseWhen.ANY else time.monotonic_ns()
        with journal.phase("state_save"):
            said, written = await self._final_state(memory)
            exported = await live.handle.call("console_export")
            self._console = exported["data"][-MAX_OCTETS:]
        with journal.phase("last_pages"):
            pages = np.union1d(np.union1d(pending, await self._fetch_dirty(memory)), written)
            stats = await self._threaded(copier.round, pages)
        self.last_round = stats
        with journal.phase("send"):
            return await self._threaded(copier.finish, said.sections.vm, said.sections.vcpus)

    async def _final_state(self, memory: MemoryMap) -> tuple[Converted, Pages]:
        """Return the paused VM's state in the destination's words, and the pages that this has changed.

        Raises:
            IncompatibleError: the shadow put aside by an SMI would be lost, and nobody has agreed to that.
            ConflictError: the guest did not come to its RSM in time.
        """
        live, journal, translator = self._live, self._journal, self._translator
        saved = await live.handle.call("save")
        said = await self._say(saved, memory)
        if self.runs and translator.must_wait(said):
            async with live.lock:
                search = pause_worker(live, PauseWhen.NO_SMM_SHADOW, self._options.pause_limit_instructions)
                await self._cancel.race(search)
            self.paused_ns = time.monotonic_ns()
            translator.record.waited = True
            saved = await live.handle.call("save")
            said = await self._say(saved, memory)
        translator.require(said, moving=True)
        journal.stats.carried = carried_summary(saved["vm"], saved["vcpus"])
        # SMRAM then says what the state says: the source would put the same byte there if it went on here.
        offsets = RamView(memory, memoryview(await live.handle.ram())).apply(said.smram_writes)
        return said, np.array([offset // PAGE_BYTES for offset in offsets], dtype=np.int64)

    async def _say(self, saved: Mapping[str, Any], memory: MemoryMap) -> Converted:
        """Return what the worker saved in the destination's words; the record holds what that loses."""
        said = self._translator.say(saved, RamView(memory, memoryview(await self._live.handle.ram())))
        self._journal.stats.translation = self._translator.record
        return said

    async def prepare(self, digest: Digest) -> None:
        """Ask the destination to get ready, and compare what it verified with what was sent."""
        rounds = self._copying().rounds
        await self._link.send(Prepare(round=rounds, root=digest.root, run=self.runs, console=self._console))
        prepared = await self._hear(Prepared)
        if prepared.root != digest.root:
            raise PeerError("the destination verified another machine than the one that was sent")

    async def _fetch_dirty(self, memory: MemoryMap) -> Pages:
        answer = await self._live.handle.call("dirty_fetch")
        return pages_of_bitmap(answer["bitmap"], memory)

    def _copying(self) -> MachineCopier:
        if self.copier is None:
            raise PeerError("nothing has been copied yet")
        return self.copier

    async def _hear(self, *wanted: type[E], patience: Patience = Patience.WORK) -> E:
        return await self._link.expect(*wanted, patience=patience, cancel=self._cancel)

    async def _threaded(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work that sends; if the connection broke, the peer may have said why."""
        try:
            return await self._link.threaded(self._cancel, work, *args, **kwargs)
        except PeerError as error:
            raise await self._link.reason(error) from error


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
