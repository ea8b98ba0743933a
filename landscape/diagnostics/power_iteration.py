"""PyHessian's own power iteration, for comparison with the literature that used it."""

from __future__ import annotations

import copy
import importlib.metadata
import warnings

import numpy as np
import torch
from torch import Tensor

from landscape import functional
from landscape import params as P
from landscape.errors import UsageError
from landscape.linalg import Eigenpairs
from landscape.objective import Objective
from landscape.operators import Hessian
from landscape.random import Streams, seeded


def pyhessian_pairs(
    objective: Objective, top: int, *, which: str, tol: float, seed: int
) -> tuple[Eigenpairs, str]:
    """The top eigenpairs as PyHessian finds them with its defaults, and the label to print.

    PyHessian iterates 100 times at most and stops when an estimate changes by less than 0.1 %, so
    close eigenvalues come out biased and unsorted; its "top" is the largest |λ|. What it returns is
    kept in its order. Residuals ‖Hv − λv‖ are ours, by one product each, and say how far off it is;
    ``tol`` is what they are held to.
    """
    if which != "magnitude":
        raise UsageError("PyHessian finds the largest |λ|: pass --which magnitude with it.")
    if len(objective.params) != sum(p.requires_grad for p in objective.model.parameters()):
        raise UsageError("PyHessian takes all trainable parameters: leave out params=.")
    from pyhessian import hessian

    terms = list(objective.terms())
    loss = terms[0].loss
    products = 0

    def criterion(output: Tensor, y: Tensor) -> Tensor:
        return functional.total(loss, output, y) / len(output)

    class Counting(hessian):
        def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
            nonlocal products
            products += 1
            found: tuple[float, list[Tensor]] = super().dataloader_hv_product(v)
            return found

    # A copy, because PyHessian leaves the model in eval mode with graphs in its gradients.
    model = copy.deepcopy(objective.model)
    with (
        functional.untouched(model),
        seeded(Streams(seed, "spectrum").derived_seed("pyhessian"), objective.device),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # backward(create_graph=True) warns of its memory
        found = Counting(
            model,
            criterion,
            dataloader=[(term.x, term.y) for term in terms],
            cuda=objective.device.type == "cuda",
        )
        raw_values, raw_vectors = found.eigenvalues(top_n=top)
    values = np.array([float(v) for v in raw_values])
    names = list(objective.params)
    columns = [P.flatten(dict(zip(names, v, strict=True))).detach() for v in raw_vectors]
    vectors = torch.stack(columns, 1).to(objective.dtype)
    vectors = vectors / vectors.norm(dim=0)
    applied = Hessian(objective) @ vectors
    residuals = (applied - vectors * torch.as_tensor(values).to(vectors)).norm(dim=0)
    errors = residuals.double().cpu().numpy()
    pairs = Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=errors,
        converged=errors <= tol * np.abs(values),
        complete=False,
        products=products,
    )
    return pairs, f"PyHessian {importlib.metadata.version('pyhessian')} power iteration"
