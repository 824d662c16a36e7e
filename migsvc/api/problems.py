"""The catalogue of problem types: what each `type` URI means."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from migsvc.api.docs import errors_of, example
from migsvc.api.errors import BY_SLUG, PROBLEMS, ApiProblem, ProblemType
from migsvc.api.strict_json import StrictRoute

router = APIRouter(prefix="/problems", tags=["problems"], route_class=StrictRoute)


class ProblemPage(BaseModel):
    """One kind of problem."""

    type: str
    status: int
    title: str
    description: str


def _page(row: ProblemType) -> ProblemPage:
    return ProblemPage(type=row.uri, status=row.status, title=row.title, description=row.description)


@router.get(
    "",
    operation_id="listProblems",
    summary="List every kind of problem",
    responses={**example(200, [_page(PROBLEMS[0]).model_dump()]), **errors_of()},
)
async def list_problems() -> list[ProblemPage]:
    """Return the whole catalogue; types are stable, texts are not."""
    return [_page(row) for row in PROBLEMS]


@router.get(
    "/{slug}",
    operation_id="getProblem",
    summary="Explain one kind of problem",
    responses={**example(200, _page(BY_SLUG["not-found"]).model_dump()), **errors_of("not-found", "invalid-request")},
)
async def get_problem(slug: str) -> ProblemPage:
    """Return the page that a problem document's `type` points to."""
    row = BY_SLUG.get(slug)
    if row is None:
        raise ApiProblem("not-found", f"there is no problem type {slug!r}", hint="GET /problems lists them")
    return _page(row)
