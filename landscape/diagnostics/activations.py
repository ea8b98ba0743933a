"""Sees what the activations of a network return, whatever way they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

# ATen names; a trailing underscore (in place) is left out.
# fmt: off
ACTIVATIONS = frozenset([
    "_prelu_kernel", "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "mish", "prelu", "relu", "rrelu_with_noise", "sigmoid", "silu", "softplus", "tanh", "threshold",
])
# fmt: on


@dataclass(frozen=True)
class Call:
    """One activation as it was called: where, what, after which layer; the axis of its units."""

    name: str
    operation: str
    follows: str
    axis: int


Visit = Callable[[Call, Tensor], None]


@contextmanager
def watched(model: nn.Module, visit: Visit) -> Iterator[None]:
    """``visit(call, output)`` for every activation that runs inside, in order.

    Activations are caught where torch dispatches them, so modules, functions and methods are seen
    alike, also in place, and one module called twice is two calls. Names come from hooks that are
    torch's global ones, on no module of the model, and are removed afterwards.
    """
    watch = _Watch(model, visit)
    handles = [
        hooks.register_module_forward_pre_hook(watch.enter),
        hooks.register_module_forward_hook(watch.leave),
    ]
    try:
        with watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchDispatchMode):
    def __init__(self, model: nn.Module, visit: Visit) -> None:
        super().__init__()
        self._visit = visit
        self._names: dict[int, str] = {id(m): name for name, m in model.named_modules()}
        self._inside: list[nn.Module] = []
        self._layer: nn.Module | None = None  # the last one with parameters of its own
        self._counts: dict[str, int] = {}

    def enter(self, module: nn.Module, _: Any) -> None:
        if id(module) in self._names:
            self._inside.append(module)
            if next(module.parameters(recurse=False), None) is not None:
                self._layer = module

    def leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if id(module) in self._names:
            self._inside.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ACTIVATIONS or _is_relu(name, args, kwargs or {}):
            self._visit(self._call(name), output)
        return output

    def _call(self, operation: str) -> Call:
        where = self._inside[-1] if self._inside else None
        name = self._names[id(where)] if where is not None else ""
        if where is None or next(where.children(), None) is not None or where is self._layer:
            name = f"{name}.{operation}".lstrip(".")  # a function, not a module of its own
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._counts[name] > 1:
            name = f"{name} ({self._counts[name]})"
        layer = self._layer
        features_last = isinstance(layer, nn.Linear | nn.LayerNorm)
        return Call(
            name or operation,
            operation,
            self._names[id(layer)] if layer is not None else "",
            -1 if features_last else 1,
        )


def _is_relu(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """x.clamp(min=0), with or without an upper limit."""
    if name not in ("clamp", "clamp_min"):
        return False
    least = args[1] if len(args) > 1 else kwargs.get("min")
    return not torch.is_tensor(least) and least == 0
