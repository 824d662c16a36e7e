"""Whether machines fit hosts: VMs of this host, peers, and documents that the caller brings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import Field, model_validator

from migsvc.errors import PeerError
from migsvc.service.context import Host
from migsvc.service.hosts import host_profile
from migsvc.service.peers import Peers
from migsvc.service.records import Name, Record
from migsvc.service.vms import Vms
from schemas.compat import Baseline, CompatReport, HostProfile, Subject, baseline, check_pair
from schemas.errors import SchemaError, parse_as
from schemas.state import MachineState, VcpuState


class HostOperand(Record):
    """A host, by exactly one member."""

    this_host: bool = Field(default=False, description="true: the host that answers")
    peer: Name | None = Field(default=None, description="a registered peer, asked for its profile now")
    profile: HostProfile | None = Field(default=None, description="`profile` of GET /v1/host, or a kept file")

    @model_validator(mode="after")
    def _one(self) -> HostOperand:
        given = [name for name in type(self).model_fields if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}, not {len(given)}")
        return self


class CompatOperand(HostOperand):
    """A machine or a host, by exactly one member."""

    vm: str | None = Field(default=None, min_length=1, max_length=64, description="id or name of a VM of this host")
    machine: MachineState | None = Field(default=None, description="a whole machine without its memory")
    vcpu: VcpuState | None = Field(default=None, description="one vCPU, as GET /v1/vms/{vm}/vcpus/{vcpu}/state answers")


class Compat:
    """What fits where, as this host sees it."""

    def __init__(self, host: Host, vms: Vms, peers: Peers) -> None:
        """Look at that host's VMs and peers."""
        self._host = host
        self._vms = vms
        self._peers = peers

    async def check(self, a: CompatOperand, b: CompatOperand) -> CompatReport:
        """Return whether a fits b; see `schemas.compat.check_pair`.

        Raises:
            NotFoundError: there is no such VM or peer.
            NotOwnerError: another host owns the VM.
            PeerError: the peer cannot be reached, or says a profile that cannot be read here.
        """
        first, second = await self._resolve(a), await self._resolve(b)
        return await asyncio.to_thread(check_pair, first, second)

    async def baseline(self, hosts: Sequence[HostOperand]) -> Baseline:
        """Return the largest profile that all hosts can hold.

        Raises:
            NotFoundError: there is no such peer.
            PeerError: a peer cannot be reached, or says a profile that cannot be read here.
        """
        profiles = [await self._profile(operand) for operand in hosts]
        return await asyncio.to_thread(baseline, profiles)

    async def _resolve(self, operand: CompatOperand) -> Subject:
        if operand.vm is not None:
            return await self._vms.get_machine(operand.vm)
        if operand.machine is not None:
            return operand.machine
        return operand.vcpu if operand.vcpu is not None else await self._profile(operand)

    async def _profile(self, operand: HostOperand) -> HostProfile:
        if operand.profile is not None:
            return operand.profile
        if operand.peer is None:
            return await host_profile(self._host)
        target = await self._peers.target(operand.peer)
        try:
            return parse_as(HostProfile, target.profile)
        except SchemaError as error:
            found = "; ".join(str(problem) for problem in error.problems[:8])
            raise PeerError(f"peer {operand.peer!r} says a profile that cannot be read here: {found}") from error
