"""The inputs that an Objective is evaluated on: the data, or what an attack makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from landscape.attacks import Attack
from landscape.batches import Batch
from landscape.functional import Forward
from landscape.losses import Loss
from landscape.memory import Parts
from landscape.random import Streams
from landscape.share import Share
from landscape.structured import Bundle, joined

# ``within(body)`` is ``body(forward)`` while the parameters are exchanged in the model.
Within = Callable[[Callable[[Forward], Any]], Any]


@dataclass
class Perturbed:
    """The batches of a share of the samples, attacked at every θ or held as of the model's own.

    Attributes:
        keep: whether held examples may be kept. outputs: of the network, per sample.
        kept: the held examples, once they are made.
    """

    own: Share
    attack: Attack | None
    refresh: str
    seed: int
    loss: Loss
    outputs: int
    parts: Parts
    keep: bool
    kept: list[Tensor] | None = None
    _versions: list[int] = field(default_factory=list)

    def batches(
        self, within: Within, centre: Mapping[str, Tensor], at_centre: Callable[[], Within]
    ) -> Iterator[Batch]:
        """For a pass ``within`` some θ; the model's own is ``centre``."""
        if self.attack is None:
            yield from self.own.batches()
        elif self.refresh == "each":
            yield from self._made(within)
        else:
            yield from self._held(centre, at_centre)

    def _held(
        self, centre: Mapping[str, Tensor], at_centre: Callable[[], Within]
    ) -> Iterator[Batch]:
        """Examples made at the centre whatever θ the pass is at; kept if the data are."""
        versions = [p._version for p in centre.values()]
        if versions != self._versions:  # the model was trained on: its examples are out of date
            self.kept, self._versions = None, versions
        if self.kept is not None:
            for (_, y), x in zip(self.own.batches(), self.kept, strict=True):
                yield x, y
            return
        made = []
        for x, y in self._made(at_centre()):
            if self.keep:
                made.append(x)
            yield x, y
        self.kept = made or None

    def _made(self, within: Within) -> Iterator[Batch]:
        assert self.attack is not None
        streams = Streams(self.seed, "attack")
        for batch, y, mine in self.own.divided():
            inputs = batch.entries[batch.continuous] if isinstance(batch, Bundle) else batch
            # What others' samples draw, so that random starts don't depend on who makes them.
            self.attack.skip(inputs[: mine.start], streams, self.outputs)
            x, y = batch[mine], y[mine]
            if len(y):
                yield within(partial(self._in_parts, x=x, y=y, streams=streams)), y
            self.attack.skip(inputs[mine.stop :], streams, self.outputs)

    def _in_parts(self, forward: Forward, x: Tensor | Bundle, y: Tensor, streams: Streams) -> Any:
        found: list[Any] = []

        def attack(part: slice) -> None:
            back = streams.mark()
            try:
                found.append(self._attack(forward, x[part], y[part], streams))
            except Exception:
                back()  # the same random numbers for smaller parts
                raise

        self.parts.each(len(y), attack)
        return found[0] if len(found) == 1 else joined(found)

    def _attack(self, forward: Forward, x: Tensor | Bundle, y: Tensor, streams: Streams) -> Any:
        assert self.attack is not None
        if not isinstance(x, Bundle):
            return self.attack.perturb(forward, x, y, streams=streams, loss=self.loss)
        name = x.continuous

        def within(part: Tensor) -> Tensor:
            return forward(x.replaced(name, part))  # type: ignore[arg-type]

        part = self.attack.perturb(within, x.entries[name], y, streams=streams, loss=self.loss)
        return x.replaced(name, part)
