import asyncio
import contextlib
import os
import signal
import time

import pytest

from migsvc.config import Settings
from migsvc.errors import NotFoundError
from migsvc.service import Services, peers
from migsvc.service.records import (
    MigrationCreate,
    MigrationOptions,
    MigrationState,
    PeerCreate,
    VmCreate,
    VmStatus,
)
from migsvc.transport.hostinfo import HostInfo

TICKS = {"ticks": 100, "working_set_pages": 16, "line_ticks": 5, "smi_ticks": 1, "pit_count": 11932}
"""A guest that is mostly idle: 100 ticks of 10 ms, so that it lives for a second and costs little."""


class Lab:
    """Hosts in this process, with their own data directories, real workers and real sockets."""

    def __init__(self, root):
        self.root = root
        self.hosts = {}
        self.pids = set()

    async def start(self, name, **settings):
        host = Services.open(Settings(data_dir=self.root / name, name=name, **settings))
        await host.start()
        self.hosts[name] = host
        return host

    @contextlib.asynccontextmanager
    async def pair(self, a=None, b=None):
        """Two hosts that know each other; what lives on them is ended at the end."""
        first, second = await self.start("a", **(a or {})), await self.start("b", **(b or {}))
        await first.peers.create(PeerCreate(name="b", url="http://b", token_file=_token(b)))
        await second.peers.create(PeerCreate(name="a", url="http://a", token_file=_token(a)))
        try:
            yield first, second
        finally:
            await self.stop()

    async def stop(self):
        for host in self.hosts.values():
            await host.stop(keep_vms=False)
        self.hosts.clear()

    async def fetch_host(self, url, token):
        host = self.hosts[url.removeprefix("http://")]
        said = await host.hosts.describe()
        return HostInfo(said["id"], said["name"], said["migration_address"], said["profile"])

    def sweep(self):
        """End workers that a failed test left."""
        for path in self.root.glob("*/run/*.pid"):
            with contextlib.suppress(Exception):
                os.kill(int(path.read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)


def _token(settings):
    path = (settings or {}).get("token_file")
    return None if path is None else str(path)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    lab = Lab(tmp_path)
    monkeypatch.setattr(peers, "fetch_host", lab.fetch_host)
    yield lab
    lab.sweep()


@pytest.fixture
def run():
    return asyncio.run


class Steps:
    """What the tests do with hosts."""

    def __init__(self):
        self._expected = {}

    async def ticker(self, host, name="vm", *, start=True, guest="ticker64", **params):
        return await host.vms.create(
            VmCreate(name=name, guest=guest, guest_params=TICKS | params, ram_bytes=2 << 20, run=start)
        )

    async def migrate(self, host, vm, peer, **options):
        """Begin a migration and wait for its end."""
        begun = await host.migrations.create(MigrationCreate(vm=vm, peer=peer, options=MigrationOptions(**options)))
        return await self.ended(host, begun.id)

    async def ended(self, host, migration_id, seconds=60):
        ends = (MigrationState.COMPLETED, MigrationState.CANCELLED, MigrationState.FAILED)
        return await self.until(lambda: host.migrations.get(migration_id), lambda m: m.state in ends, seconds)

    async def in_state(self, host, migration_id, state):
        async def look():
            # The destination knows of it a moment after the source.
            with contextlib.suppress(NotFoundError):
                return await host.migrations.get(migration_id)

        return await self.until(look, lambda m: m is not None and m.state == state)

    async def stopped(self, host, vm, seconds=120):
        return await self.until(lambda: host.vms.get(vm), lambda v: v.status == VmStatus.STOPPED, seconds)

    async def console(self, host, vm):
        return (await host.vms.console(vm, 0, 1 << 20)).text

    async def until(self, look, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition(seen := await look()):
            assert time.monotonic() < deadline, f"did not come in time: {seen}"
            await asyncio.sleep(0.01)
        return seen

    async def result(self, host, vm):
        """Run a guest to its end: (exit code, console, retired instructions)."""
        end = await self.stopped(host, vm)
        return end.exit_code, await self.console(host, vm), end.retired_instructions

    async def expected(self, host, **params):
        """What a ticker with these parameters ends with if it never moves; run once."""
        key = tuple(sorted(params.items()))
        if key not in self._expected:
            await self.ticker(host, "still", **params)
            self._expected[key] = await self.result(host, "still")
            await host.vms.delete("still")
        return self._expected[key]

    async def gone(self, host, vm):
        """Wait until a host knows no such VM."""

        async def look():
            try:
                return await host.vms.get(vm)
            except NotFoundError:
                return None

        await self.until(look, lambda found: found is None)


@pytest.fixture(scope="session")
def steps():
    return Steps()
