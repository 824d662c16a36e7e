"""Moves one VM back and forth between two hosts while it runs, beside a twin that stays where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from migsvc.client import ApiError, Client, ClientError
from migsvc.demo.agents import Agent, DemoError
from migsvc.demo.console import ConsoleFollower
from migsvc.demo.plan import Plan
from migsvc.demo.verdict import Final, Verdict, compare

HOP_TIMEOUT_S = 120.0
"""A hop takes about a second; a machine that is ten times slower and busy still makes it."""

END_TIMEOUT_S = 600.0
"""The guest's rest after the last hop."""

POLL_S = 0.05
ENDED = ("stopped", "halted", "lost")


class Observer(Protocol):
    """Who wants to see what happens."""

    def started(self, scenario: Scenario) -> None:
        """Both VMs run."""

    def console_changed(self, scenario: Scenario) -> None:
        """New lines came on the console."""

    def event(self, hop: int, event: dict[str, Any]) -> None:
        """The migration of that hop reported something."""

    def hop_done(self, scenario: Scenario, hop: int, migration: dict[str, Any]) -> None:
        """A hop is completed, and the VM runs on the other host."""

    def ending(self, scenario: Scenario) -> None:
        """All hops are made; both guests run to their end."""


class Silent:
    """An observer that does nothing."""

    def started(self, scenario: Scenario) -> None:
        """Do nothing."""

    def console_changed(self, scenario: Scenario) -> None:
        """Do nothing."""

    def event(self, hop: int, event: dict[str, Any]) -> None:
        """Do nothing."""

    def hop_done(self, scenario: Scenario, hop: int, migration: dict[str, Any]) -> None:
        """Do nothing."""

    def ending(self, scenario: Scenario) -> None:
        """Do nothing."""


@dataclass
class Scenario:
    """One run: two hosts, one VM that moves, one that does not."""

    hosts: tuple[Agent, Agent]
    plan: Plan
    observer: Observer
    migrations: list[dict[str, Any]] = field(default_factory=list)
    verdict: Verdict | None = None

    def run(self) -> Verdict:
        """Make every hop, run both guests to their end, and compare.

        Raises:
            DemoError: a step failed; the text names it.
        """
        self.clients = {agent.name: agent.client() for agent in self.hosts}
        self.here, self.there = self.hosts
        self.reference = self._create("reference")
        self.vm = self._create("traveller")
        self.follower = ConsoleFollower(self.vm)
        self.follower.begin_stay(self.here.name)
        self.observer.started(self)
        for hop, moment in enumerate(self.plan.moments):
            self._watch_console(self.plan.run_s)
            self._hop(hop, moment)
        self.observer.ending(self)
        moved = self._final(self.here.name, self.vm, self._follow)
        reference = self._final(self.hosts[0].name, self.reference, None)
        self.verdict = compare(reference, moved, self.migrations, self.plan.hops)
        return self.verdict

    @property
    def client(self) -> Client:
        """The client of the host on which the VM is."""
        return self.clients[self.here.name]

    def _create(self, name: str) -> str:
        body = {"name": name, "guest": self.plan.guest, "guest_params": self.plan.guest_params, "run": True}
        try:
            return str(self.client.post("/v1/vms", body)["id"])
        except ClientError as error:
            raise DemoError(f"cannot make the VM {name} on {self.here.name}: {error}") from error

    def _follow(self) -> None:
        if self.follower.read(self.client):
            self.observer.console_changed(self)

    def _follow_during_hop(self) -> None:
        """Follow the console until the VM leaves; the other host has what was sent after that look."""
        try:
            self._follow()
        except ApiError as error:
            if error.slug not in ("not-owner", "conflict"):
                raise

    def _watch_console(self, duration_s: float) -> None:
        """Let the guest run, and show what it prints."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self._follow()
            time.sleep(POLL_S)

    def _hop(self, hop: int, moment: str) -> None:
        """Move the VM to the other host at that moment, and check that it runs there."""
        self._require_running(hop)
        request = {"vm": self.vm, "peer": self.there.name, "options": {"pause_when": moment}}
        try:
            record = self.client.post("/v1/migrations", request)
            path = f"/v1/migrations/{record['id']}"
            for event in self.client.events(f"{path}/events"):
                self._follow_during_hop()
                self.observer.event(hop, event)
            record = self._settled(path)
        except ClientError as error:
            raise DemoError(f"hop {hop + 1} ({moment}) from {self.here.name} failed: {error}") from error
        if record["state"] != "completed":
            detail = (record.get("error") or {}).get("detail", "")
            raise DemoError(f"hop {hop + 1} ({moment}) is {record['state']}: {detail} {record['explanation']}".strip())
        self.migrations.append({**record, "from": self.here.name, "to": self.there.name, "moment": moment})
        self.here, self.there = self.there, self.here
        self.follower.begin_stay(self.here.name, record["stats"]["carried"][0]["console_bytes"])
        self.follower.read(self.client)
        self.observer.hop_done(self, hop, self.migrations[-1])

    def _require_running(self, hop: int) -> None:
        """A guest that has ended proves nothing: its moments are over."""
        status = self.client.get(f"/v1/vms/{self.vm}")["status"]
        if status != "running":
            raise DemoError(f"the guest is {status} before hop {hop + 1}: give it more --ticks")

    def _settled(self, path: str) -> dict[str, Any]:
        """Return the migration's record once it is final."""
        deadline = time.monotonic() + HOP_TIMEOUT_S
        while True:
            record: dict[str, Any] = self.client.get(path)
            if record["state"] in ("completed", "cancelled", "failed") or time.monotonic() > deadline:
                return record
            time.sleep(POLL_S)

    def _final(self, host: str, vm: str, watch: Callable[[], None] | None) -> Final:
        """Wait for the guest's end and return what is left of it."""
        client = self.clients[host]
        deadline = time.monotonic() + END_TIMEOUT_S
        while (record := client.get(f"/v1/vms/{vm}"))["status"] not in ENDED:
            if watch is not None:
                watch()
            if time.monotonic() > deadline:
                raise DemoError(f"the guest of {record['name']} did not end in {END_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)
        if watch is not None:
            watch()
        snapshot = client.post("/v1/snapshots", {"vm": vm})
        while snapshot["status"] == "writing":
            time.sleep(POLL_S)
            snapshot = client.get(f"/v1/snapshots/{snapshot['id']}")
        console = self.follower if vm == self.vm else ConsoleFollower(vm)
        console.read(client)
        return Final(
            stop_reason=record["stop_reason"],
            exit_code=record["exit_code"],
            retired_instructions=record["retired_instructions"],
            state_digest=snapshot["state_digest"] if snapshot["status"] == "ready" else "",
            console=bytes(console.data),
        )
