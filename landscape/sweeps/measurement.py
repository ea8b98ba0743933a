"""One ``[[measure]]`` of a sweep: a diagnostic with its options, checked before any work."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from landscape import attacks
from landscape.attacks import ATTACKS, Ball
from landscape.attacks.autoattack import VERSIONS, AutoAttack
from landscape.diagnostics import DIAGNOSTICS
from landscape.errors import UsageError, unknown
from landscape.objective import REFRESH
from landscape.sweeps.values import NoMatchError, fitted, parsed, takes, written

# Measured where accuracy is; the landscape of all others is that of the training data.
_HELD_OUT = {"evaluate", "masking"}

# Their examples are made again wherever θ is.
_RENEWED = {"surface", "cosine", "smoothness"}

# The attack of those that are nothing, or little, without one; the objective's or an argument.
_ATTACK = "pgd-20"
_ATTACKED = {"cosine", "smoothness"}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "evaluate": {"attacks": (_ATTACK,)},
    "masking": {"attack": _ATTACK},
    "effectiveness": {"attacks": ("fgsm",), "reference": _ATTACK},
}
_NONE = "clean"

# Arguments that are attacks, by name, or the ball itself; those that a file can't hold.
_NAMED, _HIDDEN = {"attack", "attacks", "reference"}, {"ball", "reference_name", "normaliser"}

_CHOICES = {
    "refresh": REFRESH,
    "checkpoint": ("best", "final", "ensemble"),
    "dtype": ("float32", "float64"),
    "norm": attacks.NORMS,
}


@dataclass(frozen=True)
class Measurement:
    """A diagnostic, what it is measured on, and its own options.

    Attributes:
        name: what files and tables call it. diagnostic: a row of ``DIAGNOSTICS``.
        split, n_examples: of the data. checkpoint: ``best``, ``final`` or ``ensemble``.
        attack: of the objective, by name; ``clean`` for none. refresh: see ``Objective``.
        eps, norm: of all its attacks, by default those of the cell.
        seed: of the diagnostic and of the attacks' starts. dtype, batch_size: of the work.
        options: arguments of the diagnostic, attacks by name.
    """

    name: str
    diagnostic: str
    options: Mapping[str, Any]
    split: str | None = None
    n_examples: int | None = None
    checkpoint: str = "best"
    attack: str | None = None
    refresh: str | None = None
    eps: float | None = None
    norm: str | None = None
    seed: int = 0
    dtype: str = "float32"
    batch_size: int = 256

    @classmethod
    def of(cls, table: Mapping[str, Any], where: str) -> Measurement:
        """A ``[[measure]]`` table; raises ``UsageError`` for whatever it can't have."""
        try:
            given = parsed(dict(table))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        diagnostic = given.pop("diagnostic", None)
        if not isinstance(diagnostic, str):
            raise UsageError(f'{where} needs a diagnostic, for example diagnostic = "spectrum".')
        if diagnostic not in DIAGNOSTICS:
            raise unknown(f"diagnostic in {where}:", diagnostic, DIAGNOSTICS)
        where = f"{where} ({diagnostic})"
        own = {n: h for n, h in typing.get_type_hints(cls).items() if n not in _OWN}
        theirs = arguments_of(diagnostic)
        chosen: dict[str, Any] = {"name": diagnostic}
        options: dict[str, Any] = {}
        for key, value in given.items():
            hints = theirs if key in theirs else own
            if key not in hints:
                raise unknown(f"option of {where}:", key, {*own, *theirs})
            try:
                value = fitted(value, hints[key])
            except NoMatchError as error:
                raise UsageError(
                    f"{where}: {key} must be {error}, got {written(value)}."
                ) from error
            if key in _CHOICES and value not in _CHOICES[key]:
                raise unknown(f"{key} in {where}:", value, _CHOICES[key])
            (options if key in theirs else chosen)[key] = value
        made = cls(
            diagnostic=diagnostic, options=_ARGUMENTS.get(diagnostic, {}) | options, **chosen
        )
        for name in made.attacks:
            _check_name(name, where)
        for key in ("n_examples", "batch_size"):
            number = getattr(made, key)
            if number is not None and number < 1:
                raise UsageError(f"{where}: {key} must be at least 1, got {number}.")
        return made

    @property
    def attacks(self) -> list[str]:
        """The names of all its attacks."""
        named = [self._objective_attack]
        for key in _NAMED & {*self.options}:
            value = self.options[key]
            named += [value] if isinstance(value, str) else list(value)
        return [name for name in named if name not in (None, _NONE)]

    @property
    def needs_ball(self) -> bool:
        """Whether its number depends on a radius."""
        return bool(self.attacks) or "ball" in _signature(self.diagnostic)

    def settings(self, ball: Ball | None, where: str) -> dict[str, Any]:
        """What the measuring function is called with, as plain data.

        ``ball``: of the cell. Where nothing is attacked it is left out, so that cells that differ
        in it share the measurement.
        """
        measured = self
        if ball is None and self.eps is None and self.needs_ball:
            if self.diagnostic != "evaluate" or self.options != _ARGUMENTS["evaluate"]:
                raise UsageError(f'{where}: {self.name} needs a radius: add eps = "8/255" to it.')
            measured = replace(self, options={"attacks": ()})
        norm = self.norm or (ball.norm if ball else "linf")
        radius = self.eps if self.eps is not None else ball.radius if ball else None
        within = {"norm": norm, "radius": radius} if measured.needs_ball else None
        settings = {
            "diagnostic": self.diagnostic,
            "options": {k: _stored(v) for k, v in measured.options.items()},
            "split": self.split or ("test" if self.diagnostic in _HELD_OUT else "train"),
            "n_examples": self.n_examples,
            "checkpoint": self.checkpoint,
            "attack": self._objective_attack,
            "refresh": self.refresh or ("each" if self.diagnostic in _RENEWED else "fixed"),
            "ball": within,
            "seed": self.seed,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
        }
        rehearse(self.diagnostic, arguments(settings), f"{where}: {self.name}")
        return settings

    @property
    def _objective_attack(self) -> str | None:
        if self.attack is not None:
            return None if self.attack == _NONE else self.attack
        return _ATTACK if self.diagnostic in _ATTACKED else None


