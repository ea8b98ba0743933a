"""The networks of liu2020: one training per adversarial budget."""

from __future__ import annotations

from typing import Any

from landscape.papers.scale import Scale
from landscape.papers.work import Run

RESNET = {"digits": "digits", "mnist": "liu2020/mnist", "paper": "liu2020/cifar10-resnet18"}
VGG = {"digits": "digits", "mnist": "liu2020/mnist", "paper": "liu2020/cifar10-vgg"}
LENET = {"digits": "digits", "mnist": "liu2020/mnist", "paper": "liu2020/mnist"}


def budgets(scale: Scale, recipe: dict[str, str] = RESNET) -> tuple[float, ...]:
    """Radii of the attack, from 0 (vanilla training) to the largest of the paper."""
    mnist = (0.0, 0.1, 0.2, 0.3, 0.4)
    if recipe is LENET:
        return scale.pick(digits=(0.0, 0.05, 0.1, 0.2), mnist=mnist, paper=mnist, smoke=(0.0, 0.1))
    return scale.pick(
        digits=(0.0, 0.05, 0.1, 0.2),
        mnist=mnist,
        paper=(0.0, 2 / 255, 4 / 255, 6 / 255, 8 / 255),
        smoke=(0.0, 0.1),
    )


def trained(scale: Scale, eps: float, seed: int, recipe: dict[str, str] = RESNET, **o: Any) -> Run:
    """PGD training of radius ``eps``; standard training for radius 0."""
    if eps == 0:
        return scale.run("standard", recipe=recipe, seed=seed, **o)
    return scale.run("pgd", recipe=recipe, seed=seed, eps=eps, **o)
