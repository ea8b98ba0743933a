"""Directions from derivatives of the loss: eigenvectors, the gradient, the AWP ascent."""

from __future__ import annotations

from landscape import params as P
from landscape.directions.plane import unit
from landscape.errors import NumericalError
from landscape.linalg import eigenpairs
from landscape.objective import Objective
from landscape.operators import Hessian
from landscape.params import Params
from landscape.random import Streams


def eigen(objective: Objective, count: int, *, streams: Streams) -> list[Params]:
    """The unit eigenvectors of the largest eigenvalues of ∇²L (liu2020 Fig. 12).

    Under an attack, of the adversarial loss with its perturbations held. The sign, which an
    eigenvector does not have, is that of a positive inner product with the gradient.
    """
    pairs = eigenpairs(Hessian(objective), count, streams=streams.child("eigen"))
    if not pairs.converged.all():
        raise NumericalError("the top eigenvectors of the Hessian have not converged.")
    slope = P.flatten(objective.gradient())
    signs = [1.0 if float(slope @ v) >= 0 else -1.0 for v in pairs.vectors.unbind(1)]
    return [
        P.scale(sign, P.unflatten(v.contiguous(), objective.params))
        for sign, v in zip(signs, pairs.vectors.unbind(1), strict=True)
    ]


def gradient(objective: Objective) -> Params:
    """∇L/‖∇L‖: a unit step uphill."""
    return unit(objective.gradient())


def adversarial(objective: Objective) -> Params:
    """The ascent direction of adversarial weight perturbation (Wu et al. 2020, AWP).

    v_l = ‖w_l‖ ∇_l L/‖∇_l L‖ for every tensor of two or more dimensions, 0 for the others: a step
    of γ is AWP's perturbation of size γ relative to the weights of every layer.
    """
    slope = objective.gradient()
    return P.normalise(slope, objective.params, "layer", "ignore")
