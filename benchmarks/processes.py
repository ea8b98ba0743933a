"""Two processes with a core each against one process with one core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.timing import median

TITLE = "Two processes of one core against one"
COLUMNS = ["what", "one, s", "two, s", "one / two", "largest relative difference"]
REMARK = (
    "`torchrun` with gloo, ResNet-18 (11.2 M parameters) as initialised, 64 images of digits32, "
    "float32, one thread per process; means of two runs, turn by turn. The surface has 24 "
    "points; the spectrum is cut off after 16 products, so that both make the same."
)

REPEATS = 2


def rows() -> list[list[str]]:
    runs: dict[int, list[dict[str, dict[str, float]]]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for processes, found in runs.items():
            found.append(_run(processes))
    table = []
    for name in runs[1][0]:
        one, two = (median([run[name]["seconds"] for run in found]) for found in runs.values())
        numbers = [found[0][name]["number"] for found in runs.values()]
        difference = abs(numbers[0] - numbers[1]) / abs(numbers[0])
        table.append([name, f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}", f"{difference:.0e}"])
    return table


def _run(processes: int) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", __name__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main() -> None:
    import landscape as ls
    from benchmarks import networks
    from landscape import data, parallel
    from landscape.models import ModelSpec

    group = parallel.start()
    samples = data.load("digits32", "train", n_examples=512)
    model = ModelSpec("resnet18", samples.in_shape, samples.num_classes).build(seed=0).eval()
    objective = ls.Objective(model, networks.images(64, 16))

    def surface(points: tuple[int, int]) -> float:
        x, y = (ls.Axis(-1, 1, n) for n in points)
        return float(ls.surface(objective, x=x, y=y).loss.mean())

    def spectrum(products: int) -> float:
        return float(ls.spectrum(objective, 2, max_products=products, tol=1e-12).eigenvalues[0])

    def timed(measure: Callable[[], float]) -> dict[str, float]:
        group.agree(None)  # together
        start = time.perf_counter()
        number = measure()
        return {"seconds": time.perf_counter() - start, "number": number}

    surface((2, 2))  # what is done once is not counted
    found = {
        "surface": timed(lambda: surface((6, 4))),
        "spectrum": timed(lambda: spectrum(16)),
    }
    if group.first:
        print(json.dumps(found))
    parallel.stop()


if __name__ == "__main__":
    _main()
