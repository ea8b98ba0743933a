"""Top eigenvalues of the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.linalg import eigenpairs
from landscape.objective import Objective
from landscape.operators import Hessian
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Result, array, scalar


@dataclass(frozen=True, eq=False)
class Spectrum(Result):
    """Eigenvalues of ∇²_θ L at one end of the spectrum, each with its residual.

    ``residuals[i]`` = ‖Hv_i − λ_i v_i‖: some eigenvalue of H lies within it of ``eigenvalues[i]``.
    """

    kind: ClassVar[str] = "spectrum"

    eigenvalues: np.ndarray = array("index", units="loss / weight²", label="eigenvalue")
    residuals: np.ndarray = array("index", units="loss / weight²", label="residual ‖Hv − λv‖")
    converged: np.ndarray = array("index")
    eigenvectors: np.ndarray | None = array("parameter", "index", default=None)
    which: str = scalar()
    complete: bool = scalar(label="no eigenvalue missed")
    products: int = scalar(label="Hessian-vector products")

    @property
    def trustworthy(self) -> bool:
        """Whether every value met its tolerance and none is thought to be missing."""
        return bool(self.converged.all()) and self.complete

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.spectrum import draw

        return draw([self], ax=ax, **style)


def spectrum(
    objective: Objective,
    top: int = 20,
    *,
    which: str = "largest",
    tol: float = 1e-3,
    max_products: int | None = None,
    keep_vectors: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Spectrum:
    """The ``top`` eigenvalues of H = ∇²_θ L over the whole data, by Lanczos.

    With an attack on the objective this is the adversarial Hessian ∇²_θ ℓ(x + δ*; θ) with δ* held
    (sitawarin2021 eq. 9; liu2020 §4.2): the dependence of δ* on θ is left out.

    Args:
        objective: what is differentiated twice.
        top: how many eigenvalues. which: ``largest`` or ``smallest`` (algebraic), ``magnitude``.
        tol: a value has converged when its residual is at most tol·|λ|.
        max_products: give up after so many products; what was found is returned and flagged.
        keep_vectors: store the eigenvectors too (parameters × top numbers).
        seed: of the random start vector. progress: called as (values converged, top).

    Cost: 4 to 6 Hessian-vector products per eigenvalue, see ``operators.Hessian``.
    When it lies: ReLU networks have no curvature across their kinks, which is where part of the
    loss's change happens; a Hessian is a statement about an infinitesimal neighbourhood.
    """
    operator = Hessian(objective)
    if top > operator.size:
        raise UsageError(
            f"asked for {top} eigenvalues, but θ has {operator.size} entries: "
            f"ask for at most {operator.size}."
        )
    record = Record(
        "spectrum",
        objective.describe(),
        seed,
        top=top,
        which=which,
        tol=tol,
        max_products=max_products,
        method="Lanczos, full reorthogonalisation",
        product=operator.product,
    )
    pairs = eigenpairs(
        operator,
        top,
        which=which,
        tol=tol,
        max_products=max_products,
        streams=Streams(seed, "spectrum"),
        progress=progress,
    )
    return Spectrum(
        provenance=record.finish(),
        eigenvalues=pairs.values,
        residuals=pairs.residuals,
        converged=pairs.converged,
        eigenvectors=pairs.vectors.cpu().numpy() if keep_vectors else None,
        which=which,
        complete=pairs.complete,
        products=pairs.products,
    )
