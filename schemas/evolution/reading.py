"""Reading an export: input that may be hostile, so bounded first, then checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ..codec.text import TextBounds, loads
from ..errors import DecodeError, FieldError, Problem, SchemaError, problems_of
from .document import EXPORT_FORMAT, SchemaExport

BOUNDS = TextBounds(max_bytes=8 << 20, max_values=1 << 18, max_names=1 << 14)
"""An export is about 150 KB and 8000 values; the bounds keep a hostile file from being built."""

MAX_NESTING = 16
"""Containers in containers: an export has 9."""

MAX_PROBLEMS = 100
"""How many problems one refusal lists."""


class EvolutionError(SchemaError):
    """A document that is no schema export; `problems` lists every reason."""


def load_export(text: str | bytes) -> SchemaExport:
    """Return the export that a JSON text holds.

    Raises:
        EvolutionError: too large, not JSON, a key twice, not of this form, or the digest does not match.
    """
    try:
        plain = loads(text, BOUNDS)
    except DecodeError as error:
        raise EvolutionError(error.problems) from error
    return export_of(plain)


def export_of(plain: Any) -> SchemaExport:
    """Return the export that a decoded JSON value is.

    Raises:
        EvolutionError: it does not fit, or the digest does not match.
    """
    if _nests_deeper(plain, MAX_NESTING):
        raise _refused("export", f"nested deeper than {MAX_NESTING}")
    if isinstance(plain, dict) and plain.get("format") not in (EXPORT_FORMAT, None):
        raise _refused("format", f"{str(plain['format'])[:40]}, this program reads {EXPORT_FORMAT}", "use a newer one")
    try:
        found = SchemaExport.model_validate(plain)
    except ValidationError as error:
        raise EvolutionError(problems_of(error)[:MAX_PROBLEMS]) from error
    except FieldError as error:
        raise EvolutionError(error.problems) from error
    if dangling := list(_dangling(found)):
        raise EvolutionError(dangling[:MAX_PROBLEMS])
    wanted = found.computed_digest()
    if found.digest != wanted:
        hint = "it was edited by hand or damaged; export it again"
        raise _refused("digest", f"{found.digest} is not that of the contents, {wanted}", hint)
    return found


def _refused(where: str, message: str, hint: str = "") -> EvolutionError:
    return EvolutionError([Problem(where=where, message=message, hint=hint)])


def _dangling(export: SchemaExport) -> Iterator[Problem]:
    """Yield each name of a struct or a packed byte that the export does not hold: it could not be compared."""
    for name, section in export.sections.items():
        if section.struct not in export.structs:
            yield _no_struct(f"sections.{name}.struct", section.struct)
    known = export.structs.keys() | export.packed.keys()
    for name, struct in export.structs.items():
        if struct.tail is not None and struct.tail.of is not None and struct.tail.of not in known:
            yield _no_struct(f"structs.{name}.{struct.tail.name}.of", struct.tail.of)
        for field, row in struct.fields.items():
            for behind in (row.of, *row.arms.values()):
                if behind is not None and behind not in known:
                    yield _no_struct(f"structs.{name}.{field}", behind)


def _no_struct(where: str, name: str) -> Problem:
    return Problem(where=where, message=f"{name[:80]!r} is not among the structs")


def _nests_deeper(plain: Any, most: int) -> bool:
    """Return whether containers nest deeper than `most`, without recursion."""
    level: list[Any] = [plain]
    for _ in range(most + 1):
        containers = [value for value in level if isinstance(value, dict | list)]
        if not containers:
            return False
        level = [inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)]
    return True
