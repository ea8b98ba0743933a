"""Peak memory of spectra of large networks, each in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import landscape as ls
from benchmarks import networks

TITLE = "Peak memory of a spectrum"
COLUMNS = [
    "network and data",
    "asked",
    "products",
    "restarts",
    "converged",
    "seconds",
    "peak, GiB",
]
REMARK = (
    "The whole process, Python and torch (0.7 GiB) included, with the default `memory` of 4 GiB. "
    "The ResNet-18 runs are cut off after their bases were full once, when the peak is reached."
)

# Network, images, samples per batch, eigenvalues, most products.
CASES = {
    "ResNet-18 (11.2 M), 128 images": (networks.resnet18, 128, 128, 20, 60),
    "WideResNet-34-10 (46 M), 8 images": (networks.wide_resnet, 8, 8, 5, 200),
    "ResNet-18 (11.2 M), 512 images": (networks.resnet18, 512, 128, 20, 60),
}


def rows() -> list[list[str]]:
    found = []
    for name in CASES:
        command = [sys.executable, "-W", "ignore", "-m", __name__, name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def _run(name: str) -> list[str]:
    network, images, batch, top, products = CASES[name]
    objective = ls.Objective(network(), networks.images(images, batch))
    start = time.perf_counter()
    result = ls.spectrum(objective, top, max_products=products)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [
        name,
        f"top {top}",
        str(result.products),
        str(result.restarts),
        f"{int(result.converged.sum())} of {top}",
        f"{seconds:.0f}",
        f"{peak / 2**30:.1f}",
    ]


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1])))
