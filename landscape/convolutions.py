"""Convolutions of data, whose double backward torch makes dearer than it needs to be.

The second derivative of a convolution with respect to its weights alone is one convolution of its
input. torch also derives the gradient with respect to that input, whether anything needs it or
not: for the first layer of a small network a fifth of a Hessian-vector product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

# How a kernel is laid over its input: stride, padding, dilation, groups.
Layout = tuple[list[int], list[int], list[int], int]


class OfData(TorchFunctionMode):
    """Within it, convolutions of tensors that need no gradient skip that gradient.

    Values, gradients and Hessian-vector products are torch's own, bit for bit.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _DIMENSIONS:
            call = _arguments(_DIMENSIONS[function], *args, **kwargs)
            if call is not None:
                return _Convolution.apply(*call)
        return function(*args, **kwargs)


_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


def _arguments(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Layout] | None:
    """The call in full, or nothing if it is torch's business."""
    batched = input.ndim == dimensions + 2
    if input.requires_grad or not weight.requires_grad or not batched or isinstance(padding, str):
        return None

    def each(size: Any) -> list[int]:
        sizes = [size] if isinstance(size, int) else list(size)
        return sizes * dimensions if len(sizes) == 1 else sizes

    return input, weight, bias, (each(stride), each(padding), each(dilation), groups)


def _convolve(x: Tensor, w: Tensor, b: Tensor | None, layout: Layout) -> Tensor:
    *over, groups = layout
    found: Tensor = torch.ops.aten.convolution(x, w, b, *over, False, [0] * len(over[0]), groups)
    return found


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, layout: Layout) -> Tensor:
        ctx.save_for_backward(x, w, b)
        ctx.layout = layout
        return _convolve(x, w, b, layout)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w, b = ctx.saved_tensors
        sizes = None if b is None else list(b.shape)
        slopes = _Slopes.apply(g, x, w.detach(), sizes, ctx.layout)
        return None, slopes[0], slopes[1] if b is not None else None, None


class _Slopes(Function):
    """Gradients with respect to weight and bias, linear in that of the output."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, sizes: list[int] | None, layout: Layout
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.layout = layout
        *over, groups = layout
        none, biased = [0] * len(over[0]), sizes is not None
        found = torch.ops.aten.convolution_backward(
            g, x, w, sizes, *over, False, none, groups, [False, True, biased]
        )
        return tuple(found[1:] if biased else found[1:2])

    @staticmethod
    def backward(ctx: Any, v: Tensor, b: Tensor | None = None) -> Any:
        (x,) = ctx.saved_tensors
        return _convolve(x, v, b, ctx.layout), None, None, None, None
