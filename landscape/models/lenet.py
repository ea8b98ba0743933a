"""LeNet of adjustable width (liu2020, Table 2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from landscape.models import common
from landscape.models.common import Shape


def lenet(
    in_shape: Shape,
    num_classes: int,
    *,
    width: int = 16,
    activation: str = "relu",
    batchnorm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """LeNet-w: Conv(2w), Conv(4w), FC(196w, 64w), FC(64w, K), for 28×28 images.

    5×5 convolutions with padding 2, each followed by the activation and 2×2 max-pooling, so an
    H×W image reaches the first linear layer as 4w·(H/4)·(W/4) numbers (196w for MNIST, 16w for
    8×8 digits). ``batchnorm`` adds a BatchNorm after each convolution and ``dropout`` acts
    before the last layer; the paper has neither. Keys are those of the authors' code.
    """
    image = common.image("lenet", in_shape, least=4, multiple=4)
    w = common.whole("width", width)
    return LeNet(image, num_classes, w, activation, common.flag("batchnorm", batchnorm), dropout)


class LeNet(nn.Module):
    """See ``lenet``."""

    def __init__(
        self,
        in_shape: Shape,
        num_classes: int,
        width: int,
        activation: str,
        batchnorm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        channels, height, breadth = in_shape
        self.conv1 = nn.Conv2d(channels, 2 * width, 5, padding=2)
        self.bn1 = nn.BatchNorm2d(2 * width) if batchnorm else nn.Identity()
        self.act1 = common.activation(activation)
        self.conv2 = nn.Conv2d(2 * width, 4 * width, 5, padding=2)
        self.bn2 = nn.BatchNorm2d(4 * width) if batchnorm else nn.Identity()
        self.act2 = common.activation(activation)
        self.fc1 = nn.Linear(4 * width * (height // 4) * (breadth // 4), 64 * width)
        self.act3 = common.activation(activation)
        self.drop = common.dropout(dropout)
        self.fc2 = nn.Linear(64 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.act1(self.bn1(self.conv1(x))), 2)
        x = functional.max_pool2d(self.act2(self.bn2(self.conv2(x))), 2)
        x = self.act3(self.fc1(x.flatten(1)))
        return self.fc2(self.drop(x))
