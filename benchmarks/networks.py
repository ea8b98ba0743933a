"""Networks that are too large to be bundled: trained here, in half a minute, from a fixed seed."""

from __future__ import annotations

import functools

from torch import Tensor, nn

from landscape import data
from landscape.models import ModelSpec
from landscape.training import default_config, fit


@functools.cache
def resnet18(epochs: int = 6) -> nn.Module:
    """ResNet-18 (11.2 M parameters) after a few epochs on 512 samples of digits32."""
    config = default_config("digits32", "resnet18", "standard", epochs=epochs, seed=0)
    samples = data.load("digits32", "train", n_examples=512)
    model = config.model.build(seed=0)
    fit(model, samples, config.plan)
    return model.eval()


def images(n: int, piece: int) -> list[tuple[Tensor, Tensor]]:
    """The first n samples of digits32 in batches."""
    x, y = data.load("digits32", "train", n_examples=512).tensors()
    return list(zip(x[:n].split(piece), y[:n].split(piece), strict=True))


def wide_resnet() -> nn.Module:
    """WideResNet-34-10 (46 M parameters) as initialised."""
    samples = data.load("digits32", "train", n_examples=512)
    return ModelSpec("wrn-34-10", samples.in_shape, samples.num_classes).build(seed=0).eval()
