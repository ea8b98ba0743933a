"""The sections of a report as data, in the order of their value: ``SECTIONS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from landscape import diagnostics as D
from landscape.reporting import measures, numbers, readings
from landscape.reporting.costs import Pace, Work
from landscape.reporting.headlines import Headline, Maker
from landscape.reporting.measures import Run, Settings
from landscape.results import Result


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: above it. reading: what it measures, how to read it, when it lies.
        run: measures one network with the settings of a level.
        work: the passes that this takes, given the settings, the pace and the attack's steps.
        numbers: the headlines that it contributes.
        levels: settings, the cheapest first. ``examples``: at most so many samples, drawn from
            the data; ``attack_steps``: at most so many steps of the attack; None: all.
        attacked: whether it needs an attack. held_out: whether it is on the data for accuracy.
        refuses: why the network rules it out, or nothing.
    """

    title: str
    reading: str
    run: Run
    work: Callable[[Settings, Pace, int], Work]
    numbers: Callable[[Maker, Any], Sequence[Headline]]
    levels: tuple[Settings, ...]
    attacked: bool = False
    held_out: bool = False
    refuses: Callable[[Pace], str] = lambda pace: ""

    @property
    def numbered(self) -> bool:
        """Whether it contributes numbers, or a picture alone."""
        return self.numbers is not numbers.nothing


def headlines(key: str, result: Result) -> list[Headline]:
    """The numbers that a section contributes."""
    return list(SECTIONS[key].numbers(Maker(key, result), result))


def _levels(**columns: Sequence[Any]) -> tuple[Settings, ...]:
    """Levels from columns of settings, the cheapest first."""
    rows = zip(*columns.values(), strict=True)
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


def _attack(steps: int) -> Work:
    """An attack on the data, and the loss at what it found."""
    return Work(forward=2, step=steps)


# Lanczos on the Hessians of single samples keeps vectors of θ's size for each.
_FEW_PARAMETERS = 2_000_000


def _few_parameters(pace: Pace) -> str:
    if pace.parameters <= _FEW_PARAMETERS:
        return ""
    return f"keeps vectors per sample: for networks of up to {_FEW_PARAMETERS:,} parameters"


def _top(s: Settings, pace: Pace, steps: int) -> Work:
    return Work(gradient=3, product=5 * s["top"] + 30)


def _input_hessians(s: Settings, pace: Pace, steps: int) -> Work:
    if pace.input_hessian == "exact":
        return Work(gradient=pace.outputs + 1)
    products = min(pace.input_size, 20 * s["top"] + 100)
    return Work(gradient=2 * products)


def _masking(s: Settings, pace: Pace, steps: int) -> Work:
    """Ten attacks, of which one has five times the steps and one five starts, and Square."""
    return Work(forward=s["queries"] + 20, step=18 * steps)


def _lipschitz(s: Settings, pace: Pace, steps: int) -> Work:
    """Products with single layers: together passes of a single sample, in float64."""
    alone = 600 * (pace.forward.fixed + pace.forward.each)
    backward = pace.outputs * s["jacobians"] * pace.gradient.each
    return Work(forward=1, seconds=1 + 2 * alone + backward)


def _smoothness(s: Settings, pace: Pace, steps: int) -> Work:
    points = s["draws"] * (2 * 7 + s["ascent_steps"] + 1)
    return Work(gradient=3 * points, step=steps * points)


def _cosine(s: Settings, pace: Pace, steps: int) -> Work:
    attacks = 2 * 2 * s["draws"] * s["points"]
    return Work(forward=2 * attacks, step=steps * attacks, product=40)


