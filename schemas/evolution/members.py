"""JSON documents flattened: every member of a Pydantic model by its path, with the schema of its own form.

`vcpus[].cpuid` is the member `cpuid` of every element of `vcpus`; `machine{}` is every value of a map. References are
followed, so that renaming a model changes nothing; a struct is a leaf, it has an entry of its own in `structs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from .document import Member

ROOT = "$"
"""Path of the document itself."""

JSON_SAFE = 1 << 53
"""Numbers from here on are written as "0x…", because a JavaScript number loses bits above."""

_TEXTS = ("title", "description", "examples", "example", "default")
_REF = "#/$defs/"

Plain = Mapping[str, Any]


def members_of(model: type[BaseModel], structs: frozenset[str]) -> dict[str, Member]:
    """Return path -> member of a model's JSON form as it is read; `structs` are the names of leaves."""
    schema = model.model_json_schema(mode="validation")
    return dict(_walk(ROOT, schema, True, schema.get("$defs", {}), structs))


def _walk(
    path: str, schema: Plain, required: bool, defs: Plain, structs: frozenset[str]
) -> Iterator[tuple[str, Member]]:
    """Yield the member at `path` and those inside it."""
    schema, nullable = _without_null(schema)
    target = str(schema.get("$ref", "")).removeprefix(_REF)
    if target in structs:
        yield path, Member(required=required, form=_form({"struct": target}, nullable))
        return
    if target:
        schema = defs[target]
    properties = schema.get("properties")
    if properties is not None:
        closed = schema.get("additionalProperties") is False
        yield path, Member(required=required, form=_form({"type": "object", "closed": closed}, nullable))
        needed = schema.get("required", ())
        for name, inner in properties.items():
            yield from _walk(f"{path}.{name}", inner, name in needed, defs, structs)
        return
    yield path, Member(required=required, form=_form(_leaf(schema, defs), nullable))
    for mark, key in (("[]", "items"), ("{}", "additionalProperties")):
        if isinstance(schema.get(key), Mapping):
            yield from _walk(path + mark, schema[key], True, defs, structs)


def _without_null(schema: Plain) -> tuple[Plain, bool]:
    """Return the schema of the values other than null, and whether null is one."""
    choices = schema.get("anyOf")
    if choices is None:
        return schema, False
    others = [choice for choice in choices if choice.get("type") != "null"]
    if len(others) == len(choices):
        return schema, False
    return (others[0] if len(others) == 1 else {**schema, "anyOf": others}), True


def _leaf(schema: Plain, defs: Plain) -> dict[str, Any]:
    """Return a schema without texts, without what `_walk` follows, and with references to enums resolved."""
    return {
        key: _plain(value, defs)
        for key, value in schema.items()
        if key not in (*_TEXTS, "$defs", "items") and not (key == "additionalProperties" and isinstance(value, Mapping))
    }


def _plain(value: Any, defs: Plain) -> Any:
    if isinstance(value, Mapping):
        if "$ref" in value:
            return _plain(defs[str(value["$ref"]).removeprefix(_REF)], defs)
        return {key: _plain(inner, defs) for key, inner in value.items() if key not in _TEXTS}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= JSON_SAFE:
        return hex(value)
    return [_plain(inner, defs) for inner in value] if isinstance(value, list | tuple) else value


def _form(form: dict[str, Any], nullable: bool) -> dict[str, Any]:
    return {**form, "nullable": True} if nullable else form
