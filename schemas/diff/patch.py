"""The difference of two states as JSON Patch: applied to the old document it gives the new one.

Source: RFC 6902; JSON Pointer: RFC 6901.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ..paths import Parts
from ..state import MachineState, VcpuState
from .ignore import Ignore

Operation = dict[str, Any]

S = TypeVar("S", VcpuState, MachineState)


def json_patch(old: S, new: S, *, ignore: Iterable[str] = ()) -> list[Operation]:
    """Return the operations that turn the JSON document of `old` into that of `new`.

    A place that is ignored keeps the old value. The values of a list of MSRs or CPUID leaves are replaced one by one
    if both lists name the same ones in the same order, otherwise the list as a whole.

    Raises:
        FieldError: something in `ignore` is no pattern.
    """
    return list(_values((), old.model_dump(mode="json"), new.model_dump(mode="json"), Ignore(ignore), ()))


def pointer(keys: Iterable[str | int]) -> str:
    """Return a JSON Pointer."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _values(keys: Parts, old: Any, new: Any, ignore: Ignore, place: Parts) -> Iterator[Operation]:
    """Yield what turns `old` into `new`; `keys` is where it stands in the document, `place` its path in the state."""
    if old == new or (place and ignore.covers(place)):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _members(keys, old, new, ignore, place)
    elif isinstance(old, list) and isinstance(new, list) and _alike(old, new, keys):
        yield from _elements(keys, old, new, ignore, place)
    else:
        yield {"op": "replace", "path": pointer(keys), "value": new}


def _members(keys: Parts, old: Any, new: Any, ignore: Ignore, place: Parts) -> Iterator[Operation]:
    for name in old:
        if name in new:
            yield from _values((*keys, name), old[name], new[name], ignore, (*place, name))
        elif not ignore.covers((*place, name)):
            yield {"op": "remove", "path": pointer((*keys, name))}
    for name in new:
        if name not in old and not ignore.covers((*place, name)):
            yield {"op": "add", "path": pointer((*keys, name)), "value": new[name]}


def _elements(keys: Parts, old: list[Any], new: list[Any], ignore: Ignore, place: Parts) -> Iterator[Operation]:
    for n, (before, after) in enumerate(zip(old, new, strict=False)):
        yield from _values((*keys, n), before, after, ignore, _named(place, n, before))
    for n in range(len(old) - 1, len(new) - 1, -1):
        if not ignore.covers((*place, n)):
            yield {"op": "remove", "path": pointer((*keys, n))}
    for n in range(len(old), len(new)):
        if not ignore.covers((*place, n)):
            yield {"op": "add", "path": pointer((*keys, n)), "value": new[n]}


IDENTITIES: dict[str, tuple[str, ...]] = {"msrs": ("index",), "cpuid2": ("function", "index")}
"""Lists named `entries` of these sections -> the members that say what an entry is of."""


def _alike(old: list[Any], new: list[Any], keys: Parts) -> bool:
    """Return whether two lists may be compared element by element."""
    identity = IDENTITIES.get(str(keys[-2])) if len(keys) > 1 and keys[-1] == "entries" else None
    if identity is None:
        return True
    return [[e[name] for name in identity] for e in old] == [[e[name] for name in identity] for e in new]


def _named(place: Parts, n: int, entry: Any) -> Parts:
    """Return the path of an element: an MSR's or a CPUID leaf's own, for others by number."""
    identity = IDENTITIES.get(str(place[-2])) if len(place) > 1 and place[-1] == "entries" else None
    return (*place[:-1], *(entry[name] for name in identity)) if identity else (*place, n)
