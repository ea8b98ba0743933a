"""Coordinates in which a convolution and the BatchNorm after it are one convolution.

With stored statistics μ, σ² a BatchNorm is affine in its input, so after a convolution W ∗ x + b

    γ r (W ∗ x + b − μ) + β = W' ∗ x + b',   r = 1/√(σ² + eps),   s = γ r,
    W' = s W,   b' = s (b − μ) + β.

By (W', b') a network is differentiated twice without passes over its activations other than the
convolutions', and half as much is kept for it as by (W, b, γ, β). With φ(θ) = (W', b'),
L(θ) = f(φ(θ)) and J = ∂φ/∂θ,

    ∇²L v = Jᵀ ∇²f J v + Σ_k ∂f/∂φ_k ∇²φ_k v,

of which all but ∇²f costs a few passes over the weights. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.params import Params


@dataclass(frozen=True, eq=False)
class Pair:
    """A convolution and its BatchNorm.

    Attributes:
        weight, bias, scale, shift: names in θ of W, b, γ, β; none for what is constant or absent.
        r, s, centred: as above; the last is b − μ.
        folded, offset: W' and b', by which the network is differentiated.
    """

    weight: str
    bias: str | None
    scale: str | None
    shift: str | None
    r: Tensor
    s: Tensor
    centred: Tensor
    folded: Tensor
    offset: Tensor

    def same(self, other: Pair) -> bool:
        """Whether both are one function of the same parameters."""
        names, numbers = ("weight", "bias", "scale", "shift"), ("r", "s", "centred", "offset")
        return all(getattr(self, name) == getattr(other, name) for name in names) and all(
            torch.equal(getattr(self, name), getattr(other, name)) for name in numbers
        )


class Folding:
    """The convolutions of a network that fold with the BatchNorm after them.

    They are those whose weight is a tensor of θ that nothing else uses. They are found by running
    the network on all the data within ``double_backward.Lean(folding=...)``: give every gradient
    by ``leaves`` to ``add``, then ``close``. What was found holds while the network takes the same
    way with the same statistics: ask ``holds`` at every later pass.

    Args:
        theta: the point.
    """

    def __init__(self, theta: Params) -> None:
        self.theta = {name: t.detach().requires_grad_() for name, t in theta.items()}
        self.pairs: dict[str, Pair] = {}
        self._names = {id(t): name for name, t in self.theta.items()}
        self._open = True
        self._slopes: Params = {}

    # -- finding them ----------------------------------------------------------------------------

    def fold(
        self,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ) -> Pair | None:
        """The pair that a convolution and a BatchNorm of these tensors are, if they fold."""
        names = [None if t is None else self._names.get(id(t)) for t in (bias, scale, shift)]
        given = zip((*names, None, None), (bias, scale, shift, mean, var), strict=True)
        name = self._names.get(id(weight))
        if name is None or any(n is None and t is not None and t.requires_grad for n, t in given):
            return None  # not of θ, or computed from it
        with torch.no_grad():
            r = (var + eps).rsqrt().to(weight.dtype)
            mean = mean.to(weight.dtype)
            s = r if scale is None else r * scale
            centred = -mean if bias is None else bias - mean
            offset = s * centred if shift is None else torch.addcmul(shift, s, centred)
            found = Pair(name, names[0], names[1], names[2], r, s, centred, weight, offset)
            if name in self.pairs:
                known = self.pairs[name]
                return known if known.same(found) else None
            if not self._open:
                return None
            folded = weight * _across(s, weight)
        self.pairs[name] = replace(
            found, folded=folded.requires_grad_(), offset=offset.requires_grad_()
        )
        return self.pairs[name]

    def leaves(self) -> Params:
        """What the network is differentiated by: θ, and W' and b' of every pair."""
        found = dict(self.theta)
        for name, pair in self.pairs.items():
            found |= {_folded(name): pair.folded, _offset(name): pair.offset}
        return found

    def holds(self, reached: Iterable[str]) -> bool:
        """Whether the network still uses no weight of a pair but in that pair."""
        return not any(name in self.pairs for name in reached)

    def add(self, slopes: Mapping[str, Tensor]) -> None:
        """A share of the gradient by those of ``leaves`` that it depends on."""
        for name, slope in slopes.items():
            self._slopes[name] = self._slopes[name] + slope if name in self._slopes else slope

    def close(self) -> None:
        """All the data have been seen. Pairs whose weight is used elsewhere too are given up."""
        self.pairs = {n: pair for n, pair in self.pairs.items() if n not in self._slopes}
        self._slopes = {
            name: self._slopes.get(name, torch.zeros_like(leaf))
            for pair in self.pairs.values()
            for name, leaf in (
                (_folded(pair.weight), pair.folded.detach()),
                (_offset(pair.weight), pair.offset.detach()),
            )
        }
        self._open = False

    # -- between θ and the coordinates -----------------------------------------------------------

    @torch.no_grad()
    def push(self, v: Params) -> Params:
        """v and J v."""
        found = dict(v)
        for name, pair in self.pairs.items():
            moved = v[name] * _across(pair.s, v[name])
            offset = torch.zeros_like(pair.s)
            if pair.scale:
                vs = pair.r * v[pair.scale]
                moved.addcmul_(self._weight(name), _across(vs, moved))
                offset.addcmul_(vs, pair.centred)
            if pair.bias:
                offset.addcmul_(pair.s, v[pair.bias])
            if pair.shift:
                offset += v[pair.shift]
            found |= {_folded(name): moved, _offset(name): offset}
        return found

    def places(self, total: Params) -> Params:
        """Where the shares of ∇²f J v are added up: that of W' in the place of W."""
        found = dict(total)
        for name, pair in self.pairs.items():
            found |= {_folded(name): total[name], _offset(name): torch.zeros_like(pair.s)}
        return found

    @torch.no_grad()
    def pull(self, t: Params, v: Params) -> None:
        """∇²L v from t = ∇²f J v in its ``places``, in place."""
        for name, pair in self.pairs.items():
            of_weight, of_offset = t[_folded(name)], t[_offset(name)]
            slope, slope_of_offset = self._slopes[_folded(name)], self._slopes[_offset(name)]
            of_s = _rowwise(self._weight(name), of_weight) if pair.scale else None
            of_weight.mul_(_across(pair.s, of_weight))
            if pair.bias:
                t[pair.bias].addcmul_(pair.s, of_offset)
            if pair.shift:
                t[pair.shift].add_(of_offset)
            if pair.scale and of_s is not None:
                vs = pair.r * v[pair.scale]
                of_weight.addcmul_(slope, _across(vs, slope))
                of_s += _rowwise(v[name], slope)
                of_s.addcmul_(pair.centred, of_offset)
                if pair.bias:
                    of_s.addcmul_(v[pair.bias], slope_of_offset)
                    t[pair.bias].addcmul_(vs, slope_of_offset)
                t[pair.scale].addcmul_(pair.r, of_s)

    def _weight(self, name: str) -> Tensor:
        return self.theta[name].detach()


def _folded(name: str) -> str:
    return f"{name}, folded"


def _offset(name: str) -> str:
    return f"{name}, offset"


def _across(t: Tensor, weight: Tensor) -> Tensor:
    """One number for every row of a weight (C, ...)."""
    return t.view(-1, *[1] * (weight.ndim - 1))


def _rowwise(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b over all dimensions but the first, (C,), without making a b."""
    return torch.einsum("ci,ci->c", a.flatten(1), b.flatten(1))
