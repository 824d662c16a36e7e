"""What the use cases share: the settings they read, and the stores they keep things in."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ServiceSettings(Protocol):
    """The settings that the service reads; `migsvc.config.Settings` has them all.

    Limits are bounds on what one agent holds at once; each is refused with LimitError beyond it.
    """

    @property
    def name(self) -> str:
        """Name of this host, as peers and records show it."""

    @property
    def data_dir(self) -> Path:
        """Directory of the catalogue, the snapshots and the workers' sockets."""

    @property
    def migration_host(self) -> str:
        """Address that the migration listener binds to."""

    @property
    def migration_port(self) -> int:
        """Port of the migration listener; 0 lets the kernel choose."""

    @property
    def token_file(self) -> Path | None:
        """File with the bearer token that migration connections must show; None: none is asked for."""

    @property
    def max_vms(self) -> int:
        """How many VMs may be present, incoming ones included."""

    @property
    def max_migrations(self) -> int:
        """How many migrations may be under way in each direction."""

    @property
    def max_snapshots(self) -> int:
        """How many snapshots may be kept."""

    @property
    def max_ram_bytes(self) -> int:
        """Largest guest RAM of one VM."""

    @property
    def max_snapshot_bytes(self) -> int:
        """Largest snapshot stream that may be uploaded."""