_OWN = {"diagnostic", "options"}
assert {f.name for f in fields(Measurement)} >= _OWN


def _signature(diagnostic: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(DIAGNOSTICS[diagnostic].function).parameters


def arguments_of(diagnostic: str) -> dict[str, Any]:
    """The arguments of a diagnostic that a file can hold, with their types; attacks by name."""
    function = DIAGNOSTICS[diagnostic].function
    hints = typing.get_type_hints(function)
    found: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        if name in ("attack", "reference"):
            found[name] = str
        elif name == "attacks":
            found[name] = tuple[str, ...]
        elif name not in _HIDDEN | {"seed", "objective"} and takes(hints[name]):
            found[name] = hints[name]
    return found


def arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the diagnostic, from what ``Measurement.settings`` stored."""
    signature = _signature(settings["diagnostic"])
    hints = arguments_of(settings["diagnostic"])
    ball = Ball(**settings["ball"]) if settings["ball"] else None
    made: dict[str, Any] = {}
    for key, value in settings["options"].items():
        if key == "attacks":
            made[key] = {name: named(name, ball) for name in value if name != _NONE}
        elif key in _NAMED:
            made[key] = named(value, ball)
        else:
            made[key] = fitted(value, hints[key])
    if "reference" in made:
        made["reference_name"] = settings["options"]["reference"]
    if "ball" in signature:
        made["ball"] = ball
    if "seed" in signature:
        made["seed"] = settings["seed"]
    return made


def named(name: str, ball: Ball | None) -> Any:
    """An attack by name in a ball, AutoAttack among them."""
    assert ball is not None
    if name in VERSIONS:
        return AutoAttack(ball, VERSIONS[name])
    return attacks.attack(name, eps=ball.radius, norm=ball.norm)


def rehearse(diagnostic: str, keywords: Mapping[str, Any], where: str) -> None:
    """Raise what the diagnostic refuses before it looks at any network."""
    try:
        DIAGNOSTICS[diagnostic].function(_Nothing(), **keywords)
    except _ReachedError:
        pass
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


class _ReachedError(Exception):
    """The arguments were accepted."""


class _Nothing:
    """In place of an objective."""

    def __getattr__(self, name: str) -> Any:
        raise _ReachedError

    def __iter__(self) -> Any:
        raise _ReachedError


def _check_name(name: str, where: str) -> None:
    if name.startswith("auto") and name not in VERSIONS:
        raise unknown(f"attack in {where}:", name, [*ATTACKS, *VERSIONS])
    try:
        named(name, Ball("linf", 0.1))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _stored(value: Any) -> Any:
    """Plain data: a dataclass as its fields."""
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value
