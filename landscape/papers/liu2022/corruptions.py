"""Common corruptions of small grey images, after those of CIFAR-10-C, for digits scale.

They are a few lines each and made for 8×8 images; at paper scale the files of CIFAR-10-C are
used. Strengths were set once, so that the digits stay readable.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from landscape.random import Streams

# The 18 of Table 5, by their names in CIFAR-10-C, which has frost as a 19th.
CIFAR10C = (
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "gaussian_blur",
    "glass_blur",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "gaussian_noise",
    "impulse_noise",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "zoom_blur",
    "speckle_noise",
)


def _blur(x: Tensor, kernel: list[list[float]]) -> Tensor:
    k = torch.tensor(kernel, dtype=x.dtype)
    k = (k / k.sum()).expand(x.shape[1], 1, *k.shape)
    pad = (k.shape[-1] // 2,) * 2 + (k.shape[-2] // 2,) * 2
    return F.conv2d(F.pad(x, pad, mode="replicate"), k, groups=x.shape[1])


def _noise(x: Tensor, g: Generator) -> Tensor:
    return torch.randn(x.shape, generator=g, dtype=x.dtype)


def _impulse(x: Tensor, g: Generator) -> Tensor:
    u = torch.rand(x.shape, generator=g, dtype=x.dtype)
    return torch.where(u < 0.05, 0.0, torch.where(u > 0.95, 1.0, x))


def _pixelate(x: Tensor, g: Generator) -> Tensor:
    return F.avg_pool2d(x, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)


_BINOMIAL = [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
_DISK = [[1.0, 1.0, 1.0]] * 3
CORRUPTIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "brightness": lambda x, g: x + 0.2,
    "contrast": lambda x, g: x.mean((1, 2, 3), keepdim=True) + 0.5 * (x - x.mean((1, 2, 3), True)),
    "defocus_blur": lambda x, g: _blur(x, _DISK),
    "gaussian_blur": lambda x, g: _blur(x, _BINOMIAL),
    "motion_blur": lambda x, g: _blur(x, [[1.0, 1.0, 1.0]]),
    "pixelate": _pixelate,
    "gaussian_noise": lambda x, g: x + 0.15 * _noise(x, g),
    "impulse_noise": _impulse,
    # A fog that is the same everywhere: dark pixels become lighter.
    "fog": lambda x, g: 0.7 * x + 0.3,
    "saturate": lambda x, g: 1.5 * x,
    "shot_noise": lambda x, g: torch.poisson(x.clamp_min(0) * 20, generator=g) / 20,
    "speckle_noise": lambda x, g: x + x * 0.3 * _noise(x, g),
}


def corrupted(x: Tensor, name: str, seed: int = 0) -> Tensor:
    """Images (N, C, H, W) in [0, 1] under a corruption; noise is that of the seed and name."""
    generator = Streams(seed, "corruption", name).generator("noise")
    return CORRUPTIONS[name](x, generator).clamp(0, 1)
