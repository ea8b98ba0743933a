"""A grid point of a surface against the forward passes (and attack steps) of a plain loop."""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch.nn.functional as F

import landscape as ls
from benchmarks.timing import interleaved, median, ratio
from landscape import data, models
from landscape import params as P

AT_ONCE = 8
TITLE = "One grid point of a surface"
COLUMNS = [
    "network",
    "data",
    "loss",
    "plain loop, s",
    "grid point / plain loop",
    f"{AT_ONCE} points at once / one by one",
]
REMARK = (
    "A plain loop: θ + x·d written into the model, then one pass over the same batches. Points at "
    "once: `torch.vmap` over stacked parameters. Surfaces go one by one: what vmap gains on the "
    "smallest networks is little, it rounds differently, and not every model can be transformed."
)


def rows(quick: bool = False) -> list[list[str]]:
    cases = [("lenet-4", "digits", 1197, 256), ("resnet18-4", "digits32", 128, 64)]
    found = []
    for name, set_name, n, batch in cases[: 1 if quick else None]:
        images = data.load(set_name, "train", n_examples=n)
        model = models.build(name, in_shape=images.in_shape, num_classes=10, seed=0).eval()
        x, y = images.tensors()
        batches = list(zip(x.split(batch), y.split(batch), strict=True))
        for attack in (None, ls.attack("pgd-5", eps=0.1)):
            found.append(_row(name, set_name, model, batches, attack))
    return found


def _row(
    name: str,
    set_name: str,
    model: torch.nn.Module,
    batches: list[tuple[torch.Tensor, torch.Tensor]],
    attack: ls.Attack | None,
) -> list[str]:
    objective = ls.Objective(model, batches, attack=attack, refresh="each")
    direction = P.scale(0.01, objective.params)
    by_hand = copy.deepcopy(model).requires_grad_(False)

    def plain() -> None:
        with torch.no_grad():
            for k, p in by_hand.named_parameters():
                p.copy_(objective.params[k] + 0.5 * direction[k])
        n = 0
        total, right = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for x, y in batches:
            inputs = x if attack is None else _pgd(by_hand, x, y, attack)
            with torch.no_grad():
                output = by_hand(inputs)
                total += F.cross_entropy(output, y, reduction="sum")
                right += (output.argmax(1) == y).sum()
            n += len(y)
        float(total) / n, int(right) / n

    def point() -> None:
        objective.value(P.axpy(0.5, direction, objective.params))

    steps = [0.1 * i for i in range(AT_ONCE)]

    def by_one() -> torch.Tensor:
        points = (P.axpy(step, direction, objective.params) for step in steps)
        return torch.tensor([objective.value(point).loss for point in points])

    def together() -> torch.Tensor:
        points = [P.axpy(step, direction, objective.params) for step in steps]
        stacked = {k: torch.stack([point[k] for point in points]) for k in direction}
        return sum(at_once(stacked, x, y) for x, y in batches) / objective.batches.samples

    @torch.no_grad()
    @partial(torch.vmap, in_dims=(0, None, None))
    def at_once(point: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        output = torch.func.functional_call(model, point, (x,))
        return F.cross_entropy(output, y, reduction="sum")

    seconds = interleaved({"plain": plain, "point": point}, repeats=31)
    gain = "–"
    if attack is None:
        torch.testing.assert_close(together(), by_one(), rtol=1e-4, atol=1e-4)
        both = interleaved({"together": together, "by one": by_one}, repeats=7)
        gain = f"{ratio(both, 'together', 'by one'):.2f}"
    return [
        name,
        f"{set_name}, {objective.batches.samples}",
        "clean" if attack is None else f"PGD-{attack.steps} at every point",
        f"{median(seconds['plain']):.4f}",
        f"{ratio(seconds, 'point', 'plain'):.3f}",
        gain,
    ]


def _pgd(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, attack: ls.Attack
) -> torch.Tensor:
    """The shortest PGD one would write by hand."""
    eps, alpha = attack.ball.radius, attack.step_size
    found = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(attack.steps):
        found.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(found), y), found)
        found = (x + (found.detach() + alpha * g.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return found
