"""The Lipschitz constant of a network in its input: certified from above, sampled from below."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.diagnostics.composition import REFINEMENTS, Composition, compose
from landscape.diagnostics.input_hessians import output_jacobian
from landscape.errors import NumericalError, UsageError, unknown
from landscape.functional import Term
from landscape.linalg.norms import FAILURE
from landscape.objective import Objective, classified
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Result, array, scalar

# Entries of the Jacobians held at once.
_JACOBIANS = 1 << 26


@dataclass(frozen=True, eq=False)
class Lipschitz(Result):
    """lower ≤ max over data of the local constant ≤ Lip(f) ≤ upper, in the l2 norms.

    ``layer``: the linear pieces, the nonlinear operations of another slope than 1, and the places
    where branches meet, whose slopes are NaN. ``slope_estimate`` ≤ slope ≤ ``slope_upper`` of each
    alone; ``bound`` is of all from the input up to it. ``estimate`` is the product without a
    certificate, as a converged power method gives it. ``failure`` is the probability, over the
    random starts, that any norm exceeds its bound: 0 where all are dense.

    ``jacobian[i]`` = ‖J(x_i)‖₂ at the samples number ``sample``, ``ratio`` are
    ‖f(x) − f(x')‖₂ / ‖x − x'‖₂ of random pairs of them, NaN where x = x'. ``accuracy`` and
    ``loss`` stand beside because a constant function has the constant 0.
    """

    kind: ClassVar[str] = "lipschitz"

    layer: np.ndarray = array("layer")
    operation: np.ndarray = array("layer")
    inputs: np.ndarray = array("layer", label="entries of the input")
    outputs: np.ndarray = array("layer", label="entries of the output")
    slope_estimate: np.ndarray = array("layer", label="estimate of the norm")
    slope_upper: np.ndarray = array("layer", label="certified bound of the norm")
    converged: np.ndarray = array("layer", label="bound within tol of the estimate")
    certificate: np.ndarray = array("layer")
    bound: np.ndarray = array("layer", label="Lipschitz bound up to here")
    upper: float = scalar(units="output / input", label="certified upper bound")
    estimate: float = scalar(units="output / input", label="product of the estimates")
    lower: float = scalar(units="output / input", label="sampled lower bound")
    jacobian: np.ndarray = array("sample", units="output / input", label="‖J(x)‖₂")
    sample: np.ndarray = array("sample", label="number of the sample")
    ratio: np.ndarray = array("pair", units="output / input", label="‖f(x) − f(x')‖ / ‖x − x'‖")
    refine: str = scalar()
    failure: float = scalar(label="probability that the bound fails")
    all_converged: bool = scalar(label="every norm within tol, also of composed pieces")
    loss: float = scalar(label="mean loss")
    accuracy: float | None = scalar(units="fraction", default=None)

    @property
    def trustworthy(self) -> bool:
        """Whether every norm's bound came within its tolerance. The bound holds even if not."""
        return self.all_converged

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.lipschitz import draw

        return draw([self], ax=ax)


def lipschitz(
    objective: Objective,
    *,
    refine: str = "fused",
    tol: float = 5e-3,
    steps: int = 1000,
    samples: int = 256,
    pairs: int = 10_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Lipschitz:
    """Bounds of max ‖f(x) − f(x')‖₂ / ‖x − x'‖₂ over all inputs of the data's shape (liu2022 D.4).

    f is the network in eval mode up to its outputs (logits), in the units of its own input, so
    with its normalisation layer. The forward pass is followed as a graph of operations:

    - a linear piece (convolution at its real input size, padding, stride and groups; dense layer,
      BatchNorm, average pooling, reshaping) multiplies by its spectral norm, in float64;
    - an activation by its largest |slope| (ReLU, tanh, softplus 1; sigmoid 1/4; SiLU 1.0998;
      GELU 1.1289; exact or rounded up), max-pooling by √(windows that share an entry);
    - branches that are added add their bounds: L·lip(branch) + L·lip(shortcut) for a residual
      block whose input has the bound L. Concatenated ones: the root of the sum of squares.

    Norms are certified (``linalg.norms.spectral_norm``): by a dense eigenvalue up to side 1024,
    else by Lanczos with a bound that fails with probability 1e-10 whatever the matrix. The power
    method alone (Scaman & Virmaux 2018, liu2022) approaches from below; its product is
    ``estimate``.

    Args:
        objective: gives network and inputs, clean or perturbed; the upper bound doesn't depend on
            the inputs.
        refine: ``product``: every layer's norm alone (AutoLip, Scaman & Virmaux 2018, Alg. 2).
            ``fused``: neighbouring linear layers are one matrix, as convolution and BatchNorm.
            ``seqlip``: in B σ(A x) the activation is, with slopes in [c − r, c + r], a diagonal
            D = cI + rS, ‖S‖ ≤ 1: ‖BDA‖ ≤ c‖BA‖ + r‖B‖‖A‖, over longer chains recursively
            (Combettes & Pesquet 2020, Thm. 4.2, for c = r = 1/2); up to 12 hidden units the
            maximum over all D instead (SeqLip, Scaman & Virmaux 2018, eq. 10, without its greedy
            search, which is no bound). Chains end at pooling and where branches meet. ‖BA‖
            doubles the cost, more in long chains.
        tol: share by which a norm's bound may exceed its estimate. steps: most Lanczos steps.
        samples: drawn from the data for the Jacobians, all C rows of each. pairs: of these.
        seed: of starts and draws. progress: called as (operations done, operations).

    Cost: per large linear piece about 150 products with it and as many with its adjoint; one pass
    over the data; C backward passes of the samples. The upper bound is of real arithmetic, not of
    float32's roundings. When it lies: the true constant is often orders of magnitude below, and
    compares networks only as far as the layers' norms do; the lower bound is of few points. The
    logits' scale counts: a network twice as sure has twice the constant. Refused with the
    operation's name: LayerNorm, GroupNorm, products of two functions of the input (gates,
    attention), control flow by values. A network that mixes the samples of a batch is taken for
    batches of one.
    """
    if refine not in REFINEMENTS:
        raise unknown("refinement", refine, REFINEMENTS)
    if samples < 2:
        raise UsageError(f"pairs need at least 2 samples, got {samples}.")
    if pairs < 1:
        raise UsageError(f"pairs must be at least 1, got {pairs}.")
    available = objective.batches.samples
    if available < 2:
        raise UsageError("pairs need at least 2 samples, the data have 1.")
    settings = {"refine": refine, "tol": tol, "steps": steps, "samples": samples, "pairs": pairs}
    record = Record("lipschitz", objective.describe(), seed, **settings)
    streams = Streams(seed, "lipschitz")
    order = streams.uniform("samples", (available,)).argsort()[:samples].sort().values
    first = next(iter(objective.terms()))
    if not first.x.is_floating_point():
        raise UsageError("inputs are whole numbers (tokens?): there is no slope in them.")
    buffers = dict(objective.model.named_buffers())
    made = compose(  # first, since it is what refuses a network
        objective.model,
        # Frozen parameters too: a layer without a parameter of its own is taken for no layer.
        {**dict(objective.model.named_parameters()), **buffers, **first.full},
        first.x[:1],
        refine=refine,
        tol=tol,
        steps=steps,
        streams=streams,
        progress=progress,
    )
    seen = _look(objective, order)
    ratio = _ratios(seen.x, seen.output, pairs, streams)
    lower = float(np.nanmax(np.concatenate([seen.jacobian, ratio])))
    return Lipschitz(
        provenance=record.finish(),
        **_columns(made),
        upper=made.upper,
        estimate=made.estimate,
        lower=lower,
        jacobian=seen.jacobian,
        sample=order.numpy(),
        ratio=ratio,
        refine=refine,
        failure=FAILURE * sum(n.certificate == "lanczos" for n in made.norms),
        all_converged=all(n.converged for n in made.norms),
        loss=seen.loss,
        accuracy=seen.accuracy,
    )


def _columns(made: Composition) -> dict[str, np.ndarray]:
    slopes = [part.slope for part in made.parts]
    return {
        "layer": np.array([part.name for part in made.parts], dtype=str),
        "operation": np.array([part.kind for part in made.parts], dtype=str),
        "inputs": np.array([part.inputs for part in made.parts], dtype=int),
        "outputs": np.array([part.outputs for part in made.parts], dtype=int),
        "slope_estimate": np.array([s.estimate if s else np.nan for s in slopes], dtype=float),
        "slope_upper": np.array([s.upper if s else np.nan for s in slopes], dtype=float),
        "converged": np.array([s is None or s.converged for s in slopes], dtype=bool),
        "certificate": np.array([s.certificate if s else "sum" for s in slopes], dtype=str),
        "bound": np.array([part.bound for part in made.parts], dtype=float),
    }


@dataclass(frozen=True)
class _Seen:
    """Of the chosen samples: inputs, outputs, ‖J‖₂; of all the data: mean loss and accuracy."""

    x: Tensor
    output: Tensor
    jacobian: np.ndarray
    loss: float
    accuracy: float | None


def _look(objective: Objective, chosen: Tensor) -> _Seen:
    """One pass over the data."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    norms: list[Tensor] = []
    loss, hits, first = 0.0, 0, 0
    classifies = False
    for term in objective.terms():
        with torch.no_grad():
            output = term.network({})
            loss += float(term.outer(output))
        right = classified(output, term.y)
        if right is not None:
            classifies = True
            hits += int(right.sum())
        here = chosen[(chosen >= first) & (chosen < first + len(term.x))] - first
        first += len(term.x)
        if len(here):
            here = here.to(term.x.device)
            part = dataclasses.replace(term, x=term.x[here], y=term.y[here])
            inputs.append(part.x)
            outputs.append(output[here].double().flatten(1))
            most = max(1, _JACOBIANS // (output[0].numel() * part.x[0].numel()))
            norms += [_jacobian_norms(piece) for piece in part.split(most)]
    total = objective.batches.samples
    x, output, norm = torch.cat(inputs), torch.cat(outputs), torch.cat(norms)
    if not bool(output.isfinite().all()):
        raise NumericalError("the outputs are not finite: there is no slope.")
    accuracy = hits / total if classifies else None
    return _Seen(x, output, norm.cpu().numpy(), loss, accuracy)


def _jacobian_norms(term: Term) -> Tensor:
    """‖J(x_b)‖₂ from the C × C matrix JJᵀ, or the d × d one if it is smaller."""
    x = term.x.detach().clone().requires_grad_()
    with torch.enable_grad():
        output = dataclasses.replace(term, x=x).network({}).flatten(1)
    j = output_jacobian(output, x).double()
    gram = j @ j.mT if j.shape[1] <= j.shape[2] else j.mT @ j
    if not bool(gram.isfinite().all()):
        raise NumericalError("the Jacobian of the outputs is not finite: there is no slope.")
    return torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0).sqrt()


def _ratios(x: Tensor, output: Tensor, pairs: int, streams: Streams) -> np.ndarray:
    """Of random pairs i ≠ j."""
    n = len(x)
    u = streams.uniform("pairs", (pairs, 2))
    i = (u[:, 0] * n).long()
    j = (u[:, 1] * (n - 1)).long()
    j += j >= i
    found = []
    for a, b in zip(i.split(1024), j.split(1024), strict=True):
        a, b = a.to(x.device), b.to(x.device)
        apart = (x[a].double() - x[b].double()).flatten(1).norm(dim=1)
        change = (output[a] - output[b]).norm(dim=1)
        found.append(torch.where(apart > 0, change / apart, torch.nan))
    return torch.cat(found).cpu().numpy()
