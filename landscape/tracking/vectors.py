"""Sums over vectors of θ's size, piece by piece: what fits in a cache need not be read twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Entries of a piece: on a CPU within its cache, elsewhere enough to keep the device busy. In
# pieces this small float32 sums are exact to about 1e-6; the pieces are added in float64.
_CPU, _DEVICE = 1 << 16, 1 << 22


def pieces(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same piece of each vector, as views."""
    size = _CPU if vectors[0].device.type == "cpu" else _DEVICE
    return zip(*(v.split(size) for v in vectors), strict=True)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩, a float64 scalar."""
    return _total([torch.dot(x, y) for x, y in pieces(a, b)])


def norm(a: Tensor) -> Tensor:
    """‖a‖₂, a float64 scalar."""
    return dot(a, a).sqrt()


def distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖₂, a float64 scalar."""
    found = []
    for x, y in pieces(a, b):
        d = x - y
        found.append(torch.dot(d, d))
    return _total(found).sqrt()


def advance(mean: Tensor, new: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Take the n-th vector into a mean of n − 1; ‖d‖² and ⟨d, new mean⟩, d = new − old mean."""
    squares, overlaps = [], []
    for m, g in pieces(mean, new):
        d = g - m
        m.add_(d, alpha=1 / n)
        squares.append(torch.dot(d, d))
        overlaps.append(torch.dot(d, m))
    return _total(squares), _total(overlaps)


def flat(tensors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """One vector of all entries, in float32 at least; ``out``: a vector to write it into."""
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    parts = [t.detach().reshape(-1).to(wide) for t in tensors]
    if out is None:
        return torch.cat(parts)
    torch.cat(parts, out=out)
    return out


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(dtype=torch.float64)
