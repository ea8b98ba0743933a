"""Top-20 input Hessians per sample against the power iteration that PyHessian would make."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import landscape as ls
from benchmarks.timing import interleaved, median
from landscape import data, models

TITLE = "Input Hessians, top 20 per sample"
COLUMNS = [
    "network",
    "route",
    "samples",
    "per sample, ms",
    "largest error",
    "power iteration, per sample, ms",
    "its largest error",
    "power iteration / ours",
]
REMARK = (
    "digits32 (1024 inputs). PyHessian differentiates by parameters only, so its power iteration "
    "is written here for the input: one sample at a time, one eigenvalue after the other, "
    "orthogonal to those found, at its defaults (relative change of 10⁻³, at most 100 iterations), "
    "timed on 2 samples. Our seconds include everything `inputs` does. Errors are of Σ|λ|, "
    "relative to the dense Hessian of the first sample in float64."
)
# Samples for the power iteration and for the dense Hessian of 1024 products in float64.
TOP, REFERENCE, DENSE = 20, 2, 1


def rows(quick: bool = False) -> list[list[str]]:
    cases = [("lenet-16", 512), ("resnet18-4", 128)]
    return [_row(*case) for case in cases[: 1 if quick else None]]


def _row(name: str, n: int) -> list[str]:
    images = data.load("digits32", "train", n_examples=n)
    spec = models.ModelSpec(name, images.in_shape, 10)
    model = spec.build(seed=0).eval()
    x, y = images.tensors()
    _train(model, x, y)
    objective = ls.Objective(model, (x, y), batch_size=128)
    found = ls.inputs(objective, TOP)
    seconds = median(interleaved({"ours": lambda: ls.inputs(objective, TOP)}, repeats=3)["ours"])
    seconds /= n
    start = time.perf_counter()
    by_power = [_power_iteration(model, x[i : i + 1], y[i : i + 1]) for i in range(REFERENCE)]
    theirs = (time.perf_counter() - start) / REFERENCE
    true = np.array([_dense(spec, model, x[i : i + 1], y[i : i + 1]) for i in range(DENSE)])
    return [
        name,
        found.method,
        str(n),
        f"{1e3 * seconds:.2f}",
        f"{_error(found.hs[:DENSE], true):.1e}",
        f"{1e3 * theirs:.0f}",
        f"{_error(np.array([np.abs(v).sum() for v in by_power[:DENSE]]), true):.1e}",
        f"{theirs / seconds:.0f}",
    ]


def _train(model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
    """A few steps, so that gradients are not those of noise."""
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    edges = range(0, len(x) + 1, min(64, len(x)))
    for _ in range(3):
        for a, b in pairwise(edges):
            optimiser.zero_grad()
            F.cross_entropy(model(x[a:b]), y[a:b]).backward()
            optimiser.step()
    model.eval()


def _power_iteration(model: torch.nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """``pyhessian.hessian.eigenvalues`` with the input in the place of the parameters."""
    model.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vectors: list[Tensor] = []
    values: list[float] = []
    while len(values) < TOP:
        v = torch.randn(x.shape, generator=generator)
        v /= v.norm()
        value: float | None = None
        for _ in range(100):
            for w in vectors:
                v = v - (v * w).sum() * w
            v = v / (v.norm() + 1e-6)
            (hv,) = torch.autograd.grad(g, leaf, v, retain_graph=True)
            now = float((hv * v).sum())
            v = hv / (hv.norm() + 1e-6)
            if value is not None and abs(value - now) / (abs(value) + 1e-6) < 1e-3:
                break
            value = now
        values.append(now)
        vectors.append(v)
    model.requires_grad_(True)
    return values


def _dense(spec: models.ModelSpec, model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Σ|λ| over the top 20 of the whole Hessian of one sample, in float64."""
    double = spec.build(seed=0).double().eval().requires_grad_(False)
    double.load_state_dict(model.state_dict())
    leaf = x.double().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(double(leaf), y), leaf, create_graph=True)
    chunks = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape).split(64)
    parts = [
        torch.autograd.grad(g, leaf, v, retain_graph=True, is_grads_batched=True)[0] for v in chunks
    ]
    matrix = torch.cat(parts).reshape(x.numel(), -1)
    return float(torch.linalg.eigvalsh(matrix).abs().sort(descending=True)[0][:TOP].sum())


def _error(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.max(np.abs(found - true) / true))
