"""AutoAttack by its authors' own code, the package pyautoattack: no imitation of it is in here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.attacks.ball import Ball
from landscape.attacks.family import check_box
from landscape.errors import UsageError, unknown

Forward = Callable[[Tensor], Tensor]

VERSIONS = {"autoattack": "standard", "autoattack-plus": "plus"}
PACKAGE = "pyautoattack"

_NORMS = {"linf": "Linf", "l2": "L2"}
# The difference of logits ratio needs a third largest logit, the targeted one a fourth.
_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
# Square's first L2 perturbation is made of tiles a fifth of the image high.
_HEIGHT = 5


@dataclass(frozen=True)
class AutoAttack:
    """The ensemble of Croce & Hein (2020), whose members attack one after the other.

    ``standard``: APGD on cross-entropy, targeted APGD on the difference of logits ratio, targeted
    FAB and Square, each on the samples that withstood those before. ``plus``: all six, with
    restarts. Which samples can be misclassified is the answer: the points found maximise nothing,
    so there is no adversarial loss, and an Objective doesn't take this as its attack.

    Attributes:
        ball: norm and radius ε, inputs in [0, 1].
        version: ``standard`` or ``plus``.
        batch_size: samples attacked together. The package seeds its random numbers anew for every
            batch, so a result belongs to one batch size; 250 is the package's own.

    Differences from a call of the package: none to the numbers of a float32 network on images
    (channels, height, width) with 10 classes or more. With fewer classes there are fewer targets,
    and members whose loss isn't defined are left out, as is Square in L2 on less than 5 rows.
    Other inputs are attacked as images of one row; float64 networks see float32 inputs.
    """

    ball: Ball
    version: str = "standard"
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.version not in VERSIONS.values():
            raise unknown("version of AutoAttack", self.version, VERSIONS.values())
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {self.batch_size}.")

    def describe(self) -> dict[str, Any]:
        """What provenance records, with the version of the package."""
        return {
            "norm": self.ball.norm,
            "eps": self.ball.radius,
            "autoattack": self.version,
            "batch_size": self.batch_size,
            "package": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
        }

    def members(self, classes: int, shape: Sequence[int]) -> dict[str, int]:
        """Those that can be run on inputs of ``shape``, with the forward passes each may take."""
        made = self._package(lambda x: x, classes, 0, "cpu")
        targets, restarts = made.apgd_targeted.n_target_classes, made.apgd.n_restarts
        passes = {
            "apgd-ce": restarts * 102,
            "apgd-dlr": restarts * 102,
            "apgd-t": targets * 103,
            "fab": made.fab.n_restarts * 202,
            "fab-t": targets * 203,
            "square": made.square.n_queries + 3,
        }
        flat = self.ball.norm == "l2" and _image(shape)[1] < _HEIGHT
        return {
            name: passes[name]
            for name in made.attacks_to_run
            if classes >= _CLASSES.get(name, 2) and not (name == "square" and flat)
        }

    def run(
        self,
        forward: Forward,
        x: Tensor,
        y: Tensor,
        *,
        member: str,
        classes: int,
        seed: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        called: Callable[[int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One member on all of x: the examples, and which samples withstood it, shape (N,).

        Call it with torch's random state kept. Samples that are misclassified as they are count as
        broken. The package's warnings become Python's.

        Args:
            forward: the network, with parameters that don't require gradients.
            member: one of ``members``.
            x: inputs in [0, 1], shape (N, ...), on any device. y: classes, shape (N,).
            device, dtype: of the network. called: with the forward passes so far, each of a batch.
        """
        check_box(x)
        if self.ball.radius == 0 or not len(x):
            with torch.no_grad():
                pieces = zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)
                hits = [forward(a.to(device, dtype)).argmax(1).cpu() == b.cpu() for a, b in pieces]
            return x, torch.cat(hits) if hits else torch.zeros(0, dtype=torch.bool)
        network = _Network(forward, x.shape[1:], dtype, called)
        with _contained() as messages:
            made = self._package(network, classes, seed, device)
            made.attacks_to_run = [member]
            images = x.detach().float().reshape(-1, *_image(x.shape[1:])).contiguous()
            found, predicted = made.run_standard_evaluation(images, y, batch_size=self.batch_size)
        for message in dict.fromkeys(messages):
            warnings.warn(f"AutoAttack, {member}: {message}", stacklevel=2)
        return found.reshape(x.shape).to(x), (predicted == y).cpu()

    def _package(self, network: Forward, classes: int, seed: int, device: Any) -> Any:
        import pyautoattack

        made = pyautoattack.AutoAttack(
            network,
            norm=_NORMS[self.ball.norm],
            eps=self.ball.radius,
            seed=seed,
            version=self.version,
            device=device,
        )
        for part in (made.apgd_targeted, made.fab):
            part.n_target_classes = min(part.n_target_classes, classes - 1)
        return made


