"""Architectures that are not ours: ``torchvision:NAME`` and ``package.module:factory``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from landscape.errors import UsageError, unknown
from landscape.models.common import Shape


def torchvision_model(
    name: str, in_shape: Shape, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """A classification network of torchvision without weights; one forward pass checks it."""
    from torchvision import models  # here, because the import takes a second

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise UsageError(f"torchvision:{name} refuses its options: {error}.") from error
    _check_forward(f"torchvision:{name}", model, in_shape, num_classes)
    return model


def _check_forward(name: str, model: nn.Module, in_shape: Shape, num_classes: int) -> None:
    # torchvision doesn't say which input sizes its networks take, so ask the network itself.
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, *in_shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"{name} can't take an input of shape {in_shape}; most torchvision networks need 3 "
            f"channels and 224×224 pixels. It says: {error}"
        ) from error
    finally:
        model.train()
    if logits.shape != (1, num_classes):
        raise UsageError(
            f"{name} gives an output of shape {tuple(logits.shape)} for one image: expected "
            f"(1, {num_classes})."
        )


def imported_model(
    name: str, in_shape: Shape, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """What ``factory`` of ``package.module:factory`` returns.

    It is given ``in_shape`` and ``num_classes`` if it has parameters of these names, and every
    option.
    """
    factory = _import(name)
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError as error:
        message = f"model '{name}': its arguments can't be read; wrap it in a function."
        raise UsageError(message) from error
    ours = {"in_shape": in_shape, "num_classes": num_classes}
    named = {key: p for key, p in parameters.items() if p.kind in _BY_NAME}
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in named and not anything:
            accepted = ", ".join(sorted(set(named) - set(ours))) or "none"
            raise UsageError(f"model '{name}' takes no option '{option}'. It takes: {accepted}.")
    arguments = {key: value for key, value in ours.items() if key in named} | dict(options)
    missing = [
        key
        for key, p in parameters.items()
        if p.default is p.empty and p.kind not in _VARIADIC and key not in arguments
    ]
    if missing:
        raise UsageError(
            f"model '{name}' needs {', '.join(missing)}: a factory is called with in_shape, "
            "num_classes and the options given; wrap it in a function that needs nothing else."
        )
    model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model '{name}' returned {type(model).__name__}: expected an nn.Module.")
    return model


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _import(name: str) -> Callable[..., Any]:
    path, _, attribute = name.partition(":")
    if not path or not attribute:
        raise UsageError(f"model '{name}': expected package.module:factory.")
    try:
        factory: Any = importlib.import_module(path)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except ImportError as error:
        raise UsageError(f"model '{name}': can't import {path}: {error}.") from error
    except AttributeError as error:
        raise UsageError(f"model '{name}': {error}.") from error
    if not callable(factory):
        raise UsageError(f"model '{name}' is {type(factory).__name__}: expected a function.")
    return factory
