"""EvolutionReport: every change between two schema versions, what it means, and the verdict for a CI job."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import Model
from .document import SchemaExport
from .kinds import ChangeClass, Kind

_WORST_FIRST = (
    ChangeClass.BREAKING,
    ChangeClass.BACKWARD_ONLY,
    ChangeClass.FORWARD_ONLY,
    ChangeClass.COMPATIBLE,
)


class Change(Model):
    """One change: `subject` is its path in the export, `surfaces` the classes of those surfaces that it touches."""

    id: str
    kind: str
    subject: str
    change_class: ChangeClass
    surfaces: dict[str, ChangeClass]
    old: str = ""
    new: str = ""
    reason: str
    declared: str | None = None
    """Why the change was made all the same and how state crosses it; None: nobody declared it."""

    @classmethod
    def of(cls, kind: Kind, subject: str, old: str, new: str, declared: str | None) -> Change:
        """Return a change of a kind."""
        named = {"stream": kind.stream, "documents": kind.documents, "conversation": kind.conversation}
        return cls(
            id=kind.id,
            kind=kind.name,
            subject=subject,
            change_class=kind.change_class,
            surfaces={name: held for name, held in named.items() if held is not ChangeClass.COMPATIBLE},
            old=old,
            new=new,
            reason=kind.reason,
            declared=declared,
        )


class ExportRef(Model):
    """Which export was compared."""

    schema_version: int
    digest: str


class EvolutionReport(Model):
    """The verdict on two exports and all changes, the worst first.

    `forward`: NEW reads everything that OLD wrote. `backward`: OLD reads everything that NEW writes. Both and the
    verdict leave out declared changes unless `strict`.
    """

    old: ExportRef
    new: ExportRef
    verdict: ChangeClass
    forward: bool
    backward: bool
    strict: bool
    version_needed: bool
    """Something is not compatible although both exports have the same schema version: the version has to be raised."""
    counts: dict[ChangeClass, int]
    changes: tuple[Change, ...]

    @classmethod
    def of(
        cls, old: SchemaExport, new: SchemaExport, changes: Iterable[Change], *, strict: bool = False
    ) -> EvolutionReport:
        """Return the report on these changes."""
        listed = sorted(changes, key=lambda c: (_WORST_FIRST.index(c.change_class), c.id, c.subject))
        verdict = everything = ChangeClass.COMPATIBLE
        for change in listed:
            everything &= change.change_class
            if strict or change.declared is None:
                verdict &= change.change_class
        return cls(
            old=ExportRef(schema_version=old.schema_version, digest=old.digest),
            new=ExportRef(schema_version=new.schema_version, digest=new.digest),
            verdict=verdict,
            forward=verdict.forward,
            backward=verdict.backward,
            strict=strict,
            version_needed=everything is not ChangeClass.COMPATIBLE and old.schema_version == new.schema_version,
            counts={each: sum(c.change_class is each for c in listed) for each in _WORST_FIRST},
            changes=tuple(listed),
        )
