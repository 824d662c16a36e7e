"""Compares the VM that moved with the one that did not, and checks that the moves were the hard ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Final:
    """What is left of a VM when its guest has ended."""

    stop_reason: str | None
    exit_code: int | None
    retired_instructions: int | None
    state_digest: str
    console: bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    good: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that must hold; the demonstration succeeds if every check is good."""

    checks: list[Check] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every check is good."""
        return bool(self.checks) and all(check.good for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {"good": self.good, "checks": [asdict(check) for check in self.checks]}


def compare(reference: Final, moved: Final, migrations: Sequence[Mapping[str, Any]], wanted_hops: int) -> Verdict:
    """Return the verdict on a VM that made `migrations`, against the same guest run without any."""
    carried = [vcpu for m in migrations for vcpu in m["stats"]["carried"]]
    in_smm = [v for v in carried if v["smm"] and v["smm_shadow"] != "none"]
    in_sti = [v for v in carried if not v["smm"] and v["shadow"] == "sti"]
    completed = sum(m["state"] == "completed" for m in migrations)
    return Verdict(
        [
            Check("migrations", completed == wanted_hops, f"{completed} of {wanted_hops} completed"),
            Check("inside SMM", bool(in_smm), f"{len(in_smm)} hops inside the SMI handler with a shadow set aside"),
            Check("STI shadow", bool(in_sti), f"{len(in_sti)} hops exactly in an STI shadow outside SMM"),
            _guest_content(moved),
            _equal("console", reference.console, moved.console, f"{len(moved.console)} bytes"),
            _equal("instructions", reference.retired_instructions, moved.retired_instructions),
            _equal("end", _end(reference), _end(moved)),
            _equal("machine state", reference.state_digest, moved.state_digest, moved.state_digest),
        ]
    )


def _guest_content(moved: Final) -> Check:
    """The guest checks its own checksum and its shadows, and says so by its exit code."""
    return Check("guest's own checks", moved.exit_code == 0, f"exit code {moved.exit_code}")


def _end(final: Final) -> str:
    return f"{final.stop_reason}, exit code {final.exit_code}"


def _equal(name: str, expected: object, found: object, shown: str | None = None) -> Check:
    same = expected == found and found not in (None, "", b"")
    if same:
        return Check(name, True, f"equal: {found if shown is None else shown}")
    return Check(name, False, _difference(expected, found))


def _difference(expected: object, found: object) -> str:
    if isinstance(expected, bytes) and isinstance(found, bytes):
        pairs = enumerate(zip(expected, found, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(found)))
        return f"differ from byte {at} on: {len(expected)} bytes without, {len(found)} bytes with migrations"
    return f"{expected} without, {found} with migrations"
