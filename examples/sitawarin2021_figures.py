"""Curriculum-based loss smoothing (Sitawarin et al. 2021), in small: two figures of two networks.

python examples/sitawarin2021_figures.py [FOLDER]

sitawarin2021-figure1: the adversarial loss around a network trained by AT and one by P-SAT, along
the same kind of two random directions. sitawarin2021-figure7: what H-SAT takes for the largest
eigenvalue of each sample's Hessian, against the exact one. Two trainings of 15 epochs on 600
digits, one seed: ``landscape figure sitawarin2021/fig1`` has three seeds, and checks the claims.
"""

import sys
import tempfile
from pathlib import Path

import torch

import landscape as ls
from landscape.papers import Cache, Found, Scale, figures, measure
from landscape.papers.measures import accuracy, loss_surface
from landscape.papers.sitawarin2021.surfaces import curvature
from landscape.plotting.style import paper, save_figure
from landscape.plotting.surface import compare
from landscape.running.runner import execute

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
torch.set_num_threads(1)

# What a figure is made from: trainings, and measurements of what they give.
scale = Scale("digits")
short = {"recipe": "digits", "epochs": 15, "n_examples": 600, "milestones": (9, 13)}
runs = {"AT": scale.run("pgd", **short), "P-SAT": scale.run("p-sat", **short)}
works = dict(runs)
for name, run in runs.items():
    grid = {"x": (-1.0, 1.0, 9), "y": (-1.0, 1.0, 9)}
    works[f"{name}/plane"] = measure(
        loss_surface, run, attack="pgd-10", n=64, orthogonal=True, **grid
    )
    works[f"{name}/accuracy"] = measure(accuracy, run, attacks=("pgd-20",))

with tempfile.TemporaryDirectory() as place:
    cache = Cache(place)
    outcome = execute(works, cache, threads=1)
    assert not outcome.failed, outcome.failed
    found = Found(scale, {name: cache.get(work) for name, work in works.items()})

    for name in runs:
        result = found[f"{name}/accuracy"]
        measured = dict(zip(result.attack, result.accuracy, strict=True))
        print(
            f"{name}: clean {measured['clean']:.1%}, PGD-20 {measured['pgd-20']:.1%}, "
            f"mean second derivative in the plane {curvature(found[f'{name}/plane']):.3g} nats"
        )
    with paper():
        picture = compare([found[f"{name}/plane"] for name in runs], list(runs))
    for path in save_figure(picture, folder / "sitawarin2021-figure1", overwrite=True):
        print(path)

    # The library's own functions on the trained network.
    objective = found["AT"].objective(split="train", n=96, attack="pgd-10", dtype=torch.float64)
    scores = ls.sample_curvature(objective, sub_batches=(1, 32))
    rho = scores.correlation("lower", 32)
    print(f"lower score from groups of 32: ρ = {rho.value:.2f} ± {rho.standard_error:.2f}")
    ax = scores.plot()
    for path in save_figure(ax.figure, folder / "sitawarin2021-figure7", overwrite=True):
        print(path)

print("all figures of the paper:", ", ".join(figures("sitawarin2021")))
