"""Top 20 Hessian eigenvalues: time, products and error of landscape and its peers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import landscape as ls
from benchmarks.timing import ratio
from landscape import checkpoints, data, models
from landscape.random import seeded

TITLE = "Top 20 eigenvalues of the Hessian"
COLUMNS = [
    "network and data",
    "way",
    "seconds",
    "time / landscape's",
    "processor time / landscape's",
    "products",
    "largest relative error",
    "of 20 off by > 1e-3",
]
REMARK = (
    "Same model, data and batches; each way with its own defaults unless said, in float32 on the "
    "clean loss. The errors are against a run of ours in float64 with tol 1e-8 (`dense float64` "
    "checks in the tests stand behind that). Seconds are the median of five runs in turn; on a "
    "busy machine processor time is the steadier ratio."
)

K = 20


def rows(quick: bool = False) -> list[list[str]]:
    found = []
    for training in ("standard", "pgd"):
        checkpoint = checkpoints.load(checkpoints.bundled()[f"digits-{training}-seed0"])
        lenet = checkpoint.into(models.ModelSpec.from_dict(checkpoint.model or {}).build(seed=0))
        found += _compare(f"LeNet, {training}, 512 digits", lenet, "digits", 512, 512)
    return found


def _compare(title: str, model: nn.Module, set_name: str, n: int, batch: int) -> list[list[str]]:
    model = model.eval()
    x, y = data.load(set_name, "train", n_examples=n).tensors()
    batches = list(zip(x.split(batch), y.split(batch), strict=True))
    exact = _exact(model, batches)
    ways = {"landscape": _ours, **PEERS}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, tuple[np.ndarray, int]] = {}
    for turn in range(5):
        for name, way in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start, cpu = time.perf_counter(), time.process_time()
                found[name] = way(model, batches, turn)
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - cpu)
            for p in model.parameters():
                p.grad = None
    table = []
    for name, (values, products) in found.items():
        error = np.abs(np.sort(values)[::-1] - exact) / np.abs(exact)
        table.append(
            [
                title,
                name,
                f"{np.median(seconds[name]):.2f}",
                f"{ratio(seconds, name, 'landscape'):.1f}",
                f"{ratio(busy, name, 'landscape'):.1f}",
                str(products),
                f"{error.max():.0e}",
                str(int((error > 1e-3).sum())),
            ]
        )
    return table


Batches = list[tuple[torch.Tensor, torch.Tensor]]
Way = Callable[[nn.Module, Batches, int], tuple[np.ndarray, int]]


def _exact(model: nn.Module, batches: Batches) -> np.ndarray:
    import copy

    wide = [(x.double(), y) for x, y in batches]
    objective = ls.Objective(copy.deepcopy(model).double(), wide)
    result = ls.spectrum(objective, K, tol=1e-8, max_products=1000)
    assert result.trustworthy
    return np.asarray(result.eigenvalues)


def _ours(model: nn.Module, batches: Batches, seed: int) -> tuple[np.ndarray, int]:
    result = ls.spectrum(ls.Objective(model, batches), K, seed=seed)
    assert result.trustworthy
    return result.eigenvalues, result.products


def _pyhessian(model: nn.Module, batches: Batches, seed: int) -> tuple[np.ndarray, int]:
    from pyhessian import hessian

    products = 0

    class Counting(hessian):
        def dataloader_hv_product(self, v: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
            nonlocal products
            products += 1
            return super().dataloader_hv_product(v)

    with seeded(seed, torch.device("cpu")):
        found = Counting(model, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
        values, _ = found.eigenvalues(top_n=K)
    return np.array(values), products


def _curvlinops(model: nn.Module, batches: Batches, seed: int) -> tuple[np.ndarray, int]:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    params = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), params, batches, check_deterministic=False
    ).to_scipy()
    products = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return operator @ v

    n = operator.shape[0]
    start = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    counted = LinearOperator((n, n), matvec, dtype=np.float32)
    values = eigsh(counted, k=K, which="LA", v0=start, return_eigenvectors=True)[0]
    return values, products


def _eigenthings(steps: int | None) -> Way:
    def way(model: nn.Module, batches: Batches, seed: int) -> tuple[np.ndarray, int]:
        from hessian_eigenthings import HessianOperator, lanczos
        from hessian_eigenthings.loss_fns import supervised_loss

        operator = HessianOperator(model, batches, supervised_loss(nn.CrossEntropyLoss()))
        result = lanczos(
            operator,
            k=K,
            which="LA",
            seed=seed,
            max_iter=steps,
            reorthogonalize=None if steps is None else True,
        )
        return result.eigenvalues.cpu().numpy(), result.iterations

    return way


PEERS: dict[str, Way] = {
    "PyHessian 0.1 (magnitude)": _pyhessian,
    "curvlinops + scipy eigsh": _curvlinops,
    "hessian-eigenthings": _eigenthings(None),
    "hessian-eigenthings, 120 steps, reorthogonalised": _eigenthings(120),
}
