"""What a training needs of the network besides calling it: modes, random state, a first look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from landscape.errors import DataError, UsageError
from landscape.functional import untouched

Forward = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def frozen(model: nn.Module, mode: str) -> Iterator[Forward]:
    """The network as a function of its inputs alone, as an attack during training sees it.

    Parameters don't require gradients, so a backward pass computes the input's gradient only.
    ``mode``: ``eval``; ``train``: batch statistics, running ones updated at every call;
    ``train-frozen``: batch statistics, running ones kept. Train flags come back afterwards.
    """
    state: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters()}
    if mode != "train":  # whatever the network writes then goes into copies
        state.update({name: b.clone() for name, b in model.named_buffers()})
    with restored_flags(model):
        model.train(mode != "eval")
        yield lambda x: torch.func.functional_call(model, state, (x,))


@contextlib.contextmanager
def restored_flags(model: nn.Module) -> Iterator[None]:
    """Train flags of every module afterwards as before."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextlib.contextmanager
def exchanged(model: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """The network with other weights inside, a ``state_dict``; ``None`` leaves its own."""
    if weights is None:
        yield
        return
    own = {name: t.clone() for name, t in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


def check_classifier(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Refuse a network that doesn't map the inputs ``x`` to logits for all of ``labels``."""
    with untouched(model), torch.no_grad():
        output = model(x)
    if not torch.is_tensor(output) or output.ndim != 2 or len(output) != len(x):
        raise UsageError(
            "training needs a network that maps (B, ...) inputs to (B, classes) logits, this one "
            f"returns {tuple(output.shape) if torch.is_tensor(output) else type(output).__name__} "
            f"for {len(x)} inputs."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= output.shape[1]:
        raise DataError(
            f"the training data have labels from {low} to {high}, but the network has "
            f"{output.shape[1]} outputs: labels must lie in 0..{output.shape[1] - 1}."
        )
