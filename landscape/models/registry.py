"""The table of architectures, and the names derived from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from landscape.errors import UsageError
from landscape.models.lenet import lenet
from landscape.models.preact import preact_resnet18, preact_resnet20
from landscape.models.resnet import resnet18, resnet34
from landscape.models.simple import logistic, mlp, mnist_cnn
from landscape.models.vgg import vgg
from landscape.models.wideresnet import wideresnet


@dataclass(frozen=True)
class ModelEntry:
    """One architecture: ``factory(in_shape, num_classes, **options)``.

    ``suffix`` names the options that numbers after the name set, so that ``lenet-4`` is a LeNet
    of width 4 and ``wrn-34-10`` has depth 34 and width 10; ``*`` collects all the numbers.
    """

    factory: Callable[..., nn.Module]
    description: str
    paper: str
    suffix: tuple[str, ...] = ()


_WIDE = ModelEntry(
    wideresnet,
    "WideResNet of any depth 6n + 4 and width; wrn-34-10 without numbers",
    "kanai2021, sitawarin2021, liu2022, li2023",
    ("depth", "width"),
)

MODELS: dict[str, ModelEntry] = {
    "logistic": ModelEntry(logistic, "softmax regression", "kanai2021, liu2020"),
    "mlp": ModelEntry(mlp, "multi-layer perceptron; mlp-64-64 sets the widths", "", ("*hidden",)),
    "lenet": ModelEntry(lenet, "LeNet of width 16", "liu2020", ("width",)),
    "mnist-cnn": ModelEntry(mnist_cnn, "three convolutions and a linear layer", "sitawarin2021"),
    "vgg": ModelEntry(vgg, "VGG-16 with BatchNorm, of width 8", "liu2020", ("width",)),
    "resnet18": ModelEntry(
        resnet18,
        "ResNet-18 of width 16; liu2020 uses resnet18-8",
        "kanai2021, liu2020",
        ("width",),
    ),
    "resnet34": ModelEntry(resnet34, "ResNet-34 of width 16", "sitawarin2021", ("width",)),
    "preact-resnet18": ModelEntry(
        preact_resnet18, "pre-activation ResNet-18 of width 16", "liu2022, li2023", ("width",)
    ),
    "preact-resnet20": ModelEntry(
        preact_resnet20, "pre-activation ResNet-20, 16 to 64 channels", "sitawarin2021", ("width",)
    ),
    "wideresnet": _WIDE,
    "wrn": _WIDE,
}

# What an error lists besides the table: one example of each derived form.
EXAMPLES = ("lenet-4", "resnet18-8", "vgg-8", "wrn-28-10", "wrn-34-10", "torchvision:resnet18")


def resolve(name: str) -> tuple[ModelEntry, dict[str, Any]] | None:
    """The entry of a name and the options its numbers set; None if the table has no such name."""
    if name in MODELS:
        return MODELS[name], {}
    match = re.fullmatch(r"(.+?)((?:-\d{1,5})+)", name)
    if match is None or match[1] not in MODELS:
        return None
    entry = MODELS[match[1]]
    numbers = tuple(int(number) for number in match[2][1:].split("-"))
    if entry.suffix and entry.suffix[0].startswith("*"):
        return entry, {entry.suffix[0][1:]: numbers}
    if len(numbers) != len(entry.suffix):
        form = "-".join([match[1], *(option.upper() for option in entry.suffix)])
        raise UsageError(f"model '{name}': expected the form {form}.")
    return entry, dict(zip(entry.suffix, numbers, strict=True))
