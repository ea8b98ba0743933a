"""The networks of li2023, and what they are trained on at every scale.

At paper scale everything is as in Sections 4 and 5.1: recipes ``li2023/...``. On digits a LeNet
with BatchNorm learns 200 images for 32 epochs, few enough images to be learned by heart, which is
what overfitting takes: adversarial training ends above 90 % on its own examples. Weight decay and
the places of the steps in the run are the paper's, α = ε/4, FGSM-R takes α = ε.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from torch import nn

from landscape.attacks import attack
from landscape.models import ModelSpec
from landscape.papers.scale import Scale
from landscape.running.work import From, Run
from landscape.training.paper_recipes import PAPER_RECIPES

# Section 4, Section 5.1 and its TinyImageNet.
WIDE = {"digits": "digits", "mnist": "mnist", "paper": "li2023/cifar10-wrn"}
PREACT = {"digits": "digits", "mnist": "mnist", "paper": "li2023/cifar10-prn18"}
TINY = {"digits": "digits", "mnist": "mnist", "paper": "li2023/tinyimagenet-prn18"}

EPOCHS = 32
DIGITS = {
    "n_examples": 200,
    "batch_size": 25,
    "epochs": EPOCHS,
    "milestones": (EPOCHS // 2, EPOCHS * 3 // 4),
    "weight_decay": 1e-4,
    "model_options": {"batchnorm": True},
}
_SMOKE = {"weight_decay": 1e-4, "model_options": {"batchnorm": True}}
_MNIST = {"batch_size": 100, "weight_decay": 1e-4, "milestones": (35, 52)}


def radius(scale: Scale) -> float:
    """ε, for inputs in [0, 1]."""
    return scale.pick(digits=0.1, mnist=0.3, paper=8 / 255)


def squared(scale: Scale) -> float:
    """Squared L2 radius of the ball, in those of the paper's: what squared norms of gradients
    are weighed by elsewhere."""
    pixels = scale.pick(digits=8 * 8, mnist=28 * 28, paper=3 * 32 * 32)
    return radius(scale) ** 2 * pixels / ((8 / 255) ** 2 * 3 * 32 * 32)


def trained(
    scale: Scale,
    method: str,
    seed: int = 0,
    recipe: Mapping[str, str] = WIDE,
    *,
    along: bool = False,
    eps: float | None = None,
    **options: Any,
) -> Run:
    """A training of the paper at a scale; ``options`` of an addition are a dictionary.

    ``along``: with the networks on the way, as figures over epochs need. ``eps``: other radius.
    """
    base, *additions = method.split("+")
    # Digits runs are the same for both architectures: these are in figures over epochs as well.
    along = along or (scale.name != "paper" and method in ("standard", "pgd"))
    ball = radius(scale) if eps is None else eps
    chosen: dict[str, Any] = {
        "validation_attack": attack("pgd-5", eps=ball, step_size=ball / 4),
        "eps": eps,
    }
    if scale.name != "paper":
        chosen |= _elsewhere(scale, base, additions)
        chosen |= {"alpha": {"fgsm-r": ball, "pgd": ball / 4}.get(base)}
    if "kdsa" in additions:
        chosen["kdsa"] = {
            "standard": _teacher(trained(scale, "standard", seed, recipe)),
            "adversarial": _teacher(trained(scale, base, seed, recipe)),
        }
    for name, value in options.items():
        merged = isinstance(value, Mapping) and name in additions
        chosen[name] = {**chosen.get(name, {}), **value} if merged else value
    return scale.run(
        method,
        recipe=recipe,
        seed=seed,
        keep_every=scale.pick(digits=4, mnist=5, paper=1, smoke=1) if along else None,
        **chosen,
    )


def _elsewhere(scale: Scale, base: str, additions: Sequence[str]) -> dict[str, Any]:
    """What stands in for the paper's recipe on other data: its strengths, in proportion."""
    found: dict[str, Any] = dict(scale.pick(digits=DIGITS, mnist=_MNIST, paper={}, smoke=_SMOKE))
    recipe, small = PAPER_RECIPES[PREACT["paper"]], scale.name != "mnist"
    for name in additions:
        own = recipe.own(name, {base, *additions})
        if name == "igr":
            # With the whole of it a quarter of the clean digits is wrong, see docs/training.md.
            own["weight"] *= squared(scale) * (0.1 if small else 1.0)
        elif name == "cure":
            own |= {"weight": own["weight"] * squared(scale), "h": radius(scale)}
        elif name == "advlc" and small:
            own["ramp"] = 2 if scale.smoke else EPOCHS  # as on TinyImageNet
        elif name == "swa":
            own["start"] = scale.pick(digits=EPOCHS // 4, mnist=18, paper=50, smoke=1)
        elif name == "consistency":
            found["augmentation"] = "shift"  # its two views must differ
        if own:
            found[name] = own
    return found


def _teacher(run: Run) -> From:
    return From(run, "{folder}/best.pt", stand_in=_untrained(run.config().model))


@cache
def _untrained(spec: ModelSpec) -> nn.Module:
    return spec.build(seed=0)
