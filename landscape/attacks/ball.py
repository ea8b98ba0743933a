"""The set of allowed perturbations: ‖δ‖ ≤ radius. A norm is a field, not a subclass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import UsageError, unknown
from landscape.random import Streams

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Ball:
    """{δ : ‖δ‖ ≤ radius}, per sample, in the units of inputs in [0, 1].

    Methods take an optional ``radius`` of shape (B,) in place of the field, for methods whose
    budget differs between samples.
    """

    norm: str
    radius: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if not 0 <= self.radius < float("inf"):
            raise UsageError(f"eps must be a finite number of at least 0, got {self.radius}.")
        if self.norm == "linf" and self.radius > 1:
            raise UsageError(
                f"eps = {self.radius:g} exceeds 1, the whole range of an input in [0, 1]: "
                f"write a fraction such as {self.radius:g}/255."
            )

    def project(self, delta: Tensor, radius: Tensor | None = None) -> Tensor:
        """The nearest point of the ball."""
        r = self._radius(delta, radius)
        if self.norm == "linf":
            return torch.minimum(torch.maximum(delta, -r), r)
        norms = _l2(delta)
        return torch.where(norms > r, delta * (r / norms.clamp_min(_tiny(delta))), delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """argmax ⟨d, gradient⟩ over ‖d‖ ≤ 1: the sign (L∞) or the unit vector (L2).

        A zero gradient gives a zero step.
        """
        if self.norm == "linf":
            return gradient.sign()
        # Scaled first: the square of a tiny float32 gradient underflows.
        largest = flat(gradient).abs().amax(1).reshape(-1, *[1] * (gradient.ndim - 1))
        scaled = torch.where(largest > 0, gradient / largest.clamp_min(_tiny(gradient)), 0.0)
        return torch.where(largest > 0, scaled / _l2(scaled).clamp_min(_tiny(gradient)), 0.0)

    def sample(self, x: Tensor, streams: Streams, radius: Tensor | None = None) -> Tensor:
        """One point per sample, uniform in the ball, of the shape of ``x``."""
        r = self._radius(x, radius)
        shape = tuple(x.shape)
        if self.norm == "linf":
            unit = streams.uniform("uniform", shape).mul_(2).sub_(1)
        else:
            direction = streams.normal("direction", shape)
            dimension = direction[0].numel() if shape[0] else 1
            share = streams.uniform("share", (shape[0],)).pow_(1 / dimension)
            unit = direction / _l2(direction) * share.reshape(-1, *[1] * (x.ndim - 1))
        # Rounding to x's dtype may step over the boundary by an ulp.
        return self.project(unit.to(x) * r, radius)

    def distance(self, delta: Tensor) -> Tensor:
        """‖δ‖ per sample, shape (B,)."""
        rows = flat(delta)
        return rows.abs().amax(1) if self.norm == "linf" else torch.linalg.vector_norm(rows, dim=1)

    def _radius(self, like: Tensor, radius: Tensor | None) -> Tensor:
        if radius is None:
            return torch.full((), self.radius, dtype=like.dtype, device=like.device)
        return radius.to(like).reshape(-1, *[1] * (like.ndim - 1))


def flat(x: Tensor) -> Tensor:
    """(B, ...) as (B, D); samples that are single numbers, (B,), as (B, 1)."""
    return x.flatten(1) if x.ndim > 1 else x[:, None]


def _l2(x: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(flat(x), dim=1)
    return norms.reshape(-1, *[1] * (x.ndim - 1))


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
