"""The papers' augmentations: pure functions on batches of [0, 1] images.

Each takes ``(x, generator)``, with x [B, C, H, W] on any device and a CPU generator, and returns
a batch of the same shape, device and range. Random numbers are drawn per image into a record,
which is applied without loops; a record can be kept, applied to other tensors (ATTA moves its
perturbations together with the images) and inverted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from landscape.errors import unknown

Augmentation = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class CropFlip:
    """For every image, a window of its canvas (the image padded by ``padding``) and a flip.

    ``top`` and ``left``: int64 [B] in 0..2·padding, in pixels; ``flip``: bool [B].
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    padding: int

    @classmethod
    def draw(
        cls, n: int, generator: Generator, *, padding: int = 4, flips: bool = True
    ) -> CropFlip:
        top, left = torch.randint(0, 2 * padding + 1, (2, n), generator=generator)
        if not flips:
            return cls(top, left, torch.zeros(n, dtype=torch.bool), padding)
        return cls(top, left, torch.rand(n, generator=generator) < 0.5, padding)

    def apply(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape: pad with zeros, cut the window, flip left-right."""
        return self.crop(pad(x, [self.padding] * 4))

    def crop(self, canvas: Tensor) -> Tensor:
        """The windows of [B, C, H + 2·padding, W + 2·padding], flipped: [B, C, H, W]."""
        image, row, column = self._window(canvas)
        return canvas[image, :, row, column].permute(0, 3, 1, 2).contiguous()

    def write(self, patch: Tensor, canvas: Tensor) -> Tensor:
        """The inverse: a copy of ``canvas`` with ``patch``, un-flipped, in its windows.

        ``write(crop(canvas), canvas)`` is ``canvas``; ``crop(write(patch, canvas))`` is ``patch``.
        """
        image, row, column = self._window(canvas)
        written = canvas.clone()
        written[image, :, row, column] = patch.permute(0, 2, 3, 1)
        return written

    def _window(self, canvas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of image, row and column, broadcast to [B, H, W]; a flip reverses columns."""
        device = canvas.device
        height, width = (side - 2 * self.padding for side in canvas.shape[-2:])
        rows = self.top.to(device)[:, None] + torch.arange(height, device=device)
        columns = self.left.to(device)[:, None] + torch.arange(width, device=device)
        columns = torch.where(self.flip.to(device)[:, None], columns.flip(1), columns)
        images = torch.arange(len(canvas), device=device)
        return images[:, None, None], rows[:, :, None], columns[:, None, :]


@dataclass(frozen=True)
class Sat:
    """sitawarin2021: crop and flip, then ``scale`` about the centre, then ``brightness``.

    ``scale`` and ``brightness``: float32 [B] factors in [0.9, 1.1], the ranges in the authors'
    code for the related ATES, whose rotation, shift and shear the paper doesn't mention.
    """

    crop_flip: CropFlip
    scale: Tensor
    brightness: Tensor

    @classmethod
    def draw(cls, n: int, generator: Generator) -> Sat:
        crop_flip = CropFlip.draw(n, generator)
        scale, brightness = 0.9 + 0.2 * torch.rand((2, n), generator=generator)
        return cls(crop_flip, scale, brightness)

    def apply(self, x: Tensor) -> Tensor:
        """Scaling is bilinear, with zeros beyond the border; brightness multiplies and clips."""
        x = self.crop_flip.apply(x)
        theta = x.new_zeros(len(x), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / self.scale.to(x)
        grid = affine_grid(theta, list(x.shape), align_corners=False)
        scaled = grid_sample(x, grid, mode="bilinear", align_corners=False)
        return (scaled * self.brightness.to(x)[:, None, None, None]).clamp(0, 1)


def none(x: Tensor, generator: Generator) -> Tensor:
    """The images themselves; draws nothing."""
    return x


def crop_flip(x: Tensor, generator: Generator) -> Tensor:
    """Random crop after zero padding by 4 pixels, and a horizontal flip with probability 1/2."""
    return CropFlip.draw(len(x), generator).apply(x)


def shift(x: Tensor, generator: Generator) -> Tensor:
    """Shift by -1, 0 or 1 pixel along each axis, for digits; no flip, which would change them."""
    return CropFlip.draw(len(x), generator, padding=1, flips=False).apply(x)


def sat(x: Tensor, generator: Generator) -> Tensor:
    """Crop, flip, scaling and brightness jitter of sitawarin2021 (appendix, CIFAR)."""
    return Sat.draw(len(x), generator).apply(x)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "crop-flip": crop_flip,  # Rice et al. 2020, AWP, liu2020, liu2022, li2023
    "shift": shift,
    "sat": sat,
}


def augmentation(name: str) -> Augmentation:
    """The augmentation of that name, or the error for an unknown one."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]
