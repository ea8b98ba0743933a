"""What attacks maximise: a number per sample, of its logits, its label and perhaps a target class.

All are large where the attack is near success. Targeted ones are maximised to reach one class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import UsageError
from landscape.losses import cross_entropy

Maximised = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Targeted = Callable[[Tensor, Tensor, Tensor], Tensor]


def kl_to_clean(logits: Tensor, y: Tensor, clean: Tensor | None) -> Tensor:
    """KL(softmax(clean) ‖ softmax(logits)) per sample: what TRADES maximises."""
    assert clean is not None
    return F.kl_div(
        F.log_softmax(logits, 1), F.log_softmax(clean, 1), reduction="none", log_target=True
    ).sum(1)


def margin(logits: Tensor, y: Tensor, clean: Tensor | None = None) -> Tensor:
    """max_{j≠y} z_j − z_y per sample (Carlini & Wagner): positive exactly when misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - own


def dlr(logits: Tensor, y: Tensor, clean: Tensor | None = None) -> Tensor:
    """(max_{j≠y} z_j − z_y) / (z_(1) − z_(3)), z_(i) the i-th largest (Croce & Hein 2020, eq. 6).

    The difference of logits ratio: unlike cross-entropy it doesn't change when the logits are
    scaled, so that confident networks don't hide their gradients. Needs 3 classes.
    """
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(_LEAST)


def margin_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_t − max_{j≠t} z_j per sample: positive exactly when class t is predicted."""
    return -margin(logits, target)


def dlr_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_t − z_y) / (z_(1) − (z_(3) + z_(4)) / 2) (Croce & Hein 2020, eq. 7). Needs 4 classes."""
    picked = logits.gather(1, torch.stack([target, y], 1))
    top = logits.topk(4, dim=1).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return (picked[:, 0] - picked[:, 1]) / spread.clamp_min(_LEAST)


# "loss" is in neither table: it means the loss whose landscape is studied, or minus that loss
# with the target as the label.
OBJECTIVES: dict[str, Maximised] = {
    "cross-entropy": lambda logits, y, clean: cross_entropy(logits, y),
    "kl": kl_to_clean,
    "margin": margin,
    "dlr": dlr,
}
TARGETED: dict[str, Targeted] = {
    "cross-entropy": lambda logits, y, target: -cross_entropy(logits, target),
    "margin": margin_to,
    "dlr": dlr_to,
}

# Where all the largest logits are equal; the authors' code adds the same number.
_LEAST = 1e-12
_CLASSES = {"margin": 2, "dlr": 3}
_CLASSES_TARGETED = {"margin": 2, "dlr": 4}


def ranked(logits: Tensor, y: Tensor, rank: int) -> Tensor:
    """The class of a rank of likelihood among the others than y: 1 the likeliest, −1 the least.

    ``rank`` lies in ±1 … ±(classes − 1).
    """
    ordered = logits.scatter(1, y[:, None], float("-inf")).sort(stable=True, dim=1, descending=True)
    others = ordered.indices[:, :-1]
    return others[:, rank - 1 if rank > 0 else rank]


def succeeded(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Whether y is not predicted, or ``target`` is if given. NaN logits are no success."""
    predicted = logits.argmax(1)
    hit = predicted != y if target is None else predicted == target
    return hit & ~logits.isnan().any(1)


def check_target(target: Tensor, y: Tensor, classes: int) -> None:
    """Refuse target classes that aren't one other class per sample."""
    if target.shape != y.shape or target.is_floating_point():
        raise UsageError(
            f"target must hold one class per sample, shape {tuple(y.shape)} of integers; got "
            f"shape {tuple(target.shape)} of {str(target.dtype).removeprefix('torch.')}."
        )
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise UsageError(
            f"target holds classes from {int(target.min())} to {int(target.max())}, but the model "
            f"has {classes} outputs."
        )
    same = int((target == y).sum())
    if same:
        raise UsageError(
            f"target is the label itself for {same} of {len(y)} samples: leave those out, or "
            "choose another class for them."
        )


def check_outputs(
    logits: object, x: Tensor, y: Tensor, objective: str, targeted: bool, labels: bool
) -> None:
    """A look at the first outputs: what the objective can't take is refused.

    Outputs that are probabilities are warned of: attacks on them are weaker than on logits,
    because softmax saturates, and cross-entropy would take their softmax again.
    """
    if not torch.is_tensor(logits):
        raise UsageError(
            f"the model returned a {type(logits).__name__}: wrap it in a module whose forward "
            "returns the logits alone."
        )
    needed = (_CLASSES_TARGETED if targeted else _CLASSES).get(objective, 0)
    needs_logits = bool(needed) or targeted or labels or objective == "kl"
    if needs_logits and (logits.ndim != 2 or len(logits) != len(x)):
        raise UsageError(
            f"the attack needs logits of shape (B, classes) for {len(x)} samples, the model "
            f"returned {tuple(logits.shape)}."
        )
    needs_labels = bool(needed) or targeted or labels
    if needs_labels and (y.shape != x.shape[:1] or y.is_floating_point()):
        raise UsageError(
            "the attack needs one class per sample as its label, integers of shape "
            f"({len(x)},); got {str(y.dtype).removeprefix('torch.')} of shape {tuple(y.shape)}."
        )
    if needed and logits.shape[1] < needed:
        kind = f"targeted {objective}" if targeted else objective
        raise UsageError(
            f"{kind} needs at least {needed} classes, the model has {logits.shape[1]}: use "
            "objective='margin' or 'cross-entropy'."
        )
    if _probabilities(logits):
        warnings.warn(
            "the model's outputs look like probabilities (in [0, 1], summing to 1): attacks need "
            "logits and are weaker without. Leave out its softmax, or return the logarithm.",
            stacklevel=4,
        )


def check_ranks(ranks: Sequence[int], classes: int) -> list[int]:
    """The ranks that exist with so many classes; none is an error."""
    found = [rank for rank in ranks if abs(rank) < classes]
    if not found:
        raise UsageError(
            f"no class of rank {', '.join(map(str, ranks))} besides the label: the model has "
            f"{classes} classes."
        )
    return found


def _probabilities(logits: Tensor) -> bool:
    if logits.ndim != 2 or logits.numel() == 0 or logits.shape[1] < 2:
        return False
    if not float(logits.detach().amin()) >= 0:  # so for almost every network that returns logits
        return False
    sums = logits.detach().double().sum(1)
    return bool((sums - 1).abs().amax() < 1e-3)