SECTIONS: dict[str, Section] = {
    "accuracy": Section(
        "Accuracy and loss",
        readings.ACCURACY,
        measures.accuracy,
        lambda s, pace, steps: Work(forward=1) + _attack(1) + _attack(steps),
        numbers.accuracy,
        _levels(examples=(256, 1000, 2500, None), attack_steps=(10, 10, None, None)),
        held_out=True,
    ),
    "spectrum": Section(
        "Top of the Hessian's spectrum",
        readings.SPECTRUM,
        measures.hessian(D.spectrum),
        _top,
        numbers.spectrum,
        _levels(examples=(64, 256, 1000, 2500, None), top=(2, 5, 5, 10, 10)),
    ),
    "surface": Section(
        "Surface of the clean loss",
        readings.SURFACE,
        measures.plane(attacked=False),
        lambda s, pace, steps: Work(forward=s["grid"] ** 2 + 1),
        numbers.nothing,
        _levels(examples=(64, 256, 1000, 2500), grid=(11, 15, 21, 31)),
    ),
    "masking": Section(
        "Signs of gradient masking",
        readings.MASKING,
        measures.masking,
        _masking,
        numbers.masking,
        _levels(examples=(64, 128, 256), attack_steps=(10, 10, None), queries=(200, 500, 1000)),
        attacked=True,
        held_out=True,
    ),
    "spectrum_attacked": Section(
        "Top of the adversarial Hessian's spectrum",
        readings.SPECTRUM_ATTACKED,
        measures.hessian(D.spectrum, attacked=True),
        lambda s, pace, steps: _top(s, pace, steps) + _attack(steps),
        numbers.spectrum,
        _levels(examples=(64, 256, 1000, None), top=(2, 5, 5, 10), attack_steps=(10, 10, 10, None)),
        attacked=True,
    ),
    "trace": Section(
        "Trace of the Hessian",
        readings.TRACE,
        measures.hessian(D.trace),
        lambda s, pace, steps: Work(product=s["samples"]),
        numbers.trace,
        _levels(examples=(64, 256, 1000, None), samples=(10, 30, 60, 100)),
    ),
    "surface_attacked": Section(
        "Surface of the adversarial loss",
        readings.SURFACE_ATTACKED,
        measures.plane(attacked=True),
        lambda s, pace, steps: Work(
            forward=2 * (s["grid"] ** 2 + 1), step=steps * (s["grid"] ** 2 + 1)
        ),
        numbers.nothing,
        _levels(examples=(64, 128, 256, 1000), grid=(7, 11, 15, 21), attack_steps=(10,) * 4),
        attacked=True,
    ),
    "inputs": Section(
        "Slope and curvature in the input",
        readings.INPUTS,
        measures.inputs,
        _input_hessians,
        numbers.inputs,
        _levels(examples=(32, 128, 500, None), top=(5, 10, 20, 20)),
    ),
    "lines": Section(
        "Loss along random lines",
        readings.LINES,
        measures.lines,
        lambda s, pace, steps: Work(forward=s["draws"] * s["grid"] + 1),
        numbers.lines,
        _levels(examples=(64, 256, 1000, 2500), grid=(7, 11, 21, 21), draws=(4, 8, 8, 16)),
    ),
    "effectiveness": Section(
        "Effectiveness of a one-step attack",
        readings.EFFECTIVENESS,
        measures.effectiveness,
        lambda s, pace, steps: _attack(1) + _attack(steps),
        numbers.effectiveness,
        _levels(examples=(64, 256, 1000, None), attack_steps=(10, 10, None, None)),
        attacked=True,
    ),
    "linearity": Section(
        "Linearity around the inputs",
        readings.LINEARITY,
        measures.linearity,
        lambda s, pace, steps: Work(
            gradient=1 + s["draws"] + 2 * s["restarts"] * (s["ascent"] + 1)
        ),
        numbers.linearity,
        _levels(
            examples=(64, 256, 1000, None),
            draws=(2, 5, 5, 5),
            ascent=(5, 10, 20, 20),
            restarts=(1, 1, 1, 3),
        ),
        attacked=True,
    ),
    "density": Section(
        "Spectral density of the Hessian",
        readings.DENSITY,
        measures.hessian(D.density),
        lambda s, pace, steps: Work(product=s["probes"] * s["steps"] + 6 * s["outliers"] + 20),
        numbers.density,
        _levels(
            examples=(64, 256, 1000, None),
            probes=(3, 4, 5, 8),
            steps=(30, 60, 80, 80),
            outliers=(2, 5, 10, 10),
        ),
    ),
    "neurons": Section(
        "Dead neurons",
        readings.NEURONS,
        measures.neurons,
        lambda s, pace, steps: Work(forward=10),
        numbers.neurons,
        _levels(examples=(64, 1000, None)),
    ),
    "smoothness": Section(
        "Smoothness of the adversarial loss",
        readings.SMOOTHNESS,
        measures.moved(D.local_smoothness),
        _smoothness,
        numbers.smoothness,
        _levels(
            examples=(64, 128, 500, 1000),
            draws=(2, 3, 4, 4),
            ascent_steps=(3, 5, 10, 10),
            attack_steps=(10,) * 4,
        ),
        attacked=True,
    ),
    "cosine": Section(
        "How perturbations turn with the weights",
        readings.COSINE,
        measures.moved(D.perturbation_cosine),
        _cosine,
        numbers.cosine,
        _levels(
            examples=(64, 128, 500, 1000),
            draws=(2, 3, 4, 4),
            points=(4, 6, 6, 11),
            attack_steps=(10,) * 4,
        ),
        attacked=True,
    ),
    "lipschitz": Section(
        "Lipschitz constant of the network",
        readings.LIPSCHITZ,
        measures.lipschitz,
        _lipschitz,
        numbers.lipschitz,
        _levels(examples=(256, None), jacobians=(64, 256), pairs=(1000, 10_000)),
    ),
    "samples": Section(
        "Curvature of single samples",
        readings.SAMPLES,
        measures.samples,
        lambda s, pace, steps: Work(product=150, gradient=5),
        numbers.samples,
        _levels(examples=(32, 100, 300)),
        refuses=_few_parameters,
    ),
    "examples": Section(
        "Adversarial examples",
        readings.EXAMPLES,
        measures.examples,
        lambda s, pace, steps: Work(seconds=1 + (steps + 2) * pace.step.seconds(8, 8)),
        numbers.nothing,
        _levels(n=(8,)),
        attacked=True,
        held_out=True,
    ),
}
