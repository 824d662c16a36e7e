"""Shapes: whether two structs are the same but for the names of their classes."""

from __future__ import annotations

import hashlib

from .document import FieldExport, SchemaExport

MAX_NESTING = 16
"""Structs nest four deep at most; an export that claims more, or a circle, is told by its names from here on."""


class Shapes:
    """Digests of the structs of one export: everything that bytes and documents show, class names left out.

    Digests and not the shapes themselves: a hostile export can nest a few structs into an exponential tree.
    """

    def __init__(self, export: SchemaExport) -> None:
        """Digest nothing yet."""
        self._export = export
        self._known: dict[str, str] = {}

    def of(self, name: str, depth: int = 0) -> str:
        """Return the digest of a struct or a packed byte."""
        if name not in self._known:
            self._known[name] = self._digest(name, depth)
        return self._known[name]

    def behind(self, row: FieldExport, depth: int = 0) -> str:
        """Return what stands behind a member: its C type, or the digest of its struct or of every arm."""
        if row.arms:
            return repr((row.by, [(value, self.of(arm, depth + 1)) for value, arm in sorted(row.arms.items())]))
        return row.type if row.of is None else self.of(row.of, depth + 1)

    def _digest(self, name: str, depth: int) -> str:
        parts = self._export.packed.get(name)
        struct = self._export.structs.get(name)
        if parts is not None:
            shape = repr([(part, bits.mask, bits.max) for part, bits in sorted(parts.items())])
        elif struct is None or depth > MAX_NESTING:
            return name
        else:
            rows = [
                (field, row.offset, row.size, row.length, row.optional, self.behind(row, depth))
                for field, row in sorted(struct.fields.items())
            ]
            tail = struct.tail
            element = "" if tail is None or tail.of is None else self.of(tail.of, depth + 1)
            flexible = None if tail is None else (tail.name, tail.element_bytes, tail.max_entries, tail.counter)
            shape = repr((struct.size, rows, flexible, element))
        return hashlib.sha256(shape.encode()).hexdigest()
