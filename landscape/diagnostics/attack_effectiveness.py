"""How much of a strong attack's rise in the loss other attacks reach, also when weakened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.attacks import Attack
from landscape.diagnostics.evaluation import wilson
from landscape.errors import UsageError, unknown
from landscape.functional import Term, untouched
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

# Samples whose loss the reference raises by no more than this are left out of the mean of ratios.
THRESHOLD = 1e-3


@dataclass(frozen=True, eq=False)
class Effectiveness(Result):
    """Losses and correctness of every sample, clean, under the reference and under each attack.

    ``loss[k, w, i]`` is that of sample i under attack k whose perturbation was weakened as
    ``scale[w]`` and ``flip[w]`` say; w = 0 is the perturbation as it was made. ``included`` are
    the samples that the reference raised by more than ``threshold``: of them the mean of ratios
    is taken. ``correct`` is None for regression.
    """

    kind: ClassVar[str] = "effectiveness"

    attack: np.ndarray = array("attack")
    reference: str = scalar(label="reference attack")
    scale: np.ndarray = array("weakening", units="fraction", label="size of the perturbation")
    flip: np.ndarray = array("weakening", units="fraction", label="share of its signs flipped")
    clean_loss: np.ndarray = array("sample", units="loss", label="clean loss")
    reference_loss: np.ndarray = array("sample", units="loss", label="loss under the reference")
    loss: np.ndarray = array("attack", "weakening", "sample", units="loss", label="loss")
    correct: np.ndarray | None = array("attack", "weakening", "sample", default=None)
    reference_correct: np.ndarray | None = array("sample", default=None)
    included: np.ndarray = array("sample", label="reference raised the loss above the threshold")
    threshold: float = scalar(units="loss", label="least rise under the reference")
    excluded_share: float = scalar(units="fraction", label="share of samples excluded")
    lowered_share: float = scalar(
        units="fraction", label="share of samples whose loss the reference lowered"
    )

    @property
    def reference_variance(self) -> Estimate:
        """AV of the reference: mean of ℓ(x + δ*) − ℓ(x) over all samples."""
        return Estimate.of(self.reference_loss - self.clean_loss)

    def variance(self, attack: str, weakening: int = 0) -> Estimate:
        """Adversarial variance: mean of ℓ(x + δ) − ℓ(x) over all samples."""
        return Estimate.of(self._rise(attack, weakening))

    def ratios(self, attack: str, weakening: int = 0) -> np.ndarray:
        """(ℓ(x + δ) − ℓ(x)) / (ℓ(x + δ*) − ℓ(x)) of the samples included."""
        star = self.reference_loss - self.clean_loss
        return np.asarray(self._rise(attack, weakening)[self.included] / star[self.included])

    def mean_ratio(self, attack: str, weakening: int = 0) -> Estimate:
        """Effectiveness as eq. 7 of li2023 has it: the mean of ``ratios``. NaN without samples."""
        ratios = self.ratios(attack, weakening)
        return Estimate.of(ratios) if len(ratios) else Estimate(math.nan, math.inf, 0)

    def ratio_of_means(self, attack: str, weakening: int = 0) -> Estimate:
        """R = AV / AV of the reference, over all samples; standard error by the delta method.

        Var R ≈ (1/n) Var(a − R b) / b̄², with a and b the rises of the loss of one sample.
        """
        return _ratio_of_means(self._rise(attack, weakening), self.reference_loss - self.clean_loss)

    def accuracy(self, attack: str | None = None, weakening: int = 0) -> tuple[float, float, float]:
        """Robust accuracy with its 95 % Wilson interval; under the reference if none is named."""
        if self.correct is None or self.reference_correct is None:
            raise UsageError("there is no accuracy: it needs a classifier.")
        if attack is None:
            hits = self.reference_correct
        else:
            hits = self.correct[self._index(attack), weakening]
        return float(hits.mean()), *wilson(int(hits.sum()), len(hits))

    def curve(self, along: str) -> np.ndarray:
        """Indices of the weakenings by ``scale`` or by ``flip`` alone, in ascending order."""
        if along not in ("scale", "flip"):
            raise unknown("weakening", along, ["scale", "flip"])
        alone = self.flip == 0 if along == "scale" else self.scale == 1
        where = np.flatnonzero(alone)
        return np.asarray(where[np.argsort(getattr(self, along)[where], kind="stable")])

    def _rise(self, attack: str, weakening: int) -> np.ndarray:
        return np.asarray(self.loss[self._index(attack), weakening] - self.clean_loss)

    def _index(self, attack: str) -> int:
        names = [str(name) for name in self.attack]
        if attack not in names:
            raise unknown("attack", attack, names)
        return names.index(attack)

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.effectiveness import draw_attacks

        return draw_attacks([self], ax=ax)


def effectiveness(
    objective: Objective,
    attacks: Mapping[str, Attack],
    reference: Attack,
    *,
    scales: Sequence[float] = (),
    flips: Sequence[float] = (),
    threshold: float = THRESHOLD,
    reference_name: str = "reference",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Effectiveness:
    """E[(ℓ(x + δ) − ℓ(x)) / (ℓ(x + δ*) − ℓ(x))] of attacks against a reference (li2023 eq. 7).

    δ is the perturbation of the attack, δ* that of the reference, which stands in for the largest
    rise of the loss there is: PGD-50 in the paper. All attacks start from the same random
    starts, those of the objective's seed, so an attack equal to the reference has exactly 1. A
    value above 1 means that the attack found a higher loss than the reference, and stays as found.

    Eq. 7 has no mean where the reference hardly raises the loss: samples that it raises by no
    more than ``threshold`` are left out of the mean of ratios, and their share is given. The ratio
    of the means over all samples needs no such choice; it weighs a sample by its rise.

    **Weakened perturbations** (li2023 Fig. 4), of each attack and against the same δ*: s·δ for
    every s in ``scales``; −δ_j for a share of the entries j of every sample (rounded to whole
    entries) for every share in ``flips``. Which entries is drawn once per sample: those flipped
    at a small share are flipped at larger ones too, and are the same for all attacks. Flipped
    perturbations are clipped so that inputs stay in [0, 1], which shortens some.

    Args:
        objective: gives model, data, loss and the seed of the starts; its own attack is not used.
        attacks: by name. reference: δ*. reference_name: what files and pictures call it.
        scales, flips: fractions in 0..1. threshold: in the units of the loss.
        seed: of the flipped entries. progress: called as (samples done, samples).

    Cost: every attack once, and a forward pass per attack and weakening. When it lies: 1 says
    that an attack is as good as the reference, not that either is near the maximum: raise its
    steps or restarts until its own rise stands still. Where gradients are masked both are weak. A
    mean of ratios is led by the samples whose denominator is just above the threshold: compare
    it with the ratio of means.
    """
    if not attacks:
        raise UsageError("give at least one attack, for example {'fgsm': attack('fgsm', eps=0.1)}.")
    for name, attack in {**attacks, reference_name: reference}.items():
        if not isinstance(attack, Attack):
            raise UsageError(f"'{name}' must be an Attack, got {type(attack).__name__}.")
    if not (threshold >= 0 and math.isfinite(threshold)):
        raise UsageError(f"threshold must be a finite number of at least 0, got {threshold}.")
    weakenings = _weakenings(scales, flips)
    record = Record(
        "effectiveness",
        objective.describe(),
        seed,
        attacks={name: attack.describe() for name, attack in attacks.items()},
        reference={"name": reference_name, **reference.describe()},
        attack_seed=objective.seed,
        scales=list(scales),
        flips=list(flips),
        threshold=threshold,
    )
    classifies = objective.with_attack(None).value().accuracy is not None
    n, done = objective.batches.samples, 0
    pieces: list[tuple[Tensor, ...]] = []
    for clean, star, made, flipped in _batches(objective, attacks, reference, seed, any(flips)):
        looked = [clean, star]
        for term in made:
            looked += [_weakened(clean, term, *w, order=flipped) for w in weakenings]
        rows = [_look(term, classifies) for term in looked]
        losses, hits = zip(*rows, strict=True)
        pieces.append((torch.stack(losses), torch.stack(hits)))
        done += len(clean.x)
        if progress is not None:
            progress(done, n)
    loss, correct = (torch.cat(c, 1).cpu().numpy() for c in zip(*pieces, strict=True))
    shape = (len(attacks), len(weakenings), n)
    rise = loss[1] - loss[0]
    included = rise > threshold
    return Effectiveness(
        provenance=record.finish(),
        attack=np.array(list(attacks)),
        reference=reference_name,
        scale=np.array([scale for scale, _ in weakenings]),
        flip=np.array([flip for _, flip in weakenings]),
        clean_loss=loss[0],
        reference_loss=loss[1],
        loss=loss[2:].reshape(shape),
        correct=correct[2:].reshape(shape) if classifies else None,
        reference_correct=correct[1] if classifies else None,
        included=included,
        threshold=float(threshold),
        excluded_share=float(1 - included.mean()),
        lowered_share=float((rise < 0).mean()),
    )


# -- inside ---------------------------------------------------------------------------------------


def _weakenings(scales: Sequence[float], flips: Sequence[float]) -> list[tuple[float, float]]:
    """(scale, flip), the perturbation as it is first."""
    for name, values in (("scale", scales), ("flip", flips)):
        for value in values:
            if not 0 <= value <= 1:
                raise UsageError(f"{name} {value:g}: give fractions in 0..1.")
    wanted = [(float(s), 0.0) for s in scales] + [(1.0, float(f)) for f in flips]
    return list(dict.fromkeys([(1.0, 0.0), *wanted]))


def _batches(
    objective: Objective,
    attacks: Mapping[str, Attack],
    reference: Attack,
    seed: int,
    flips: bool,
) -> Iterator[tuple[Term, Term, list[Term], Tensor | None]]:
    """Clean, reference, attacks and the order in which entries are flipped, batch by batch."""
    streams = Streams(seed, "effectiveness")
    everything = [
        objective.with_attack(attack).terms() for attack in (None, reference, *attacks.values())
    ]
    for clean, star, *made in zip(*everything, strict=True):
        order = None
        if flips:
            drawn = streams.uniform("flip", (len(clean.x), clean.x[0].numel()))
            order = drawn.argsort(1).argsort(1).reshape(clean.x.shape).to(clean.x.device)
        yield clean, star, list(made), order


def _weakened(clean: Term, term: Term, scale: float, flip: float, *, order: Tensor | None) -> Term:
    """The batch with a weakened perturbation; untouched where nothing is to be weakened."""
    if (scale, flip) == (1.0, 0.0):
        return term
    delta = term.x - clean.x
    if flip:
        assert order is not None
        delta = torch.where(order < round(flip * delta[0].numel()), -delta, delta)
    return replace(term, x=(clean.x + scale * delta).clamp(0, 1))


def _look(term: Term, classifies: bool) -> tuple[Tensor, Tensor]:
    """Loss in float64 and correctness of every sample of the batch."""
    with torch.no_grad(), untouched(term.model):
        output = term.network(term.theta)
        losses = term.loss(output, term.y)
    if losses.ndim == 0:
        raise UsageError(
            "effectiveness needs a loss that returns one value per sample: use reduction='none'."
        )
    hits = output.argmax(1) == term.y if classifies else torch.zeros_like(losses, dtype=torch.bool)
    return losses.double(), hits


def _ratio_of_means(a: np.ndarray, b: np.ndarray) -> Estimate:
    n, mean = len(a), float(b.mean())
    if mean == 0:
        return Estimate(math.nan, math.inf, n)
    ratio = float(a.mean()) / mean
    error = float((a - ratio * b).std(ddof=1)) / math.sqrt(n) / abs(mean) if n > 1 else math.inf
    return Estimate(ratio, error, n)
