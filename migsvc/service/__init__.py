"""The use cases of the service: VMs, snapshots, peers, migrations. No HTTP here.

`Services` is all that the API needs: `Services.open(settings)`, `await start()`, then the attributes
`vms`, `snapshots`, `peers`, `migrations`, `hosts` and `compat`, and `await stop(keep_vms=...)` at the end.
"""

from __future__ import annotations

from typing import Self

from migsvc.config import Settings
from migsvc.service import workers
from migsvc.service.compat import Compat
from migsvc.service.context import Host
from migsvc.service.destination import Destination
from migsvc.service.hosts import Hosts
from migsvc.service.listener import Listener
from migsvc.service.migrations import Migrations
from migsvc.service.peers import Peers
from migsvc.service.recovery import recover
from migsvc.service.snapshots import Snapshots
from migsvc.service.vms import Vms
from migsvc.storage.repositories.idempotency import IdempotencyRepository


class Services:
    """The use cases of one host, composed over its catalogue and its snapshot store."""

    def __init__(self, settings: Settings) -> None:
        """Compose; nothing is opened before `start`."""
        self._host = Host(settings)
        self._ready = False
        self.vms = Vms(self._host)
        self.snapshots = Snapshots(self._host, self.vms)
        self.peers = Peers(self._host)
        self.migrations = Migrations(self._host, self.peers)
        self.hosts = Hosts(self._host)
        self.compat = Compat(self._host, self.vms, self.peers)
        self._destination = Destination(self._host, self.peers)
        self._listener = Listener(self._host, self._destination)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Compose over the stores under `settings.data_dir`."""
        return cls(settings)

    async def start(self) -> None:
        """Open the catalogue, adopt the workers, recover unfinished migrations, listen for new ones.

        Raises:
            StorageError: another agent uses the data directory, or it cannot be used.
            PeerError: the migration address cannot be listened at.
        """
        await self._host.open()
        try:
            self._listener.bind()
            await self.snapshots.recover()
            await recover(self._host, self.peers, self._destination)
            self._listener.begin()
        except BaseException:
            await self.stop(keep_vms=True)
            raise
        self._ready = True

    async def stop(self, keep_vms: bool) -> None:
        """Stop listening, cancel what is under way, close; VMs go on in their workers if `keep_vms`.

        Without `keep_vms` the workers are ended, and with them the VMs: what is in no snapshot is lost.
        """
        host = self._host
        self._ready = False
        host.closing = True
        self._listener.close()
        await host.jobs.stop(f"host {host.name} stops", host.settings.graceful_shutdown_s)
        await self.snapshots.stop()
        host.hub.tell_all()
        for live in host.registry:
            if keep_vms:
                live.handle.detach()
            else:
                await workers.end(host, live)
        await host.close()

    @property
    def ready(self) -> bool:
        """Whether `start` has finished and `stop` has not begun."""
        return self._ready

    @property
    def migration_address(self) -> str:
        """`host:port` at which this host takes migrations; known after `start`."""
        return self._host.migration_address

    @property
    def idempotency(self) -> IdempotencyRepository:
        """The answers kept for repeated requests; there once started."""
        return self._host.catalogue.idempotency


__all__ = ["Services"]
