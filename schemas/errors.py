"""What is wrong with a piece of state, and the exceptions that carry it.

SchemaError(problems)          bytes or values that no struct can hold, sections that are unknown or missing
├── LayoutError                the bytes have the wrong length, or a struct was declared with the wrong size
├── FieldError                 a value does not fit its field
├── DecodeError                a document is no JSON or MessagePack that we read: malformed, a name twice, too large
└── InvariantError(findings)   the values fit, but the state is illegal by a rule of `schemas.invariants`

Every exception lists all problems, never only the first: whoever repairs a state wants the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .model import Model

M = TypeVar("M", bound=BaseModel)


class Problem(Model):
    """One thing that is wrong: where, what, and what to do about it."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Illegal or impossible: the state is refused."""
    WARNING = "warning"
    """Legal on some hosts or for some vendor only; accepted, shown."""
    NOTE = "note"
    """Worth knowing; nothing is lost."""


class Finding(Problem):
    """A problem found by a rule with an id: an invariant (INV-…) or a compatibility rule (CMP-…)."""

    rule: str
    severity: Severity
    source: str = ""

    def __str__(self) -> str:
        """Return one line for people, the rule's id first."""
        return f"{self.rule} {self.severity}: {super().__str__()}"


class SchemaError(ValueError):
    """State that the schemas refuse; `problems` lists every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in the order in which they were found."""
        self.problems: list[Problem] = list(problems)
        super().__init__("; ".join(map(str, self.problems)))


class LayoutError(SchemaError):
    """Bytes of the wrong length for a struct, or a struct whose declaration contradicts its size."""


class FieldError(SchemaError):
    """A value that its field cannot hold."""


class DecodeError(SchemaError):
    """A document that is malformed, ambiguous or beyond the bounds, whatever it was going to say."""


class InvariantError(SchemaError):
    """A state whose every field is in range and which is illegal all the same; `findings` lists the rules it breaks."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        """Keep the findings; they are the problems too."""
        self.findings: list[Finding] = list(findings)
        super().__init__(self.findings)


MAX_PROBLEMS = 200
"""Problems listed of one document: a hostile one of 1 MiB could cause hundreds of thousands."""

MAX_NAME_CHARS = 64
"""Characters of a name in a path: a hostile one may be as long as the document."""


def problems_of(error: ValidationError) -> list[Problem]:
    """Return Pydantic's errors as problems, `where` being the dotted name of the field; at most `MAX_PROBLEMS`.

    Pydantic raises `ValidationError` for JSON that does not fit; this gives the same form as all our own errors.
    """
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    found = []
    for entry in entries[:MAX_PROBLEMS]:
        where = ".".join(str(part)[:MAX_NAME_CHARS] for part in entry["loc"])
        found.append(Problem(where=where or error.title, message=entry["msg"].removeprefix("Value error, ")))
    if len(entries) > MAX_PROBLEMS:
        found.append(Problem(where=error.title, message=f"{len(entries) - MAX_PROBLEMS} more problems"))
    return found


def parse_as(model: type[M], data: Any) -> M:
    """Return untrusted `data` (decoded JSON or MessagePack, or JSON text) as a model.

    Raises:
        FieldError: it does not fit; every problem is listed.
    """
    try:
        return model.model_validate_json(data) if isinstance(data, str | bytes) else model.model_validate(data)
    except ValidationError as error:
        raise FieldError(problems_of(error)) from error
