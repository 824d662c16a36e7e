"""Errors as JSON members of records and events, with the same stable types as the API's problem documents."""

from __future__ import annotations

from typing import Any

from migsvc import errors

PROBLEM_TYPES: tuple[tuple[type[errors.MigsvcError], str], ...] = (
    (errors.NotFoundError, "/problems/not-found"),
    (errors.NotOwnerError, "/problems/not-owner"),
    (errors.ConflictError, "/problems/conflict"),
    (errors.IllegalStateError, "/problems/illegal-state"),
    (errors.IncompatibleError, "/problems/incompatible"),
    (errors.StreamRejectedError, "/problems/stream-rejected"),
    (errors.LimitError, "/problems/limit-exceeded"),
    (errors.InputError, "/problems/bad-request"),
    (errors.PeerError, "/problems/peer-failed"),
    (errors.CancelledError, "/problems/cancelled"),
    (errors.WorkerError, "/problems/worker-failed"),
    (errors.StorageError, "/problems/storage-failed"),
    (errors.MigsvcError, "/problems/internal"),
)
"""Error class -> problem type, subclasses before their bases. A test compares it with the API's table."""

MAX_LISTED_FINDINGS = 200
"""Findings kept in a record: each is a row of a table of rules, so that more means hostile input."""


def fault_json(error: BaseException) -> dict[str, Any]:
    """Return `error` as a JSON object: type, detail, hint and the members of `extra`.

    An error that is not of the service's tree is a fault of ours or of the machine; its class is named.
    """
    if not isinstance(error, errors.MigsvcError):
        return {"type": "/problems/internal", "detail": f"{type(error).__name__}: {error}"[:2000]}
    kind = next(uri for cls, uri in PROBLEM_TYPES if isinstance(error, cls))
    members: dict[str, Any] = {"type": kind, "detail": error.detail[:4000]}
    if error.hint:
        members["hint"] = error.hint
    extra = {key: value for key, value in error.extra.items() if key not in members}
    if isinstance(extra.get("findings"), list):
        extra["findings"] = extra["findings"][:MAX_LISTED_FINDINGS]
    return {**members, **extra}
