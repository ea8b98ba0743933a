"""Memory that runs out: the same numbers from smaller parts, said aloud."""

from __future__ import annotations

import platform
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from cases import CASES
from torch import Tensor, nn
from torch.testing import assert_close

import landscape as ls
from landscape import params as P
from landscape.attacks import Attack, Ball
from landscape.errors import UsageError
from landscape.memory import Parts, ran_out
from landscape.operators import PRODUCTS, Hessian, memory_needed
from landscape.random import Streams
from tests.cases import mlp

CASE = CASES["conv, batchnorm, dropout"]
ATTACK = Attack(Ball("linf", 0.2), steps=2, step_size=0.1, restarts=2)


class Small(nn.Module):
    """A network on a device with room for so many samples."""

    def __init__(self, inner: nn.Module, room: int) -> None:
        super().__init__()
        self.inner, self.room, self.largest = inner, room, 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.largest = max(self.largest, len(x))
        return self.inner(x)


def both(room: int, **options: Any) -> tuple[ls.Objective, ls.Objective]:
    """The same function, with and without enough memory."""
    small = Small(CASE.model(), room)
    found = [ls.Objective(m, CASE.data(), **options) for m in (Small(CASE.model(), 99), small)]
    return found[0], found[1]


def vectors(objective: ls.Objective) -> Tensor:
    return Streams(1).normal("vectors", (P.size(objective.params), 2))


