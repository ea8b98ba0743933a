"""Two figures of "Understanding and Combating Robust Overfitting" (Li & Spratling 2023), small.

python examples/li2023_figures.py [FOLDER]

li2023-effectiveness (their Fig. 3): two digits networks are trained, one on PGD and one on FGSM-R
examples, and after every fifth epoch it is measured how effective these examples are (eq. 7) and
how curved the loss is in the input (HS). li2023-modified (Fig. 4a): the same two quantities of the
PGD network with noise in its weights.

`landscape figure li2023/all` makes all of them, with three seeds and the paper's claims checked.
"""

import dataclasses
import sys
from pathlib import Path

import torch

from landscape.papers import Cache, Scale, measure
from landscape.papers.drawing import panels, style_of
from landscape.papers.li2023.along import effectiveness_along, inputs_along
from landscape.papers.li2023.weakened import randomly_modified
from landscape.plotting.style import log_x, paper, save_figure
from landscape.running.runner import execute

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
cache, scale = Cache(folder / "cache"), Scale("digits")

runs = {
    name: dataclasses.replace(
        scale.run(
            name,
            n_examples=100,
            batch_size=25,
            epochs=15,
            model_options={"batchnorm": True},
            alpha=alpha,
        ),
        keep_every=5,
    )
    for name, alpha in (("pgd", 0.025), ("fgsm-r", 0.1))
}
works = {f"HS of {name}": measure(inputs_along, run) for name, run in runs.items()}
works |= {f"its examples, {name}": measure(effectiveness_along, run) for name, run in runs.items()}
works["modified"] = measure(randomly_modified, runs["pgd"], variants=12, relative=True)
outcome = execute(works, cache, threads=torch.get_num_threads())
assert not outcome.failed, outcome.failed
found = {name: cache.get(work) for name, work in works.items()}

with paper():
    fig, ((left, right),) = panels(2, ratio=0.7)
    for k, name in enumerate(runs):
        hs, own = found[f"HS of {name}"], found[f"its examples, {name}"]
        left.plot(hs.x, hs.of("train/HS"), label=name, **style_of(k))
        right.plot(own.x, own.of("own"), label=name, **style_of(k))
    left.set(xlabel="epoch", ylabel="HS on training data (1/input²)")
    right.set(xlabel="epoch", ylabel="effectiveness of its examples")
    left.legend()
save_figure(fig, folder / "li2023-effectiveness", overwrite=True)

with paper():
    fig, ((ax,),) = panels(1)
    for k, name in enumerate(("fgsm", "pgd-10")):
        modified = found["modified"]
        ax.plot(modified.of("HS"), modified.of(name), label=name, ls="none", **style_of(k))
    log_x(ax)
    ax.set(xlabel="HS (1/input²)", ylabel="effectiveness")
    ax.legend()
save_figure(fig, folder / "li2023-modified", overwrite=True)

for name in runs:
    own = found[f"its examples, {name}"].of("own")
    print(f"{name}: effectiveness of its examples {own[1]:.2f} at first, {own[-1]:.2f} at the end")
