"""Several networks as one, by the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from landscape.errors import UsageError


class Ensemble(nn.Module):
    """x ↦ log (1/K) Σ_k softmax f_k(x), the log-probabilities (B, C) of the mean prediction.

    Its cross-entropy is the negative log-likelihood of the mean probability, which liu2020 attacks
    in its ensembles, so every attack and diagnostic takes it as it takes a network. An ensemble of
    one has the loss, the gradients and the predictions of its member. Cost: that of all members.

    Args:
        members: networks that map the same inputs to logits of the same classes. They are held,
            not copied, and become part of this module's parameters.
    """

    members: nn.ModuleList

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        given = [members] if isinstance(members, nn.Module) else list(members)
        if not given:
            raise UsageError("an ensemble needs at least one network.")
        for member in given:
            if not isinstance(member, nn.Module):
                raise UsageError(f"expected networks (nn.Module), got {type(member).__name__}.")
        self.members = nn.ModuleList(given)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [member(x) for member in self.members]
        shapes = {tuple(output.shape) for output in outputs}
        if len(shapes) > 1 or outputs[0].ndim != 2:
            raise UsageError(
                "the networks of an ensemble must return logits (B, classes) of one shape, got "
                f"{', '.join(map(str, sorted(shapes)))}."
            )
        logs = torch.stack([output.log_softmax(1) for output in outputs])
        return logs.logsumexp(0) - math.log(len(outputs))
