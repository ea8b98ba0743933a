"""Two findings of "On the Loss Landscape of Adversarial Training" (Liu et al. 2020), small.

python examples/liu2020_figures.py [FOLDER]

Trains a network on clean and one on adversarial digits, and draws beside each other

- the top eigenvalues of their Hessians (the paper's Figure 2: sharper under a larger budget),
- the cosine of the adversarial perturbations at θ + av and θ − av, v the top eigenvector or a
  random direction (Figure 3: along the eigenvector the perturbations change abruptly).

The figures of the paper themselves, with seeds and claims: ``landscape figure liu2020/all``, or
``make_figures(chosen(["liu2020/fig2"]))`` of ``landscape.papers``.
"""

import sys
from pathlib import Path

import landscape as ls
from landscape.papers.drawing import panels
from landscape.plotting.cosine import draw
from landscape.plotting.style import COLOURS, log_y, paper, save_figure
from landscape.running.trained import Trained
from landscape.running.work import Run
from landscape.training import train

EPS = 0.1
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
runs = {
    "vanilla": Run("standard", "digits", {"epochs": 15}),
    f"PGD, ε = {EPS:g}": Run("pgd", "digits", {"epochs": 15, "steps": 5, "eps": EPS}),
}

spectra, cosine = {}, None
for name, run in runs.items():
    place = folder / f"liu2020-{run.method}"
    train(run.config(), place, keep_every=run.keep_every)
    attacked = run.method == "pgd"
    objective = Trained(run, place).objective(
        "final", split="train", n=300, attack="pgd-10" if attacked else None
    )
    spectra[name] = ls.spectrum(objective, top=10)
    if attacked:
        cosine = ls.perturbation_cosine(objective, a=ls.Axis(0.0, 0.5, 6), draws=2)

with paper():
    fig, ((left, right),) = panels(2)
    for colour, (name, found) in zip(COLOURS, spectra.items(), strict=False):
        index = range(1, len(found.eigenvalues) + 1)
        left.plot(index, found.eigenvalues, "o-", color=colour, label=name)
    left.set_xlabel("index of the eigenvalue")
    left.set_ylabel("eigenvalue (loss / weight²)")
    log_y(left)
    left.legend()
    draw([cosine], ax=right)
    for path in save_figure(fig, folder / "liu2020-figures", overwrite=True):
        print(path)
