"""Slopes of the nonlinear operations of a network, by their ATen names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Operations that act on every entry alone: an interval (low, high) that holds every secant slope
# (f(a) − f(b)) / (a − b). Numbers found numerically are rounded outwards.
Interval = tuple[float, float]

_FIXED: dict[str, Interval] = {
    "abs": (-1.0, 1.0),
    "atan": (0.0, 1.0),
    "celu": (0.0, 1.0),
    "clamp": (0.0, 1.0),
    "clamp_max": (0.0, 1.0),
    "clamp_min": (0.0, 1.0),
    "cos": (-1.0, 1.0),
    "erf": (0.0, 2 / math.sqrt(math.pi)),
    "hardsigmoid": (0.0, 0.1666667),  # torch has 1/6 in float32
    "hardswish": (-0.5, 1.5),
    "hardtanh": (0.0, 1.0),
    "log_sigmoid_forward": (0.0, 1.0),
    "mish": (-0.112527, 1.088499),
    "relu": (0.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "silu": (-0.0998394, 1.0998394),
    "sin": (-1.0, 1.0),
    "tanh": (0.0, 1.0),
}


def _elu(_: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Interval:
    return _hull(0.0, scale, scale * alpha * input_scale)


def _gelu(_: Any, approximate: str = "none") -> Interval:
    return (-0.128905, 1.128905) if approximate == "none" else (-0.128994, 1.128994)


def _leaky(_: Any, slope: float = 0.01) -> Interval:
    return _hull(1.0, slope)


def _prelu(_: Any, slope: Tensor) -> Interval:
    return _hull(1.0, float(slope.min()), float(slope.max()))


def _softplus(_: Any, beta: float = 1.0, threshold: float = 20.0) -> Interval | None:
    # Beyond the threshold torch goes on with x itself: a jump of log(1 + exp(-threshold)) / beta.
    return (0.0, 1.0) if beta > 0 and threshold >= 15 else None


def _threshold(_: Any, at: float, value: float) -> Interval | None:
    return (0.0, 1.0) if at == value else None  # else it jumps


def _hull(*slopes: float) -> Interval:
    return min(slopes), max(slopes)


_BY_ARGUMENTS: dict[str, Callable[..., Interval | None]] = {
    "elu": _elu,
    "gelu": _gelu,
    "leaky_relu": _leaky,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "softplus": _softplus,
    "threshold": _threshold,
}


def elementwise(name: str, arguments: Sequence[Any], options: dict[str, Any]) -> Interval | None:
    """The slopes of an operation on every entry; None for any other operation."""
    if name in _FIXED:
        return _FIXED[name]
    rule = _BY_ARGUMENTS.get(name)
    return rule(*arguments, **options) if rule else None


def joint(
    name: str, arguments: Sequence[Any], inputs: torch.Size, outputs: torch.Size
) -> float | None:
    """A bound of the slope, ‖f(a) − f(b)‖₂ ≤ slope · ‖a − b‖₂, of pooling and softmax.

    The maxima of windows differ at most by the largest difference inside, and an entry is in at
    most m windows: √m, which is 1 only if windows don't overlap. Softmax: its Jacobian
    diag p − ppᵀ has norm at most 1/2; log-softmax: I − 1pᵀ, √K at a corner.
    """
    if name in ("amax", "amin", "max", "min"):
        return 1.0  # every entry is in one maximum
    if name in ("softmax", "_softmax"):
        return 0.5
    if name in ("log_softmax", "_log_softmax"):
        return math.sqrt(inputs[arguments[1]])
    if name.startswith("max_pool") and name.endswith("with_indices"):
        dims = int(name[len("max_pool")])
        kernel, stride, padding, dilation = (
            _each(a, dims) for a in _pooling_arguments(list(arguments[1:5]))
        )
        stride = stride or kernel
        counts = [
            overlap(inputs[axis - dims], outputs[axis - dims], k, s, p, d)
            for axis, k, s, p, d in zip(range(dims), kernel, stride, padding, dilation, strict=True)
        ]
        return math.sqrt(math.prod(counts))
    if name.startswith("adaptive_max_pool"):
        dims = int(name[len("adaptive_max_pool")])
        pairs = zip(inputs[-dims:], outputs[-dims:], strict=True)
        return math.sqrt(math.prod(_adaptive_overlap(n, m) for n, m in pairs))
    return None


def _pooling_arguments(given: list[Any]) -> list[Any]:
    defaults: list[Any] = [None, [], 0, 1]
    return given + defaults[len(given) :]


def _each(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (values * dims if len(values) == 1 else values)]


def overlap(n: int, windows: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The largest number of windows that hold one of n entries, along one axis.

    >>> overlap(32, 16, 3, 2, 1, 1), overlap(32, 16, 2, 2, 0, 1)
    (2, 1)
    """
    entry = np.add.outer(np.arange(windows) * stride - padding, np.arange(kernel) * dilation)
    inside = entry[(entry >= 0) & (entry < n)]
    return int(np.bincount(inside, minlength=1).max()) if inside.size else 0


def _adaptive_overlap(n: int, windows: int) -> int:
    counts = np.zeros(n, dtype=int)
    for i in range(windows):
        counts[i * n // windows : -(-(i + 1) * n // windows)] += 1
    return int(counts.max())
