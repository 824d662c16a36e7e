"""Loading the interpreter: generated once into a cache folder, compiled by numba, which keeps its machine code there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .generate import CHECKED, COMPILED, INTERPRETED, Form, source

class Run(NamedTuple):
    """The interpreter (see `generate` for its parameters) and whether it takes guest RAM by its address."""

    call: Callable[..., Any]
    by_address: bool



def cache_folder() -> Path:
    """Where generated code is kept: $XDG_CACHE_HOME/migsvc, or a folder for temporary files if that is not writable."""
    base = os.environ.get("XDG_CACHE_HOME")
    wanted = (Path(base) if base else Path.home() / ".cache") / "migsvc" / "fast"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            return wanted
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="migsvc-fast-"))


def _module(text: str) -> Any:
    name = f"migsvc_fast_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(text, encoding="ascii")
        fresh.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@cache
def compiled(bounds_checks: bool = False) -> Run:
    """The interpreter compiled by numba; it releases the GIL. The first call on a machine takes seconds, later ones not.

    Raises:
        ImportError: numba is not installed (`pip install migsvc[fast]`).
    """
    return _run(CHECKED if bounds_checks else COMPILED)


def interpreted() -> Run:
    """The same text as plain Python, slow: for tests."""
    return _run(INTERPRETED)


def _run(form: Form) -> Run:
    return Run(_module(source(form)).run, form.by_address)
