"""Layers whose double backward torch makes dearer than it needs to be, or wrong.

- A convolution: torch derives the gradient with respect to data, which nothing needs (for the
  first layer of a small network a fifth of a Hessian-vector product), and the second derivative
  with respect to weights by convolutions with kernels as large as the image.
- A product needs the graph of the gradient, not the gradient itself: that of the weights of
  convolutions and large linear layers is left out if asked.
- BatchNorm with stored statistics is an affine function of its input, but torch differentiates it
  twice as if the statistics were the batch's: a quarter of a product of a ResNet. After a
  convolution it needn't be there at all (``folding``).
- Weight normalisation: torch differentiates its backward as if the norms in it were constant
  (2.14), so second derivatives are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from landscape.folding import Folding

# How a kernel is laid over its input: stride, padding, dilation, groups.
Layout = tuple[list[int], list[int], list[int], int]

# Gradients with respect to input, weight and bias.
Slopes = tuple[Tensor | None, Tensor | None, Tensor | None]


class Lean(TorchFunctionMode):
    """Within it, such layers have a double backward that is right, without the detours.

    Values and gradients are torch's own up to rounding.

    Args:
        unread: nobody looks at the numbers of the gradient, which is there to be differentiated.
            Zeros that take no memory stand for it where that saves work.
        folding: the coordinates in which convolutions and the BatchNorm after them are one layer.
    """

    def __init__(self, *, unread: bool = False, folding: Folding | None = None) -> None:
        super().__init__()
        self.unread, self.folding = unread, folding
        # The last convolution that may fold: its output, how often that was changed, its inputs.
        self._last: tuple[Any, ...] | None = None

    def __exit__(self, *args: Any) -> None:
        self._last = None
        super().__exit__(*args)

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _DIMENSIONS:
            call = _convolution(_DIMENSIONS[function], *args, **kwargs)
            if call is not None:
                # What a weight was computed from, as by weight normalisation, needs its gradient.
                unread = self.unread and all(t is None or t.is_leaf for t in call[1:3])
                output = _Convolution.apply(*call, unread, None)
                if self.folding and output.requires_grad:
                    self._last = output, output._version, *call
                return output
        elif function is F.batch_norm:
            normalised = _normalisation(*args, **kwargs)
            if normalised is not None:
                folded = self._folded(*normalised)
                return _Normalisation.apply(*normalised) if folded is None else folded
        elif function is F.linear and self.unread:
            affine = _affine(*args, **kwargs)
            if affine is not None:
                return _Linear.apply(*affine)
        elif function is torch._weight_norm:
            return _normalised_weight(*args, **kwargs)
        return function(*args, **kwargs)

    def _folded(self, input: Tensor, *norm: Any) -> Tensor | None:
        """The output of a BatchNorm as that of one convolution, if the input is a convolution's.

        The convolution's own output has a graph too, for whatever else may use it.
        """
        if self.folding is None or self._last is None or input is not self._last[0]:
            return None
        (output, version, x, weight, bias, layout), self._last = self._last, None
        if output._version != version or output._backward_hooks:
            return None
        pair = self.folding.fold(weight, bias, *norm)
        if pair is None:
            return None
        value = partial(_normalise, input.detach(), *norm)
        folded: Tensor = _Convolution.apply(x, pair.folded, pair.offset, layout, self.unread, value)
        return folded


_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


def _convolution(
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
    if not weight.requires_grad or not batched or isinstance(padding, str):
        return None

    def each(size: Any) -> list[int]:
        sizes = [size] if isinstance(size, int) else list(size)
        return sizes * dimensions if len(sizes) == 1 else sizes

    return input, weight, bias, (each(stride), each(padding), each(dilation), groups)


def _normalisation(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...] | None:
    """The call in full, or nothing if it normalises by the batch or nothing has a gradient."""
    if training or running_mean is None or running_var is None:
        return None
    if not any(t is not None and t.requires_grad for t in (input, weight, bias)):
        return None
    return input, weight, bias, running_mean, running_var, eps


# Entries of a weight below which its gradient costs less than not making it.
_LARGE = 1 << 16


def _affine(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """The call in full, or nothing if there is no gradient to leave out that is worth it."""
    worth_it = weight.ndim == 2 and weight.numel() >= _LARGE and input.ndim > 1
    if not (worth_it and weight.requires_grad and weight.is_leaf):
        return None
    return input, weight, bias


def _normalised_weight(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ‖v‖, the norm over all dimensions but one."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _convolve(x: Tensor, w: Tensor, b: Tensor | None, layout: Layout) -> Tensor:
    *over, groups = layout
    found: Tensor = torch.ops.aten.convolution(x, w, b, *over, False, [0] * len(over[0]), groups)
    return found


def _slopes(
    g: Tensor, x: Tensor, w: Tensor, sizes: list[int] | None, layout: Layout, wanted: list[bool]
) -> Slopes:
    """Gradients with respect to input, weight and bias, as wanted."""
    *over, groups = layout

    def made(g: Tensor, x: Tensor, wanted: list[bool]) -> Slopes:
        found: Slopes = torch.ops.aten.convolution_backward(
            g, x, w, sizes, *over, False, [0] * len(over[0]), groups, wanted
        )
        return found

    of_x, of_w, of_b = wanted
    if not (of_w and _overhanging(x, w)):
        return made(g, x, wanted)
    to_x = made(g, x, [True, False, False])[0] if of_x else None
    last = torch.channels_last
    g, x = g.contiguous(memory_format=last), x.contiguous(memory_format=last)
    _, to_w, to_b = made(g, x, [False, True, of_b])
    return to_x, to_w, to_b


def _overhanging(x: Tensor, w: Tensor) -> bool:
    """Whether a kernel is larger than its image: on a CPU the weight's gradient is then up to six
    times as fast with the channels last."""
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and any(kernel > image for kernel, image in zip(w.shape[2:], x.shape[2:], strict=True))
    )


def _sum(*terms: Tensor | None) -> Tensor | None:
    found = [t for t in terms if t is not None]
    return sum(found[1:], found[0]) if found else None


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        layout: Layout,
        unread: bool,
        value: Callable[[], Tensor] | None,  # gives the output where it is known
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.layout, ctx.sizes = layout, None if b is None else list(b.shape)
        ctx.unread = unread
        return value() if value else _convolve(x, w, b, layout)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        # The product itself passes here too, without a graph, and is read.
        unread = ctx.unread and torch.is_grad_enabled()
        slopes = _ConvolutionSlopes.apply(g, x, w, ctx.sizes, ctx.layout, wanted, unread)
        return *slopes, None, None, None


class _ConvolutionSlopes(Function):
    """Gradients of a convolution: bilinear in (g, w) for the input, in (g, x) for the weight."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        w: Tensor,
        sizes: list[int] | None,
        layout: Layout,
        wanted: list[bool],
        unread: bool,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, w)
        ctx.layout = layout
        ctx.set_materialize_grads(False)
        of_x, of_w, of_b = wanted
        if not (unread and of_w):
            return _slopes(g, x, w, sizes, layout, wanted)
        # torch makes a bias's gradient by the weight's kernel, which is what is to be saved.
        to_x = _slopes(g, x, w, sizes, layout, [of_x, False, False])[0] if of_x else None
        zero = w.new_zeros(())
        return to_x, zero.expand_as(w), zero.expand(sizes) if of_b and sizes else None

    @staticmethod
    def backward(ctx: Any, vx: Tensor | None, vw: Tensor | None, vb: Tensor | None) -> Any:
        g, x, w = ctx.saved_tensors
        of_g, of_x, of_w = ctx.needs_input_grad[:3]
        to_g = to_x = to_w = None
        if of_g and vw is not None:
            to_g = _convolve(x, vw, vb, ctx.layout)
        elif of_g and vb is not None:
            to_g = vb.reshape(-1, *[1] * (g.ndim - 2)).expand_as(g)
        if vx is not None:
            to_g = _sum(to_g, _convolve(vx, w, None, ctx.layout)) if of_g else None
            if of_w:
                to_w = _slopes(g, vx, w, None, ctx.layout, [False, True, False])[1]
        if of_x and vw is not None:
            to_x = _slopes(g, x, vw, None, ctx.layout, [True, False, False])[0]
        return to_g, to_x, to_w, None, None, None, None


