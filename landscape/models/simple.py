"""Logistic regression, multi-layer perceptrons and the three-layer MNIST network."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from landscape.errors import UsageError
from landscape.models import common
from landscape.models.common import Shape


def logistic(in_shape: Shape, num_classes: int) -> nn.Module:
    """Softmax regression, logits W x + b: the linear model of kanai2021 and liu2020, section 3.

    Parameters: K (D + 1) for D inputs and K classes.
    """
    linear = nn.Linear(math.prod(in_shape), num_classes)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=linear))


def mlp(
    in_shape: Shape,
    num_classes: int,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Fully connected layers D → hidden[0] → … → K, an activation after each hidden one."""
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise UsageError(f"hidden={hidden!r}: expected widths such as (64, 64).")
    widths = [math.prod(in_shape), *(common.whole("hidden", width) for width in hidden)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
        layers[f"act{i}"] = common.activation(activation)
        layers[f"drop{i}"] = common.dropout(dropout)
    layers["linear"] = nn.Linear(widths[-1], num_classes)
    return nn.Sequential(layers)


def mnist_cnn(in_shape: Shape, num_classes: int, *, activation: str = "relu") -> nn.Module:
    """Three convolutions and one linear layer (sitawarin2021, Appendix A).

    The paper gives filters and channels: 8×8×64, 6×6×128, 5×5×128. Strides 2, 2, 1 and
    paddings 3, 0, 0 are those of the basic CNN of cleverhans, which has these filters:
    28×28 → 14×14 → 5×5 → 1×1.
    """
    channels, height, width = common.image("mnist-cnn", in_shape, least=28)
    sides = [_third_layer_side(side) for side in (height, width)]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 8, stride=2, padding=3),
            act1=common.activation(activation),
            conv2=nn.Conv2d(64, 128, 6, stride=2),
            act2=common.activation(activation),
            conv3=nn.Conv2d(128, 128, 5),
            act3=common.activation(activation),
            flatten=nn.Flatten(),
            linear=nn.Linear(128 * math.prod(sides), num_classes),
        )
    )


def _third_layer_side(side: int) -> int:
    first = side // 2  # (side + 2·3 − 8) // 2 + 1
    second = (first - 6) // 2 + 1
    return second - 4
