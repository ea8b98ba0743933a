"""ResNet-18 and ResNet-34 of adjustable width, with a stem for small or for large images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from landscape.models import common
from landscape.models.common import Shape

LARGE = 128  # from this many pixels a side on, stem="auto" is the ImageNet stem


def resnet18(
    in_shape: Shape,
    num_classes: int,
    *,
    width: int = 16,
    activation: str = "relu",
    stem: str = "auto",
) -> nn.Module:
    """ResNet-18-w (He et al. 2016): stages of 4w, 8w, 16w, 32w channels, two blocks each.

    w = 16 is the original width (kanai2021); liu2020 uses w = 8, here ``resnet18-8``.
    ``stem``: ``cifar`` is a 3×3 convolution at full resolution, ``imagenet`` a 7×7 convolution
    of stride 2 and a max-pooling of stride 2, ``auto`` the second for sides of at least 128.
    """
    return _resnet("resnet18", (2, 2, 2, 2), in_shape, num_classes, width, activation, stem)


def resnet34(
    in_shape: Shape,
    num_classes: int,
    *,
    width: int = 16,
    activation: str = "relu",
    stem: str = "auto",
) -> nn.Module:
    """ResNet-34-w: as ``resnet18``, with 3, 4, 6, 3 blocks (sitawarin2021 on Imagenette)."""
    return _resnet("resnet34", (3, 4, 6, 3), in_shape, num_classes, width, activation, stem)


def _resnet(
    name: str,
    blocks: tuple[int, ...],
    in_shape: Shape,
    num_classes: int,
    width: int,
    activation: str,
    stem: str,
) -> nn.Module:
    channels, *sides = common.image(name, in_shape)
    stem = common.one_of("stem", stem, ("auto", "cifar", "imagenet"))
    if stem == "auto":
        stem = "imagenet" if min(sides) >= LARGE else "cifar"
    base = 4 * common.whole("width", width)
    return ResNet(channels, num_classes, blocks, base, activation, large=stem == "imagenet")


class ResNet(nn.Module):
    """Stem, four stages of basic blocks (stride 1, 2, 2, 2), global average, linear layer.

    Keys (``conv1 bn1 layer1.0.conv1 … shortcut.0 … linear``) are those of most public CIFAR
    code, so that foreign checkpoints load as they are.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        blocks: tuple[int, ...],
        base: int,
        activation: str,
        large: bool,
    ) -> None:
        super().__init__()
        self.large = large
        if large:
            self.conv1 = nn.Conv2d(channels, base, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = common.conv3x3(channels, base)
        self.bn1 = nn.BatchNorm2d(base)
        self.act1 = common.activation(activation)
        self.layer1 = _stage(base, base, blocks[0], 1, activation)
        self.layer2 = _stage(base, 2 * base, blocks[1], 2, activation)
        self.layer3 = _stage(2 * base, 4 * base, blocks[2], 2, activation)
        self.layer4 = _stage(4 * base, 8 * base, blocks[3], 2, activation)
        self.linear = nn.Linear(8 * base, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        if self.large:
            x = functional.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(common.pool(x))


class BasicBlock(nn.Module):
    """act(bn2(conv2(act(bn1(conv1(x))))) + shortcut(x)); a 1×1 projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = common.conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = common.activation(activation)
        self.conv2 = common.conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = common.activation(activation)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = common.conv1x1(inputs, outputs, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(out + self.shortcut(x))


def _stage(inputs: int, outputs: int, count: int, stride: int, activation: str) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, activation)
    rest = (BasicBlock(outputs, outputs, 1, activation) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