class _Linear(Function):
    """y = x wᵀ + b, the gradient of w left out where that of x is made to be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        found: Tensor = torch.ops.aten.linear(x, w, b)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return _LinearSlopes.apply(g, x, w, list(ctx.needs_input_grad), torch.is_grad_enabled())


def _outer(g: Tensor, x: Tensor) -> Tensor:
    """Σ g xᵀ over all dimensions but the last."""
    return g.flatten(0, -2).T @ x.flatten(0, -2)


class _LinearSlopes(Function):
    """∂x = g w, ∂w = Σ g xᵀ and ∂b = Σ g."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, wanted: list[bool], unread: bool
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, w)
        ctx.set_materialize_grads(False)
        of_x, of_w, of_b = wanted
        to_w = None
        if of_w:
            to_w = w.new_zeros(()).expand_as(w) if unread else _outer(g, x)
        return g @ w if of_x else None, to_w, g.flatten(0, -2).sum(0) if of_b else None

    @staticmethod
    def backward(ctx: Any, vx: Tensor | None, vw: Tensor | None, vb: Tensor | None) -> Any:
        g, x, w = ctx.saved_tensors
        of_g, of_x, of_w = ctx.needs_input_grad[:3]
        to_g = to_x = to_w = None
        if of_g:
            to_g = _sum(
                None if vw is None else x @ vw.T,
                None if vx is None else vx @ w.T,
                None if vb is None else vb.expand_as(g),
            )
        if of_x and vw is not None:
            to_x = g @ vw
        if of_w and vx is not None:
            to_w = _outer(g, vx)
        return to_g, to_x, to_w, None, None


