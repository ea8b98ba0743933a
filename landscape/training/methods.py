"""Training methods by name, made of parts: ``method("trades+awp", eps=8 / 255)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from landscape.errors import UsageError, unknown
from landscape.training.averaging import Averaging
from landscape.training.batch import Batch
from landscape.training.budget import Budget
from landscape.training.entropy import EntropySGD
from landscape.training.method_table import ADDITIONS, METHODS, AdditionEntry, MethodEntry
from landscape.training.outer_losses import OuterLoss, Regulariser
from landscape.training.perturbations import Controller, Passes, Perturbation
from landscape.training.weights import AdversarialWeights


@dataclass(frozen=True)
class Method:
    """A training method: the parts that the one loop calls at every update.

    Attributes:
        perturbation: makes the inputs, ``None`` for clean ones. outer_loss: what is minimised.
        regularisers: added to it.
        controller: decides between epochs, ``None`` for nothing to decide.
        weights: where around the weights the gradient is taken. descent: what an update does with
            it, ``None`` for a step of the optimiser. averaging: of the weights over epochs.
    """

    name: str
    perturbation: Perturbation | None
    outer_loss: OuterLoss
    regularisers: tuple[Regulariser, ...] = ()
    controller: Controller | None = None
    weights: AdversarialWeights | None = None
    descent: EntropySGD | None = None
    averaging: Averaging | None = None

    def __post_init__(self) -> None:
        if self.perturbation is not None and self.perturbation.remembers:
            for part in self.regularisers:
                if part.views > 1 or part.attacks:
                    raise UsageError(
                        f"'{self.name}': {part.describe()['part']} can't be combined with "
                        f"'{self.perturbation.describe()['part']}', since it attacks a sample "
                        "twice per update, and there is one memory per sample."
                    )

    def loss(self, batch: Batch) -> Tensor:
        """Outer loss and regularisers of a batch: a scalar with a graph."""
        total = self.outer_loss(batch)
        for regulariser in self.regularisers:
            total = total + regulariser(batch)
        return total

    @property
    def parts(self) -> tuple[Any, ...]:
        """All that the method is made of."""
        own = self.perturbation, self.outer_loss, self.controller
        others = self.weights, self.descent, self.averaging
        return tuple(p for p in (*own, *self.regularisers, *others) if p is not None)

    @property
    def views(self) -> int:
        """How many augmentations of every sample a batch holds, one after the other."""
        return max((part.views for part in self.regularisers), default=1)

    @property
    def replays(self) -> int:
        """Updates in a row for every batch."""
        return self.perturbation.replays if self.perturbation is not None else 1

    @property
    def budget(self) -> Budget | None:
        """How ε changes along the training, ``None`` for not at all."""
        return getattr(self.perturbation, "budget", None)

    @property
    def passes(self) -> Passes:
        """Forward and backward passes over a batch per update."""
        perturbed = self.perturbation is not None
        loss = self.outer_loss.passes(perturbed=perturbed)
        for regulariser in self.regularisers:
            loss += regulariser.passes
        clean = getattr(self.outer_loss, "uses_clean", False)
        if perturbed and not clean and any(part.uses_clean for part in self.regularisers):
            loss += Passes(1, 1)
        if self.weights is not None:  # a gradient to find where, another one there
            loss += loss
        for regulariser in self.regularisers:
            loss += regulariser.search
        if self.perturbation is not None:
            for _ in range(1 + sum(part.attacks for part in self.regularisers)):
                loss += self.perturbation.passes
        return loss

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration: JSON-able, what a checkpoint stores."""
        found: dict[str, Any] = {
            "name": self.name,
            "perturbation": self.perturbation.describe() if self.perturbation else None,
            "outer_loss": self.outer_loss.describe(),
        }
        if self.regularisers:
            found["regularisers"] = [part.describe() for part in self.regularisers]
        for name in ("controller", "weights", "descent", "averaging"):
            part = getattr(self, name)
            if part is not None:
                found[name] = part.describe()
        return found


