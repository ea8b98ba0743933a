"""KDSA: learning from teachers besides the labels."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape import checkpoints
from landscape import params as P
from landscape.errors import CheckpointError, UsageError
from landscape.models import ModelSpec, imports
from landscape.training.batch import Batch
from landscape.training.consistency import check_weight
from landscape.training.outer_losses import Around, PerSample
from landscape.training.targets import check_inner


class Teacher:
    """A trained network that is only asked: in eval mode, without gradients, never changed.

    Args:
        source: a checkpoint that ``landscape train`` made, by its path or the name of a bundled
            one, or a module, of which a copy is kept.
    """

    def __init__(self, source: str | Path | nn.Module) -> None:
        self.source: str | None = None
        if isinstance(source, nn.Module):
            self.model = copy.deepcopy(source)
        else:
            self.source = str(source)
            found = checkpoints.load(checkpoints.find(source))
            if found.model is None:
                raise CheckpointError(
                    f"{source} holds bare weights, without the architecture a teacher needs: give "
                    "a checkpoint made by `landscape train`, or from Python a module."
                )
            if imports(str(found.model.get("name"))):
                raise UsageError(
                    f"{source} holds a network of your own, whose code a file may not import: "
                    "give it from Python, as a module."
                )
            self.model = found.into(ModelSpec.from_dict(found.model).build(seed=0))
        self.model.eval().requires_grad_(False)
        self.digest = P.digest(self.model.state_dict())

    @torch.no_grad()
    def __call__(self, x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes) in the dtype of x; another number of classes is refused."""
        own = next(iter(self.model.parameters()), x)
        if own.device != x.device or own.dtype != x.dtype:
            self.model.to(x.device, x.dtype)
        try:
            logits = self.model(x)
        except RuntimeError as error:
            raise UsageError(
                f"{self} can't take inputs of shape {tuple(x.shape[1:])}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if logits.shape != (len(x), classes):
            raise UsageError(
                f"{self} has outputs of shape {tuple(logits.shape[1:])}, the network has {classes} "
                "classes: a teacher must know the same classes."
            )
        return logits

    def __str__(self) -> str:
        return f"teacher {self.source or type(self.model).__name__}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Teacher) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __deepcopy__(self, memo: Any) -> Teacher:
        return self  # nobody changes it

    def describe(self) -> dict[str, Any]:
        return {"source": self.source, "digest": self.digest}


@dataclass(frozen=True)
class Distilled(Around):
    """a ℓ + b KD(standard teacher) + c KD(adversarial teacher) (KDSA, Chen et al. 2021).

    KD = −(T²/B) Σ_ij q_ij log p_T,j(x'_i), p_T the softmax of f/T and q that of the teacher's
    logits on the same x'. The teachers, one trained as usual and one adversarially, have the
    network's classes; their two forward passes per update are not counted in its cost. The
    paper averages weights as well: ``pgd+kdsa+swa``.

    Attributes:
        inner: ℓ, cross-entropy in the paper. standard, adversarial: the teachers: paths of
            checkpoints, or modules. weights: (a, b, c). temperature: T.
    """

    inner: PerSample
    standard: Any
    adversarial: Any
    weights: tuple[float, float, float] = (0.3, 0.1, 0.6)
    temperature: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        if len(self.weights) != 3:
            raise UsageError(
                "weights must be three numbers, of the loss and of the standard and the "
                f"adversarial teacher; got {self.weights}."
            )
        for value in self.weights:
            check_weight("every one of weights", value)
        if not 0 < self.temperature < math.inf:
            raise UsageError(
                f"temperature must be a finite number above 0, got {self.temperature}."
            )
        for name in ("standard", "adversarial"):
            source = getattr(self, name)
            if not isinstance(source, Teacher):
                object.__setattr__(self, name, Teacher(source))

    def check(self, epochs: int) -> None:
        """Refuse what doesn't fit into a run of ``epochs``."""
        check_inner(self.inner, epochs)

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        logits, t = batch.adversarial_logits, self.temperature
        log_p = F.log_softmax(logits / t, 1)
        own, *taught = self.weights
        total = own * self.inner.each(batch, target)
        for weight, teacher in zip(taught, (self.standard, self.adversarial), strict=True):
            q = (teacher(batch.adversarial, logits.shape[1]) / t).softmax(1)
            total = total - weight * t**2 * (q * log_p).sum(1)
        return total

    def describe(self) -> dict[str, Any]:
        return {
            "part": "kdsa",
            "standard": self.standard.describe(),
            "adversarial": self.adversarial.describe(),
            "weights": list(self.weights),
            "temperature": self.temperature,
            "inner": self.inner.describe(),
        }
