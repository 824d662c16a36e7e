"""The worker: one process, one VM. `python -m migsvc.backends.worker --run-dir DIR --vm ID`.

One thread runs the VM in slices of about 2 ms and looks at its Unix socket between them; a VM that does not run waits
there without using the processor. The agent may die and come back: the VM goes on meanwhile as it was, and the newest
connection is the agent. The worker ends by `quit`, by SIGTERM, or by a failure; it leaves neither socket nor pid file.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from migsvc.backends.base import Backend
from migsvc.backends.connection import AgentConnection
from migsvc.backends.control import VmControl
from migsvc.backends.files import WorkerFiles, claim, listen
from migsvc.errors import MigsvcError

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long the answer to `quit` may take to leave."""


class Worker:
    """The loop of one worker process."""

    def __init__(self, files: WorkerFiles, backends: Mapping[str, Backend]) -> None:
        """Serve the VM of `files`, of one of these backends."""
        self._files = files
        self.control = VmControl(files.vm_id, backends, self._notify)
        self._agent: AgentConnection | None = None
        self._selector = selectors.DefaultSelector()
        self._sleep_until_ns = 0

    def serve(self, listener: socket.socket) -> None:
        """Run until `quit`."""
        self._selector.register(listener, selectors.EVENT_READ)
        try:
            while not self._done():
                self._look(listener)
                if self.control.busy and time.monotonic_ns() >= self._sleep_until_ns:
                    self._sleep_until_ns = time.monotonic_ns() + self.control.slice()
        finally:
            self._say_goodbye()
            self.control.close()
            self._selector.close()

    def _done(self) -> bool:
        return self._agent is not None and self._agent.quit

    def _look(self, listener: socket.socket) -> None:
        """Serve the sockets; wait for them as long as the VM has nothing to do."""
        self._watch()
        was_busy = self.control.busy
        for key, mask in self._selector.select(self._timeout_s()):
            if key.fileobj is listener:
                self._accept(listener)
            elif self._agent is not None and key.fileobj is self._agent:
                if mask & selectors.EVENT_WRITE:
                    self._agent.flush()
                if mask & selectors.EVENT_READ and not self._agent.closed:
                    self._agent.receive()
        if not was_busy:
            self._sleep_until_ns = 0

    def _timeout_s(self) -> float | None:
        if not self.control.busy:
            return None
        return max(0, self._sleep_until_ns - time.monotonic_ns()) / 1e9

    def _watch(self) -> None:
        """Tell the selector what we wait for; forget an agent that has gone."""
        agent = self._agent
        if agent is None:
            return
        if agent.closed:
            self._forget(agent)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if agent.wants_write else 0)
        if self._selector.get_key(agent).events != mask:
            self._selector.modify(agent, mask)

    def _forget(self, agent: AgentConnection) -> None:
        """Nobody waits for a job's answer any more: it ends, and the VM does again what it did before."""
        self._agent = None
        self.control.drop_job()
        self._selector.unregister(agent)

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        peer.setblocking(False)
        if self._agent is not None:
            log.info("a new agent connects; the old connection is closed")
            self._selector.unregister(self._agent)
            self._agent.close()
            self.control.drop_job()
        self._agent = AgentConnection(peer, lambda: self.control)
        self._selector.register(self._agent, selectors.EVENT_READ)

    def _notify(self, event: dict[str, object]) -> None:
        if self._agent is not None and not self._agent.closed:
            self._agent.send(event)

    def _say_goodbye(self) -> None:
        """Let the answer to `quit` leave."""
        deadline = time.monotonic() + LINGER_S
        while self._agent is not None and self._agent.wants_write and not self._agent.closed:
            if time.monotonic() > deadline:
                break
            self._agent.flush()
            time.sleep(0.001)


def main(argv: Sequence[str] | None = None, backends: Mapping[str, Backend] | None = None) -> int:
    """Run a worker until it is told to quit; return the exit status: 0 after `quit` or SIGTERM, 1 after a failure."""
    parser = argparse.ArgumentParser(prog="migsvc.backends.worker", description="the process of one VM")
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of sockets, pid files and logs")
    parser.add_argument("--vm", required=True, help="id of the VM")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _close_inherited()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the agent
    if backends is None:
        from migsvc.backends import BACKENDS

        backends = BACKENDS
    files = WorkerFiles(arguments.run_dir, arguments.vm)
    try:
        files.prepare()
        lock = claim(files)
    except MigsvcError as error:
        log.error("%s", error)
        return 1
    try:
        with contextlib.closing(listen(files)) as listener:
            Worker(files, backends).serve(listener)
    finally:
        files.remove()
        os.close(lock)
    return 0


def _close_inherited() -> None:
    """Close whatever descriptors the agent's process leaked, its listening sockets first of all."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, min(soft, 1 << 16))


if __name__ == "__main__":
    sys.exit(main())
