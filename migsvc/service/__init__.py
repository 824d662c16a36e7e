"""The use cases of the service: VMs, snapshots, peers, migrations. No HTTP here.

`Services` is all that the API needs: `Services.open(settings)`, `await start()`, then the attributes
`vms`, `snapshots`, `peers`, `migrations` and `hosts`, and `await stop(keep_vms=...)` at the end.
"""

from __future__ import annotations

from typing import Self

from migsvc.service.context import ServiceSettings
from migsvc.service.hosts import Hosts
from migsvc.service.migrations import Migrations
from migsvc.service.peers import Peers
from migsvc.service.snapshots import Snapshots
from migsvc.service.vms import Vms
from migsvc.storage.catalogue import Catalogue
from migsvc.storage.snapshots import SnapshotStore


class Services:
    """The use cases of one host, composed over its catalogue and its snapshot store."""

    vms: Vms
    snapshots: Snapshots
    peers: Peers
    migrations: Migrations
    hosts: Hosts

    def __init__(self, settings: ServiceSettings, catalogue: Catalogue, store: SnapshotStore) -> None:
        """Compose; nothing is opened before `start`."""
        raise NotImplementedError

    @classmethod
    def open(cls, settings: ServiceSettings) -> Self:
        """Compose over the stores under `settings.data_dir`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Open the catalogue, adopt the workers, recover unfinished migrations, listen for new ones."""
        raise NotImplementedError

    async def stop(self, keep_vms: bool) -> None:
        """Stop listening, cancel what is under way, close; VMs go on in their workers if `keep_vms`."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether `start` has finished and `stop` has not begun."""
        raise NotImplementedError

    @property
    def migration_address(self) -> str:
        """`host:port` at which this host takes migrations; known after `start`."""
        raise NotImplementedError
