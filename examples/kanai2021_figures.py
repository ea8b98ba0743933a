"""Two key pictures of "Smoothness Analysis of Adversarial Training" (Kanai et al. 2021).

python examples/kanai2021_figures.py [FOLDER]

kanai2021/fig2, as ``landscape figure kanai2021/fig2`` makes it: closed forms, no training. And a
figure of one's own after the paper's Fig. 7, from two small networks trained here, by SGD and by
EntropySGD: the adversarial loss along a filter-normalised direction, with one claim checked. On
one seed a claim can't hold; ``--seeds`` of ``landscape figure kanai2021/fig7`` has more.

Takes less than a minute. Run again, nothing is trained again.
"""

import sys
from pathlib import Path

from landscape.papers import Claim, Figure, chosen, claims, make_figures, measure
from landscape.papers.drawing import panels
from landscape.papers.measures import loss_surface
from landscape.plotting.surface import draw_lines

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
METHODS = {"AT": "pgd", "AT+EnSGD": "pgd+entropysgd"}


def plan(scale):
    short = {"epochs": 14, "lr": 0.1}
    return {
        name: measure(
            loss_surface,
            scale.run(method, **short),
            x=(-1.0, 1.0, 11),
            split="test",
            n=100,
            attack="pgd-10",
        )
        for name, method in METHODS.items()
    }


def draw(found):
    fig, ((ax,),) = panels(1)
    draw_lines(list(found.values()), list(found), ax=ax)
    return fig


def lower(found):
    one, other = ([found[name].centre_loss] for name in METHODS)
    return claims.greater(one, other, "test loss (nats)", names=tuple(METHODS))


own = Figure(
    "kanai2021/own",
    "Adversarial loss along a random direction, by SGD and by EntropySGD",
    plan=plan,
    draw=draw,
    claims=(Claim("EntropySGD finds a lower loss.", "Fig. 7", lower),),
)

for made in make_figures(
    [*chosen(["kanai2021/fig2"]), own],
    out=folder / "figures",
    cache=folder / "runs",
    overwrite=True,
):
    print(made.figure.name)
    for claim in made.report["claims"]:
        print(f"  {claim['outcome']}: {claim['claim']} {claim['numbers']}")
    for path in made.paths:
        print(f"  {path}")
