"""Training methods as data: a perturbation and an outer loss, by name.

``METHODS`` is the table; ``method("pgd", eps=8 / 255)`` makes one. A new method is a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from landscape.attacks import attack
from landscape.errors import UsageError, unknown
from landscape.training.outer_losses import CrossEntropy, OuterLoss, Trades
from landscape.training.perturbations import Attacked, Passes, Perturbation

Parts = tuple[Perturbation | None, OuterLoss]


@dataclass(frozen=True)
class Method:
    """A training method: the parts that the one loop calls at every update."""

    name: str
    perturbation: Perturbation | None
    outer_loss: OuterLoss

    @property
    def passes(self) -> Passes:
        """Forward and backward passes over a batch per update."""
        outer = self.outer_loss.passes(perturbed=self.perturbation is not None)
        if self.perturbation is None:
            return outer
        inner = self.perturbation.passes
        return Passes(inner.forward + outer.forward, inner.backward + outer.backward)

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration: JSON-able, what a checkpoint stores."""
        return {
            "name": self.name,
            "perturbation": self.perturbation.describe() if self.perturbation else None,
            "outer_loss": self.outer_loss.describe(),
        }


@dataclass(frozen=True)
class MethodEntry:
    """One row: ``parts(**options)``, whose keyword arguments are the method's options.

    ``cost``: forward + backward passes over a batch per update, for K attack steps; ``Method``
    computes it from the parts.
    """

    parts: Callable[..., Parts]
    description: str
    reference: str
    cost: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options, in order."""
        return tuple(inspect.signature(self.parts).parameters)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the options without a default."""
        parameters = inspect.signature(self.parts).parameters.values()
        return tuple(p.name for p in parameters if p.default is p.empty)


def _standard() -> Parts:
    return None, CrossEntropy()


def _pgd(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    restarts: int = 1,
    attack_mode: str = "train",
) -> Parts:
    found = attack(
        "pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, restarts=restarts, mode=attack_mode
    )
    return Attacked(found), CrossEntropy()


def _trades(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    beta: float = 6.0,
    noise: float = 0.001,
    attack_mode: str = "eval",
) -> Parts:
    found = attack(
        "pgd",
        eps=eps,
        norm=norm,
        steps=steps,
        step_size=alpha,
        # Needed: KL and its gradient are zero at x itself.
        start="gaussian",
        start_scale=noise,
        objective="kl",
        mode=attack_mode,
    )
    return Attacked(found), Trades(beta)


METHODS: dict[str, MethodEntry] = {
    "standard": MethodEntry(_standard, "cross-entropy on clean inputs", "", "1 + 1"),
    "pgd": MethodEntry(
        _pgd,
        "cross-entropy on PGD examples from a uniform start",
        "Madry et al. 2018; attack in train mode as Rice et al. 2020",
        "K+1 + K+1",
    ),
    "trades": MethodEntry(
        _trades,
        "clean cross-entropy + beta KL between clean and adversarial predictions",
        "Zhang et al. 2019",
        "K+3 + K+2",
    ),
}


def method(name: str, **options: Any) -> Method:
    """A method by name; ``None`` for an option keeps the method's own value.

    >>> method("pgd", eps=8 / 255).passes
    Passes(forward=11, backward=11)
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    entry = METHODS[name]
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in entry.options:
            listing = ", ".join(entry.options) or "none"
            raise UsageError(f"method '{name}' takes no option '{key}'. It takes: {listing}.")
    missing = [key for key in entry.required if key not in given]
    if missing:
        raise UsageError(
            f"method '{name}' needs {', '.join(missing)}, for example method('{name}', eps=8/255): "
            "eps and alpha are in units of inputs in [0, 1]."
        )
    return Method(name, *entry.parts(**given))
