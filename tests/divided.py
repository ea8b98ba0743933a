"""What is compared between one process and several; run by torchrun it writes a file per process.

torchrun --nproc-per-node 2 tests/divided.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import landscape as ls
from landscape import parallel
from landscape import params as P
from landscape.attacks import Attack, Ball
from landscape.attacks.autoattack import AutoAttack
from landscape.connectivity import Curve, profile
from landscape.errors import UsageError
from landscape.linalg import TRACES
from landscape.operators import GaussNewton, Hessian
from landscape.random import Streams
from tests.cases import CASES, Case, mlp

CONV = "conv, batchnorm, dropout"
BALL = Ball("linf", 0.2)
PGD = Attack(BALL, steps=3, step_size=0.1)
ATTACKS = {
    "none": None,
    "pgd": PGD,
    "l2 gaussian": Attack(Ball("l2", 0.5), steps=2, step_size=0.3, start="gaussian"),
    "restarts": Attack(BALL, steps=2, step_size=0.1, restarts=3),
    # Whole batches are broken at once, so that later restarts have nothing to do.
    "early stop": Attack(
        Ball("linf", 0.9), 2, 0.6, start_scale=1.0, restarts=2, keep="success", early_stop=True
    ),
    "targets": Attack(BALL, 2, 0.1, objective="margin", targets=(1, 2), restarts=2),
}


def everything() -> dict[str, Any]:
    """Numbers by name; what is equal bit for bit has a name that begins with ``same``."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        attacks = ATTACKS if case.loss == "cross-entropy" else {"none": None}
        for kind, attack in attacks.items() if name == CONV else list(attacks.items())[:2]:
            for refresh in ("fixed", "each"):
                objective = ls.Objective(
                    case.model(), case.data(), case.loss, attack, refresh, seed=4
                ).shared()
                found |= {f"{name}/{kind}/{refresh}/{k}": v for k, v in _basics(objective).items()}
    for name in (CONV, "tied"):
        found |= {f"{name}/{key}": value for key, value in _curvature(CASES[name])}
    found |= dict(_grids(CASES[CONV]))
    found |= dict(_refused())
    return found


def _basics(objective: ls.Objective) -> dict[str, Any]:
    value = objective.value()
    direction = P.random_like(objective.params, Streams(1, "direction"))
    losses, hits = objective.per_sample()
    return {
        "loss": value.loss,
        "accuracy": value.accuracy,
        "per sample": losses,
        "hits": None if hits is None else hits.double(),
        "gradient": P.flatten(objective.gradient()),
        "elsewhere": objective.value(P.axpy(0.1, direction, objective.params)).loss,
        "hvp": P.flatten(objective.hvp(direction)),
    }


def _curvature(case: Case) -> Iterator[tuple[str, Any]]:
    objective = ls.Objective(case.model(), case.data(), case.loss, PGD)
    shared = objective.shared()
    vectors = torch.randn(P.size(objective.params), 3, generator=torch.Generator().manual_seed(2))
    for product in ("auto", "graph", "double-backward"):
        for kind in (Hessian, GaussNewton):
            matrix = kind(shared, product=product)
            yield f"{kind.__name__} {product}", matrix @ vectors.double()
        yield f"gradient {product}", matrix.gradient()
    # A memory that keeps a part of the graphs.
    yield "little memory", Hessian(shared, memory=100_000) @ vectors[:, 0].double()
    for which in ("largest", "magnitude"):
        found = ls.spectrum(objective, 6, which=which, tol=1e-9, keep_vectors=True)
        yield f"eigenvalues {which}", found.eigenvalues
        yield f"shares {which}", found.layer_share
        yield f"vectors {which}", abs(found.eigenvectors)
    restarted = ls.spectrum(objective, 4, tol=1e-7, memory=20 * 8 * P.size(objective.params))
    yield "eigenvalues restarted", restarted.eigenvalues
    found = ls.density(objective, probes=2, steps=12, outliers=2)
    yield "density", found.density
    yield "outliers", found.outliers
    for method in TRACES:
        found = ls.trace(objective, 40, method=method, tol=0.2)
        yield f"trace {method}", found.estimates
    found = ls.local_smoothness(objective, a=(0.1, 1.0), draws=2, ascent_steps=2)
    yield "smoothness", found.ratio
    yield "sharpness", found.sharpness
    yield "move", found.input_move
    for method in ("auto", "dense", "lanczos"):
        found = ls.inputs(objective, 3, method=method)
        for key in ("ig_l1", "eigenvalues", "converged"):
            yield f"inputs {method}, {key}", getattr(found, key)
        yield f"inputs {method}, products", found.products
    found = ls.local_linearity(objective, draws=2, steps=3, restarts=2)
    for key in ("alignment", "gap", "lipschitz"):
        yield f"linearity {key}", getattr(found, key)
    found = ls.sample_curvature(objective, sub_batches=(1, 3, 4))
    for key in ("lambda_max", "residuals", "converged", "products", "lower", "upper", "loss"):
        yield f"samples {key}", getattr(found, key)
    evaluation = ls.evaluate(objective, {"pgd": PGD, "restarts": ATTACKS["restarts"]})
    yield "accuracy", evaluation.accuracy
    yield "sample loss", evaluation.sample_loss
    if case is CASES[CONV]:
        found = ls.evaluate(objective, {"aa": AutoAttack(BALL, batch_size=2)})
        yield "autoattack", found.correct
        yield "autoattack, members", found.stage_correct


def _grids(case: Case) -> Iterator[tuple[str, Any]]:
    objective = ls.Objective(case.model(), case.data(), case.loss, PGD, "each")
    axis = ls.Axis(-1, 1, 5)
    done: list[int] = []
    surface = ls.surface(
        objective, x=axis, y=ls.Axis(-1, 1, 3), clean=True, per_sample=True,
        progress=lambda n, total: done.append(n),
    )  # fmt: skip
    yield "same surface", surface.loss
    yield "same surface, accuracy", surface.accuracy
    yield "same surface, samples", surface.sample_loss
    yield "same progress", done
    yield "same line", ls.surface(objective, x=axis, draws=2).loss
    cosine = ls.perturbation_cosine(objective, directions=("random",), a=axis, draws=2)
    yield "same cosine", cosine.cosine
    yield "same robust error", cosine.robust_error
    model = mlp(5).double()
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        ends = [P.trainable(mlp(5).double()) for _ in range(2)]
    curve = Curve.between(*ends, 2)
    x, y = (torch.cat(parts) for parts in zip(*CASES["mlp"].data(), strict=True))
    along = profile(model, curve, (x, y), (x, y), attack=PGD, points=5)
    yield "same profile", along.train_loss
    yield "same profile, robust", along.robust_test_error


def _refused() -> Iterator[tuple[str, Any]]:
    """Objectives that can't be divided: in one process there is nothing to divide."""

    class Centred(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x - x.mean(0))

    case = CASES["mlp"]
    x, y = case.data((4,))[0]
    for name, model, n in (("depends", Centred().double(), 4), ("few", case.model(), 1)):
        try:
            ls.Objective(model, [(x[:n], y[:n])]).shared()
        except UsageError as error:
            yield f"refused {name}", str(error)


def main(folder: str) -> None:
    group = parallel.start()
    found = everything()
    # Outside the group's work: each process alone.
    torch.save({k: torch.as_tensor(v) if not isinstance(v, str | None) else v
                for k, v in found.items()}, Path(folder) / f"{group.rank}.pt")  # fmt: skip
    parallel.stop()


if __name__ == "__main__":
    main(sys.argv[1])
