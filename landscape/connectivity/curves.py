"""The algebra of curves in parameter space; no network is seen here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from landscape import params as P
from landscape.errors import UsageError
from landscape.params import Params

# Of the quadrature of the arc length; the speed is the root of a polynomial of degree 2n − 2.
_NODES = 128


@dataclass(frozen=True, eq=False)
class Curve:
    """B(t) = Σ_i w_i(t) θ_i for t in [0, 1], with B(0) = θ_0 and B(1) = θ_n bit for bit.

    A Bezier curve has Bernstein's weights, w_i(t) = C(n, i) tⁱ (1−t)ⁿ⁻ⁱ (liu2020 eq. 30 prints
    C(n, t)); a polygonal chain runs through its points at t = i/n, straight in between.

    Attributes:
        points: θ_0, …, θ_n, one row each: (n+1, P), in the units of the parameters.
        shapes: of every parameter by name, in the order in which the rows hold them.
        chain: polygonal chain instead of Bezier curve.
    """

    points: Tensor
    shapes: dict[str, tuple[int, ...]]
    chain: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", {n: tuple(s) for n, s in self.shapes.items()})
        size = sum(math.prod(shape) for shape in self.shapes.values())
        if self.points.ndim != 2 or len(self.points) < 2 or self.points.shape[1] != size:
            raise UsageError(
                f"a curve needs at least two points of {size} entries, got shape "
                f"{tuple(self.points.shape)}."
            )

    @classmethod
    def between(
        cls,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        order: int = 1,
        *,
        chain: bool = False,
    ) -> Curve:
        """The straight line from ``a`` to ``b`` as a curve of that order, its points equally far
        apart: where training starts (Garipov et al. 2018)."""
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise UsageError(
                f"order must be a whole number of at least 1, got {order!r}: 1 is the straight "
                "line, 2 has one control point."
            )
        _check_alike(a, b)
        shapes = {name: tuple(p.shape) for name, p in a.items()}
        first = P.flatten(a).detach()
        last = P.flatten({name: b[name] for name in a}).detach().to(first)
        inner = [torch.lerp(first, last, i / order) for i in range(1, order)]
        return cls(torch.stack([first, *inner, last]), shapes, chain)

    @property
    def order(self) -> int:
        """n: one less than the number of points."""
        return len(self.points) - 1

    @property
    def kind(self) -> str:
        """In words, for tables and legends."""
        if self.order == 1:
            return "straight line"
        return f"polygonal chain of {self.order}" if self.chain else f"Bezier, order {self.order}"

    def weights(self, t: float) -> np.ndarray:
        """w_0(t), …, w_n(t) in float64; they are at least 0 and sum to 1."""
        if not 0 <= t <= 1:
            raise UsageError(f"t must lie in [0, 1], got {t:g}.")
        if not self.chain:
            return bernstein(self.order, np.array([t]))[0]
        weights = np.zeros(self.order + 1)
        segment = min(int(t * self.order), self.order - 1)
        share = t * self.order - segment
        weights[segment], weights[segment + 1] = 1 - share, share
        return weights

    def vector(self, t: float) -> Tensor:
        """B(t) as one vector, (P,)."""
        weights = self.weights(t)
        exact = np.flatnonzero(weights == 1)
        if len(exact):  # 1·θ + 0·θ' would lose the sign of −0
            return self.points[int(exact[0])].clone()
        total = self.points[0] * float(weights[0])
        for weight, point in zip(weights[1:], self.points[1:], strict=True):
            total.add_(point, alpha=float(weight))
        return total

    def named(self, vector: Tensor) -> Params:
        """Views of a vector of P entries by parameter."""
        pieces = vector.split([math.prod(shape) for shape in self.shapes.values()])
        return {
            name: piece.view(shape)
            for piece, (name, shape) in zip(pieces, self.shapes.items(), strict=True)
        }

    def at(self, t: float) -> Params:
        """B(t) by parameter: for ``Objective.value(at=...)`` or ``torch.func.functional_call``.

        BatchNorm's running statistics are no parameters: ``reestimate`` makes them.
        """
        return self.named(self.vector(t))

    def to(self, model: nn.Module) -> Curve:
        """The same curve on the device and in the dtype of ``model``."""
        like = next(iter(model.parameters()))
        return Curve(self.points.to(like.device, like.dtype), self.shapes, self.chain)

    def line(self) -> Curve:
        """The straight line between the same ends."""
        return Curve(self.points[[0, -1]], self.shapes)

    def length(self) -> float:
        """∫₀¹ ‖B′(t)‖₂ dt, by Gauss-Legendre quadrature; a chain's exactly.

        B′ is a Bezier curve with the points n (θ_{i+1} − θ_i), so ‖B′(t)‖² is a quadratic form in
        their Gram matrix and costs nothing in P. When it lies: where the curve turns back on
        itself (‖B′‖ = 0), the quadrature is good to about four digits only.
        """
        steps = self.points.diff(dim=0).double()
        gram = (steps @ steps.T).cpu().numpy()
        if self.chain or self.order == 1:
            return float(np.sqrt(np.diag(gram)).sum())
        nodes, shares = np.polynomial.legendre.leggauss(_NODES)
        basis = bernstein(self.order - 1, (nodes + 1) / 2)
        squared = np.einsum("qi,ij,qj->q", basis, gram, basis).clip(min=0)
        return float(self.order * (shares / 2 * np.sqrt(squared)).sum())


def bernstein(n: int, t: np.ndarray) -> np.ndarray:
    """C(n, i) tⁱ (1−t)ⁿ⁻ⁱ: one row per t, one column per i = 0, …, n.

    >>> bernstein(2, np.array([0.5]))
    array([[0.25, 0.5 , 0.25]])
    """
    i = np.arange(n + 1)
    binomials = np.array([math.comb(n, k) for k in i], dtype=np.float64)
    return binomials * t[:, None] ** i * (1 - t[:, None]) ** (n - i)


def _check_alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    odd = sorted(a.keys() ^ b.keys())
    other = [name for name in a if name in b and a[name].shape != b[name].shape]
    if odd or other:
        names = ", ".join((odd + other)[:3])
        raise UsageError(
            f"the two networks are of different architectures (they differ in {names}): a curve "
            "joins weights of one architecture."
        )
    if len({p.dtype for p in a.values()}) > 1:
        raise UsageError(
            "the parameters have several dtypes: convert the networks to one, as by .float()."
        )
