"""What every architecture shares: activations by name, normalisation, option checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor, nn

from landscape.errors import UsageError, unknown

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Activation:
    make: Callable[..., nn.Module]
    parameter: str | None = None  # the one number that may follow the name, as in softplus:10


ACTIVATIONS = {
    "elu": _Activation(nn.ELU, "alpha"),
    "gelu": _Activation(nn.GELU),
    "leaky-relu": _Activation(nn.LeakyReLU, "negative_slope"),
    "relu": _Activation(nn.ReLU),
    "sigmoid": _Activation(nn.Sigmoid),
    "silu": _Activation(nn.SiLU),
    "softplus": _Activation(nn.Softplus, "beta"),
    "swish": _Activation(nn.SiLU),
    "tanh": _Activation(nn.Tanh),
}


def activation(spec: str) -> nn.Module:
    """A new activation module from ``name`` or ``name:number``.

    ``softplus:10`` is log(1 + exp(10 x)) / 10, a twice differentiable ReLU (the "dual network"
    of li2023, Appendix A, has ``softplus``); ``swish`` is x sigmoid(x) (kanai2021, Figure 2).
    """
    if not isinstance(spec, str):
        raise UsageError(f"activation={spec!r}: expected a name such as 'relu' or 'softplus:10'.")
    name, colon, text = spec.partition(":")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    entry = ACTIVATIONS[name]
    if not colon:
        return entry.make()
    if entry.parameter is None:
        raise UsageError(f"activation={spec!r}: {name} takes no number; write '{name}'.")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"activation={spec!r}: expected a positive {entry.parameter} after the colon, "
            f"as in '{name}:0.5'."
        )
    return entry.make(**{entry.parameter: value})


class Normalize(nn.Module):
    """(x − mean) / std per channel, inside the model so that attacks stay in [0, 1] units.

    ``mean`` and ``std`` are buffers of shape (C, 1, 1), or (D,) when the input is a vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], in_shape: Shape) -> None:
        super().__init__()
        shape = (-1, *[1] * (len(in_shape) - 1))
        self.register_buffer("mean", torch.tensor(mean).reshape(shape))
        self.register_buffer("std", torch.tensor(std).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalized(nn.Module):
    """A network behind its normalisation; state-dict keys ``normalize.*`` and ``network.*``."""

    def __init__(self, normalize: Normalize, network: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.normalize(x))


def dropout(p: float) -> nn.Module:
    """Dropout, or nothing at all for p = 0, so that no random number is drawn."""
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
        raise UsageError(f"dropout={p!r}: expected a probability in [0, 1).")
    return nn.Dropout(p) if p > 0 else nn.Identity()


def whole(option: str, value: object, least: int = 1, most: int = 2**31) -> int:
    """``value`` as an int if it is a whole number of at least ``least`` and at most ``most``."""
    try:
        number = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < least:
        raise UsageError(f"{option}={value!r}: expected a whole number of at least {least}.")
    if number > most:
        raise UsageError(f"{option}={value!r}: expected a whole number of at most {most}.")
    return number


def flag(option: str, value: object) -> bool:
    """``value`` if it is a bool; the text 'false' is true to Python, hence refused."""
    if not isinstance(value, bool):
        raise UsageError(f"{option}={value!r}: expected True or False.")
    return value


def one_of(option: str, value: object, choices: Sequence[str]) -> str:
    """``value`` if it is among ``choices``."""
    if value not in choices:
        raise UsageError(f"{option}={value!r}: expected one of {', '.join(choices)}.")
    return str(value)


def image(architecture: str, in_shape: Shape, least: int = 1, multiple: int = 1) -> Shape:
    """``in_shape`` if it is (C, H, W) with sides that the architecture can take."""
    if len(in_shape) != 3:
        raise UsageError(f"{architecture} needs images: in_shape (C, H, W), not {in_shape}.")
    _, height, width = in_shape
    if min(height, width) < least:
        raise UsageError(
            f"{architecture} needs images of at least {least}×{least} pixels, not {height}×{width}."
        )
    if height % multiple or width % multiple:
        raise UsageError(
            f"{architecture} needs a height and width divisible by {multiple}, "
            f"not {height}×{width}."
        )
    return in_shape


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution, padding 1, no bias (a BatchNorm follows)."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """1×1 projection of a residual shortcut, no bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def pool(x: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) → (N, C)."""
    return x.mean(dim=(2, 3))
