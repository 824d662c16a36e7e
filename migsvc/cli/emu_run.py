"""`migsvc emu run`: run a guest in the terminal, without a host agent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from migsvc.cli.emu_machine import Source, make_machine, write_snapshot
from migsvc.cli.emu_terminal import Pace, Terminal
from migsvc.cli.session import reporting
from migsvc.cli.stderr import say

if TYPE_CHECKING:
    from emulator.machine import Machine, RunResult


class EmuExit(IntEnum):
    """Exit status where the guest chose none. What it writes to port 0xF4 gives an odd one, so these are even."""

    HALTED = 0
    LIMIT = 4
    SHUTDOWN = 6
    UNSUPPORTED = 8
    INTERRUPTED = 130


EPILOG = (
    "Exit status: what the guest writes to port 0xF4, as (value << 1) | 1, like QEMU's isa-debug-exit; otherwise "
    "0 halted for good, 2 wrong usage, 4 --max-instructions reached, 5 image refused, 6 triple fault or shutdown, "
    "7 damaged stream, 8 an instruction that is not emulated, 130 Ctrl-C."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=EPILOG)(run)


def _number(text: str) -> int:
    return int(text, 0)


def run(
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="multiboot kernel, stream file, or bundled guest")
    ] = None,
    bios: Annotated[Path | None, typer.Option(help="firmware ROM, begun at the reset vector")] = None,
    multiboot: Annotated[
        Path | None, typer.Option(help="multiboot 1 kernel: ELF32, or addresses in its header")
    ] = None,
    append: Annotated[str, typer.Option(help="command line of a multiboot kernel")] = "",
    flat: Annotated[list[str] | None, typer.Option(help="FILE@ADDRESS, begun in real mode; repeatable")] = None,
    entry: Annotated[str | None, typer.Option(help="where flat images begin: an address, or SEG:OFF")] = None,
    resume: Annotated[Path | None, typer.Option(help="stream file of a machine that goes on")] = None,
    param: Annotated[list[str] | None, typer.Option(help="parameter of a bundled guest, name=number")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM, as 64M; a number alone is MiB; default 128M")] = None,
    cpu: Annotated[str | None, typer.Option(help="CPU model; default x86-64")] = None,
    board: Annotated[str | None, typer.Option(help="minimal or pc; default pc, and minimal for flat images")] = None,
    post_port: Annotated[
        int | None, typer.Option(parser=_number, metavar="PORT", help="print POST codes written to this port on stderr")
    ] = None,
    tier: Annotated[
        Literal["auto", "reference", "fast"], typer.Option(help="what executes instructions; the guest cannot tell")
    ] = "auto",
    max_instructions: Annotated[int | None, typer.Option(min=0, help="stop after so many; exit status 4")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="a line for each instruction on stderr")] = False,
    snapshot_at: Annotated[
        tuple[int, Path] | None, typer.Option(metavar="N FILE", help="after N instructions write a stream file; go on")
    ] = None,
    gdb: Annotated[int | None, typer.Option(min=0, max=65535, metavar="PORT", help="wait for GDB on loopback")] = None,
) -> None:
    """Run a guest: its serial port is standard input and output, the debug console and all notes go to stderr.

    N and --max-instructions count from where this run begins; a REP iteration and a faulting instruction count as one.
    """
    source = Source(
        image, bios, multiboot, append, tuple(flat or ()), entry, resume, tuple(param or ()), ram, cpu, board,
        post_port, tier,
    )  # fmt: skip
    with reporting("table"):
        machine = make_machine(source)
        terminal = Terminal(machine)
        if post_port is not None:
            terminal.note_post_codes()
        at, file = snapshot_at or (None, None)
        plan = Plan(max_instructions, at, file, trace)
        with terminal.opened():
            status = None if gdb is None else _debugged(machine, terminal, gdb)
            if status is None:
                status = drive(machine, terminal, plan)
    raise typer.Exit(status)


def _debugged(machine: Machine, terminal: Terminal, port: int) -> int | None:
    """Obey a debugger; return the exit status, or None if the guest goes on without it."""
    from migsvc.cli.emu_gdb import serve_gdb

    ended = serve_gdb(machine, terminal, port)
    if ended == "exited":
        return (machine.debug_exit.status or 0) & 0xFF
    return None if ended == "detached" or terminal.interrupted else EmuExit.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Plan:
    """When to stop, when to write a stream file, and whether to show each instruction."""

    limit: int | None = None
    snapshot_at: int | None = None
    snapshot: Path | None = None
    trace: bool = False


def drive(machine: Machine, terminal: Terminal, plan: Plan) -> int:
    """Run the guest to its end, or that of the plan; return the exit status."""
    from emulator.exceptions import UnsupportedInstruction
    from emulator.machine import StopReason

    pace, first = Pace(), machine.retired
    snapshot_at = plan.snapshot_at
    step = _traced(machine) if plan.trace else machine.run
    while not terminal.interrupted:
        done = machine.retired - first
        if snapshot_at == done and plan.snapshot is not None:
            write_snapshot(machine, plan.snapshot)
            snapshot_at = None
        if done == plan.limit:
            terminal.show()
            say(f"{done} instructions are done")
            return EmuExit.LIMIT
        ends = [mark - done for mark in (plan.limit, snapshot_at) if mark is not None and mark > done]
        try:
            result = pace.run(step, min(ends, default=None))
        except UnsupportedInstruction as error:
            terminal.show()
            say(str(error))
            return EmuExit.UNSUPPORTED
        terminal.attend()
        if result.reason is StopReason.HALTED and (_woken(machine, terminal) or terminal.interrupted):
            continue
        if result.reason is not StopReason.BUDGET:
            return exit_status(machine, result)
    say("interrupted")
    return EmuExit.INTERRUPTED


def _woken(machine: Machine, terminal: Terminal) -> bool:
    """Whether input wakes a guest that nothing in the machine would wake."""
    from emulator.machine import StopReason

    while machine.run(0).reason is StopReason.HALTED:
        if not terminal.wait_for_input():
            return False
        terminal.attend()
    return True


def exit_status(machine: Machine, result: RunResult) -> int:
    """Exit status of a machine that has ended."""
    from emulator.machine import StopReason

    if (status := machine.debug_exit.status) is not None:
        return status & 0xFF
    if result.reason is StopReason.HALTED:
        return EmuExit.HALTED
    say(f"the guest ended: {result.reason.value}")
    return EmuExit.SHUTDOWN


def _traced(machine: Machine) -> Callable[[int], RunResult]:
    from emulator.machine import RunResult
    from emulator.trace import trace

    def step(steps: int) -> RunResult:
        before = machine.retired
        for line in trace(machine, steps):
            sys.stderr.write(line + "\n")
        return RunResult(machine.run(0).reason, machine.retired - before)

    return step
