"""Top eigenvalues of the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from landscape import parallel
from landscape import params as P
from landscape.diagnostics.power_iteration import pyhessian_pairs
from landscape.errors import UsageError, unknown
from landscape.linalg import WHICH, eigenpairs, least_basis
from landscape.objective import Objective
from landscape.operators import MEMORY, Hessian
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

ENGINES = ("lanczos", "pyhessian")

# Products are usually 4 to 6 per eigenvalue, and some to look for missed ones.
_USUAL_PRODUCTS, _USUAL_PRODUCTS_MORE = 5, 30


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
    gradient_overlap: np.ndarray = array(
        "index", label="squared cosine between eigenvector and gradient"
    )
    participation_ratio: np.ndarray = array("index", label="entries an eigenvector spreads over")
    layer: np.ndarray = array("layer")
    layer_share: np.ndarray = array("layer", "index", label="squared norm within a parameter")
    normaliser: Estimate | None = scalar(label="mean loss of random networks", default=None)
    method: str = scalar()
    which: str = scalar()
    complete: bool = scalar(label="no eigenvalue missed")
    products: int = scalar(label="Hessian-vector products")
    restarts: int = scalar(label="restarts of the basis", default=0)
    block: str = scalar(label="parameters that θ was restricted to", default="")
    series: str = scalar(label="curve that this spectrum is a point of", default="")
    against: str = scalar(label="what the curve is drawn against", default="")
    position: float | None = scalar(label="where on that axis", default=None)

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
    engine: str = "lanczos",
    normaliser: Estimate | None = None,
    memory: int = MEMORY,
    basis: str = "device",
    start: Spectrum | None = None,
    resume: Spectrum | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Spectrum:
    """The ``top`` eigenvalues of H = ∇²_θ L over the whole data, by Lanczos.

    Of each eigenvector v: the squared cosine with the gradient, the participation ratio 1/Σ v_j⁴
    (from 1, one entry, to n, all alike), and its squared norm within every parameter tensor.

    With an attack on the objective this is the adversarial Hessian ∇²_θ ℓ(x + δ*; θ) with δ* held
    (sitawarin2021 eq. 9; liu2020 §4.2): the dependence of δ* on θ is left out.

    Args:
        objective: what is differentiated twice.
        top: how many eigenvalues. which: ``largest`` or ``smallest`` (algebraic), ``magnitude``.
        tol: a value has converged when its residual is at most tol·|λ|.
        max_products: give up after so many products; what was found is returned and flagged.
        keep_vectors: store the eigenvectors too (parameters × top numbers).
        engine: ``lanczos``, or ``pyhessian`` for the power iteration of PyHessian itself, which
            takes several times the products and is often off by percents.
        normaliser: mean loss of random networks (``random_loss``), kept with the result; divide
            eigenvalues by it to compare networks under losses of different size (liu2020 §4.2).
        memory: bytes for the basis and what the operator keeps; one product's own work, up to an
            eighth of it, comes on top. With less, Lanczos restarts and graphs are made anew.
        basis: ``host`` keeps the basis in the memory of the computer, not of the accelerator, where
            it may then take as much again as ``memory``.
        start: of a network like this one, with its vectors, to begin from: the epoch before saves
            about a tenth of the products.
        resume: a finished spectrum, returned if it is of the same settings and refused if not.
        seed: of the random vectors that Lanczos begins from, beside ``start`` or the gradient.
            progress: called as (values converged, top).

    Cost: 4 to 6 Hessian-vector products per eigenvalue, see ``operators.Hessian``.
    When it lies: ReLU networks have no curvature across their kinks, which is where part of the
    loss's change happens; a Hessian is a statement about an infinitesimal neighbourhood.
    """
    if which not in WHICH:
        raise unknown("end of the spectrum", which, WHICH)
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    size = P.size(objective.params)
    if engine != "pyhessian":
        objective = objective.shared()
    if top > size:
        raise UsageError(
            f"asked for {top} eigenvalues, but θ has {size} entries: ask for at most {size}."
        )
    settings: dict[str, Any] = {"top": top, "which": which, "tol": tol, "engine": engine}
    if engine == "pyhessian":
        record = Record("spectrum", objective.describe(), seed, **settings)
        if resume is not None:
            record.check_same(resume.provenance)
            return resume
        pairs, method = pyhessian_pairs(objective, top, which=which, tol=tol, seed=seed)
        gradient = P.flatten(objective.gradient())
    else:
        operator, most = operator_within(objective, top, memory, basis)
        settings |= {
            "max_products": max_products,
            "memory": memory,
            "basis": basis,
            "product": operator.product,
            "kept_samples": operator.kept_samples,
            "warm_start": start is not None,
        }
        record = Record("spectrum", objective.describe(), seed, **settings)
        if resume is not None:
            record.check_same(resume.provenance)
            return resume
        method = "Lanczos, full reorthogonalisation"
        gradient = operator.gradient()
        pairs = eigenpairs(
            operator,
            top,
            which=which,
            tol=tol,
            max_products=max_products,
            max_basis=most,
            basis=basis,
            start=_begin(start, gradient, which),
            streams=Streams(seed, "spectrum"),
            progress=progress,
        )
    about = _describe_vectors(pairs.vectors, gradient, objective)
    return Spectrum(
        provenance=record.finish(),
        eigenvalues=pairs.values,
        residuals=pairs.residuals,
        converged=pairs.converged,
        eigenvectors=pairs.vectors.cpu().numpy() if keep_vectors else None,
        layer=np.array(list(objective.params)),
        **about,
        normaliser=normaliser,
        method=method,
        which=which,
        complete=pairs.complete,
        products=pairs.products,
        restarts=pairs.restarts,
    )


def random_loss(objectives: Iterable[Objective]) -> Estimate:
    """Mean loss over randomly drawn networks: what liu2020 (§4.2, C.2.2) divides eigenvalues by.

    Each objective holds one draw, with the loss and attack of the spectrum it will normalise.
    """
    return Estimate.of([objective.value().loss for objective in objectives])


def operator_within(
    objective: Objective, top: int, memory: int = MEMORY, basis: str = "device"
) -> tuple[Hessian, int]:
    """The Hessian, and how many vectors the basis may have.

    Half the memory is left for the basis if so much is of use to it, and what the graphs leave;
    all of it if the basis is elsewhere than they are.
    """
    size, row = P.size(objective.params), _row(objective)
    least = least_basis(top, size)
    if least * row > memory:
        fits = (memory // row - least_basis(0, size)) // 2
        raise UsageError(
            f"{top} eigenvalues need {least} vectors of {size} parameters, "
            f"{_bytes(least * row)}, but memory={_bytes(memory)}: "
            + (f"ask for at most {fits}, or " if fits > 0 else "")
            + "allow more memory (--memory)."
        )
    if basis == "host" and objective.device.type != "cpu":
        return Hessian(objective, memory=memory), memory // row
    useful = min(size, _USUAL_PRODUCTS * top + _USUAL_PRODUCTS_MORE)
    reserved = row * max(least, min(useful, memory // 2 // row))
    operator = Hessian(objective, memory=memory - reserved)
    # Shares of the samples may differ by one, what is kept of them too.
    return operator, parallel.group().agree((memory - operator.kept_bytes) // row)


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.1f} MiB"


def _row(objective: Objective) -> int:
    """Bytes of one basis vector, of which every process of a group keeps its part."""
    return -(-P.size(objective.params) // parallel.group().size) * objective.dtype.itemsize


def _begin(start: Spectrum | None, gradient: torch.Tensor, which: str) -> torch.Tensor | None:
    """Vectors to begin from: those of ``start``, else the gradient, if it is of use.

    It lies nearer to outlying eigenvectors than a random vector of millions of entries: measured,
    5 of 104 products less for a ResNet-18's top 20, 1 to 3 of 50 to 90 for LeNets'. At the negative
    end it saves nothing.
    """
    if start is None:
        largest = gradient.abs().max()
        return None if which == "smallest" or largest == 0 else (gradient / largest)[:, None]
    if start.eigenvectors is None:
        raise UsageError("start has no eigenvectors: measure it with keep_vectors=True.")
    vectors = torch.as_tensor(start.eigenvectors)
    if len(vectors) != len(gradient):
        raise UsageError(
            f"start has vectors of {len(vectors)} parameters, this network has {len(gradient)}: "
            "start from the same architecture."
        )
    return vectors.to(gradient.device)


def _describe_vectors(
    vectors: torch.Tensor, gradient: torch.Tensor, objective: Objective
) -> dict[str, Any]:
    """Overlap with the gradient, participation ratio and per-tensor share of unit columns."""
    gradient = gradient.double()
    sizes = [p.numel() for p in objective.params.values()]
    overlap, ratio, share = [], [], []
    for column in vectors.unbind(1):  # one at a time: float64 copies of all would be large
        v = column.double()
        overlap.append(float(torch.dot(gradient, v) ** 2 / torch.dot(gradient, gradient)))
        ratio.append(float(1 / (v**4).sum()))
        share.append([float((piece**2).sum()) for piece in v.split(sizes)])
    return {
        "gradient_overlap": np.array(overlap),
        "participation_ratio": np.array(ratio),
        "layer_share": np.array(share).T,
    }
