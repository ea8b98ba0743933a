"""VGG-16 with BatchNorm, of adjustable width (liu2020, Table 2)."""

from __future__ import annotations

from torch import Tensor, nn

from landscape.models import common
from landscape.models.common import Shape

# Convolutions per stage and their channels in units of w; a 2×2 max-pooling ends each stage.
STAGES = ((2, 4), (2, 8), (3, 16), (3, 32), (3, 32))


def vgg(
    in_shape: Shape, num_classes: int, *, width: int = 8, activation: str = "relu"
) -> nn.Module:
    """VGG-w: 13 convolutions 3×3 (4w … 32w channels), each with BatchNorm, and FC(32w, K).

    w = 8 is the paper's default, w = 16 the usual VGG-16. Five max-poolings need 32×32 pixels.
    The table ends with a 2×2 average pooling, but only 1×1 is left of a CIFAR image there;
    the average over whatever is left is the same for 32×32 and works for larger images.
    """
    channels, *_ = common.image("vgg", in_shape, least=32)
    return VGG(channels, num_classes, common.whole("width", width), activation)


class VGG(nn.Module):
    """See ``vgg``."""

    def __init__(self, channels: int, num_classes: int, width: int, activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for count, factor in STAGES:
            for _ in range(count):
                layers.append(nn.Conv2d(channels, factor * width, 3, padding=1))
                layers.append(nn.BatchNorm2d(factor * width))
                layers.append(common.activation(activation))
                channels = factor * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(common.pool(self.features(x)))
