"""The listener for migration connections: copies that arrive, and questions about how a migration ended."""

from __future__ import annotations

import asyncio
import hmac
import logging
from contextlib import suppress

from migsvc.config import ConfigError
from migsvc.errors import (
    CancelledError,
    ConflictError,
    IncompatibleError,
    MigsvcError,
    NotOwnerError,
    PeerError,
)
from migsvc.protocol.events import (
    PROTOCOL_VERSIONS,
    Accept,
    Cancel,
    Commit,
    Disconnected,
    Failed,
    Gone,
    Hello,
    Offer,
    Outcome,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Query,
    Refuse,
    RoundAck,
    Running,
    StreamBegan,
    StreamEnded,
    StreamRecord,
    Welcome,
)
from migsvc.protocol.ownership import UNKNOWN
from migsvc.service import admission
from migsvc.service.context import Host
from migsvc.service.dialect import spoken_versions
from migsvc.service.faults import fault_json
from migsvc.service.hosts import host_profile
from migsvc.service.incoming import Incoming
from migsvc.service.jobs import Job
from migsvc.service.journal import Journal
from migsvc.service.link import Link, Patience
from migsvc.service.peers import Peers
from migsvc.service.records import MigrationState
from migsvc.stream import (
    STREAM_VERSIONS_READ,
    MachineMemory,
    RoundEnd,
    VcpuSections,
    VmSections,
)

log = logging.getLogger("migsvc.migration")


