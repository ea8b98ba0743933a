"""The function whose landscape is studied; the only code that touches the user's model and data."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from landscape import functional, parallel
from landscape import params as P
from landscape.attacks import Attack
from landscape.batches import Batch, Batches
from landscape.errors import DataError, NumericalError, UsageError, unknown
from landscape.functional import Term, untouched
from landscape.losses import Loss, check_mean, resolve
from landscape.memory import Parts, ran_out
from landscape.params import Params
from landscape.perturbed import Perturbed, Within
from landscape.share import Share
from landscape.structured import Bundle, joined

T = TypeVar("T")

REFRESH = ("fixed", "each")
BATCHNORM = ("eval", "reestimate")


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
        model: maps a batch x to a tensor of outputs, or an object with ``logits``; others
            through ``landscape.adapt``.
        data: a ``DataLoader``, a list of batches, a pair of tensors, or any re-iterable of
            ``(x, y)``; shuffling, augmenting and one-shot data are refused. x may be a dictionary
            or tuple of tensors, and a batch a dictionary with ``labels``; attacks then perturb
            the one floating-point tensor of them.
        loss: a name in ``landscape.losses.LOSSES`` or ``loss(output, target)`` that returns one
            value per sample (or the batch mean).
        attack: perturbs the inputs; ``None`` for the clean loss.
        refresh: ``fixed``: adversarial examples are made once, at the model's own parameters, and
            held, so that derivatives are those of ℓ(x + δ*; θ) without dδ*/dθ (sitawarin2021
            eq. 9). ``each``: they are made again at every θ, from the same random starts.
        params: shell patterns that restrict θ to some of the trainable parameters.
        batchnorm: ``eval``: normalisation layers use the model's running statistics everywhere;
            ``reestimate``: at every θ, what a pass over the clean data would have made of them, as
            is needed far from where they were estimated (Garipov et al. 2018). Derivatives hold
            them.
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
        batchnorm: str = "eval",
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"expected an nn.Module, got {type(model).__name__}.")
        # A compiled module's own network: compiled graphs can't be differentiated twice.
        model = getattr(model, "_orig_mod", model)
        if refresh not in REFRESH:
            raise unknown("refresh", refresh, REFRESH)
        if batchnorm not in BATCHNORM:
            raise unknown("treatment of BatchNorm", batchnorm, BATCHNORM)
        if attack is not None and not isinstance(attack, Attack):
            raise UsageError(
                "attack must be an Attack, for example landscape.attack('pgd-10', eps=8/255); "
                f"got {type(attack).__name__}."
            )
        self.model, self.attack, self.refresh, self.seed = model, attack, refresh, seed
        self.batchnorm = batchnorm
        self.loss_name = loss if isinstance(loss, str) else getattr(loss, "__name__", repr(loss))
        self._loss = resolve(loss)
        everything = P.trainable(model)
        if not everything:
            raise UsageError("the model has no parameters that require gradients.")
        self.params: Params = P.trainable(model, params)
        check_finite(model)
        first = next(iter(self.params.values()))
        self.device, self.dtype = first.device, first.dtype
        if self.dtype in (torch.float16, torch.bfloat16):
            raise UsageError(
                f"the model is in {str(self.dtype).removeprefix('torch.')}, whose rounding errors "
                "drown derivatives: write model.float(), or model.double()."
            )
        self.parts = Parts(self._check_divisible)
        with untouched(model):
            self.batches = Batches(
                data, device=self.device, dtype=self.dtype, batch_size=batch_size
            )
            self._reentrant: bool | None = None
            self._check_model()
        self._work_on(parallel.Group())

    def with_attack(
        self, attack: Attack | None, refresh: str = "each", *, seed: int | None = None
    ) -> Objective:
        """The same model, data and loss under another attack, or none; the data are shared.

        ``seed``: of its random starts, if not the same.
        """
        other = copy.copy(self)
        other.attack, other.refresh = attack, refresh
        other.seed = self.seed if seed is None else seed
        other._work_on(self.own.group)
        return other

    def shared(self) -> Objective:
        """The same function, its samples divided among the processes of ``landscape.parallel``.

        Every process then calls the same methods: values, gradients and products are those of all
        samples, ``terms`` are of this process's. Outside a group it is the objective itself.
        """
        group = parallel.group()
        if group.size == self.own.group.size:
            return self
        if self.batches.samples < group.size:
            raise UsageError(
                f"{self.batches.samples} samples can't be divided among {group.size} processes: "
                "start fewer, or take more samples."
            )
        other = copy.copy(self)
        other._work_on(group)
        other._check_divisible()
        return other

    def _work_on(self, group: parallel.Group) -> None:
        """The samples that are this process's, and what the attack makes of them."""
        self.own = Share(self.batches, group)
        self._perturbed = Perturbed(
            self.own,
            self.attack,
            self.refresh,
            self.seed,
            self._loss,
            self.outputs,
            self.parts,
            keep=self.batches.in_memory,
        )

    def with_samples(self, indices: Sequence[int]) -> Objective:
        """The same function of some of the samples, by their ascending places in the data."""
        wanted = torch.as_tensor(sorted(indices), device=self.device)
        total, before, chosen = self.batches.samples, 0, []
        if not len(wanted) or not 0 <= wanted[0] <= wanted[-1] < total:
            raise UsageError(f"give at least one place in 0..{total - 1}.")
        for x, y in self.batches:
            rows = wanted[(wanted >= before) & (wanted < before + len(x))] - before
            chosen.append((x[rows], y[rows]))
            before += len(x)
        x, y = (joined(parts) for parts in zip(*chosen, strict=True))
        # Batches as large as before, whatever share of each was chosen.
        size = max(1, -(-total // len(self.batches)))
        pieces = zip(x.split(size), y.split(size), strict=True)
        data = [(part.raw if isinstance(part, Bundle) else part, target) for part, target in pieces]
        other = copy.copy(self)
        other.batches = Batches(data, device=self.device, dtype=self.dtype)
        other._work_on(self.own.group)
        return other

    @contextlib.contextmanager
    def moved(self, theta: Params, steps: Sequence[tuple[float, Params]]) -> Iterator[None]:
        """The model itself at θ + Σ c·d for (c, d) in ``steps``, and exactly at θ afterwards.

        One tensor after the other, from ``theta`` and directions that may be kept in other memory
        than the model's: it then needs no second copy of its parameters. Adversarial examples
        that are held stay those of before.
        """
        if self.attack is not None and self.refresh == "fixed" and self._perturbed.kept is None:
            raise UsageError(
                "adversarial examples of data that are not kept in memory can't be held while the "
                "model is moved: attack at every point (refresh='each'), or take fewer samples."
            )
        own = dict(self.model.named_parameters())
        try:
            for name in self.params:
                point = theta[name].to(self.device)
                for step, direction in steps:
                    if name in direction:
                        point = point.add(direction[name].to(self.device), alpha=step)
                own[name].data.copy_(point)
            yield
        finally:
            for name in self.params:
                own[name].data.copy_(theta[name])

    # -- values -------------------------------------------------------------------------------

    def value(self, at: Mapping[str, Tensor] | None = None) -> Value:
        """Mean loss and accuracy at ``at`` (default: the model's own parameters), in one pass."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        classifies = False

        def add(output: Tensor, y: Tensor) -> None:
            nonlocal classifies
            total, hits = functional.total(self._loss, output, y), classified(output, y)
            loss.add_(total)
            if hits is not None:
                classifies = True
                correct.add_(hits.sum())

        self._pass(at, add)
        n = self.batches.samples
        sums = self.own.sum(torch.stack([loss, correct.double()]))
        return Value(float(sums[0]) / n, int(sums[1]) / n if classifies else None, n)

    def per_sample(self, at: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """Loss (N,) and correctness (N,) of every sample, in the order of the data."""
        losses: list[Tensor] = []
        hits: list[Tensor] = []

        def collect(output: Tensor, y: Tensor) -> None:
            values = self._loss(output, y)
            if values.ndim == 0:
                raise UsageError(
                    "per-sample losses need a loss that returns one value per sample: "
                    "use reduction='none'."
                )
            correct = classified(output, y)
            losses.append(values)
            if correct is not None:
                hits.append(correct)

        self._pass(at, collect)
        found = self.own.join(torch.cat(losses))
        return found, self.own.join(torch.cat(hits)) if hits else None

    def call(self, body: Callable[[functional.Forward], T]) -> T:
        """``body(f)`` with f the network as a function of its input, its parameters detached.

        In eval mode, and with the model left untouched: for searches among the inputs.
        """
        full = self._full(None)
        with untouched(self.model):
            return functional.run(self.model, self._normalised(full), body)

    # -- derivatives --------------------------------------------------------------------------

    def gradient(self, at: Mapping[str, Tensor] | None = None) -> Params:
        """∇_θ L, sample-weighted over the whole data. Cost: one forward and backward pass.

        Raises ``NumericalError`` naming the batch if the gradient isn't finite.
        """
        total = P.zeros_like(self.params)

        def add(index: int, term: Term, part: slice) -> None:
            gradient = term.rows(part).gradient()
            check_derivative(gradient, "gradient", index)
            for name, g in zip(total, gradient, strict=True):
                total[name] += g

        for index, term in enumerate(self.terms(at), self.own.first_batch):
            self.parts.each(len(term.y), partial(add, index, term))
        return self._over_all(total)

    def hvp(self, vector: Mapping[str, Tensor], at: Mapping[str, Tensor] | None = None) -> Params:
        """∇²_θ L · vector, by differentiating twice; ``operators.Hessian`` is faster for many.

        Raises ``NumericalError`` naming the batch if the product isn't finite.
        """
        total = P.zeros_like(self.params)

        def add(index: int, term: Term, part: slice) -> None:
            product = term.rows(part).hessian()({name: vector[name] for name in total})
            check_derivative(product.values(), "Hessian-vector product", index)
            for name, share in product.items():
                total[name] += share

        for index, term in enumerate(self.terms(at), self.own.first_batch):
            self.parts.each(len(term.y), partial(add, index, term))
        return self._over_all(total)

    def _over_all(self, total: Params) -> Params:
        if self.own.group.size == 1:
            return total
        return P.unflatten(self.own.sum(P.flatten(total)), total)

    def terms(self, at: Mapping[str, Tensor] | None = None) -> Iterator[Term]:
        """L as a sum over the batches, each a function of θ with its perturbations held.

        Perturbations are those of ``refresh`` at the point ``at``. Terms can be called, and
        transformed by ``torch.func``, during the iteration and after it.
        """
        with untouched(self.model):
            full = self._normalised(self._full(at))

        def within(body: Callable[[functional.Forward], T]) -> T:
            return functional.run(self.model, full, body)

        inputs = self._inputs(within, self._full(None))
        if self._reentrant is None:
            x = next(iter(self.batches))[0]
            with untouched(self.model):
                # Of two samples: a single one has no batch statistics, for models that use them.
                self._reentrant = functional.reentrant(self.model, full, self.params, x[:2])
        while True:
            # Not around the yield: the caller's own errors would leave it suspended inside.
            with untouched(self.model):
                batch = next(inputs, None)
            if batch is None:
                return
            x, y = batch
            names = tuple(self.params)
            n = self.batches.samples
            yield Term(self.model, self._loss, full, names, x, y, n, self._reentrant)

    # -- record -------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What provenance records of the function: model, data, loss, attack, refresh."""
        state = dict((*self.model.named_parameters(), *self.model.named_buffers()))
        return {
            "model": {
                "class": type(self.model).__name__,
                "digest": P.digest(state),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "theta": P.size(self.params),
                "dtype": str(self.dtype).removeprefix("torch."),
                "device": str(self.device),
                "batchnorm": self.batchnorm,
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
            for name, p in at.items():
                if p.shape != full[name].shape:
                    raise UsageError(
                        f"'{name}' has shape {tuple(full[name].shape)} in the model and "
                        f"{tuple(p.shape)} in the given point."
                    )
                full[name] = p.detach()
        return full

    def _pass(
        self, at: Mapping[str, Tensor] | None, visit: Callable[[Tensor, Tensor], None]
    ) -> None:
        """``visit(output, y)`` for every batch at θ, with the model left untouched."""

        def body(forward: functional.Forward) -> None:
            def look(x: Tensor, y: Tensor, part: slice) -> None:
                with torch.no_grad():
                    visit(forward(x[part]), y[part])

            for x, y in self._inputs(lambda attack: attack(forward), centre):
                self.parts.each(len(y), partial(look, x, y))

        # Both before the run, which has the model's own parameters exchanged.
        centre, full = self._full(None), self._full(at)
        with untouched(self.model):
            functional.run(self.model, self._normalised(full), body)

    def _normalised(self, full: Params) -> Params:
        """With the statistics of normalisation layers at these parameters, if they are wanted."""
        if self.batchnorm == "eval":
            return full
        inputs = (x for x, _ in self.batches)
        return {**full, **functional.reestimated(self.model, full, inputs)}

    def _inputs(self, within: Within, centre: Params) -> Iterator[Batch]:
        def at_centre() -> Within:
            return partial(functional.run, self.model, self._normalised(centre))

        return self._perturbed.batches(within, centre, at_centre)

    def _check_divisible(self) -> None:
        """Refuse a model whose outputs for a sample depend on which others are in its batch."""
        x = next(iter(self.batches))[0][:2]
        if len(x) < 2:
            return
        with untouched(self.model), torch.no_grad():
            forward = functional.at(self.model, self._normalised(self._full(None)))
            whole = forward(x)
            parts = torch.cat([forward(part) for part in (x[: len(x) // 2], x[len(x) // 2 :])])
        allowed = torch.finfo(whole.dtype).eps ** 0.5 * max(1.0, float(whole.abs().max()))
        if not bool(((whole - parts).abs() <= allowed).all()) and bool(whole.isfinite().all()):
            raise UsageError(
                "the model's output for a sample depends on the others in its batch, so batches "
                "can't be divided, neither among processes nor where memory runs out."
            )

    def _check_model(self) -> None:
        """One batch through the model: outputs, targets and loss are what is expected."""
        x, y = next(iter(self.batches))
        with torch.no_grad():
            try:
                output = functional.at(self.model, self._full(None))(x)
            except Exception as error:
                if not ran_out(error):
                    raise
                x, y = x[:1], y[:1]  # enough to look at
                output = functional.at(self.model, self._full(None))(x)
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
        if self.loss_name == "cross-entropy" and y.shape == output.shape and y.ndim == 2:
            _check_soft_labels(y)
        check_mean(self._loss, output, y)


def _check_soft_labels(y: Tensor) -> None:
    """Targets (B, C) of cross-entropy are probabilities; rows with a single 1 are a mistake."""
    if ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all() and y.shape[1] > 1:
        raise DataError(
            f"the labels are one-hot, of shape {tuple(y.shape)}: give classes, y.argmax(1)."
        )
    if not ((y >= 0).all() and torch.isclose(y.sum(1), torch.ones_like(y.sum(1)), 1e-3).all()):
        raise DataError(
            f"cross-entropy takes classes, or probabilities that sum to 1, and the targets of "
            f"shape {tuple(y.shape)} are neither: for regression use mse."
        )


def check_derivative(found: Iterable[Tensor], what: str, batch: int) -> None:
    """Refuse a batch's share of a gradient or product that isn't finite, naming the batch."""
    if not P.finite(found):
        raise NumericalError(
            f"the {what} of batch {batch} is not finite: check that batch's inputs, or measure in "
            "float64 (--dtype float64)."
        )


def check_finite(model: nn.Module) -> None:
    """Refuse NaN and infinite weights, naming the first; a buffer may hold −inf (a mask)."""
    buffers = (
        (name, b.nan_to_num(nan=torch.nan, posinf=0, neginf=0))
        for name, b in model.named_buffers()
        if b.is_floating_point()
    )
    for name, p in (*model.named_parameters(), *buffers):
        if not bool(p.isfinite().all()):
            bad = int((~p.isfinite()).sum())
            raise NumericalError(
                f"'{name}' holds {bad} values that are NaN or infinite: the training diverged or "
                "the file is damaged."
            )


def classified(output: Tensor, y: Tensor) -> Tensor | None:
    """Whether each sample is classified correctly (B,); None if there are no classes."""
    # A single output has no argmax to compare: integer targets are then numbers to regress on.
    if output.ndim == 2 and output.shape[1] > 1 and y.ndim == 1 and not y.is_floating_point():
        return output.argmax(1) == y
    return None