def square(
    forward: Forward,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    queries: int,
    seed: int,
) -> Tensor | None:
    """Examples found by the Square attack (Andriushchenko et al. 2020) alone, by the same code.

    Random search: no gradients. Its schedule is that of 10,000 queries, shortened. ``None`` where
    it isn't defined: in L2, on inputs other than images of at least 5 rows.
    """
    from pyautoattack.square import SquareAttack

    if ball.norm == "l2" and _image(x.shape[1:])[1] < _HEIGHT:
        return None
    if ball.radius == 0 or not len(x):
        return x
    network = _Network(forward, x.shape[1:], x.dtype)
    with _contained(), torch.no_grad():
        search = SquareAttack(
            network, norm=_NORMS[ball.norm], eps=ball.radius, n_queries=queries, seed=seed
        )
        images = x.detach().float().reshape(-1, *_image(x.shape[1:])).contiguous()
        found: Tensor = search.perturb(images, y)
    return found.reshape(x.shape).to(x)


def connected(forward: Forward) -> Forward:
    """The same network with zero gradients where autograd finds no way back to the input.

    So that a layer that rounds its input by a cast shows as what it is, and not as an error.
    """

    def network(x: Tensor) -> Tensor:
        output = forward(x)
        if torch.is_grad_enabled() and x.requires_grad and not output.requires_grad:
            nothing = 0 * x.flatten(1).sum(1)
            output = output + nothing.reshape(-1, *[1] * (output.ndim - 1))
        return output

    return network


class _Network:
    """What the package sees: float32 images in, float32 logits of its own out."""

    def __init__(
        self,
        forward: Forward,
        shape: Sequence[int],
        dtype: torch.dtype,
        called: Callable[[int], None] | None = None,
    ) -> None:
        self._forward, self._shape, self._dtype = connected(forward), tuple(shape), dtype
        self._called, self._calls = called, 0

    def __call__(self, images: Tensor) -> Tensor:
        self._calls += 1
        if self._called is not None:
            self._called(self._calls)
        output = self._forward(images.reshape(len(images), *self._shape).to(self._dtype))
        # A copy, because Square writes into the logits, which may be a view of the input.
        return output.to(torch.float32, copy=True)


def _image(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return 1, 1, torch.Size(shape).numel()


@contextlib.contextmanager
def _contained() -> Iterator[list[str]]:
    """What the package does to the process is undone; its warnings are collected.

    It logs, prints, ends any trace function (coverage, debuggers) and counts calls for good.
    """
    from pyautoattack import checks

    messages: list[str] = []
    seen: set[str] = set()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage().split(" See flags_doc")[0]
            # Members and targets have been chosen to suit the number of classes.
            if record.levelno < logging.WARNING or "DLR loss" in text or "target classes" in text:
                return
            kind = re.sub(r"[\d.]+", "", text)  # the same for every batch, with other numbers
            if kind not in seen:
                seen.add(kind)
                messages.append(text)

    logger, handler, trace = logging.getLogger("auto-attack"), Collect(), sys.gettrace()
    before = logger.propagate, logger.level, logger.handlers
    seeding = torch.random.manual_seed, torch.cuda.random.manual_seed
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    logger.propagate, logger.handlers = False, [handler]
    if not torch.cuda.is_initialized():
        # Else a GPU that some later work initialises would start with the attack's seed.
        torch.random.manual_seed = torch.default_generator.manual_seed
        torch.cuda.random.manual_seed = lambda seed: None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield messages
    finally:
        sys.settrace(trace)
        torch.random.manual_seed, torch.cuda.random.manual_seed = seeding
        logger.propagate, logger.level, logger.handlers = before
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))
