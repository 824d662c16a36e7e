"""How JSON documents differ: members by their path, ranges of values by the bounds of their JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .difference import Differences, differs, gone, kept
from .document import Member, SchemaExport
from .members import ROOT

_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_OWN = ("nullable", "closed", "enum", *_UPPER, *_LOWER)
"""Members of a form that are compared by meaning; any other difference is another type."""

Members = Mapping[str, Member]


def document_differences(old: SchemaExport, new: SchemaExport) -> Differences:
    """Yield how the documents differ."""
    for name in gone(old.documents, new.documents):
        yield differs("document-removed", f"documents.{name}")
    for name in gone(new.documents, old.documents):
        yield differs("document-added", f"documents.{name}")
    for name, before, after in kept(old.documents, new.documents):
        subject = f"documents.{name}"
        yield from _members(subject, before, after)
        for path, was, is_ in kept(before, after):
            yield from _member(_subject(subject, path), was, is_)


def _subject(document: str, path: str) -> str:
    return document + path.removeprefix(ROOT)


def _parent(path: str) -> str:
    for mark in ("[]", "{}"):
        if path.endswith(mark):
            return path.removesuffix(mark)
    return path.rpartition(".")[0]


def _members(subject: str, before: Members, after: Members) -> Differences:
    """Yield members that only one has; what is inside a new member is not told again."""
    for path, member in gone(before, after).items():
        if _parent(path) in after and _named(path):
            kind = "demanded-member-removed" if member.required else "member-removed"
            yield differs(kind, _subject(subject, path), member.form, "none")
    for path, member in gone(after, before).items():
        if _parent(path) in before and _named(path):
            yield differs(_added_kind(before[_parent(path)], member), _subject(subject, path), "none", member.form)


def _named(path: str) -> bool:
    """Return whether the path is that of a named member; elements come and go with the type of their array."""
    return not path.endswith(("[]", "{}"))


def _added_kind(parent: Member, member: Member) -> str:
    if member.required:
        return "demanded-member-added"
    return "member-added" if parent.form.get("closed", False) else "member-added-to-open-document"


def _member(subject: str, was: Member, is_: Member) -> Differences:
    if was.required != is_.required:
        yield differs("member-made-required" if is_.required else "member-made-optional", subject)
    old, new = _normal(was.form), _normal(is_.form)
    if bool(old.get("nullable")) != bool(new.get("nullable")):
        yield differs("member-null-allowed" if new.get("nullable") else "member-null-refused", subject)
    if old.get("closed") != new.get("closed") and "closed" in old and "closed" in new:
        yield differs("document-closed" if new["closed"] else "document-opened", subject)
    if _rest(old) != _rest(new):
        yield differs("member-type-changed", subject, was.form, is_.form)
        return
    widened, narrowed = _ranges(old, new)
    if widened:
        yield differs("member-range-widened", subject, was.form, is_.form)
    if narrowed:
        yield differs("member-range-narrowed", subject, was.form, is_.form)


def _normal(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return a form in which one allowed value is a list of allowed values."""
    found = dict(form)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    return found


def _rest(form: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in form.items() if key not in _OWN}


def _ranges(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether NEW takes values that OLD refuses, and the other way round."""
    widened = narrowed = False
    for keys, sign in ((_UPPER, 1), (_LOWER, -1)):
        for key in keys:
            was, is_ = _bound(old.get(key)), _bound(new.get(key))
            if was == is_:
                continue
            wider = is_ is None or (was is not None and (is_ - was) * sign > 0)
            widened, narrowed = widened or wider, narrowed or not wider
    were, are = old.get("enum"), new.get("enum")
    if were != are:
        some, others = _choices(were), _choices(are)
        widened = widened or others is None or (some is not None and bool(others - some))
        narrowed = narrowed or some is None or (others is not None and bool(some - others))
    return widened, narrowed


def _bound(value: Any) -> int | None:
    """Return a bound as a number; large ones are "0x…" strings."""
    if isinstance(value, int):
        return value
    try:
        return None if value is None else int(str(value)[:40], 0)
    except ValueError:
        return None


def _choices(value: Any) -> frozenset[str] | None:
    return frozenset(map(str, value)) if isinstance(value, list) else None
