"""Shows the demonstration: lines tagged with their host, a table for each migration, the verdict. Plain when piped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from migsvc.demo.console import Line
from migsvc.demo.scenario import Scenario
from migsvc.demo.verdict import Verdict
from migsvc.units import human_bytes, human_ms

EDGE_LINES = 3
"""Console lines shown at either end of a stay on one host; those between are counted."""

PLAIN_WIDTH = 110
"""Width of tables when the output is not a terminal."""

COLOURS = ("cyan", "magenta")


class Report:
    """An observer that prints."""

    def __init__(self, console: Console | None = None) -> None:
        """Print to the terminal, or plainly to a pipe."""
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(file=self.console.file, width=PLAIN_WIDTH, highlight=False, no_color=True)
        self._status: Status | None = None
        self._shown = 0
        self._stay_from = 0
        self._colours: dict[str, str] = {}

    def started(self, scenario: Scenario) -> None:
        """Introduce the hosts."""
        for agent, colour in zip(scenario.hosts, COLOURS, strict=True):
            self._colours[agent.name] = colour
            self.console.print(f"[{colour}]{agent.name}[/]  {agent.url}  process {agent.process.pid}")
        plan = scenario.plan
        self.console.print(
            f"\nTwo VMs run the guest {plan.guest}: one stays on {scenario.here.name}, the other makes "
            f"{plan.hops} live migrations.\nBoth must end the same. This is the console of the one that moves:\n"
        )
        if self.console.is_terminal:
            self._status = self.console.status("running")
            self._status.start()

    def console_lines(self, lines: list[Line]) -> None:
        """Print lines with the tag of their host."""
        for line in lines:
            colour = self._colours.get(line.host, "white")
            self.console.print(f"  [{colour}]{line.host}[/] │ {escape(line.text)}")

    def console_changed(self, scenario: Scenario) -> None:
        """Print the first lines of a stay as they come."""
        lines = scenario.follower.lines
        limit = self._stay_from + EDGE_LINES
        self.console_lines(lines[self._shown : limit])
        self._shown = max(self._shown, min(len(lines), limit))
        if self._status is not None and lines:
            self._status.update(f"{lines[-1].host}: {escape(lines[-1].text)}")

    def _end_of_stay(self, scenario: Scenario, host: str) -> None:
        """Print the last lines that came from that host, and how many were left out."""
        lines = scenario.follower.lines
        end = next((i for i in range(self._stay_from, len(lines)) if lines[i].host != host), len(lines))
        last = max(self._shown, end - EDGE_LINES)
        if last > self._shown:
            self.console.print(f"         │ … {last - self._shown} more lines")
        self.console_lines(lines[last:end])
        self._shown = self._stay_from = end

    def event(self, hop: int, event: dict[str, Any]) -> None:
        """Show the phase in the status line."""
        if self._status is not None and event["type"] in ("state", "round", "progress"):
            data = ", ".join(f"{key} {value}" for key, value in event["data"].items())
            self._status.update(f"hop {hop + 1}: {escape(data)}")

    def hop_done(self, scenario: Scenario, hop: int, migration: dict[str, Any]) -> None:
        """Print the lines before the hop, then the hop in one line."""
        self._end_of_stay(scenario, migration["from"])
        stats = migration["stats"]
        self.console.print(
            f"[bold]── {hop + 1}: {migration['from']} → {migration['to']}[/] at {migration['moment']}: "
            f"{len(stats['rounds'])} rounds, {stats['pages']} pages, {human_bytes(stats['bytes'])}, "
            f"downtime {human_ms(stats['downtime_ns'])}; {carried_text(stats)}",
            soft_wrap=True,
        )

    def ending(self, scenario: Scenario) -> None:
        """Say that both guests run on to their end."""
        self.console_changed(scenario)
        if self._status is not None:
            self._status.update("both guests run to their end")

    def finish(self, scenario: Scenario, verdict: Verdict) -> None:
        """Print the rest of the console, a table for each migration, and the verdict."""
        self.close()
        self._end_of_stay(scenario, scenario.here.name)
        for number, migration in enumerate(scenario.migrations, 1):
            self.console.print()
            self.console.print(migration_table(number, migration))
            owner = f"owner {migration['owner']}, epoch {migration['epoch']}"
            self.console.print(f"  carried: {carried_text(migration['stats'])}; {owner}", soft_wrap=True)
        self.console.print()
        self.console.print(verdict_table(verdict))
        colour, text = ("green", "EQUAL") if verdict.good else ("red", "NOT EQUAL")
        self.console.print(
            f"\n[bold {colour}]Verdict: {text}[/] — with and without {len(scenario.migrations)} migrations"
        )

    def close(self) -> None:
        """Take the status line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def carried_text(stats: Mapping[str, Any]) -> str:
    """Return what state of the vCPUs was carried, in words."""
    return "; ".join(
        f"SMM {'yes' if vcpu['smm'] else 'no'}, shadow {vcpu['shadow']}, SMM shadow {vcpu['smm_shadow']}"
        for vcpu in stats["carried"]
    )


def migration_table(number: int, migration: Mapping[str, Any]) -> Table:
    """Return the table of one migration: rounds, phases, totals, carried state."""
    stats = migration["stats"]
    table = Table(
        title=f"Migration {number}: {migration['from']} → {migration['to']} at {migration['moment']}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("step")
    for heading in ("time", "pages", "zero pages", "bytes", "dirty after"):
        table.add_column(heading, justify="right")
    for entry in stats["rounds"]:
        pages, zero = str(entry["pages"]), str(entry["zero_pages"])
        size, left = human_bytes(entry["bytes"]), str(entry["dirty_pages_after"])
        table.add_row(f"round {entry['round']}", human_ms(entry["duration_ns"]), pages, zero, size, left)
    table.add_section()
    for phase, duration in stats["phases_ns"].items():
        table.add_row(f"phase {phase}", human_ms(duration))
    table.add_section()
    totals = (str(stats["pages"]), str(stats["zero_pages"]), human_bytes(stats["bytes"]))
    table.add_row("total", human_ms(stats["total_ns"]), *totals)
    table.add_row("[bold]downtime[/]", f"[bold]{human_ms(stats['downtime_ns'])}[/]")
    return table


def verdict_table(verdict: Verdict) -> Table:
    """Return every check of the verdict."""
    table = Table(
        title="Against the same guest without any migration",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("check")
    table.add_column("holds")
    table.add_column("what was found", overflow="fold")
    for check in verdict.checks:
        table.add_row(check.name, "[green]yes[/]" if check.good else "[red]NO[/]", escape(check.detail))
    return table
