"""ATTA: attacks that go on from where a sample's last one ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.attacks import Attack, attack
from landscape.data.augment import CropFlip
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.network import Forward
from landscape.training.outer_losses import CrossEntropy, PerSample, Trades
from landscape.training.perturbations import Attacked
from landscape.training.samples import View

_DELTA, _ROUND = "atta.delta", "atta.round"


@dataclass(frozen=True)
class Cached(Attacked):
    """x' by an attack that starts at the sample's last δ (ATTA, Zheng et al. 2020).

    A sample's δ lives on a canvas, its image padded as crops pad it: a batch takes the windows
    that its images were cropped from, flipped where they were flipped, and writes the new δ back
    into them. So padding has a δ as well, as in the authors' code. Augmentations that do anything
    but shift and flip are refused. The cache is part of the training's state: N canvases.

    Attributes:
        reset: epochs after which all samples start afresh, as the attack starts; 0 for never. The
            authors: 10 for CIFAR-10, the first round an epoch shorter, and never for MNIST.
        padding: of the canvas, at least that of the augmentation.
    """

    reset: float = 10
    padding: int = 4

    part: ClassVar[str] = "cached attack"
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.reset < math.inf:
            raise UsageError(f"reset must be a number of epochs of at least 0, got {self.reset}.")
        if isinstance(self.padding, bool) or not isinstance(self.padding, int) or self.padding < 0:
            raise UsageError(f"padding must be a whole number of at least 0, got {self.padding!r}.")
        if self.attack.restarts > 1:
            raise UsageError("an attack from a cached start has one start: restarts must be 1.")

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        streams, memory, x, view = batch.streams.child("attack"), batch.memory, batch.x, batch.view
        window, shape = None, tuple(x.shape[1:])
        if view is not None and view.augment is not None:
            window = found_window(view, self.padding)
            shape = (*shape[:-2], *(side + 2 * self.padding for side in shape[-2:]))
        if _DELTA not in memory:
            memory[_DELTA] = x.new_zeros(batch.population, *shape)
            memory[_ROUND] = torch.full((batch.population,), -1, device=x.device)
        rows = batch.rows.to(x.device)
        now = int(batch.time // self.reset) if self.reset else 0
        canvas = memory[_DELTA][rows]
        # Samples whose δ is of an earlier round, or that have none, start as the attack does.
        fresh = attack.start_of(x, streams)
        known = (memory[_ROUND][rows] == now).reshape(-1, *[1] * (x.ndim - 1))
        last = canvas if window is None else window.crop(canvas)
        initial = attack.ball.project(torch.where(known, last, fresh))
        found = attack.perturb(forward, x, batch.y, streams=streams, initial=initial)
        delta = found - x
        memory[_DELTA][rows] = (
            delta if window is None else window.write(delta, torch.where(known, canvas, 0.0))
        )
        memory[_ROUND][rows] = now
        return found

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "reset": self.reset, "padding": self.padding}


def found_window(view: View, padding: int) -> CropFlip:
    """The shifts and flips of a view, found by sending the pixels' coordinates through it."""
    raw = view.raw
    if raw.ndim != 4:
        raise UsageError(
            f"augmented inputs must be images (B, C, H, W) for ATTA, got {tuple(raw.shape)}."
        )
    height, width = raw.shape[-2:]
    down = torch.arange(height, device=raw.device)
    along = torch.arange(width, device=raw.device)
    # Counted from 1: what comes from outside the image is 0. In float32, which has them exactly.
    row = view.same((down[:, None] + 1).float().expand_as(raw))[:, 0]
    column = view.same((along + 1).float().expand_as(raw))[:, 0]
    inside = row > 0
    top = _shift(row - 1 - down[:, None], inside)
    straight = _shift(column - 1 - along, inside)
    mirrored = _shift(column - 1 - along.flip(0), inside)
    flip = straight.isnan()
    left = torch.where(flip, mirrored, straight)
    if bool((top.isnan() | left.isnan()).any()):
        raise UsageError(
            "ATTA needs an augmentation that shifts and flips images and nothing else, such as "
            "shift or crop-flip: this one can't be undone on the cached perturbations."
        )
    most = int(torch.stack([top.abs(), left.abs()]).max())
    if most > padding:
        raise UsageError(
            f"the augmentation shifts by {most} pixels, the cache has a margin of {padding}: set "
            f"padding={most}."
        )
    return CropFlip(top.long() + padding, left.long() + padding, flip, padding)


def _shift(offsets: Tensor, inside: Tensor) -> Tensor:
    """The whole number that all offsets (B, H, W) inside an image are, NaN where they differ."""
    low = torch.where(inside, offsets, math.inf).flatten(1).amin(1)
    high = torch.where(inside, offsets, -math.inf).flatten(1).amax(1)
    same = (low == high) & (low == low.round())
    return torch.where(same, low, math.nan)


def atta(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 1,
    alpha: float | None = None,
    beta: float | None = None,
    reset: float = 10,
    padding: int = 4,
    noise: float = 0.001,
    attack_mode: str = "eval",
) -> tuple[Cached, PerSample]:
    """``steps`` of α from the cached δ, at first Gaussian noise of standard deviation ``noise``.

    α is ε/2 for one step (liu2022), else ε/4. With ``beta`` it is TRADES that is trained and whose
    KL is attacked, else cross-entropy.
    """
    found = attack(
        "pgd",
        eps=eps,
        norm=norm,
        steps=steps,
        step_size=eps / (2 if steps == 1 else 4) if alpha is None else alpha,
        start="gaussian",
        start_scale=noise,
        objective="cross-entropy" if beta is None else "kl",
        mode=attack_mode,
    )
    loss: PerSample = CrossEntropy() if beta is None else Trades(beta)
    return Cached(found, reset=reset, padding=padding), loss
