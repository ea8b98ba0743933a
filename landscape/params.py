"""Algebra on named parameter vectors: ``dict[str, Tensor]`` in the order of the model.

A point θ, a direction d and a gradient are all such dictionaries; ``flatten`` and
``unflatten`` go to and from the single vectors that linear algebra wants.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UsageError, unknown
from landscape.random import Streams

Params = dict[str, Tensor]

NORMALISATIONS = ("filter", "layer", "weight", "none")
ONE_D = ("ignore", "scale", "same")


def trainable(model: nn.Module, patterns: str | Sequence[str] | None = None) -> Params:
    """The parameters that require gradients, detached but sharing the model's memory.

    Tied parameters appear once, frozen ones not at all. ``patterns`` (shell wildcards, for
    example ``"layer4.*"``) keeps those whose name matches any of them.
    """
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return params if patterns is None else select(params, patterns)


def select(params: Mapping[str, Tensor], patterns: str | Sequence[str]) -> Params:
    """The entries whose name matches any of the shell-style ``patterns``."""
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in params):
            raise unknown("parameter pattern", pattern, params)
    return {
        name: p
        for name, p in params.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }


def size(params: Mapping[str, Tensor]) -> int:
    """Number of scalars."""
    return sum(p.numel() for p in params.values())


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """⟨a, b⟩ in float64, where the squares of float32 numbers neither overflow nor vanish."""
    _check_alike(a, b)
    return float(sum((a[name].double() * b[name].double()).sum() for name in a))


def norm(a: Mapping[str, Tensor]) -> float:
    """‖a‖₂ over all entries together."""
    return dot(a, a) ** 0.5


def scale(alpha: float, a: Mapping[str, Tensor]) -> Params:
    """α·a."""
    return {name: alpha * p for name, p in a.items()}


def axpy(alpha: float, x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Params:
    """y + α·x. Entries of ``y`` that ``x`` lacks are passed through, not copied."""
    extra = set(x) - set(y)
    if extra:
        raise UsageError(f"the direction has entries the point lacks: {', '.join(sorted(extra))}.")
    for name in x:  # torch would broadcast
        _check_shapes(name, x[name], y[name])
    return {name: torch.add(p, x[name], alpha=alpha) if name in x else p for name, p in y.items()}


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite.

    ``isfinite`` makes several temporaries as large as θ, which takes a tenth of a product's time;
    a sum makes none, and is finite only if every number is. Where it isn't, numbers are looked at.
    """
    tensors = list(tensors)
    if bool(torch.stack([t.sum() for t in tensors]).isfinite().all()):
        return True
    return all(bool(t.isfinite().all()) for t in tensors)


def zeros_like(params: Mapping[str, Tensor]) -> Params:
    """0 in every entry."""
    return {name: torch.zeros_like(p) for name, p in params.items()}


def random_like(params: Mapping[str, Tensor], streams: Streams) -> Params:
    """N(0, 1) in every entry; the same numbers on every device and in every dtype."""
    return {
        name: streams.normal(name, tuple(p.shape)).to(device=p.device, dtype=p.dtype)
        for name, p in params.items()
    }


def flatten(params: Mapping[str, Tensor]) -> Tensor:
    """One vector of all entries, in the dictionary's order."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """Views of ``vector`` with the names and shapes of ``like``: the inverse of ``flatten``."""
    if vector.shape != (size(like),):
        raise UsageError(
            f"expected a vector of {size(like)} entries, got shape {tuple(vector.shape)}."
        )
    pieces = vector.split([p.numel() for p in like.values()])
    return {
        name: piece.view(p.shape) for piece, (name, p) in zip(pieces, like.items(), strict=True)
    }


def normalise(
    direction: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
    how: str = "filter",
    one_d: str = "ignore",
) -> Params:
    """Scale a direction to the size of the weights it perturbs (Li et al. 2018, §4).

    For tensors of two or more dimensions, with w the weights and d the direction:

    - ``filter``: d_i ← d_i ‖w_i‖/‖d_i‖ for every slice i of axis 0 (the filters);
    - ``layer``: d ← d ‖w‖/‖d‖ for the whole tensor;
    - ``weight``: d ← d ⊙ |w|, every entry by its own weight;
    - ``none``: d as it is.

    Biases and normalisation scales and shifts (one dimension or none) have no filters:
    ``ignore`` sets them to 0 (Li et al.'s figures), ``scale`` treats each tensor as one filter,
    ``same`` sets d ← w (what the authors' code does when not told to ignore them).
    """
    _check_alike(direction, params)
    if how not in NORMALISATIONS:
        raise unknown("normalisation", how, NORMALISATIONS)
    if one_d not in ONE_D:
        raise unknown("treatment of 1-D parameters", one_d, ONE_D)
    result: Params = {}
    for name, d in direction.items():
        w = params[name]
        if d.ndim > 1:
            result[name] = _normalise_tensor(d, w, how)
        elif one_d == "ignore":
            result[name] = torch.zeros_like(d)
        elif one_d == "same":
            result[name] = w.clone()
        else:
            result[name] = _normalise_tensor(d, w, "layer" if how == "filter" else how)
    return result


def _normalise_tensor(d: Tensor, w: Tensor, how: str) -> Tensor:
    if how == "none":
        return d.clone()
    if how == "weight":
        return d * w.abs()
    rows = d.shape[0] if how == "filter" and d.ndim > 1 else 1
    d_norm = torch.linalg.vector_norm(d.reshape(rows, -1), dim=1)
    w_norm = torch.linalg.vector_norm(w.reshape(rows, -1), dim=1)
    ratio = torch.where(d_norm > 0, w_norm / d_norm, torch.zeros_like(d_norm))
    return (d.reshape(rows, -1) * ratio[:, None]).reshape(d.shape)


def digest(params: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, dtypes and bytes: equal exactly when the parameters are."""
    h = hashlib.sha256()
    for name, p in params.items():
        h.update(f"{name}|{tuple(p.shape)}|{p.dtype}|".encode())
        h.update(as_bytes(p))
    return h.hexdigest()


def as_bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor of any dtype (numpy has no bfloat16, so through uint8)."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: np.ndarray = flat.view(torch.uint8).numpy()
    return memoryview(raw)  # type: ignore[arg-type]


def _check_alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        raise UsageError(f"parameter vectors differ in their names: {', '.join(odd[:5])}.")
    for name in a:
        _check_shapes(name, a[name], b[name])


def _check_shapes(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise UsageError(
            f"parameter vectors differ in the shape of '{name}': "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )
