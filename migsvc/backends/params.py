"""Checks of what crosses a worker's socket: kinds, bounds, and no unknown names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from migsvc.errors import InputError

REQUIRED = object()
"""Default of a parameter that must be given."""

MAX_U64 = (1 << 64) - 1


class Param(NamedTuple):
    """One parameter: its kind, its default, the bounds of a number or of a length, and the words it may be."""

    name: str
    kind: type[Any]
    default: Any = REQUIRED
    least: int = 0
    most: int = MAX_U64
    choices: Collection[str] = ()


def check_params(where: str, params: Sequence[Param], raw: object) -> dict[str, Any]:
    """Return every parameter, defaults filled in.

    Raises:
        InputError: it is no map, or values are missing, unknown, of another kind or out of bounds; all are named.
    """
    if not isinstance(raw, Mapping):
        raise InputError(f"{where}: the parameters must be a map, not {type(raw).__name__}")
    names = {param.name for param in params}
    problems = [f"unknown parameter {str(name)[:64]!r}" for name in raw if name not in names]
    values: dict[str, Any] = {}
    for param in params:
        value = raw.get(param.name, param.default)
        if value is REQUIRED:
            problems.append(f"{param.name} is missing")
        elif value is not param.default and (problem := _problem(param, value)):
            problems.append(f"{param.name} {problem}")
        values[param.name] = value
    if problems:
        raise InputError(f"{where}: {'; '.join(problems[:16])}")
    return values


def _problem(param: Param, value: Any) -> str | None:
    """Return what is wrong with a value, None if nothing is."""
    if not isinstance(value, param.kind) or (param.kind is int and isinstance(value, bool)):
        return f"must be {param.kind.__name__}, not {type(value).__name__}"
    if param.choices and value not in param.choices:
        return f"must be one of {', '.join(param.choices)}"
    if param.kind is bool:
        return None
    size = value if param.kind is int else len(value)
    if not param.least <= size <= param.most:
        what = "" if param.kind is int else "of length "
        return f"must be {what}{param.least} to {param.most}, not {size}"
    return None
