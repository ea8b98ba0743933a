"""From a name to a network, and the description of it that a checkpoint stores."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from landscape.errors import UsageError, unknown
from landscape.models import registry
from landscape.models.common import Normalize, Normalized, Shape, whole
from landscape.models.ensemble import Ensemble
from landscape.models.foreign import imported_model, torchvision_model
from landscape.random import seeded

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def build(
    name: str,
    *,
    in_shape: Sequence[int],
    num_classes: int,
    normalize: tuple[Any, Any] | None = None,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """The network of a name, freshly initialised, in training mode as torch makes it.

    ``name`` is a row of ``MODELS``, a row with numbers (``lenet-4``, ``resnet18-8``,
    ``wrn-34-10``), ``torchvision:NAME`` or ``package.module:factory``. Inputs have ``in_shape``
    (C, H, W). ``ensemble:NAME`` with ``members=K`` is an ``Ensemble`` of K networks of a name.
    ``normalize`` is (mean, std), each one number or one per channel; with it the
    result is ``Normalized``, keys ``normalize.*`` and ``network.*``, without it the bare network.
    With ``seed`` the initialisation depends on nothing else and torch's global random state is
    left as it was; without, it is drawn from that state.

    >>> model = build("lenet-2", in_shape=(1, 8, 8), num_classes=10, normalize=(0.5, 0.25))
    >>> model(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    shape = _shape(in_shape)
    classes = whole("num_classes", num_classes)
    statistics = None if normalize is None else _statistics(normalize, shape)
    with nullcontext() if seed is None else seeded(seed, torch.get_default_device()):
        network = _network(name, shape, classes, options)
    return network if statistics is None else Normalized(Normalize(*statistics, shape), network)


@dataclass(frozen=True)
class ModelSpec:
    """The arguments of ``build``, canonical and comparable; what a checkpoint stores."""

    name: str
    in_shape: Shape
    num_classes: int
    normalize: Statistics | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        shape = _shape(self.in_shape)
        object.__setattr__(self, "in_shape", shape)
        object.__setattr__(self, "num_classes", whole("num_classes", self.num_classes))
        if self.normalize is not None:
            object.__setattr__(self, "normalize", _statistics(self.normalize, shape))
        options = {key: _plain(key, value) for key, value in self.options.items()}
        object.__setattr__(self, "options", options)

    def build(self, seed: int | None = None) -> nn.Module:
        """``build`` with these arguments."""
        return build(
            self.name,
            in_shape=self.in_shape,
            num_classes=self.num_classes,
            normalize=self.normalize,
            seed=seed,
            **self.options,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types that JSON and ``torch.load(weights_only=True)`` both take."""
        return {
            "name": self.name,
            "in_shape": list(self.in_shape),
            "num_classes": self.num_classes,
            "normalize": None if self.normalize is None else [list(v) for v in self.normalize],
            "options": {key: _listed(value) for key, value in self.options.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> ModelSpec:
        """The inverse of ``to_dict``: ``from_dict(to_dict(spec)) == spec``.

        A description comes from a file, so one that would import code is refused without
        ``trust``.
        """
        expected = {"name", "in_shape", "num_classes", "normalize", "options"}
        found = set(data) if isinstance(data, Mapping) else {type(data).__name__}
        if found != expected:
            raise UsageError(
                f"a model's description has the keys {', '.join(sorted(expected))}, "
                f"not {', '.join(sorted(map(str, found))) or 'none'}."
            )
        name, options = data["name"], data["options"]
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise UsageError("a model's description has a name and options by name.")
        if imports(name) and not trust:
            raise UsageError(
                f"the file names '{name}' as its model, and a file may not cause an import: name "
                f"it yourself (--model {name}) or trust the file (--trust-checkpoint, trust=True)."
            )
        return cls(**data)

    def size(self) -> int:
        """How many numbers the ``state_dict`` of this network holds; none of them is made."""
        with torch.device("meta"):
            return sum(tensor.numel() for tensor in self.build().state_dict().values())


def imports(name: str) -> bool:
    """Whether to build a model of this name is to import it: ``package.module:factory``."""
    prefix, colon, rest = name.partition(":")
    if prefix == "ensemble" and colon:
        return imports(rest)
    return bool(colon) and prefix != "torchvision"


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """How many numbers the parameters hold, tied ones once; buffers are not counted."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def _network(name: str, in_shape: Shape, num_classes: int, options: dict[str, Any]) -> nn.Module:
    prefix, colon, rest = name.partition(":")
    if prefix == "torchvision" and colon:
        return torchvision_model(rest, in_shape, num_classes, options)
    if prefix == "ensemble" and colon:
        own = {key: value for key, value in options.items() if key != "members"}
        members = range(whole("members", options.get("members", 0), most=10_000))
        return Ensemble(_network(rest, in_shape, num_classes, own) for _ in members)
    if colon:
        return imported_model(name, in_shape, num_classes, options)
    resolved = registry.resolve(name)
    if resolved is None:
        raise unknown("model", name, [*registry.MODELS, *registry.EXAMPLES])
    entry, implied = resolved
    accepted = list(inspect.signature(entry.factory).parameters)[2:]
    for option in options:
        if option not in accepted:
            listing = ", ".join(sorted(accepted)) or "none"
            raise UsageError(f"model '{name}' takes no option '{option}'. It takes: {listing}.")
        if option in implied:
            raise UsageError(
                f"model '{name}' already says {option}={implied[option]}; leave out one of the two."
            )
    return entry.factory(in_shape, num_classes, **implied, **options)


def _shape(in_shape: Sequence[int]) -> Shape:
    if isinstance(in_shape, str) or not isinstance(in_shape, Sequence) or not in_shape:
        raise UsageError(f"in_shape={in_shape!r}: expected (channels, height, width).")
    return tuple(whole("in_shape", side) for side in in_shape)


def _statistics(normalize: Sequence[Any], in_shape: Shape) -> Statistics:
    if isinstance(normalize, str) or not isinstance(normalize, Sequence) or len(normalize) != 2:
        raise UsageError(f"normalize={normalize!r}: expected a pair (mean, std).")
    mean, std = (_per_channel(value, in_shape[0]) for value in normalize)
    if min(std) <= 0:
        raise UsageError(f"normalize: expected positive standard deviations, not {std}.")
    return mean, std


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    listed = value.tolist() if hasattr(value, "tolist") else value  # arrays and tensors
    try:
        given = [float(v) for v in (listed if isinstance(listed, Sequence) else [listed])]
    except (TypeError, ValueError):
        given = []
    if len(given) not in (1, channels) or not all(map(math.isfinite, given)):
        raise UsageError(
            f"normalize: expected one finite number or {channels} (one per channel), not {value!r}."
        )
    return tuple(given * channels if len(given) == 1 else given)


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(key, item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(
        f"option {key}={value!r} can't be stored: expected numbers, text or lists of them."
    )


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
