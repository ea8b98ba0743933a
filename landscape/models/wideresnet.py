"""Wide residual networks WRN-depth-width (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.models import common
from landscape.models.common import Shape


def wideresnet(
    in_shape: Shape,
    num_classes: int,
    *,
    depth: int = 34,
    width: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """WRN-depth-width: three groups of (depth − 4)/6 blocks, 16w, 32w, 64w channels.

    WRN-34-10 is the large network of kanai2021, sitawarin2021, liu2022 and li2023. The keys are
    those of the code of TRADES and AWP; a TRADES checkpoint has a ``sub_block1`` besides, which
    its forward never uses.
    """
    channels, *_ = common.image("wideresnet", in_shape)
    if common.whole("depth", depth, least=10, most=10_000) % 6 != 4:
        near = depth - (depth - 4) % 6
        raise UsageError(
            f"depth={depth}: a WideResNet's depth is 6n + 4; the nearest are {near} and {near + 6}."
        )
    w = common.whole("width", width)
    return WideResNet(channels, num_classes, (depth - 4) // 6, w, activation, dropout)


class WideResNet(nn.Module):
    """See ``wideresnet``. Convolutions start as N(0, 2/(k²·outputs)), the last bias at zero."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        blocks: int,
        width: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        settings = (blocks, activation, dropout)
        self.conv1 = common.conv3x3(channels, 16)
        self.block1 = Group(16, 16 * width, 1, *settings)
        self.block2 = Group(16 * width, 32 * width, 2, *settings)
        self.block3 = Group(32 * width, 64 * width, 2, *settings)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.act = common.activation(activation)
        self.fc = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(common.pool(self.act(self.bn1(x))))


class Group(nn.Module):
    """Blocks in sequence; the first one changes the channels and the resolution."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, blocks: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            WideBlock(inputs, outputs, stride, activation, dropout),
            *(WideBlock(outputs, outputs, 1, activation, dropout) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideBlock(nn.Module):
    """conv2(drop(act(bn2(conv1(a))))) + x, or + projection(a) where shapes differ; a = act(bn1(x)).

    ``preact.PreActBlock`` with a dropout and the key names of published WideResNets.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = common.activation(activation)
        self.conv1 = common.conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = common.activation(activation)
        self.drop = common.dropout(dropout)
        self.conv2 = common.conv3x3(outputs, outputs)
        self.convShortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.convShortcut = common.conv1x1(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act1(self.bn1(x))
        out = self.conv2(self.drop(self.act2(self.bn2(self.conv1(a)))))
        return out + (x if self.convShortcut is None else self.convShortcut(a))
