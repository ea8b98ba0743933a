"""Data by the name of a function: ``package.module:factory``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from landscape.errors import DataError, UsageError


def from_factory(name: str, given: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    """Call the factory ``name`` and return its batches as they are.

    ``given`` holds what the user asked for: whatever isn't None must be a parameter of the
    factory, since ignoring it would answer another question. ``offered`` is passed where there
    is a parameter of that name.
    """
    factory = _find(name)
    asked = {key: value for key, value in given.items() if value is not None}
    parameters = _parameters(name, factory)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {
        key
        for key, p in parameters.items()
        if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    if refused := [key for key in asked if key not in named and not anything]:
        raise UsageError(
            f"{name} takes no {' and no '.join(refused)}: add the parameter, or don't pass it."
        )
    available = {**offered, **given}
    arguments = {key: available[key] for key in available if key in named or anything}
    # None is a default: leave the factory its own where it has one.
    for key in [key for key, value in arguments.items() if value is None]:
        if key not in named or parameters[key].default is not inspect.Parameter.empty:
            del arguments[key]
    needed = [
        key
        for key, p in parameters.items()
        if p.default is inspect.Parameter.empty
        and p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and key not in arguments
    ]
    if needed:
        raise UsageError(
            f"{name} needs {', '.join(needed)}: a data factory is called with split, data_dir, "
            f"n_examples and seed only. Give the others a default."
        )
    return _reiterable(name, factory(**arguments))


def _find(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"'{name}' is not package.module:factory.")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the module asked for; a missing import inside it is the user's own traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"no module '{error.name}' for '{name}': is it installed, or its folder on PYTHONPATH?"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module '{module_name}' has no '{attribute}'.")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{name} is a {type(found).__name__}, not a function that returns batches."
        )
    return found


def _parameters(name: str, factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} has no readable signature: wrap it in a Python function."
        ) from error


def _reiterable(name: str, batches: Any) -> Any:
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise DataError(
            f"{name} returned a {type(batches).__name__}: expected a re-iterable of (x, y) "
            f"batches, such as a DataLoader or a list."
        )
    if hasattr(batches, "__next__"):
        raise DataError(
            f"{name} returned a one-shot {type(batches).__name__}, which is empty on the second "
            f"pass: return a list of batches or a DataLoader."
        )
    return batches
