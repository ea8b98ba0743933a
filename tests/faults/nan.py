"""NaN and infinity that appear at a random batch, or in weights."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch

from faults.campaign import Bench, Trial
from landscape import checkpoints
from landscape.checkpoints import read_payload, write_payload


def _at_calls(
    function: str, outside: str | None, act: Callable[[int, Any], Any]
) -> Callable[[], None]:
    """A step: results of ``module:name.name`` become ``act(number of the call, result)``.

    Calls made by the function ``outside`` are left alone.
    """

    def step() -> None:
        count, inner = [0], [0]

        def watched(real: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                result = real(*args, **kwargs)
                if inner[0]:
                    return result
                count[0] += 1
                return act(count[0], result)

            return called

        def apart(real: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                inner[0] += 1
                try:
                    return real(*args, **kwargs)
                finally:
                    inner[0] -= 1

            return called

        _patch(function, watched)
        if outside is not None:
            _patch(outside, apart)

    return step


def _patch(function: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, _, path = function.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def _calls(bench: Bench, function: str, outside: str | None) -> int:
    """How often an undisturbed run calls it."""
    tally = bench.scratch / "calls"
    tally.write_bytes(b"")

    def note(number: int, result: Any) -> Any:
        with tally.open("ab") as stream:
            stream.write(b".")
        return result

    bench.run(bench.folder("calls"), steps=[_at_calls(function, outside, note)]).wait()
    return tally.stat().st_size


def _spoilt(values: torch.Tensor, where: float, bad: float) -> torch.Tensor:
    """A copy with one entry that is not finite; its gradient is not finite there either."""
    factor = torch.ones_like(values).flatten()
    factor[int(where * factor.numel())] = bad
    return values * factor.reshape(values.shape)


def _trials(
    name: str,
    function: Callable[[Bench], str],
    part: Callable[[Any, Callable[..., Any]], Any],
    outside: str | None = None,
) -> Callable[[Bench, int], Iterator[Trial]]:
    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        where = function(bench)
        calls = _calls(bench, where, outside)
        for i in range(count if calls else 0):
            rng = bench.random(name, i)
            number, place = rng.randint(1, calls), rng.random()
            bad = rng.choice([math.nan, math.inf, -math.inf])

            def act(
                n: int, result: Any, number: int = number, place: float = place, bad: float = bad
            ) -> Any:
                if n != number:
                    return result
                return part(result, lambda values: _spoilt(values, place, bad))

            yield Trial(
                f"{bad} in {name} {number} of {calls}",
                steps=[_at_calls(where, outside, act)],
                may_show_nan=True,
            )

    return trials


in_data = _trials(
    "batch", lambda bench: bench.command.batch, lambda pair, spoil: (spoil(pair[0]), *pair[1:])
)
# An attack that meets an overflow on its way goes on without that gradient, on purpose: what it
# finds is a lower bound in any case. What counts is the loss that is trained or measured.
in_loss = _trials(
    "loss",
    lambda bench: bench.command.loss,
    lambda loss, spoil: spoil(loss),
    outside="landscape.attacks.problem:Problem.values",
)


def in_weights(bench: Bench, count: int) -> Iterator[Trial]:
    """Of a checkpoint that is read: an input, or the state of an unfinished training."""
    base = bench.half
    states = sorted(base.rglob("last.pt"))
    for i in range(count):
        rng = bench.random("weights", i)
        if bench.command.inputs:
            name = rng.choice(bench.command.inputs)
            file = f"{name}.pt"
        elif states:
            file = str(rng.choice(states).relative_to(base))
        else:
            return

        def before(folder: Path, file: str = file, rng: Random = rng) -> None:
            _spoil_file(folder / file, rng)

        def restore(folder: Path, file: str = file) -> None:
            (folder / file).write_bytes((base / file).read_bytes())

        yield Trial(
            f"weights of {file}, {i}", before=before, restore=restore, base=base, damaging=True
        )


def _spoil_file(path: Path, rng: Random) -> None:
    bad = rng.choice([math.nan, math.inf])
    if path.name == "last.pt":
        payload = read_payload(path)
        weights = payload["state"]["weights"]
        name = rng.choice(sorted(weights))
        weights[name] = _spoilt(weights[name], rng.random(), bad)
        write_payload(path, payload, overwrite=True)
    else:
        found = checkpoints.load(path)
        name = rng.choice([n for n, t in found.state_dict.items() if t.is_floating_point()])
        state = {**found.state_dict}
        state[name] = _spoilt(state[name], rng.random(), bad)
        dataclasses.replace(found, state_dict=state).save(path, overwrite=True)
