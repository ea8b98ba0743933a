"""BatchNorm's running statistics at a point where no training has been."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape.functional import reestimated
from landscape.training.network import restored_flags
from landscape.training.samples import Samples


def running(model: nn.Module) -> list[_NormBase]:
    """The layers that keep running statistics (BatchNorm, and InstanceNorm where it tracks)."""
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Eval mode, except that the layers of ``running`` use, and update from, their batch."""
    with restored_flags(model):
        model.eval()
        for layer in running(model):
            layer.train()
        yield


def split(order: Tensor, batch_size: int) -> list[Tensor]:
    """Rows in pieces; a last piece of one joins the one before, as one sample has no variance."""
    pieces = list(order.split(batch_size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def reestimate(
    model: nn.Module, params: Mapping[str, Tensor], samples: Samples, batch_size: int
) -> None:
    """Running mean and variance of ``model`` for the parameters ``params``, in its own buffers.

    They are ``functional.reestimated``'s (Garipov et al. 2018), of clean inputs in their order,
    with Dropout off as in the evaluation that they serve. Nothing to do without such layers.

    Cost: one forward pass. When it lies: the numbers depend a little on ``batch_size``, as in
    training; of inputs under attack, statistics differ.
    """
    rows = split(torch.arange(len(samples)), batch_size)
    with restored_flags(model), torch.no_grad():
        model.eval()
        found = reestimated(model, params, (samples.take(chosen)[0] for chosen in rows))
        for name, statistic in found.items():
            model.get_buffer(name).copy_(statistic)
