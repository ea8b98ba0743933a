"""Half precision and channels-last memory: how the network computes, not what.

Only the network's own operations run in half precision, by autocast. Its weights and outputs,
the losses, attacks and regularisers, the optimiser and every validation keep full precision, so
no part of a method needs to know of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError

PRECISIONS: dict[str, torch.dtype | None] = {
    "full": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# Gradients in the input are multiplied by it within the network and divided by it afterwards:
# fp16 has no numbers below 6e-8, which those of confident samples are soon.
_INPUT_SCALE = 256.0


@contextlib.contextmanager
def computing(model: nn.Module, precision: str, *, channels_last: bool) -> Iterator[None]:
    """The network in that precision and memory layout inside; logits stay float32.

    With ``fp16`` gradients in the input alone, as attacks take them, are scaled and scaled back;
    those in the weights are the affair of ``loss_scaler``.
    """
    dtype = PRECISIONS[precision]
    if dtype is None and not channels_last:
        yield
        return
    kinds = {p.dtype for p in model.parameters()}
    if dtype is not None and kinds != {torch.float32}:
        found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise UsageError(f"precision '{precision}' is for float32 networks, this one is {found}.")
    running: list[torch.autocast] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = inputs
        if channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if dtype is torch.float16 and _attacked(module, x):
            x = x.view_as(x)
            x.register_hook(lambda g: g / _INPUT_SCALE)
        if dtype is not None:
            running.append(torch.autocast(x.device.type, dtype))
            running[-1].__enter__()
        return (x, *rest)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if running:
            running.pop().__exit__(None, None, None)
        if not torch.is_tensor(output):  # the network has raised an error
            return output
        output = output.to(inputs[0].dtype)
        if dtype is torch.float16 and _attacked(module, inputs[0]):
            output.register_hook(lambda g: g * _INPUT_SCALE)
        return output

    hooks = [
        model.register_forward_pre_hook(before),
        model.register_forward_hook(after, always_call=True),
    ]
    if channels_last:
        model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if channels_last:
            model.to(memory_format=torch.contiguous_format)


def _attacked(model: nn.Module, x: Tensor) -> bool:
    """Whether a gradient is wanted in the input alone."""
    alone = torch.is_grad_enabled() and x.requires_grad
    return alone and not any(p.requires_grad for p in model.parameters())


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps gradients in the weights within fp16's range; nothing else needs one."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def unscaled(scaler: torch.amp.GradScaler, optimiser: torch.optim.Optimizer) -> bool:
    """Take the scale off the gradients; False where they overflowed, and the update is left out.

    The scale falls after an overflow, and rises after 2000 updates without one.
    """
    scaler.unscale_(optimiser)
    scaler.update()
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"]]
    return all(g is None or bool(g.isfinite().all()) for g in gradients)


def check_precision(name: str, parts: tuple[Any, ...], precision: str) -> None:
    """Refuse parts of method ``name`` that a precision would ruin (their ``precisions``)."""
    for part in parts:
        allowed = getattr(part, "precisions", tuple(PRECISIONS))
        if precision not in allowed:
            raise UsageError(
                f"'{name}' can't be trained in precision '{precision}': "
                f"'{part.describe()['part']}' needs one of {', '.join(allowed)}."
            )
