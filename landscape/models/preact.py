"""Pre-activation ResNets (He et al. 2016, "Identity mappings in deep residual networks")."""

from __future__ import annotations

from torch import Tensor, nn

from landscape.models import common
from landscape.models.common import Shape


def preact_resnet18(
    in_shape: Shape,
    num_classes: int,
    *,
    width: int = 16,
    activation: str = "relu",
    projection: str = "activated",
    final_bn: bool = True,
) -> nn.Module:
    """PreActResNet-18: stages of 4w, 8w, 16w, 32w channels, two blocks each (li2023, liu2022).

    ``projection`` says what the 1×1 shortcuts see: bn1 and the activation's output
    (``activated``, as in He et al.), or the block's ``input``, as in code derived from Wong et
    al. 2020. The parameters are the same, so a checkpoint of one loads in the other and gives
    wrong logits. ``final_bn=False`` leaves out the BatchNorm and activation after the last
    block, as kuangliu/pytorch-cifar does.
    """
    arguments = (in_shape, num_classes, width, activation, projection, final_bn)
    return _preact("preact-resnet18", (2, 2, 2, 2), *arguments)


def preact_resnet20(
    in_shape: Shape,
    num_classes: int,
    *,
    width: int = 4,
    activation: str = "relu",
    projection: str = "activated",
    final_bn: bool = True,
) -> nn.Module:
    """PreAct-ResNet-20 (sitawarin2021): three stages of three blocks, 4w, 8w, 16w channels.

    w = 4 gives the usual 16, 32, 64. Options are those of ``preact_resnet18``.
    """
    arguments = (in_shape, num_classes, width, activation, projection, final_bn)
    return _preact("preact-resnet20", (3, 3, 3), *arguments)


def _preact(
    name: str,
    blocks: tuple[int, ...],
    in_shape: Shape,
    num_classes: int,
    width: int,
    activation: str,
    projection: str,
    final_bn: bool,
) -> nn.Module:
    channels, *_ = common.image(name, in_shape)
    base = 4 * common.whole("width", width)
    activated = common.one_of("projection", projection, ("activated", "input")) == "activated"
    final = common.flag("final_bn", final_bn)
    return PreActResNet(channels, num_classes, blocks, base, activation, activated, final)


class PreActResNet(nn.Module):
    """3×3 stem, stages of pre-activation blocks, final BatchNorm, global average, linear layer.

    Keys (``conv1 layer1.0.bn1 … shortcut.0 bn linear``) are those of the public code.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        blocks: tuple[int, ...],
        base: int,
        activation: str,
        activated: bool,
        final_bn: bool,
    ) -> None:
        super().__init__()
        self.stages = len(blocks)
        self.conv1 = common.conv3x3(channels, base)
        inputs = base
        for i, count in enumerate(blocks):
            outputs = base * 2**i
            stage = nn.Sequential()
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(PreActBlock(inputs, outputs, stride, activation, activated))
                inputs = outputs
            self.add_module(f"layer{i + 1}", stage)
        self.bn = nn.BatchNorm2d(inputs) if final_bn else nn.Identity()
        self.act = common.activation(activation) if final_bn else nn.Identity()
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.linear(common.pool(self.act(self.bn(x))))


class PreActBlock(nn.Module):
    """conv2(act(bn2(conv1(a)))) + shortcut, with a = act(bn1(x)).

    The shortcut is x itself, or where shapes differ a 1×1 projection of a (``activated``) or x.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: str, activated: bool
    ) -> None:
        super().__init__()
        self.activated = activated
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = common.activation(activation)
        self.conv1 = common.conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = common.activation(activation)
        self.conv2 = common.conv3x3(outputs, outputs)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(common.conv1x1(inputs, outputs, stride))

    def forward(self, x: Tensor) -> Tensor:
        a = self.act1(self.bn1(x))
        out = self.conv2(self.act2(self.bn2(self.conv1(a))))
        if self.shortcut is None:
            return out + x
        return out + self.shortcut(a if self.activated else x)
