"""Strict JSON: RFC 8259 in UTF-8 with every name once, no floats, no NaN, and bounded size.

Python's decoder lets the last of two equal names win, reads NaN and Infinity, and builds whatever fits into memory; so
does Pydantic's. None of our documents holds a float: 64-bit values are "0x…" strings, all others whole numbers.
Requests and answers of the API hold a few (seconds): `TextBounds.fractions` takes finite ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, NamedTuple, NoReturn, TypeVar

from pydantic import BaseModel

from ..errors import MAX_NAME_CHARS, DecodeError, Problem, parse_as

__all__ = ["TextBounds", "decode_json", "loads"]

M = TypeVar("M", bound=BaseModel)


class TextBounds(NamedTuple):
    """How large a document may be: octets, values (counted by commas and brackets), names in one object.

    `fractions`: finite floats are numbers too.
    """

    max_bytes: int = 1 << 20
    max_values: int = 1 << 16
    max_names: int = 1024
    fractions: bool = False


class _Bad:
    """Stands where a value is that cannot be accepted, so that its path can be told."""

    def __init__(self, message: str) -> None:
        self.message = message


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decode_json(model: type[M], raw: bytes | str, bounds: TextBounds | None = None) -> M:
    """Return the document as a model.

    Raises:
        DecodeError: it is not JSON of the strict form.
        FieldError: it does not fit the model; the first problems are listed with their paths.
    """
    return parse_as(model, loads(raw, bounds))


def loads(raw: bytes | str, bounds: TextBounds | None = None) -> Any:
    """Return the value of a JSON document, read strictly, in bounded time and memory.

    Raises:
        DecodeError: malformed (with line and column), a name twice, a float, NaN, too large, too deep (with the path).
    """
    bounds = bounds or TextBounds()
    text = _checked_text(raw, bounds)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object_of(bounds.max_names),
            parse_constant=_refuse,
            parse_float=_finite if bounds.fractions else _refuse,
        )
    except json.JSONDecodeError as error:
        raise _error(f"line {error.lineno} column {error.colno}", f"not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _error("document", "nested too deeply") from error
    except ValueError as error:
        raise _explained(text, bounds, str(error)) from error
    if _SURROGATE.search(text):
        _require_unicode(value)
    return value


def _checked_text(raw: bytes | str, bounds: TextBounds) -> str:
    """Return the text if it is UTF-8 and cannot hold more than the bounds allow."""
    if len(raw) > bounds.max_bytes:
        raise _error("document", f"{len(raw)} octets, at most {bounds.max_bytes}")
    try:
        text = raw if isinstance(raw, str) else bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise _error(f"octet {error.start}", f"not UTF-8: {error.reason}") from error
    # Every value but the first of a container follows a comma, so this is never too low.
    values = 1 + text.count(",") + text.count("[") + text.count("{")
    if values > bounds.max_values:
        raise _error("document", f"{values} values, at most {bounds.max_values}")
    return text


def _error(where: str, message: str) -> DecodeError:
    return DecodeError([Problem(where=where, message=message)])


def _object_of(max_names: int) -> Any:
    """Return the hook that makes an object of its members."""

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name occurs twice")
        if len(made) > max_names:
            raise ValueError(f"{len(made)} names in one object, at most {max_names}")
        return made

    return make


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no whole number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # 1e999
        raise ValueError(f"{text[:40]} is too large")
    return number


def _explained(text: str, bounds: TextBounds, message: str) -> DecodeError:
    """Return the error that names the place of what a hook refused; decodes again, with stand-ins."""

    def mark_object(pairs: list[tuple[str, Any]]) -> Any:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            return _Bad(f"the name {twice[:MAX_NAME_CHARS]!r} occurs twice")
        return made if len(made) <= bounds.max_names else _Bad(f"{len(made)} names, at most {bounds.max_names}")

    def mark_number(number: str) -> Any:
        return _Bad(f"{number[:40]} is no whole number")

    def mark_fraction(number: str) -> Any:
        try:
            return _finite(number)
        except ValueError as error:
            return _Bad(str(error))

    def mark_integer(number: str) -> Any:
        try:
            return int(number)
        except ValueError:  # more digits than Python converts
            return _Bad(f"a number of {len(number)} digits")

    try:
        value = json.loads(
            text,
            object_pairs_hook=mark_object,
            parse_constant=mark_number,
            parse_float=mark_fraction if bounds.fractions else mark_number,
            parse_int=mark_integer,
        )
    except (ValueError, RecursionError) as error:  # worse follows what the first decoder stopped at
        return _error("document", f"{message}; then: {error}"[:200])
    return next((_error(where, bad.message) for where, bad in _bad(value)), _error("document", message))


def _walk(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value with its path, without recursion."""
    open_: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while open_:
        path, held = open_.pop()
        yield path, held
        items = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
        open_ += reversed([((*path, str(key)[:MAX_NAME_CHARS]), inner) for key, inner in items])


def _bad(value: Any) -> Iterator[tuple[str, _Bad]]:
    for path, held in _walk(value):
        if isinstance(held, _Bad):
            yield ".".join(path) or "document", held


def _require_unicode(value: Any) -> None:
    """Refuse strings with half a surrogate pair: nothing could write them down again."""
    for path, held in _walk(value):
        for text in (held,) if isinstance(held, str) else held if isinstance(held, dict) else ():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                place = ".".join(path).encode(errors="replace").decode() or "document"
                raise _error(place, "half a surrogate pair is no character") from error
