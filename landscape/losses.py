"""Per-sample losses: ``loss(output, target) -> Tensor[B]``, never averaged.

Averages are taken in one place, the Objective, over samples and not over batches.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import UsageError, unknown

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """−log softmax(output)[target], in nats; ``output`` (B, C) logits, ``target`` (B,) classes.

    Further axes of ``target`` (segmentation maps) are averaged within a sample.
    """
    return _per_sample(F.cross_entropy(output, target, reduction="none"))


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Σ_j (output_j − target_j)² per sample; a (B, 1) output may meet a (B,) target."""
    if output.shape != target.shape and output.numel() == target.numel():
        target = target.reshape(output.shape)
    if output.shape != target.shape:
        raise UsageError(
            f"mse needs output and target of one shape, got {tuple(output.shape)} "
            f"and {tuple(target.shape)}."
        )
    return (
        (output - target.to(output.dtype)).pow(2).flatten(1).sum(1)
        if output.ndim > 1
        else (output - target.to(output.dtype)).pow(2)
    )


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "mse": squared_error}


def resolve(loss: str | Loss) -> Loss:
    """A loss by name, or the caller's own function.

    A caller's function may return one value per sample, or the batch *mean* as a scalar (then
    per-sample quantities aren't available). A sum is refused by ``check_mean``.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        return LOSSES[loss]
    return loss


def named(text: str) -> str | Loss:
    """A loss as a command takes it: a name in ``LOSSES``, or ``package.module:function``."""
    module, colon, function = text.partition(":")
    if not colon:
        resolve(text)
        return text
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"loss '{text}' can't be imported: {error}.") from error
    if not callable(found):
        raise UsageError(f"loss '{text}' is {type(found).__name__}: expected loss(output, target).")
    return cast(Loss, found() if isinstance(found, type) else found)


def check_mean(loss: Loss, output: Tensor, target: Tensor) -> None:
    """Tell a mean from a sum: on a batch repeated twice a mean stays, a sum doubles."""
    with torch.no_grad():
        once = loss(output, target)
        if once.ndim > 0:
            if once.shape != output.shape[:1]:
                raise UsageError(
                    f"the loss returned shape {tuple(once.shape)} for a batch of "
                    f"{output.shape[0]}: return one value per sample (reduction='none')."
                )
            return
        twice = loss(torch.cat([output, output]), torch.cat([target, target]))
    if not torch.isclose(once, twice, rtol=1e-3) and once.isfinite() and twice.isfinite():
        raise UsageError(
            "the loss is not a mean over the batch (it changes when the batch is repeated): "
            "use reduction='none', which gives one value per sample, or reduction='mean'."
        )


def _per_sample(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1) if values.ndim > 1 else values
