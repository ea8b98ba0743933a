"""Which of our architectures some weights fit, by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import foreign
from landscape.errors import UsageError
from landscape.models.building import ModelSpec, build

# What people train: names with their numbers.
_WIDTHS = (1, 2, 4, 8, 16, 32)
CANDIDATES = (
    *(f"resnet18-{w}" for w in _WIDTHS),
    *(f"resnet34-{w}" for w in _WIDTHS),
    *(f"preact-resnet18-{w}" for w in _WIDTHS),
    "preact-resnet20",
    *(f"wrn-{d}-{w}" for d, w in ((16, 4), (16, 8), (28, 4), (28, 10), (34, 5), (34, 10))),
    *(f"wrn-{d}-{w}" for d, w in ((34, 15), (34, 20), (40, 2), (70, 16), (106, 16))),
    *(f"vgg-{w}" for w in _WIDTHS),
    *(f"lenet-{w}" for w in _WIDTHS),
    "mnist-cnn",
    *(f"torchvision:{name}" for name in ("resnet18", "resnet34", "resnet50", "vit_b_16")),
    *(f"torchvision:{name}" for name in ("vgg16_bn", "densenet121", "mobilenet_v2")),
)
# Sides of square images that networks with a fixed size are made for.
_SIDES = (32, 28, 8, 64, 224)


@dataclass(frozen=True)
class Match:
    """An architecture that the weights fit, or nearly.

    ``missing``, ``extra`` and ``shapes`` are names that the file lacks, that the network lacks,
    and that have another shape; all empty for a fit. ``names`` counts all of file and network.
    """

    spec: ModelSpec
    steps: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[str, ...]
    names: int

    @property
    def fits(self) -> bool:
        return not (self.missing or self.extra or self.shapes)

    @property
    def distance(self) -> float:
        """Share of names that don't fit, of those in the network and left in the file."""
        return (len(self.missing) + len(self.extra) + len(self.shapes)) / self.names


def matches(state: Mapping[str, Tensor], most: int = 3) -> list[Match]:
    """Architectures that weights of another project fit; without one, the nearest ``most``.

    Networks are built without memory (torch's ``meta`` device), so this costs seconds at most.
    Layers in a row of equal shapes are all that names and shapes tell: two architectures that
    differ in what they compute can fit alike (pre-activation shortcuts), so look at the accuracy.
    """
    classes, channels = _classes(state), _channels(state)
    if classes is None or channels is None:
        return []
    normalize = foreign.statistics(state)
    if normalize is not None and len(normalize[0]) not in (1, channels):
        normalize = None
    found: list[Match] = []
    for name in CANDIDATES:
        best: Match | None = None
        for side in _SIDES:
            shape = (channels, side, side)
            try:
                with torch.device("meta"):
                    network = build(name, in_shape=shape, num_classes=classes)
            except (UsageError, RuntimeError, NotImplementedError):
                continue
            target = network.state_dict()
            spec = ModelSpec(name, shape, classes, normalize)
            match = _compare(state, target, spec)
            if best is None or match.distance < best.distance:
                best = match
            if match.fits or not _depends_on_size(name):
                break
        if best is not None:
            found.append(best)
    found.sort(key=lambda match: match.distance)
    fitting = [match for match in found if match.fits]
    return fitting or found[:most]


def _compare(state: Mapping[str, Tensor], target: Mapping[str, Tensor], spec: ModelSpec) -> Match:
    # Entries on the meta device have no content: zeros stand in for what would be filled in.
    known = {n: torch.zeros(t.shape, dtype=t.dtype, device="meta") for n, t in target.items()}
    renamed, steps = foreign.renamed(state, known)
    own = {*foreign.statistics_names(renamed)}
    extra = tuple(n for n in renamed if n not in target and n not in own)
    missing = tuple(n for n in target if n not in renamed)
    shapes = tuple(n for n, t in target.items() if n in renamed and renamed[n].shape != t.shape)
    return Match(spec, steps, missing, extra, shapes, len({*renamed, *target}))


def _ends(state: Mapping[str, Tensor]) -> Iterator[Tensor]:
    return (t for n, t in state.items() if n.endswith("weight") and t.ndim in (2, 4))


def _channels(state: Mapping[str, Tensor]) -> int | None:
    first = next((t for t in _ends(state) if t.ndim == 4), None)
    return None if first is None else int(first.shape[1])


def _classes(state: Mapping[str, Tensor]) -> int | None:
    last = None
    for tensor in _ends(state):
        if tensor.ndim == 2:
            last = tensor
    return None if last is None else int(last.shape[0])


def _depends_on_size(name: str) -> bool:
    return name.startswith(("lenet", "mnist", "vgg", "torchvision"))
