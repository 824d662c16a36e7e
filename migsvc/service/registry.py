"""The VMs that live on this host now: one worker process each, and who works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from migsvc.backends.client import WorkerHandle
from migsvc.errors import ConflictError, NotFoundError


@dataclass(eq=False, slots=True)
class LiveVm:
    """A VM with its worker. `lock` is held for the length of one use case; `user` for longer work."""

    id: str
    name: str
    handle: WorkerHandle
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    migration: str | None = None
    snapshot: str | None = None
    leaving: bool = False
    """Its worker is being ended on purpose: the end is no loss."""

    def require_free(self, what: str) -> None:
        """Refuse `what` while a migration or a snapshot works on the VM.

        Raises:
            ConflictError: one does; it is named.
        """
        if self.migration is not None:
            raise ConflictError(
                f"VM {self.name} cannot {what}: migration {self.migration} is under way",
                hint="wait for it, or cancel it",
                migration=self.migration,
            )
        if self.snapshot is not None:
            raise ConflictError(
                f"VM {self.name} cannot {what}: snapshot {self.snapshot} is being taken", hint="try again in a moment"
            )


class Registry:
    """The live VMs by id."""

    def __init__(self) -> None:
        """Begin empty."""
        self._vms: dict[str, LiveVm] = {}

    def __iter__(self) -> Iterator[LiveVm]:
        """Yield every live VM; it may be changed meanwhile."""
        return iter(list(self._vms.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._vms)

    def add(self, vm: LiveVm) -> None:
        """Put a VM in."""
        self._vms[vm.id] = vm

    def find(self, vm_id: str) -> LiveVm | None:
        """Return a VM, or None."""
        return self._vms.get(vm_id)

    def get(self, vm_id: str) -> LiveVm:
        """Return a VM.

        Raises:
            NotFoundError: it does not live here.
        """
        found = self._vms.get(vm_id)
        if found is None:
            raise NotFoundError(f"VM {vm_id} has no worker on this host")
        return found

    def remove(self, vm_id: str) -> LiveVm | None:
        """Take a VM out and return it, or None."""
        return self._vms.pop(vm_id, None)

    @contextmanager
    def snapshotting(self, vm: LiveVm, snapshot_id: str) -> Iterator[None]:
        """Keep a VM for a snapshot.

        Raises:
            ConflictError: somebody works on it.
        """
        vm.require_free("be snapshot")
        vm.snapshot = snapshot_id
        try:
            yield
        finally:
            vm.snapshot = None
