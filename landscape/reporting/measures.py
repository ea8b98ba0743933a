"""How every section of a report is measured: a network, the settings of a level, a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from landscape import diagnostics as D
from landscape.attacks import attack as named_attack
from landscape.reporting.subjects import Subject, shortened
from landscape.results import Result

Settings = Mapping[str, Any]
Progress = Callable[[int, int], None]
Run = Callable[[Subject, Settings, int, Progress], Result]


def accuracy(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    attacks = {}
    if subject.attack is not None:
        ball = subject.attack.ball
        strong = shortened(subject.attack, s["attack_steps"])
        attacks["fgsm"] = named_attack("fgsm", eps=ball.radius, norm=ball.norm)
        attacks[f"{strong.steps} steps"] = strong
    objective = subject.on(s["examples"], held_out=True, seed=seed)
    return D.evaluate(objective, attacks, progress=progress)


def hessian(measure: Callable[..., Result], attacked: bool = False) -> Run:
    """A diagnostic of ∇²L at the model, clean or with the examples held."""

    def run(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
        objective = subject.on(s["examples"], seed=seed)
        if attacked:
            assert subject.attack is not None
            strong = shortened(subject.attack, s["attack_steps"])
            objective = objective.with_attack(strong, "fixed")
        rest = {k: v for k, v in s.items() if k not in ("examples", "attack_steps")}
        if "top" in rest:  # a linear model of two classes may have fewer
            rest["top"] = min(rest["top"], sum(p.numel() for p in objective.params.values()))
        return measure(objective, **rest, seed=seed, progress=progress)

    return run


def plane(attacked: bool) -> Run:
    def run(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
        objective = subject.on(s["examples"], seed=seed)
        if attacked:
            assert subject.attack is not None
            objective = objective.with_attack(shortened(subject.attack, s["attack_steps"]), "each")
        axis = D.Axis(-1, 1, s["grid"])
        return D.surface(objective, x=axis, y=axis, seed=seed, progress=progress)

    return run


def lines(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    objective = subject.on(s["examples"], seed=seed)
    axis = D.Axis(-1, 1, s["grid"])
    return D.surface(objective, x=axis, draws=s["draws"], seed=seed, progress=progress)


def inputs(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    objective = subject.on(s["examples"], seed=seed)
    size = next(iter(objective.batches))[0][0].numel()
    return D.inputs(objective, min(s["top"], size), seed=seed, progress=progress)


def masking(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    assert subject.attack is not None
    objective = subject.on(s["examples"], held_out=True, seed=seed)
    return D.masking(
        objective,
        shortened(subject.attack, s["attack_steps"]),
        examples=objective.batches.samples,
        queries=s["queries"],
        progress=progress,
    )


def effectiveness(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    assert subject.attack is not None
    ball, strong = subject.attack.ball, shortened(subject.attack, s["attack_steps"])
    return D.effectiveness(
        subject.on(s["examples"], seed=seed),
        {"fgsm": named_attack("fgsm", eps=ball.radius, norm=ball.norm)},
        strong,
        reference_name=f"{strong.steps} steps",
        seed=seed,
        progress=progress,
    )


def linearity(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    assert subject.attack is not None
    return D.local_linearity(
        subject.on(s["examples"], seed=seed),
        subject.attack.ball,
        draws=s["draws"],
        steps=s["ascent"],
        restarts=s["restarts"],
        seed=seed,
        progress=progress,
    )


def moved(measure: Callable[..., Result]) -> Run:
    """A diagnostic that attacks again where θ has moved."""

    def run(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
        assert subject.attack is not None
        strong = shortened(subject.attack, s["attack_steps"])
        objective = subject.on(s["examples"], seed=seed).with_attack(strong, "each")
        rest = {k: v for k, v in s.items() if k not in ("examples", "attack_steps", "points")}
        if "points" in s:
            rest["a"] = D.Axis(0.0, 0.5, s["points"])
        return measure(objective, **rest, seed=seed, progress=progress)

    return run


def neurons(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    return D.neurons(subject.on(s["examples"], seed=seed), progress=progress)


def examples(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    objective = subject.held_out.with_attack(subject.attack)
    n = min(s["n"], objective.batches.samples)
    return D.adversarial_examples(objective, n, seed=seed, progress=progress)


def lipschitz(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    objective = subject.on(s["examples"], seed=seed)
    jacobians = min(s["jacobians"], objective.batches.samples)
    return D.lipschitz(objective, samples=jacobians, pairs=s["pairs"], seed=seed, progress=progress)


def samples(subject: Subject, s: Settings, seed: int, progress: Progress) -> Result:
    objective = subject.on(s["examples"], seed=seed)
    return D.sample_curvature(objective, sub_batches=(1,), seed=seed, progress=progress)