@pytest.mark.parametrize("attack", [None, ATTACK])
@pytest.mark.parametrize("refresh", ["fixed", "each"])
def test_numbers_are_those_of_whole_batches(attack: Attack | None, refresh: str) -> None:
    whole, parts = both(2, attack=attack, refresh=refresh)
    with pytest.warns(UserWarning, match=r"out of memory with 7 samples .* going on with 4"):
        found = parts.value()
    expected = whole.value()
    assert_close([found.loss, found.accuracy], [expected.loss, expected.accuracy])
    direction = P.random_like(whole.params, Streams(0, "direction"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what fits is known now
        assert_close(parts.per_sample()[0], whole.per_sample()[0])
        assert_close(parts.gradient(), whole.gradient())
        assert_close(parts.hvp(direction), whole.hvp(direction))
        there = P.axpy(0.1, direction, whole.params)
        assert_close(parts.gradient(there), whole.gradient(there))
    assert parts.model.largest == 2


@pytest.mark.parametrize("product", ["auto", *PRODUCTS])
def test_products_go_on_with_smaller_pieces(product: str) -> None:
    whole, parts = both(3)
    expected = Hessian(whole) @ vectors(whole)
    with pytest.warns(UserWarning, match="out of memory with"):
        matrix = Hessian(parts, product=product)
    assert_close(matrix @ vectors(whole), expected)
    parts = both(7)[1]
    matrix = Hessian(parts, product=product)  # with room, which then goes
    parts.model.room = 2
    if product in ("double-backward", "forward-over-reverse"):
        with pytest.warns(UserWarning, match="out of memory with"):
            found = matrix @ vectors(whole)
    else:
        found = matrix @ vectors(whole)
    assert_close(found, expected)
    assert_close(matrix.gradient(), P.flatten(whole.gradient()))


def test_random_starts_do_not_depend_on_it() -> None:
    whole, parts = both(3, attack=ATTACK, refresh="each")
    with pytest.warns(UserWarning, match="out of memory"):
        found = list(parts.terms())
    for one, other in zip(found, whole.terms(), strict=True):
        assert_close(one.x, other.x)


def test_a_single_sample_that_does_not_fit_is_an_error() -> None:
    parts = both(7)[1]
    parts.model.room = 0
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        parts.value()
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        Hessian(parts)


def test_batches_that_cannot_be_divided_are_not() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(5)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x - x.mean(0))

    small = Small(Centred().double(), 20)
    x, y = torch.rand(20, 6, dtype=torch.float64), torch.arange(20) % 3
    objective = ls.Objective(small, (x, y))
    small.room = 10
    with pytest.raises(UsageError, match="depends on the others in its batch"):
        objective.value()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_what_counts_as_running_out(error: Exception, expected: bool) -> None:
    assert ran_out(error) is expected


def test_other_errors_pass_and_parts_are_done_once() -> None:
    parts, done = Parts(lambda: None), []

    def work(part: slice) -> None:
        if part.stop - part.start > 2:
            raise torch.OutOfMemoryError
        done.append((part.start, part.stop))

    with pytest.warns(UserWarning, match="going on with"):
        parts.each(7, work)
    assert [i for start, stop in done for i in range(start, stop)] == list(range(7))

    def broken(part: slice) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        parts.each(3, broken)


def test_a_mark_goes_back_in_all_streams() -> None:
    streams = Streams(0)
    streams.uniform("a", (2,))
    streams.child("b").uniform("c", (1,))
    back = streams.mark()
    draws = [
        [streams.uniform("a", (3,)), streams.child("b").uniform("c", (2,)),
         streams.child("new").uniform("d", (2,)), back()][:3]
        for _ in range(2)
    ]  # fmt: skip
    assert_close(draws[0], draws[1])


def test_vectors_count_within_the_memory_of_products_or_beside_it() -> None:
    objective = ls.Objective(CASE.model(), CASE.data())
    row = P.size(objective.params) * objective.dtype.itemsize
    memory = 1 << 30
    alone = memory_needed(objective, memory=memory)
    assert memory_needed(objective, beside=10, memory=memory) - alone == 10 * row
    assert memory_needed(objective, vectors=10, memory=memory) - alone == 10 * row
    assert memory_needed(objective, beside=10) - memory_needed(objective) == 10 * row
    full = memory_needed(objective, vectors=10, memory=5 * row)
    assert memory_needed(objective, vectors=10**6, memory=5 * row) == full
    assert memory_needed(objective, vectors=10**6, beside=3, memory=5 * row) == full + 3 * row


# Run in a process of its own: the largest memory of a process can't be set back.
_PEAK = """
import resource, sys
from pathlib import Path

import torch

import landscape as ls
from landscape import data
from landscape.models import ModelSpec
from landscape.operators import memory_needed

torch.set_num_threads(1)
samples = data.load("digits32", "train", n_examples=64)
x, y = samples.tensors()
model = ModelSpec("resnet18-8", samples.in_shape, samples.num_classes).build(seed=0).eval()
few = ls.Hessian(ls.Objective(model, [(x[:1], y[:1])]))
few @ torch.ones(few.size)  # what torch itself needs
resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
objective = ls.Objective(model, [(x, y)])
memory = 400 << 20
if sys.argv[1] == "spectrum":
    stated = memory_needed(objective, vectors=40, memory=memory)
    ls.spectrum(objective, 2, memory=memory, max_products=20)
elif sys.argv[1] == "trace":
    stated = memory_needed(objective, beside=48, memory=memory)
    ls.trace(objective, 16, memory=memory)
else:
    stated = memory_needed(objective, beside=5)
    attack = ls.attack("pgd-2", eps=0.1)
    attacked = ls.Objective(model, [(x, y)], attack=attack, refresh="each")
    ls.surface(attacked, x=ls.Axis(-1, 1, 3))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print((peak - resident) / stated)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
@pytest.mark.parametrize("what", ["spectrum", "trace", "surface"])
def test_what_is_stated_is_what_is_taken(what: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PEAK, what],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert 0.5 < float(run.stdout) < 1.2, run.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_the_command_keeps_freed_memory_for_the_next_tensor() -> None:
    """64 MiB in tensors that would be mapped one by one and given back at once."""
    script = (
        "import resource, sys, torch; from landscape import cli\n"
        "def resident():\n"
        " pages = int(open('/proc/self/statm').read().split()[1])\n"
        " return pages * resource.getpagesize() >> 20\n"
        "if sys.argv[1] == 'kept': cli._keep_freed_memory()\n"
        "held = [torch.ones(1 << 22) for _ in range(4)]\n"
        "before = resident(); del held; print(before - resident())"
    )
    given_back = {
        how: int(subprocess.check_output([sys.executable, "-c", script, how]))
        for how in ("kept", "as it is")
    }
    assert given_back["kept"] < 8 < 56 < given_back["as it is"]
