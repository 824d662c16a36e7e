"""The row of a rule on state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from ..errors import Severity

Details = Iterator[str]
"""What a check yields: one text for each breach, with the values that are wrong."""

Check = Callable[[Any], Details]

INTEL = "GenuineIntel"


class Invariant(NamedTuple):
    """One rule: what must hold, where, why, and the check that yields a text for each breach.

    `scope`: the check takes a VcpuState or a MachineState. `host_vendor`: the rule binds that vendor's hardware only:
    a warning while the host is unknown, an error on such a host, nothing elsewhere.
    """

    id: str
    severity: Severity
    where: str
    text: str
    hint: str
    source: str
    check: Check
    scope: Literal["vcpu", "machine"] = "vcpu"
    host_vendor: str | None = None
