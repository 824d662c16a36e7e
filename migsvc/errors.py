"""The errors of the service, as one tree.

MigsvcError
├── InputError                 what the caller gave is wrong
│   ├── NotFoundError          no such VM, snapshot, peer or migration
│   ├── ConflictError          the request contradicts the present state
│   │   └── NotOwnerError      this host does not own the VM (owner and epoch are named)
│   ├── IllegalStateError      vCPU state breaks the rules; carries every finding
│   ├── IncompatibleError      a host cannot hold the state; carries every finding
│   ├── StreamRejectedError    a snapshot stream is damaged, truncated or not ours
│   └── LimitError             larger or more than the configured bound
├── PeerError                  the other host refused, failed or cannot be reached
├── CancelledError             the operation was cancelled by request
├── WorkerError                a VM's worker process died or did not answer
└── StorageError               the catalogue or the snapshot directory failed (disk full, read-only)

Layers below the API know no HTTP; `migsvc/api/errors.py` maps each class to a status and a type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class MigsvcError(Exception):
    """Base of all errors that the service raises on purpose.

    `detail` says what is wrong and where, `hint` what to do about it, `extra` holds JSON-ready members
    for the problem document (findings, owner, epoch, limits).
    """

    def __init__(self, detail: str, *, hint: str = "", **extra: Any) -> None:
        """Keep the three parts; `extra` values must be JSON-ready."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.extra: Mapping[str, Any] = extra

    def __str__(self) -> str:
        """Return the detail, then the hint if there is one."""
        return f"{self.detail} ({self.hint})" if self.hint else self.detail


class InputError(MigsvcError):
    """What the caller gave is wrong."""


class NotFoundError(InputError):
    """There is no such object."""


class ConflictError(InputError):
    """The request contradicts the present state of the object."""


class NotOwnerError(ConflictError):
    """This host does not own the VM; the owner and the epoch are in `extra`."""


class FindingsError(InputError):
    """An error that carries a list of findings, each a JSON object."""

    def __init__(self, detail: str, findings: Sequence[Mapping[str, Any]], *, hint: str = "", **extra: Any) -> None:
        """Keep every finding: callers must see all of them, not only the first."""
        super().__init__(detail, hint=hint, findings=[dict(f) for f in findings], **extra)
        self.findings = [dict(f) for f in findings]


class IllegalStateError(FindingsError):
    """The vCPU state breaks the rules of `schemas.invariants`."""


class IncompatibleError(FindingsError):
    """The host cannot hold the state."""


class StreamRejectedError(FindingsError):
    """A stream is damaged, truncated, oversized, reordered or of an unknown version."""


class LimitError(InputError):
    """Something is larger, longer or more than its configured bound."""


class PeerError(MigsvcError):
    """The other host refused, failed, or cannot be reached."""


class CancelledError(MigsvcError):
    """The operation was cancelled by request."""


class WorkerError(MigsvcError):
    """The worker process of a VM died, failed, or did not answer in time."""


class StorageError(MigsvcError):
    """The catalogue or the snapshot directory failed."""
