"""`migsvc emu run --gdb PORT`: one debugger over TCP on loopback."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from migsvc.cli.emu_terminal import POLL_S, Terminal
from migsvc.cli.exit_codes import ExitCode
from migsvc.cli.session import CliError
from migsvc.cli.stderr import say

if TYPE_CHECKING:
    from emulator.gdb import GdbSession
    from emulator.machine import Machine

RUN_STEPS = 5_000
"""Between two looks at the connection."""
READ_BYTES = 65536
SEND_TIMEOUT_S = 30.0


def serve_gdb(machine: Machine, terminal: Terminal, port: int) -> str | None:
    """Wait for a debugger and obey it to its end: "exited", "killed", "detached"; None where the wait was interrupted.

    Raises:
        CliError: the port is taken.
    """
    from emulator.gdb import GdbSession

    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise CliError(f"port {port}: {error.strerror}", ExitCode.FAILED) from error
    with listener:
        say(f"waiting for GDB: target remote 127.0.0.1:{listener.getsockname()[1]}")
        connection = _accept(listener, terminal)
    if connection is None:
        return None
    with connection:
        session = GdbSession(machine)
        try:
            _converse(session, connection, terminal)
        except OSError as error:
            say(f"the debugger is gone: {error.strerror or error}")
            return "detached"
        finally:
            terminal.show()
        return session.ended


def _accept(listener: socket.socket, terminal: Terminal) -> socket.socket | None:
    while not terminal.interrupted:
        if select.select([listener], [], [], POLL_S)[0]:
            connection, _ = listener.accept()
            connection.settimeout(SEND_TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    return None


def _converse(session: GdbSession, connection: socket.socket, terminal: Terminal) -> None:
    """Pass octets on and run the machine while it is to run."""
    while session.ended is None and not terminal.interrupted:
        if select.select([connection], [], [], 0 if session.running else POLL_S)[0]:
            data = connection.recv(READ_BYTES)
            if not data:
                session.ended = "detached"
                return
            connection.sendall(session.feed(data))
        if session.running:
            reply = session.run(RUN_STEPS)
            terminal.attend()
            connection.sendall(reply)
