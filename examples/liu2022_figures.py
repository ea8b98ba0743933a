"""Two figures of liu2022 from Python: how hard samples are, and how they fall into place.

python examples/liu2022_figures.py [FOLDER]

Two small networks are trained on digits by PGD with different seeds, and the loss of every sample
is recorded. From these:

- liu2022-groups: mean loss of the groups G0 (hardest) to G9 along the training (as Fig. 2a);
- liu2022-samples: the easiest and the hardest digits of every class (as Fig. 20);
- the D-distance of the two difficulties: 0 for the same order, 1/3 for unrelated ones.

The figures of the paper itself: landscape figure liu2022/fig2, or make_figures as at the end.
"""

import sys
from pathlib import Path

import numpy as np

import landscape as ls
from landscape.diagnostics import difficulty_distance
from landscape.papers import Trained, chosen, make_figures
from landscape.plotting.difficulty import draw, extremes, sheet
from landscape.plotting.style import panel, save_figure
from landscape.running.work import Run
from landscape.tracking import Tracking
from landscape.training import train

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")


def trained(seed):
    options = {"eps": 0.1, "steps": 5, "epochs": 25, "n_examples": 600, "seed": seed}
    run = Run("pgd", "digits", options, track=Tracking(windows=(), noise=0, samples=True))
    place = folder / f"liu2022-run{seed}"
    train(run.config(), place, track=run.track, overwrite=True)
    return Trained(run, place)


first, second = (trained(seed) for seed in (0, 1))
found = first.difficulty
print("D-distance between two seeds:", difficulty_distance(found, second.difficulty).value)
print("correlation of loss and error:", found.loss_and_error)

fig, ax = panel()
draw(found, "loss", ax)
ax.legend()
save_figure(fig, folder / "liu2022-groups", overwrite=True)

images = first.data("train").tensors()[0]
rows = np.concatenate(extremes(found, 3))
save_figure(sheet(found, images[rows], 3), folder / "liu2022-samples", overwrite=True)

# A figure of the paper by its name: the notation, and its theory in closed form.
(made,) = make_figures(
    chosen(["liu2022/table3"]), "smoke", out=folder, cache=folder / "cache", overwrite=True
)
for claim in made.report["claims"]:
    print(f"{claim['claim']} {claim['numbers']}")
print("landscape", ls.__version__, "wrote", *made.paths)
