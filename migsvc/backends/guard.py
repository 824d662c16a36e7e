"""The worker's part of the ownership rule: a VM runs only under the epoch that its host has been granted."""

from __future__ import annotations

from migsvc.errors import ConflictError, NotOwnerError


class Guard:
    """The right to run one VM. Fencing is for good: what another host owns never runs here again."""

    def __init__(self, epoch: int, *, incoming: bool) -> None:
        """Begin with the right to run, or, for a copy that arrives, without it."""
        self.epoch = epoch
        self.incoming = incoming
        self.fenced = False

    def grant(self, epoch: int) -> None:
        """Give the right to run under `epoch`. The same grant may be repeated.

        Raises:
            NotOwnerError: the VM is fenced.
            ConflictError: the epoch is not above that of the host it came from.
        """
        self._refuse_fenced()
        if not self.incoming and epoch == self.epoch:
            return
        if not self.incoming or epoch <= self.epoch:
            raise ConflictError(f"epoch {epoch} cannot be granted: this copy has seen epoch {self.epoch}")
        self.epoch = epoch
        self.incoming = False

    def fence(self, epoch: int) -> None:
        """Take the right to run away for good: the VM has another owner under `epoch`.

        Raises:
            ConflictError: the epoch is not above the present one.
        """
        if self.fenced and epoch == self.epoch:
            return
        if epoch <= self.epoch:
            raise ConflictError(f"epoch {epoch} cannot fence epoch {self.epoch}")
        self.epoch = epoch
        self.fenced = True

    def require(self, epoch: int | None = None) -> None:
        """Refuse unless the VM may run, under `epoch` if one is named.

        Raises:
            NotOwnerError: it is fenced, has not been granted, or has another epoch.
        """
        self._refuse_fenced()
        if self.incoming:
            raise NotOwnerError(
                "the VM is on its way in and must not run before its migration is committed", epoch=self.epoch
            )
        if epoch is not None and epoch != self.epoch:
            raise NotOwnerError(f"the VM has epoch {self.epoch}, not {epoch}", epoch=self.epoch)

    def _refuse_fenced(self) -> None:
        if self.fenced:
            raise NotOwnerError(f"another host owns the VM since epoch {self.epoch}", epoch=self.epoch)
