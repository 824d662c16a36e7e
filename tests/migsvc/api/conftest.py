"""A fake of the services: records in dictionaries, a real catalogue for Idempotency-Keys. HTTP is tested here."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from migsvc import errors
from migsvc.api import examples
from migsvc.app import create_app
from migsvc.config import Settings
from migsvc.service.compat import Compat
from migsvc.service.paging import page_of
from migsvc.service.records import (
    ConsoleChunk,
    MigrationEvent,
    MigrationRecord,
    PeerRecord,
    SnapshotRecord,
    StepResult,
    VmRecord,
)
from migsvc.storage.catalogue import Catalogue
from schemas.memory import MemoryMap, MemorySlot
from schemas.state import MachineState, VcpuState, VmState

AT = datetime(2026, 11, 22, tzinfo=UTC)
TOKEN = "0123456789abcdef0123456789abcdef"


class Shelf:
    """Records by id, findable by name, listed in pages."""

    def __init__(self, kind):
        self.kind = kind
        self.rows = {}

    def find(self, ref):
        for record in self.rows.values():
            if ref in (getattr(record, "id", None), record.name):
                return record
        raise errors.NotFoundError(f"there is no {self.kind} {ref!r}")

    def add(self, key, record):
        if record.name in [r.name for r in self.rows.values()]:
            raise errors.ConflictError(f"there is a {self.kind} {record.name!r} already")
        self.rows[key] = record
        return record

    async def page(self, cursor, limit):
        class Row:
            def __init__(self, seq, record):
                self.seq, self.record = seq, record

        async def fetch(after, count):
            rows = [Row(i, record) for i, record in enumerate(self.rows.values(), 1)]
            return [row for row in rows if row.seq > after][:count]

        return await page_of(fetch, lambda row: row.record, cursor, limit)


class FakeVms:
    def __init__(self):
        self.shelf = Shelf("VM")
        self.calls = []
        self.state = VcpuState.model_validate(examples.vcpu_state())
        self.console_data = b"line 1\nline 2\n"
        self.fail = None

    async def create(self, request):
        if self.fail:
            raise self.fail
        number = len(self.shelf.rows) + 1
        status = "running" if request.run else "paused"
        values = {**examples.VM, "id": f"vm-{number}", "name": request.name, "guest": request.guest, "status": status}
        self.calls.append(("create", request.name))
        return self.shelf.add(f"vm-{number}", VmRecord.model_validate(values))

    async def list(self, cursor=None, limit=100):
        return await self.shelf.page(cursor, limit)

    async def get(self, ref):
        return self.shelf.find(ref)

    async def delete(self, ref):
        del self.shelf.rows[self.shelf.find(ref).id]

    def _act(self, ref, *call):
        record = self.shelf.find(ref)
        if self.fail:
            raise self.fail
        self.calls.append(call)
        return record

    async def run(self, ref):
        return self._act(ref, "run")

    async def pause(self, ref, when="any", limit_instructions=0):
        return self._act(ref, "pause", str(when), limit_instructions)

    async def step(self, ref, n):
        self._act(ref, "step", n)
        return StepResult(steps=n, reason="budget", retired_instructions=n, rip="0x8042")

    async def smi(self, ref):
        return self._act(ref, "smi")

    async def nmi(self, ref):
        return self._act(ref, "nmi")

    async def interrupt(self, ref, vector):
        return self._act(ref, "interrupt", vector)

    async def console(self, ref, offset=0, max_bytes=65536, wait_s=0):
        self._act(ref, "console")
        data = self.console_data[offset : offset + max_bytes]
        if not data and wait_s:
            await asyncio.sleep(wait_s)
        return ConsoleChunk(
            offset=offset,
            next_offset=offset + len(data),
            text=data.decode(),
            data_base64=base64.b64encode(data).decode(),
        )

    def _vcpu(self, ref, vcpu):
        self.shelf.find(ref)
        if vcpu != 0:
            raise errors.NotFoundError(f"VM {ref!r} has no vCPU {vcpu}")

    async def get_state(self, ref, vcpu):
        self._vcpu(ref, vcpu)
        return self.state

    async def get_machine(self, ref):
        self.shelf.find(ref)
        slot = MemorySlot(as_id=0, slot=0, gpa=0, size_bytes=1 << 20, flags=0, backing_offset_bytes=0)
        memory = MemoryMap(slots=[slot], ram_bytes=1 << 20)
        return MachineState(memory=memory, vm=VmState(), vcpus=[self.state])

    async def put_state(self, ref, vcpu, state):
        self._vcpu(ref, vcpu)
        if self.fail:
            raise self.fail
        self.state = state
        return state


class FakeSnapshots:
    def __init__(self, folder):
        self.shelf = Shelf("snapshot")
        self.folder = folder

    async def create(self, request):
        number = len(self.shelf.rows) + 1
        values = {**examples.WRITING_SNAPSHOT, "id": f"snap-{number}", "name": request.name or f"snap-{number}"}
        return self.shelf.add(f"snap-{number}", SnapshotRecord.model_validate(values))

    async def list(self, cursor=None, limit=100):
        return await self.shelf.page(cursor, limit)

    async def get(self, ref):
        return self.shelf.find(ref)

    async def delete(self, ref):
        del self.shelf.rows[self.shelf.find(ref).id]

    async def open_content(self, ref):
        path = self.folder / self.shelf.find(ref).id
        if not path.exists():
            raise errors.ConflictError(f"snapshot {ref!r} is being written")
        return path, path.stat().st_size

    async def put_content(self, snapshot_id, chunks, name=None):
        data = b"".join([chunk async for chunk in chunks])
        if not data.startswith(b"good"):
            finding = {"rule": "STR-001", "offset": 0, "message": "the magic is wrong"}
            raise errors.StreamRejectedError("the stream is not ours", [finding])
        values = {**examples.SNAPSHOT, "id": snapshot_id, "name": name or snapshot_id, "size_bytes": len(data)}
        record = self.shelf.add(snapshot_id, SnapshotRecord.model_validate(values))
        (self.folder / snapshot_id).write_bytes(data)
        return record

    async def restore(self, ref, request):
        self.shelf.find(ref)
        return VmRecord.model_validate({**examples.PAUSED_VM, "name": request.name})


class FakePeers:
    def __init__(self):
        self.shelf = Shelf("peer")
        self.profiles = {}

    async def create(self, request):
        record = PeerRecord(name=request.name, url=request.url, created_at=AT)
        return self.shelf.add(request.name, record)

    async def list(self, cursor=None, limit=100):
        return await self.shelf.page(cursor, limit)

    async def get(self, name):
        return self.shelf.find(name)

    async def target(self, name):
        self.shelf.find(name)
        return SimpleNamespace(profile=self.profiles.get(name, examples.host_profile()))

    async def delete(self, name):
        del self.shelf.rows[self.shelf.find(name).name]


class FakeMigrations:
    def __init__(self, vms, peers):
        self.vms, self.peers = vms, peers
        self.rows = {}
        self.hold = asyncio.Event()
        self.hold.set()

    async def create(self, request):
        self.vms.shelf.find(request.vm)
        self.peers.shelf.find(request.peer)
        key = f"mig-{len(self.rows) + 1}"
        values = {**examples.QUEUED_MIGRATION, "id": key, "vm_name": request.vm, "options": request.options}
        self.rows[key] = MigrationRecord.model_validate(values)
        return self.rows[key]

    async def list(self, cursor=None, limit=100):
        shelf = Shelf("migration")
        shelf.rows = self.rows
        return await shelf.page(cursor, limit)

    async def get(self, migration_id):
        if migration_id not in self.rows:
            raise errors.NotFoundError(f"there is no migration {migration_id!r}")
        return self.rows[migration_id]

    async def cancel(self, migration_id):
        record = await self.get(migration_id)
        if record.state == "completed":
            raise errors.NotOwnerError("it is committed", owner="host-b", epoch=2)
        return record

    async def events(self, migration_id, after_seq=0):
        kinds = ("state", "round", "end")
        for seq in range(after_seq + 1, 4):
            if seq == 3:
                await self.hold.wait()
            yield MigrationEvent(seq=seq, at=AT, type=kinds[seq - 1], data={"n": seq})


class FakeHost:
    name = "host-a"

    def __init__(self, settings):
        self.settings = settings

    async def blocking(self, work, *args):
        return work(*args)


class FakeHosts:
    async def describe(self):
        return {"id": "h", "name": "host-a", "version": "0", "profile": {}, "counts": {}}


class FakeServices:
    def __init__(self, settings):
        self.settings = settings
        self.ready = False
        self.stopped_with = None
        self.migration_address = "127.0.0.1:1"
        self.vms = FakeVms()
        self.peers = FakePeers()
        self.snapshots = FakeSnapshots(settings.data_dir)
        self.migrations = FakeMigrations(self.vms, self.peers)
        self.hosts = FakeHosts()
        self.compat = Compat(FakeHost(settings), self.vms, self.peers)

    async def start(self):
        self.catalogue = await Catalogue.open(self.settings.data_dir, "host-a")
        self.idempotency = self.catalogue.idempotency
        self.ready = True

    async def stop(self, keep_vms):
        self.ready = False
        self.stopped_with = keep_vms
        await self.catalogue.close()


class Api:
    """An application over fake services, and a client that looks local."""

    def __init__(self, folder, **options):
        self.settings = Settings(data_dir=folder, name="host-a", **options)
        self.services = FakeServices(self.settings)
        self.app = create_app(self.settings, self.services)
        self.client = TestClient(self.app, base_url="http://127.0.0.1:7700", raise_server_exceptions=False)

    def vm(self, name="web-1", **values):
        answer = self.client.post("/v1/vms", json={"name": name, "guest": "ticker64", **values})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def peer(self, name="host-b"):
        return self.client.post("/v1/peers", json={"name": name, "url": "http://127.0.0.1:7702"}).json()


def assert_problem(answer, slug, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture
def make_api(tmp_path):
    opened = []

    def make(**options):
        api = Api(tmp_path, **options)
        api.client.__enter__()
        opened.append(api)
        return api

    yield make
    for api in opened:
        api.client.__exit__(None, None, None)


@pytest.fixture
def unopened_api(tmp_path):
    return Api(tmp_path)


@pytest.fixture
def api(make_api):
    return make_api()


@pytest.fixture
def problem():
    return assert_problem


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path
