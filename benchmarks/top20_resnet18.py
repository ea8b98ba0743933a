"""Top 20 eigenvalues of a ResNet-18 of 11 M parameters: time, products and memory of every way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import landscape as ls
from benchmarks import networks
from benchmarks.timing import interleaved, median
from landscape import params as P
from landscape.diagnostics.eigenvalues import operator_within
from landscape.linalg import eigenpairs
from landscape.random import Streams

TITLE = "Top 20 eigenvalues, ResNet-18 (11.2 M parameters), digits32"
COLUMNS = [
    "images",
    "way",
    "products",
    "one product, s",
    "all products / landscape's",
    "largest relative difference",
    "of 20 off by > 1e-3",
    "peak memory, GiB",
]
REMARK = (
    "A process per run, float32, clean loss, each way with its own defaults. Seconds of a product "
    "are medians of three, turn by turn, of the way's own operator. Products are counted on ours, "
    "which gives all algorithms the same matrix, that of 32 images; their number does not depend "
    "on who multiplies. Ours are counted with the basis that the default memory leaves beside "
    "graphs of so many images, the others' are those of 32 images. Differences are to eigsh run "
    "to machine precision. Peak memory is of the whole process, of which 0.7 GiB are Python, "
    "torch and the network. Runs are kept in out/benchmarks and not repeated."
)

K, IMAGES, PIECE = 20, 32, 32
KEPT = Path("out/benchmarks")


def rows() -> list[list[str]]:
    exact = np.sort(_kept("curvlinops + scipy eigsh", IMAGES)["values"])[::-1]
    found = []
    for images in (IMAGES, 128, 512):
        seconds = _products(images)
        runs = {name: _kept(name, images if name == "landscape" else IMAGES) for name in ALGORITHMS}
        ours = runs["landscape"]["products"] * seconds["landscape"]
        for name, run in runs.items():
            error = np.abs(np.sort(run["values"])[::-1] - exact) / np.abs(exact)
            counted = images == IMAGES or name == "landscape"
            found.append(
                [
                    str(images),
                    name,
                    str(run["products"]) if counted else f"{run['products']} (as of {IMAGES})",
                    f"{seconds[name]:.2f}",
                    f"{run['products'] * seconds[name] / ours:.1f}",
                    f"{error.max():.0e}" if counted else "–",
                    str(int((error > 1e-3).sum())) if counted else "–",
                    f"{run['peak'] / 2**30:.1f}"
                    if images == IMAGES and name == "landscape"
                    else "–",
                ]
            )
    return found


def _kept(name: str, images: int) -> dict[str, Any]:
    """One algorithm's run in a process of its own, with the basis that so many images leave."""
    path = KEPT / f"top20-resnet18-{images}-{name.split()[0]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", __name__, name, str(images), str(path)]
        subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _products(images: int) -> dict[str, float]:
    """Seconds of one product of every way's own operator."""
    model, batches = networks.resnet18(), networks.images(images, PIECE)
    ways = {
        "landscape": _ours(model, batches),
        **{n: make(model, batches) for n, make in PEERS.items()},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = interleaved(ways, repeats=3)
    return {name: median(values) for name, values in seconds.items()}


Batches = list[tuple[Tensor, Tensor]]


def _ours(model: nn.Module, batches: Batches) -> Callable[[], object]:
    operator, _ = operator_within(ls.Objective(model, batches), K)
    vector = torch.randn(operator.size)
    return lambda: operator @ vector


def _pyhessian(model: nn.Module, batches: Batches) -> Callable[[], object]:
    from pyhessian import hessian

    found = hessian(model, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
    vector = [torch.randn_like(p) for p in found.params]
    return lambda: found.dataloader_hv_product(vector)


def _curvlinops(model: nn.Module, batches: Batches) -> Callable[[], object]:
    from curvlinops import HessianLinearOperator

    params = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), params, batches, check_deterministic=False
    ).to_scipy()
    vector = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(np.float32)
    return lambda: operator @ vector


PEERS = {"PyHessian 0.1": _pyhessian, "curvlinops + scipy eigsh": _curvlinops}


def _count_ours(objective: ls.Objective, images: int) -> tuple[Any, int]:
    if images == IMAGES:
        result = ls.spectrum(objective, K)
        assert result.trustworthy
        return result.eigenvalues, result.products
    of_all = ls.Objective(networks.resnet18(), networks.images(images, PIECE))
    basis = operator_within(of_all, K)[1]
    operator = ls.Hessian(objective)
    found = eigenpairs(
        operator,
        K,
        max_basis=basis,
        start=operator.gradient()[:, None],
        streams=Streams(0, "spectrum"),
    )
    assert found.converged.all()
    assert found.complete
    return found.values, found.products


def _count_pyhessian(objective: ls.Objective, images: int) -> tuple[Any, int]:
    from pyhessian import hessian

    operator = ls.Hessian(objective)
    names = list(objective.params)
    products = 0

    class Counting(hessian):
        def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
            nonlocal products
            products += 1
            flat = P.flatten(dict(zip(names, v, strict=True)))
            found = operator @ flat
            pieces = P.unflatten(found, objective.params)
            return float(flat @ found), [pieces[name] for name in names]

    torch.manual_seed(0)
    batches = [(term.x, term.y) for term in objective.terms()]
    way = Counting(objective.model, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
    return way.eigenvalues(top_n=K)[0], products


def _count_eigsh(objective: ls.Objective, images: int) -> tuple[Any, int]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = ls.Hessian(objective)
    products = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return (operator @ torch.from_numpy(v.ravel().astype(np.float32))).numpy()

    n = operator.size
    start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    counted = LinearOperator((n, n), matvec, dtype=np.float32)
    values = eigsh(counted, k=K, which="LA", v0=start, return_eigenvectors=True)[0]
    return values, products


ALGORITHMS: dict[str, Callable[[ls.Objective, int], tuple[Any, int]]] = {
    "landscape": _count_ours,
    "PyHessian 0.1": _count_pyhessian,
    "curvlinops + scipy eigsh": _count_eigsh,
}


def _run(name: str, images: int, path: Path) -> None:
    import resource

    objective = ls.Objective(networks.resnet18(), networks.images(IMAGES, PIECE))
    start = time.perf_counter()
    values, products = ALGORITHMS[name](objective, images)
    found = {
        "values": [float(v) for v in values],
        "products": products,
        "seconds": time.perf_counter() - start,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