def _normalise(
    x: Tensor, w: Tensor | None, b: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    found: Tensor = torch.ops.aten.native_batch_norm(x, w, b, mean, var, False, 0.0, eps)[0]
    return found


# Of the three gradients of a BatchNorm, that of its weight.
_SCALE = [False, True, False]


class _Normalisation(Function):
    """y = (x − μ) r w + b with r = 1/√(σ² + eps); μ and σ² are constants."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor | None,
        b: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, w, mean, var)
        ctx.eps = eps
        return _normalise(x, w, b, mean, var, eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w, mean, var = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        return *_NormalisationSlopes.apply(g, x, w, mean, var, ctx.eps, wanted), None, None, None


class _NormalisationSlopes(Function):
    """∂x = g r w, ∂w = Σ g (x − μ) r and ∂b = Σ g."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        wanted: list[bool],
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, w, mean, var)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        found: tuple[Tensor | None, ...] = torch.ops.aten.native_batch_norm_backward(
            g, x, w, mean, var, None, None, False, eps, wanted
        )
        return tuple(t if needed else None for t, needed in zip(found, wanted, strict=True))

    @staticmethod
    def backward(ctx: Any, vx: Tensor | None, vw: Tensor | None, vb: Tensor | None) -> Any:
        g, x, w, mean, var = ctx.saved_tensors
        of_g, of_x, of_w = ctx.needs_input_grad[:3]
        to_g = to_x = to_w = None
        r = (var + ctx.eps).rsqrt()

        def channels(t: Tensor) -> Tensor:
            return t.to(g.dtype).view(-1, *[1] * (g.ndim - 2))

        if of_g:
            if vb is not None or vw is not None:
                shift = torch.zeros_like(r) if vb is None else vb
                if vw is not None:
                    shift = shift - mean * r * vw
                to_g = channels(shift).expand_as(g)
            for v, scale in ((x, None if vw is None else r * vw), (vx, r if w is None else r * w)):
                if v is not None and scale is not None:
                    scale = channels(scale)
                    to_g = v * scale if to_g is None else torch.addcmul(to_g, v, scale)
        if of_x and vw is not None:
            to_x = g * channels(r * vw)
        if of_w and vx is not None:  # Σ g vx r
            to_w = torch.ops.aten.native_batch_norm_backward(
                g, vx, w, torch.zeros_like(mean), var, None, None, False, ctx.eps, _SCALE
            )[1]
        return to_g, to_x, to_w, None, None, None, None