class Destination:
    """Takes migration connections and holds the copies that are on their way in."""

    def __init__(self, host: Host, peers: Peers) -> None:
        """Work on that host."""
        self._host = host
        self._peers = peers
        self._incoming: dict[str, Incoming] = {}

    def adopt(self, incoming: Incoming) -> None:
        """Hold a copy that an agent before us had prepared, and ask for its fate."""
        self._incoming[incoming.job.id] = incoming
        self._host.jobs.start(incoming.job, self._settle(incoming))

    async def converse(self, link: Link) -> None:
        """Hold one connection from Hello to its end; nothing that a peer says makes this raise."""
        try:
            hello = await link.expect(Hello, patience=Patience.ANSWER)
            may_move = await self._admit(hello)
            profile = await host_profile(self._host)
            await link.send(
                Welcome(hello.protocol_version, self._host.id, self._host.name, profile.model_dump(mode="json"))
            )
            while await self._answer(hello, link, may_move=may_move):
                pass
        except MigsvcError as error:
            log.info("migration connection from %s: %s", link.peer, error)
            await _fail(link, error)
        finally:
            link.close()

    # The opening

    async def _admit(self, hello: Hello) -> bool:
        """Check versions and token; return whether the peer may move VMs here, or only ask.

        Raises:
            PeerError: a version that this host does not speak, or the wrong token.
        """
        skews = (
            ("protocol", hello.protocol_version, PROTOCOL_VERSIONS),
            ("stream", hello.stream_version, STREAM_VERSIONS_READ),
            ("schema", hello.schema_version, spoken_versions(self._host.settings)),
        )
        for what, version, spoken in skews:
            if version not in spoken:
                raise PeerError(
                    f"{self._host.name} does not speak {what} version {version} of {hello.source_host}",
                    hint=f"it speaks {', '.join(map(str, spoken))}; bring the older host up to date",
                )
        try:
            token = await self._host.blocking(self._host.settings.read_token)
        except ConfigError as error:
            raise PeerError(f"{self._host.name} cannot read its own token file") from error
        if token is None or _same(hello.token, token):
            return True
        row = await self._host.catalogue.migrations.find(hello.migration_id)
        if row is not None and row.role == "source" and _same(hello.token, row.config.get("answer_token")):
            return False
        raise PeerError(
            f"{self._host.name} refuses the token of {hello.source_host}",
            hint="register the peer with the token_file that the other host uses",
        )

    async def _answer(self, hello: Hello, link: Link, *, may_move: bool) -> bool:
        """Answer one event after the greeting; return whether the conversation goes on."""
        event = await link.receive(Patience.WORD)
        if isinstance(event, Disconnected):
            return False
        if isinstance(event, Query):
            await link.send(await self._outcome(event.migration_id))
            return True
        if isinstance(event, Ping):
            await link.send(Pong(event.number))
            return True
        if not may_move:
            raise PeerError(f"{self._host.name} lets {hello.source_host} ask only, for want of its token")
        if isinstance(event, Offer):
            await self._receive(hello, event, link)
            return False
        if isinstance(event, Commit):
            await self._commit_again(hello, event)
            await link.send(Running(event.epoch))
            return True
        if isinstance(event, Cancel):
            await self._call_off(hello, event)
            await link.send(Gone("the copy is discarded"))
        return False

    async def _outcome(self, migration_id: str) -> Outcome:
        row = await self._host.catalogue.migrations.find(migration_id)
        if row is None:
            return Outcome(migration_id, UNKNOWN, "", 0, f"{self._host.name} knows no such migration")
        return Outcome(migration_id, row.state, row.owner, row.epoch, row.explanation)

    # Repeated words of a source, over a fresh connection

    async def _commit_again(self, hello: Hello, commit: Commit) -> None:
        incoming = self._incoming.get(hello.migration_id)
        if incoming is not None and incoming.state in (MigrationState.PREPARED, MigrationState.COMMITTED):
            await incoming.commit(commit.epoch)
            return
        row = await self._host.catalogue.migrations.find(hello.migration_id)
        done = (MigrationState.COMPLETED,)
        if row is None or row.role != "destination" or row.state not in done or row.epoch != commit.epoch:
            state = "unknown here" if row is None else row.state
            raise NotOwnerError(
                f"{self._host.name} cannot take VM {hello.vm_name} over at epoch {commit.epoch}: its record is {state}",
                hint="an operator has to look at both hosts",
            )

    async def _call_off(self, hello: Hello, cancel: Cancel) -> None:
        incoming = self._incoming.get(hello.migration_id)
        if incoming is None:
            return
        if incoming.state == MigrationState.PREPARED:
            await incoming.discard(*_called_off(hello, cancel))
        elif not incoming.job.cancel.cancel(f"{hello.source_host} gave the migration up: {cancel.reason}"):
            raise ConflictError(f"the migration is {incoming.state}; it cannot be called off")

    # A copy that arrives

    async def _receive(self, hello: Hello, offer: Offer, link: Link) -> None:
        try:
            admitted = await admission.admit(self._host, hello, offer)
        except IncompatibleError as error:
            log.info("VM %s of %s is refused: %s", hello.vm_name, hello.source_host, error)
            await link.send(Refuse(tuple(error.findings)))
            return
        job = self._host.jobs.add(Job(Journal(self._host, admitted.row)))
        job.task = asyncio.current_task()
        incoming = Incoming(self._host, self._peers, job, admitted.live)
        self._incoming[job.id] = incoming
        try:
            await self._transfer(hello, incoming, link)
        finally:
            self._host.jobs.remove(job.id)
            self._incoming.pop(job.id, None)

    async def _transfer(self, hello: Hello, incoming: Incoming, link: Link) -> None:
        """Receive the copy up to Prepared, then follow the source's word."""
        try:
            await self._copy(hello, incoming, link)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, MigsvcError):
                log.exception("migration %s failed by a fault of ours", incoming.job.id)
            if incoming.state != MigrationState.PREPARED:
                await self._drop(incoming, error, link)
                return
            log.info("migration %s: trouble after Prepared: %s", incoming.job.id, error)
            await _fail(link, error if isinstance(error, MigsvcError) else MigsvcError(str(error)))
        if incoming.state in (MigrationState.PREPARED, MigrationState.COMMITTED):
            link.close()
            await self._settle(incoming)

    async def _drop(self, incoming: Incoming, error: Exception, link: Link) -> None:
        cancelled = isinstance(error, CancelledError)
        state = MigrationState.CANCELLED if cancelled else MigrationState.FAILED
        owner = incoming.job.journal.row.owner
        await incoming.discard(state, f"{self._host.name} had promised nothing, so {owner} keeps the VM", error)
        if not link.over:
            with suppress(MigsvcError):
                await link.send(Gone(str(error)[:1000]) if cancelled else Failed(fault_json(error)))

    async def _copy(self, hello: Hello, incoming: Incoming, link: Link) -> None:
        journal, cancel = incoming.job.journal, incoming.job.cancel
        await journal.enter(
            MigrationState.PRECOPY, f"{journal.row.owner} owns the VM and copies it here", cancel=cancel
        )
        ram = memoryview(await incoming.live.handle.ram())
        memory = MachineMemory(link.reader, lambda _config: ram)
        link.memory = memory
        await link.send(Accept())
        vm: dict[str, bytes] = {}
        vcpus: list[dict[str, bytes]] = []
        while True:
            event = await link.receive(Patience.WORK, cancel)
            if isinstance(event, StreamRecord):
                if isinstance(event.record, RoundEnd):
                    await link.send(RoundAck(event.record.round))
                    await link.threaded(cancel, memory.digest.update, ram)
                    journal.stats.pages += event.record.pages
                    journal.stats.zero_pages += event.record.zero_pages
                elif isinstance(event.record, VmSections):
                    vm = dict(event.record.sections)
                elif isinstance(event.record, VcpuSections):
                    vcpus.append(dict(event.record.sections))
            elif isinstance(event, Prepare):
                await self._prepare(incoming, event, vm, vcpus, link)
                break
            elif isinstance(event, Ping):
                await link.send(Pong(event.number))
            elif isinstance(event, Cancel):
                raise CancelledError(f"{hello.source_host} gave the migration up: {event.reason}")
            elif isinstance(event, Disconnected):
                raise PeerError(f"{hello.source_host} hung up", hint="see its log, or its record of this migration")
            elif not isinstance(event, StreamBegan | StreamEnded):
                raise PeerError(f"{type(event).__name__} is out of place")
        await self._await_word(hello, incoming, link)

    async def _prepare(
        self, incoming: Incoming, prepare: Prepare, vm: dict[str, bytes], vcpus: list[dict[str, bytes]], link: Link
    ) -> None:
        journal = incoming.job.journal
        verifying = journal.enter(
            MigrationState.VERIFYING,
            f"{journal.row.owner} owns the VM; the copy is checked and loaded",
            cancel=incoming.job.cancel,
        )
        config = link.reader.config
        if config is None:
            raise PeerError(f"{journal.row.peer} said Prepare and has sent no machine")
        loading = incoming.load(config, vm, vcpus, prepare.console)
        # The journal need not be ahead here: up to Prepared every state leads to a discarded copy.
        for result in await asyncio.gather(verifying, loading, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        await incoming.prepare(prepare)
        await link.send(Prepared(prepare.root, journal.row.epoch + 1))

    async def _await_word(self, hello: Hello, incoming: Incoming, link: Link) -> None:
        """Wait for Commit or Cancel; if the connection breaks, the source is asked."""
        while True:
            event = await link.receive(Patience.WORD, incoming.lost)
            if isinstance(event, Commit):
                await incoming.commit(event.epoch)
                await link.send(Running(event.epoch))
                return
            if isinstance(event, Cancel):
                await incoming.discard(*_called_off(hello, event))
                await link.send(Gone("the copy is discarded"))
                return
            if isinstance(event, Ping):
                await link.send(Pong(event.number))
                continue
            return

    async def _settle(self, incoming: Incoming) -> None:
        try:
            await incoming.settle()
        finally:
            self._incoming.pop(incoming.job.id, None)


def _called_off(hello: Hello, cancel: Cancel) -> tuple[MigrationState, str, CancelledError]:
    error = CancelledError(f"{hello.source_host} gave the migration up: {cancel.reason}")
    return MigrationState.CANCELLED, f"{hello.source_host} gave the migration up and keeps the VM", error


def _same(shown: str | None, wanted: object) -> bool:
    """Compare secrets in constant time."""
    return isinstance(wanted, str) and hmac.compare_digest((shown or "").encode(), wanted.encode())


async def _fail(link: Link, error: MigsvcError) -> None:
    """Tell the peer why, if the conversation still allows it."""
    if not link.over:
        with suppress(MigsvcError):
            await link.send(Failed(fault_json(error)))