def method(name: str, **options: Any) -> Method:
    """A method by name, alone or with additions: ``pgd``, ``trades+awp+entropysgd``.

    Options are those of the first part; an addition's are a dictionary under its name.
    ``None`` for an option keeps the method's own value.

    >>> method("pgd", eps=8 / 255).passes
    Passes(forward=11, backward=11)
    >>> method("trades+awp", eps=0.031, awp={"gamma": 0.005}).weights
    AdversarialWeights(gamma=0.005, warmup=0)
    """
    base, additions = split(name)
    own = {key: value for key, value in options.items() if key not in additions}
    perturbation, outer_loss, *more = _made("method", base, METHODS[base], own)
    fields: dict[str, Any] = dict(*more)
    for addition in additions:
        entry = ADDITIONS[addition]
        given = options.get(addition) or {}
        # The ball of the attack, unless said otherwise.
        shared = {k: own[k] for k in ("eps", "norm") if k in entry.options and k in own}
        part = _made("addition", addition, entry, {**shared, **given}, outer_loss)
        if entry.field == "outer_loss":
            outer_loss = part
        elif entry.field == "budget":
            if perturbation is None:
                raise UsageError(f"'{base}' has no attack whose eps {addition} could schedule.")
            perturbation = perturbation.scheduled(part)
        elif entry.field == "regularisers":
            fields["regularisers"] = (*fields.get("regularisers", ()), part)
        elif entry.field in fields:
            other = next(a for a in additions if ADDITIONS[a].field == entry.field)
            raise UsageError(
                f"'{name}': {other} and {addition} can't be combined, since both decide "
                f"{_DECIDES[entry.field]}."
            )
        else:
            fields[entry.field] = part
    return Method(name, perturbation, outer_loss, **fields)


_DECIDES = {
    "weights": "where the gradient is taken",
    "descent": "what an update does with the gradient",
    "averaging": "which mean of the weights is kept",
}


def split(name: str) -> tuple[str, tuple[str, ...]]:
    """The method and the additions that a name is made of."""
    base, *additions = name.split("+")
    if base not in METHODS:
        raise unknown("method", base, METHODS)
    for addition in additions:
        if addition not in ADDITIONS:
            raise unknown("addition to a method", addition, ADDITIONS)
        if additions.count(addition) > 1:
            raise UsageError(f"'{name}' has {addition} twice.")
    return base, tuple(additions)


def _made(
    what: str,
    name: str,
    entry: MethodEntry | AdditionEntry,
    options: Any,
    outer_loss: OuterLoss | None = None,
) -> Any:
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in entry.options:
            listing = ", ".join(entry.options) or "none"
            raise UsageError(f"{what} '{name}' takes no option '{key}'. It takes: {listing}.")
    check_text(given, entry.annotations, f"{what} '{name}'")
    missing = [key for key in entry.required if key not in given]
    if missing:
        needs = f"{what} '{name}' needs {', '.join(missing)}"
        if "eps" in missing:
            raise UsageError(
                f"{needs}, for example {what}('{name}', eps=8/255): eps and alpha are in units of "
                "inputs in [0, 1]."
            )
        raise UsageError(f"{needs}: --set {name}.{missing[0]}=..., from Python a dictionary.")
    if isinstance(entry, AdditionEntry) and entry.field == "outer_loss":
        if not hasattr(outer_loss, "each"):
            assert outer_loss is not None
            raise UsageError(
                f"{name} can't be combined with the loss '{outer_loss.describe()['part']}', which "
                "has weights or targets of its own: use it with pgd, atta or trades, for example."
            )
        return entry.make(inner=outer_loss, **given)
    return entry.make(**given)


def check_text(options: Mapping[str, Any], annotations: Mapping[str, str], what: str) -> None:
    """Refuse text where a number or a switch is declared, as a command line may bring it."""
    for key, value in options.items():
        declared = annotations.get(key, "Any")
        if isinstance(value, str) and "str" not in declared and "Any" not in declared:
            wanted = "true or false" if declared == "bool" else "a number"
            raise UsageError(f"{what}: {key} must be {wanted}, got '{value}'.")
