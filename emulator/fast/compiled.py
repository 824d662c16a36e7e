"""Loading the interpreter: its text goes into a cache folder, where numba keeps the machine code that it makes of it.

Nothing is executed that others could have written: the folder belongs to this user and nobody else may write there
(else a folder for this process alone is made), and the text that runs is the one generated here, not the file's.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from . import record
from .generate import CHECKED, COMPILED, INTERPRETED, Form, source

ARRAYS = (
    np.uint64, np.uint64, record.OP, np.int32, np.uint64, np.int64, np.uint8, np.uint64, np.int64, np.uint64, np.int64,
    np.uint64, np.uint64, np.uint64, np.int32,
)  # fmt: skip
"""Element types of the interpreter's parameters, in their order (see `generate`)."""
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
RAM, COUNTS = 6, (12, 13)
"""Number of the parameter that is guest RAM, and of those with two dimensions."""


class Run(NamedTuple):
    """The interpreter (see `generate` for its parameters) and whether it takes guest RAM by its address."""

    call: Callable[..., Any]
    by_address: bool


@cache
def cache_folder() -> Path:
    """Where generated code is kept: $XDG_CACHE_HOME/migsvc/fast, or a temporary folder where that is not safe."""
    base = os.environ.get("XDG_CACHE_HOME")
    wanted = (Path(base) if base else Path.home() / ".cache") / "migsvc" / "fast"
    try:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_private(wanted) and os.access(wanted, os.W_OK):
            return wanted
    except OSError:
        pass
    own = Path(tempfile.mkdtemp(prefix="migsvc-fast-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def is_private(folder: Path) -> bool:
    """Whether only this user can put anything into a folder, or put another one in its place."""
    for place in (folder, folder.parent):
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & WRITABLE_BY_OTHERS:
            return False
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: of several processes one compiles, the others then find the result."""
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _path_of(text: str) -> Path:
    return cache_folder() / f"migsvc_fast_{hashlib.sha256(text.encode()).hexdigest()[:16]}.py"


def _module(text: str) -> ModuleType:
    """A module of this text. Its file is there for numba, which keys its cache by the file's name, size and time."""
    path = _path_of(text)
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    if not path.exists() or path.read_bytes() != text.encode("ascii"):
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(text, encoding="ascii")
        fresh.replace(path)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module
    exec(compile(text, path, "exec"), module.__dict__)
    return module


def is_cached() -> bool:
    """Whether machine code of the present text is there, though perhaps for another processor."""
    path = _path_of(source(COMPILED))
    return any((path.parent / "__pycache__").glob(f"{path.stem}.run-*.nbi"))


@cache
def compiled(bounds_checks: bool = False) -> Run:
    """The interpreter compiled by numba; it releases the GIL. The first call on a machine takes seconds.

    Raises:
        ImportError: numba is not installed (`pip install migsvc[fast]`).
    """
    form = CHECKED if bounds_checks else COMPILED
    with _alone(cache_folder()):
        run = _run(form)
        _warm(run)
    return run


def interpreted() -> Run:
    """The same text as plain Python, slow: for tests."""
    plain = _run(INTERPRETED)

    def call(registers: Any, params: Any, ops: Any, *rest: Any) -> Any:
        with np.errstate(all="ignore"):  # numbers wrap around
            return plain.call(registers, params, _Records(ops), *rest)

    return Run(call, plain.by_address)


class _Records:
    """An array of records whose fields are attributes, as numba has them."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __getitem__(self, number: int) -> _Record:
        return _Record(self._array[number])


class _Record:
    """One of them."""

    __slots__ = ("_row",)

    def __init__(self, row: Any) -> None:
        object.__setattr__(self, "_row", row)

    def __getattr__(self, name: str) -> Any:
        return self._row[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._row[name] = value


def _run(form: Form) -> Run:
    return Run(_module(source(form)).run, form.by_address)


def _warm(run: Run) -> None:
    """Run no instruction at all: numba compiles at the first call."""
    arguments: list[Any] = [np.zeros(record.REGISTERS, of) for of in ARRAYS]
    for number in COUNTS:
        arguments[number] = np.zeros((6, 4), ARRAYS[number])
    if run.by_address:
        arguments[RAM] = np.uint64(0)
    run.call(*arguments)
