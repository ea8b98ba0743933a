"""One Hessian-vector product against one gradient, for every way of making products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import landscape as ls
from benchmarks import networks
from benchmarks.timing import interleaved, median, ratio
from landscape import checkpoints, data
from landscape.operators import PRODUCTS

TITLE = "One Hessian-vector product"
COLUMNS = ["network and data", "way", "kept, MiB", "product, s", "product / gradient"]
REMARK = (
    "The limit for convolutions and linear layers is 2 where something is kept between products "
    "and 2.7 where all is made anew but the gradient of the weights, which nobody reads. `kept` is "
    "the operator's own estimate. The gradient is autograd's over the same batch."
)


def rows() -> list[list[str]]:
    lenet = checkpoints.load(checkpoints.bundled()["digits-pgd-seed0"])
    model = lenet.into(networks.ModelSpec.from_dict(lenet.model or {}).build(seed=0)).eval()
    x, y = data.load("digits", "train", n_examples=512).tensors()
    found = _rows("LeNet, 512 digits", model, (x, y), 21)
    return found + _rows("ResNet-18, 64 images", networks.resnet18(), networks.images(64, 64)[0], 5)


def _rows(
    title: str, model: nn.Module, batch: tuple[Tensor, Tensor], repeats: int
) -> list[list[str]]:
    objective = ls.Objective(model, [batch])
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for way in PRODUCTS:
        operator = ls.Hessian(objective, product=way, memory=8 << 30)
        vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(0))

        def gradient() -> None:
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            torch.autograd.grad(loss, parameters)

        def product(operator: ls.Hessian = operator, vector: Tensor = vector) -> None:
            operator @ vector

        seconds = interleaved({"gradient": gradient, "product": product}, repeats)
        found.append(
            [
                title,
                way,
                f"{operator.kept_bytes / 2**20:.0f}" if operator.kept_bytes else "–",
                f"{median(seconds['product']):.4f}",
                f"{ratio(seconds, 'product', 'gradient'):.2f}",
            ]
        )
    return found
