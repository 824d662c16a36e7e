"""`migsvc emu`: the emulator in the terminal, without a host agent."""

from __future__ import annotations

from migsvc.cli import emu_run, emu_vectors
from migsvc.cli.session import group

app = group("emu", "The emulator itself: run a guest in the terminal, check instructions. No host is needed.")

emu_run.register(app)
emu_vectors.register(app)
