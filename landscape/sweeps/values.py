"""Values as a TOML file has them, and as functions take them."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from landscape.errors import UsageError

_FRACTION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*/\s*(\d+\.?\d*|\.\d+)\s*")


def parsed(value: Any) -> Any:
    """Fractions in quotes as numbers, lists as tuples; all else as it is.

    >>> parsed({"eps": "51/255", "milestones": [10, 20], "model": "lenet"})
    {'eps': 0.2, 'milestones': (10, 20), 'model': 'lenet'}
    """
    if isinstance(value, Mapping):
        return {name: parsed(v) for name, v in value.items()}
    if isinstance(value, list):
        return tuple(parsed(v) for v in value)
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if not float(match[2]):
        raise UsageError(f"'{value}' divides by zero.")
    return float(match[1]) / float(match[2])


def written(value: Any) -> str:
    """A value as text, for tables and names.

    >>> [written(v) for v in ("2/255", 0.1, True, [1, 2])]
    ['2/255', '0.1', 'true', '[1, 2]']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.12g}"
    return json.dumps(value, default=str)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables in tables by dotted names.

    >>> flat({"lr": 0.1, "awp": {"gamma": 0.01}})
    {'lr': 0.1, 'awp.gamma': 0.01}
    """
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def nested(table: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``flat``."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        *parts, last = name.split(".")
        at = found
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = value
    return found


class NoMatchError(Exception):
    """A value is not of the type; the message is what was wanted."""


def fitted(value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint`` wants it; a table for a dataclass, a list for a sequence.

    Raises ``NoMatchError`` with the words for what was wanted.
    """
    origin, arms = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        wanted = []
        for arm in arms:
            if arm is type(None) or not takes(arm):
                continue
            try:
                return fitted(value, arm)
            except NoMatchError as error:
                wanted.append(str(error))
        raise NoMatchError(" or ".join(wanted))
    if origin is not None and issubclass(origin, Sequence):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise NoMatchError(f"a list, each {_words(arms[0])}")
        return tuple(fitted(item, arms[0]) for item in value)
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, hint)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    raise NoMatchError(_words(hint))


def takes(hint: Any) -> bool:
    """Whether a TOML value can stand for the type."""
    origin, arms = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(takes(arm) for arm in arms if arm is not type(None))
    if origin is not None:
        return (
            isinstance(origin, type)
            and issubclass(origin, Sequence)
            and arms[0] in (int, float, str)
        )
    if dataclasses.is_dataclass(hint):
        return all(f.type in ("int", "float", "str") for f in dataclasses.fields(hint))
    return hint in (bool, int, float, str)


def _dataclass(value: Any, kind: Any) -> Any:
    names = [f.name for f in dataclasses.fields(kind)]
    if not isinstance(value, Mapping):
        raise NoMatchError("a table such as {" + ", ".join(f"{n} = …" for n in names) + "}")
    for name in value:
        if name not in names:
            raise NoMatchError(f"a table of {', '.join(names)}")
    hints = typing.get_type_hints(kind)
    given = {}
    for name, item in value.items():
        try:
            given[name] = fitted(item, hints[name])
        except NoMatchError as error:
            raise NoMatchError(f"a table whose {name} is {error}") from error
    try:
        return kind(**given)
    except UsageError as error:
        raise NoMatchError(f"a table that makes sense: {str(error).rstrip('.')}") from error


def _words(hint: Any) -> str:
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text in quotes",
    }[hint]
