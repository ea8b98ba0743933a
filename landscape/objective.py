"""The function whose landscape is studied; the only code that touches the user's model and data."""

from __future__ import annotations

import contextlib
import copy
import random as python_random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape import params as P
from landscape.attacks import Attack
from landscape.batches import Batch, Batches
from landscape.errors import DataError, NumericalError, UsageError, unknown
from landscape.losses import Loss, check_mean, resolve
from landscape.params import Params
from landscape.random import Streams

REFRESH = ("fixed", "each")


@dataclass(frozen=True)
class Value:
    """One pass over the data: sample-weighted mean loss, accuracy (None for regression)."""

    loss: float
    accuracy: float | None
    samples: int


class Objective:
    """L(θ) = (1/N) Σ_i ℓ(f_θ(x_i), y_i), or L_ε(θ) with x_i replaced by adversarial examples.

    The model is any ``nn.Module``: it is called functionally, in eval mode, and is left
    bit-identical (parameters, buffers, ``.grad``, train flags, global random state). Averages are
    over samples, so unequal batches change nothing.

    Args:
        model: maps a batch x to a tensor of outputs.
        data: a ``DataLoader``, a list of batches, a pair of tensors, or any re-iterable of
            ``(x, y)``; shuffling, augmenting and one-shot data are refused.
        loss: a name in ``landscape.losses.LOSSES`` or ``loss(output, target)`` that returns one
            value per sample (or the batch mean).
        attack: perturbs the inputs; ``None`` for the clean loss.
        refresh: ``fixed``: adversarial examples are made once, at the model's own parameters, and
            held, so that derivatives are those of ℓ(x + δ*; θ) without dδ*/dθ (sitawarin2021
            eq. 9). ``each``: they are made again at every θ, from the same random starts.
        params: shell patterns that restrict θ to some of the trainable parameters.
        seed: of the attack's random starts.
        batch_size: for a pair of tensors or a ``Dataset``.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: str | Loss = "cross-entropy",
        attack: Attack | None = None,
        refresh: str = "fixed",
        *,
        params: str | Sequence[str] | None = None,
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"expected an nn.Module, got {type(model).__name__}.")
        if refresh not in REFRESH:
            raise unknown("refresh", refresh, REFRESH)
        if attack is not None and not isinstance(attack, Attack):
            raise UsageError(
                "attack must be an Attack, for example landscape.attack('pgd-10', eps=8/255); "
                f"got {type(attack).__name__}."
            )
        self.model, self.attack, self.refresh, self.seed = model, attack, refresh, seed
        self.loss_name = loss if isinstance(loss, str) else getattr(loss, "__name__", repr(loss))
        self._loss = resolve(loss)
        everything = P.trainable(model)
        if not everything:
            raise UsageError("the model has no parameters that require gradients.")
        self.params: Params = P.trainable(model, params)
        check_finite(model)
        first = next(iter(self.params.values()))
        self.device, self.dtype = first.device, first.dtype
        with untouched(model):
            self.batches = Batches(
                data, device=self.device, dtype=self.dtype, batch_size=batch_size
            )
            self._adversarial: list[Tensor] | None = None
            self._check_model()

    def with_attack(self, attack: Attack | None, refresh: str = "each") -> Objective:
        """The same model, data and loss under another attack, or none; the data are shared."""
        other = copy.copy(self)
        other.attack, other.refresh, other._adversarial = attack, refresh, None
        return other

    # -- values -------------------------------------------------------------------------------

    def value(self, at: Mapping[str, Tensor] | None = None) -> Value:
        """Mean loss and accuracy at ``at`` (default: the model's own parameters), in one pass."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        classifies = False
        with self._pass(at) as (forward, batches), torch.no_grad():
            for x, y in batches:
                output = forward(x)
                loss += self._sum(output, y).double()
                hits = _correct(output, y)
                if hits is not None:
                    classifies = True
                    correct += hits.sum()
        n = self.batches.samples
        return Value(float(loss) / n, int(correct) / n if classifies else None, n)

    def per_sample(self, at: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """Loss (N,) and correctness (N,) of every sample, in the order of the data."""
        losses, hits = [], []
        with self._pass(at) as (forward, batches), torch.no_grad():
            for x, y in batches:
                output = forward(x)
                values = self._loss(output, y)
                if values.ndim == 0:
                    raise UsageError(
                        "per-sample losses need a loss that returns one value per sample: "
                        "use reduction='none'."
                    )
                losses.append(values)
                correct = _correct(output, y)
                if correct is not None:
                    hits.append(correct)
        return torch.cat(losses), torch.cat(hits) if hits else None

    # -- derivatives --------------------------------------------------------------------------

    def gradient(self, at: Mapping[str, Tensor] | None = None) -> Params:
        """∇_θ L, sample-weighted over the whole data. Cost: one forward and backward pass."""
        total = P.zeros_like(self.params)
        for _, loss, leaves in self._losses(at):
            if not loss.requires_grad:  # none of θ takes part in this loss
                continue
            grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            for name, g in zip(leaves, grads, strict=True):
                total[name] += g
        return total

    def hvp(self, vector: Mapping[str, Tensor], at: Mapping[str, Tensor] | None = None) -> Params:
        """∇²_θ L · vector, by differentiating ⟨∇L, vector⟩.

        Raises ``NumericalError`` naming the batch if the product isn't finite.
        """
        total = P.zeros_like(self.params)
        pieces = [vector[name] for name in self.params]
        for index, loss, leaves in self._losses(at):
            if not loss.requires_grad:
                continue
            wrt = list(leaves.values())
            grads = torch.autograd.grad(loss, wrt, create_graph=True, materialize_grads=True)
            pairs = [(g, v) for g, v in zip(grads, pieces, strict=True) if g.requires_grad]
            if not pairs:  # the loss is linear in θ on this batch
                continue
            products = torch.autograd.grad(
                [g for g, _ in pairs], wrt, [v for _, v in pairs], materialize_grads=True
            )
            for name, product in zip(leaves, products, strict=True):
                total[name] += product
            if not all(bool(p.isfinite().all()) for p in products):
                raise NumericalError(
                    f"the Hessian-vector product of batch {index} is not finite (loss "
                    f"{float(loss) * self.batches.samples:.3g}): check that batch's inputs, or "
                    "measure in float64 (--dtype float64)."
                )
        return total

    # -- record -------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What provenance records of the function: model, data, loss, attack, refresh."""
        return {
            "model": {
                "class": type(self.model).__name__,
                "digest": P.digest(self.model.state_dict()),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "theta": P.size(self.params),
                "dtype": str(self.dtype).removeprefix("torch."),
                "device": str(self.device),
                "batchnorm": "eval",
            },
            "data": {"digest": self.batches.digest, "samples": self.batches.samples},
            "loss": self.loss_name,
            "attack": self.attack.describe() if self.attack else None,
            "perturbation": self.refresh if self.attack else None,
            "attack_seed": self.seed if self.attack else None,
        }

    # -- inside -------------------------------------------------------------------------------

    def _full(self, at: Mapping[str, Tensor] | None) -> Params:
        """Every parameter, detached: θ at ``at``, the others as they are in the model."""
        full = P.trainable(self.model)
        if at is not None:
            odd = set(at) - set(self.params)
            if odd:
                raise UsageError(f"not among the parameters θ: {', '.join(sorted(odd)[:5])}.")
            full.update({name: p.detach() for name, p in at.items()})
        return full

    @contextlib.contextmanager
    def _pass(
        self, at: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[Callable[[Tensor], Tensor], Iterator[Batch]]]:
        """The network at θ and the batches to evaluate it on, with the model left untouched."""
        full = self._full(at)
        with untouched(self.model):
            forward = self._functional(full)
            yield forward, self._inputs(forward)

    def _functional(self, full: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        # Buffers go in as copies: a module that writes them even in eval mode writes the copies.
        buffers = {name: b.clone() for name, b in self.model.named_buffers()}
        state = {**buffers, **full}

        def forward(x: Tensor) -> Tensor:
            output = torch.func.functional_call(self.model, state, (x,))
            if not torch.is_tensor(output):
                raise UsageError(
                    f"the model returned a {type(output).__name__}: wrap it in a module whose "
                    "forward returns the tensor that the loss takes."
                )
            return output

        return forward

    def _inputs(self, forward: Callable[[Tensor], Tensor]) -> Iterator[Batch]:
        if self.attack is None:
            yield from self.batches
        elif self.refresh == "each":
            yield from self._attacked(forward)
        elif self._adversarial is not None:
            for (_, y), x in zip(self.batches, self._adversarial, strict=True):
                yield x, y
        else:
            # Made at the centre whatever θ this pass is at; kept if the data themselves are.
            made = []
            for x, y in self._attacked(self._functional(self._full(None))):
                if self.batches.in_memory:
                    made.append(x)
                yield x, y
            self._adversarial = made or None

    def _attacked(self, forward: Callable[[Tensor], Tensor]) -> Iterator[Batch]:
        assert self.attack is not None
        streams = Streams(self.seed, "attack")
        for x, y in self.batches:
            yield self.attack.perturb(forward, x, y, streams=streams, loss=self._loss), y

    def _losses(
        self, at: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[int, Tensor, dict[str, Tensor]]]:
        """Per batch: its index, its share of L with a graph, and the leaves θ."""
        full = self._full(at)
        leaves = {name: full[name].clone().requires_grad_() for name in self.params}
        forward = self._functional({**full, **leaves})
        with untouched(self.model):
            for index, (x, y) in enumerate(self._inputs(self._functional(full))):
                with torch.enable_grad():
                    loss = self._sum(forward(x), y) / self.batches.samples
                yield index, loss, leaves

    def _sum(self, output: Tensor, y: Tensor) -> Tensor:
        values = self._loss(output, y)
        return values * len(output) if values.ndim == 0 else values.sum()

    def _check_model(self) -> None:
        """One batch through the model: outputs, targets and loss are what is expected."""
        x, y = next(iter(self.batches))
        with torch.no_grad():
            output = self._functional(self._full(None))(x)
        if output.shape[:1] != x.shape[:1]:
            raise UsageError(
                f"the model returned shape {tuple(output.shape)} for {len(x)} samples: "
                "the first axis must be the sample."
            )
        self.outputs = output.shape[1] if output.ndim > 1 else 1
        if self.loss_name == "cross-entropy" and self.batches.labels is not None:
            classes = self.outputs
            for label, batch in self.batches.labels:
                if not 0 <= label < classes:
                    raise DataError(
                        f"batch {batch} has label {label}, but the model has {classes} outputs: "
                        f"labels must lie in 0..{classes - 1}."
                    )
        check_mean(self._loss, output, y)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; train flags and all global random states as before afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    cpu, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(),  # noqa: NPY002 - saved because user code may draw from it
        python_random.getstate(),
    )
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        model.eval()
        yield
    finally:
        for module, flag in flags:
            module.training = flag
        torch.set_rng_state(cpu)
        np.random.set_state(numpy_state)  # noqa: NPY002
        python_random.setstate(python_state)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def check_finite(model: nn.Module) -> None:
    """Refuse NaN and infinite weights, naming the first."""
    for name, p in model.state_dict().items():
        if p.is_floating_point() and not bool(p.isfinite().all()):
            bad = int((~p.isfinite()).sum())
            raise NumericalError(
                f"'{name}' holds {bad} values that are NaN or infinite: the training diverged or "
                "the file is damaged."
            )


def _correct(output: Tensor, y: Tensor) -> Tensor | None:
    if output.ndim == 2 and y.ndim == 1 and not y.is_floating_point():
        return output.argmax(1) == y
    return None
