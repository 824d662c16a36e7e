"""What runs the VMs: one worker process each, of one of the backends.

A new backend is a module with a `Backend` row, and its entry in BACKENDS.
"""

from __future__ import annotations

from collections.abc import Mapping

from migsvc.backends.base import Backend
from migsvc.backends.emulator import BACKEND as EMULATOR

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in (EMULATOR,)}
"""Every backend by name."""
