"""What a report's sections cost: passes over the data, and the seconds that a pass takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from landscape import params as P
from landscape.attacks import Attack
from landscape.diagnostics.input_hessians import choose, peek
from landscape.errors import LandscapeError
from landscape.objective import Objective
from landscape.operators import MEMORY, Hessian
from landscape.random import Streams

# Samples that a pass is timed on, unless two of them already take so many seconds.
_TIMED, _LONG = 32, 2.0

# Steps shorter than so many seconds are timed so often.
_SHORT, _REPEATS = 0.3, 3


@dataclass(frozen=True)
class Work:
    """Passes over the data: forward, gradients in θ, Hessian-vector products, attack steps.

    ``seconds``: besides, whatever the data: drawing, set-up.
    """

    forward: float = 0.0
    gradient: float = 0.0
    product: float = 0.0
    step: float = 0.0
    seconds: float = 1.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.forward + other.forward,
            self.gradient + other.gradient,
            self.product + other.product,
            self.step + other.step,
            max(self.seconds, other.seconds),
        )


@dataclass(frozen=True)
class Line:
    """Seconds of one pass: ``fixed`` per batch and ``each`` per sample."""

    fixed: float
    each: float

    def seconds(self, samples: int, batch: int) -> float:
        return math.ceil(samples / batch) * self.fixed + samples * self.each


@dataclass(frozen=True)
class Pace:
    """How fast one network is here, and how large.

    ``product`` is None, and ``why`` says why, if the loss can't be differentiated twice.
    ``input_hessian``: how ``inputs`` would find those of this network.
    """

    forward: Line
    gradient: Line
    step: Line
    product: Line | None
    batch: int
    outputs: int
    parameters: int
    input_size: int
    input_hessian: str = "lanczos"
    why: str = ""

    def seconds(self, work: Work, samples: int) -> float:
        """Estimated seconds of a section on so many samples; infinite if it can't be done."""
        total = work.seconds
        for count, line in (
            (work.forward, self.forward),
            (work.gradient, self.gradient),
            (work.step, self.step),
            (work.product, self.product),
        ):
            if count:
                total += count * line.seconds(samples, self.batch) if line else math.inf
        return total


def measure_pace(objective: Objective, attack: Attack | None, *, memory: int = MEMORY) -> Pace:
    """Time one forward pass, gradient, Hessian-vector product and attack step.

    On 2 and on up to 32 samples of the first batch, the line through both; on 2 alone where those
    are slow already. Without an attack, a step counts as a gradient.
    """
    clean = objective.with_attack(None)
    batch = max(1, -(-clean.batches.samples // len(clean.batches)))
    sizes = sorted({min(n, batch, clean.batches.samples) for n in (2, _TIMED)})
    parts = [clean.with_samples(range(n)) for n in sizes]

    def line(make: Callable[[Objective], Callable[[], object]]) -> Line:
        small = make(parts[0])
        small()  # what is done once is not counted
        first = _time(small)
        if first > _LONG or len(parts) == 1:
            return Line(0.0, first / sizes[0])
        last = _time(make(parts[-1]))
        each = max(0.0, (last - first) / (sizes[-1] - sizes[0]))
        return Line(max(0.0, first - sizes[0] * each), each)

    def product(part: Objective) -> Callable[[], object]:
        operator = Hessian(part, memory=memory)
        vector = P.flatten(P.random_like(part.params, Streams(0, "pace")))
        return lambda: operator @ vector

    forward = line(lambda part: part.value)
    gradient = line(lambda part: part.gradient)
    step = gradient
    if attack is not None and attack.steps:
        few = replace(attack, steps=2, restarts=1, targets=())
        both = line(lambda part: part.with_attack(few).value)
        step = Line(
            max(0.0, both.fixed - forward.fixed) / 2, max(0.0, both.each - forward.each) / 2
        )
    twice, why = None, ""
    try:
        twice = line(product)
    except LandscapeError as error:
        why = str(error)
    first = next(iter(clean.batches))[0]
    return Pace(
        forward=forward,
        gradient=gradient,
        step=step,
        product=twice,
        batch=batch,
        outputs=clean.outputs,
        parameters=P.size(clean.params),
        input_size=first[0].numel(),
        input_hessian=_input_hessian(parts[0]),
        why=why,
    )


def _input_hessian(objective: Objective) -> str:
    try:
        leading = peek(objective.terms(), 1)[1]
        size = leading[0].x[0].numel()
        return choose("auto", size, leading, 1, Streams(0, "pace"))[0]
    except Exception:  # inputs without derivatives: the section itself will say so
        return "lanczos"


def _time(step: Callable[[], object]) -> float:
    """Seconds; of short steps the least of a few, since other work on the machine disturbs."""
    least = math.inf
    for _ in range(_REPEATS):
        start = time.perf_counter()
        step()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        least = min(least, time.perf_counter() - start)
        if least > _SHORT:
            break
    return least
