"""`Model`: the base of all models here, made so that a class costs little until somebody validates or describes it.

Importing the schemas defines a hundred models of which a process uses a few. So validators are built at first use
(`defer_build`), and the docstrings behind attributes are read from the source when a JSON schema is asked for, not when
the class is made, as Pydantic's `use_attribute_docstrings` does.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Model", "attribute_docs"]


class Model(BaseModel):
    """A frozen model without unknown fields; a string literal behind an attribute describes it in JSON schemas."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, ser_json_bytes="hex")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema with the attributes' docstrings as descriptions."""
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, text in attribute_docs(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return made


def attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return field name -> the string literal that follows it in the source, inherited fields included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__ != BaseModel.__module__ and issubclass(base, BaseModel):
            found |= _docs_of_module(base.__module__).get(base.__qualname__, {})
    return found


@lru_cache(maxsize=256)
def _docs_of_module(name: str) -> dict[str, dict[str, str]]:
    """Return qualified class name -> attribute -> docstring; empty where there is no source to read."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError, KeyError):
        return {}
    return {qualname: dict(_documented(node)) for qualname, node in _classes(tree, "")}


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _classes(child, f"{prefix}{child.name}.")


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            yield field.target.id, inspect.cleandoc(after.value.value)
