"""PGD against the passes it consists of, and against torchattacks at equal settings."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import landscape as ls
from benchmarks.timing import interleaved, median, ratio
from landscape import checkpoints, data, functional, models
from landscape import params as P
from landscape.random import Streams

TITLE = "PGD"
COLUMNS = [
    "network",
    "batch",
    "seconds",
    "time / its passes",
    "torchattacks / landscape",
    "torchattacks / with early stop",
    "robust accuracy %: torchattacks, landscape, with early stop",
]
REMARK = (
    "PGD-10, L∞, ε = 0.1 and ε/4. Its passes: ten times a forward pass and the gradient of the "
    "input alone, and nothing else. torchattacks 3.5 too asks for the input's gradient alone, so "
    "one attack costs the same. With early stop: `keep='success'` and `early_stop=True`, where "
    "samples leave the batch once misclassified."
)

STEPS, EPS = 10, 0.1


def rows(quick: bool = False) -> list[list[str]]:
    found = []
    for training in ("standard", "pgd"):
        checkpoint = checkpoints.load(checkpoints.bundled()[f"digits-{training}-seed0"])
        lenet = checkpoint.into(models.ModelSpec.from_dict(checkpoint.model or {}).build(seed=0))
        found.append(_row(f"LeNet, {training}", lenet, "digits", 256, repeats=31))
        if quick:
            return found
    shape = data.load("digits32", "train", n_examples=1).in_shape
    resnet = models.build("resnet18-4", in_shape=shape, num_classes=10, seed=0)
    found.append(_row("resnet18-4, untrained", resnet, "digits32", 32, repeats=9))
    return found


def _row(title: str, model: nn.Module, set_name: str, batch: int, repeats: int) -> list[str]:
    x, y = data.load(set_name, "train", n_examples=batch).tensors()
    model = model.eval()
    fixed = copy.deepcopy(model).requires_grad_(False)
    attack = ls.attack(f"pgd-{STEPS}", eps=EPS)
    stopping = dataclasses.replace(attack, keep="success", early_stop=True)
    robust: dict[str, float] = {}

    def passes() -> None:
        for _ in range(STEPS):
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(fixed(leaf), y), leaf)

    def ours(attack: ls.Attack) -> Tensor:
        streams, full = Streams(0), P.trainable(model)
        return functional.run(model, full, lambda f: attack.perturb(f, x, y, streams=streams))

    ways: dict[str, Callable[[], Tensor | None]] = {
        "passes": passes,
        "landscape": lambda: ours(attack),
        "with early stop": lambda: ours(stopping),
        **_torchattacks(model, attack, x, y),
    }
    seconds = interleaved(ways, repeats)
    for name, way in ways.items():
        found = way()
        if found is not None:
            robust[name] = float((model(found).argmax(1) == y).double().mean())
    peer = "torchattacks" in ways
    return [
        title,
        f"{set_name}, {batch}",
        f"{median(seconds['landscape']):.4f}",
        f"{ratio(seconds, 'landscape', 'passes'):.3f}",
        f"{ratio(seconds, 'torchattacks', 'landscape'):.2f}" if peer else "not installed",
        f"{ratio(seconds, 'torchattacks', 'with early stop'):.2f}" if peer else "not installed",
        ", ".join(
            f"{100 * robust[name]:.1f}" if name in robust else "–"
            for name in ("torchattacks", "landscape", "with early stop")
        ),
    ]


def _torchattacks(
    model: nn.Module, attack: ls.Attack, x: Tensor, y: Tensor
) -> dict[str, Callable[[], Tensor | None]]:
    try:
        peer = importlib.import_module("torchattacks")
    except ImportError:
        return {}
    settings = {"eps": attack.ball.radius, "alpha": attack.step_size, "steps": attack.steps}
    pgd = peer.PGD(model, **settings)
    return {"torchattacks": lambda: pgd(x, y)}
