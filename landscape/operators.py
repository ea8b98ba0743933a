"""Curvature of an Objective as operators for ``landscape.linalg``."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape import params as P
from landscape.objective import Objective


class Hessian:
    """∇²_θ L of an Objective at the model's own parameters, n × n, n the size of θ.

    ``H @ v`` for v of shape (n,) in the order of ``params.flatten``. With an adversarial objective
    and fixed perturbations this is ∇²_θ ℓ(x + δ*; θ), the adversarial Hessian of sitawarin2021
    eq. 9; re-attacking objectives are evaluated at x'(θ), which gives the same matrix.
    Cost: about four gradients over the data per product.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.size = P.size(objective.params)
        self.dtype: torch.dtype = objective.dtype
        self.device: torch.device = objective.device

    def __matmul__(self, vector: Tensor) -> Tensor:
        return P.flatten(self.objective.hvp(P.unflatten(vector, self.objective.params)))
