"""DECLARATIONS: changes between released versions that were made on purpose, and how state crosses them all the same.

`migsvc schema check` shows a declared change with its reason and does not count it against the verdict. A change that
is not compatible and has no row here fails the tests.
"""

from __future__ import annotations

from .document import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
