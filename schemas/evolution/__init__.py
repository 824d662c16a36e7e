"""Schema evolution: the whole layout as one document, and what a change of it breaks, by meaning.

`build_export` describes the schemas of this program; `load_export` reads a document that any version of it wrote;
`compare` says for every difference which ways stay open, with the reason. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import compare
    from .document import SchemaExport
    from .export import build_export
    from .kinds import KINDS, ChangeClass, Kind
    from .reading import EvolutionError, export_of, load_export
    from .report import Change, EvolutionReport

_HOMES = {
    "KINDS": "kinds",
    "Change": "report",
    "ChangeClass": "kinds",
    "EvolutionError": "reading",
    "EvolutionReport": "report",
    "Kind": "kinds",
    "SchemaExport": "document",
    "build_export": "export",
    "compare": "comparison",
    "export_of": "reading",
    "load_export": "reading",
}

__all__ = [
    "KINDS",
    "Change",
    "ChangeClass",
    "EvolutionError",
    "EvolutionReport",
    "Kind",
    "SchemaExport",
    "build_export",
    "compare",
    "export_of",
    "load_export",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: reading an export needs none of the tables behind `build_export`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
