"""Named random streams, all children of one seed.

Nothing in this package draws from torch's, numpy's or Python's global generators: each
consumer asks for a stream by name, so adding a consumer never shifts another one's numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import torch


class Streams:
    """Random generators named by a path below one seed.

    A stream is reproducible from ``(seed, path)`` alone. Generators live on the CPU so that
    the same numbers are drawn whatever the device; asking for a name again continues its
    stream, while a new ``Streams`` with the same seed starts all of them over.

    >>> a, b = Streams(0).child("attack"), Streams(0).child("attack")
    >>> bool((a.uniform("start", (3,)) == b.uniform("start", (3,))).all())
    True
    """

    def __init__(self, seed: int, *path: str | int) -> None:
        self.seed = int(seed)
        self.path = path
        self._children: dict[tuple[str | int, ...], Streams] = {}
        self._generators: dict[tuple[str | int, ...], torch.Generator] = {}

    def child(self, *name: str | int) -> Streams:
        """The streams below this one; asking for a name again continues its streams."""
        if name not in self._children:
            self._children[name] = Streams(self.seed, *self.path, *name)
        return self._children[name]

    def derived_seed(self, *name: str | int) -> int:
        """A 63-bit seed that depends only on the root seed and the path."""
        text = "/".join(map(str, (self.seed, *self.path, *name)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *name: str | int) -> torch.Generator:
        """The CPU generator of one stream; later calls continue where earlier ones stopped."""
        if name not in self._generators:
            self._generators[name] = torch.Generator().manual_seed(self.derived_seed(*name))
        return self._generators[name]

    def mark(self) -> Callable[[], None]:
        """A way back: calling it sets all streams below this one to where they are now."""
        states = {name: g.get_state() for name, g in self._generators.items()}
        children = {name: child.mark() for name, child in self._children.items()}

        def back() -> None:
            self._generators = {name: self._generators[name] for name in states}
            for name, state in states.items():
                self._generators[name].set_state(state)
            self._children = {name: self._children[name] for name in children}
            for again in children.values():
                again()

        return back

    def uniform(self, name: str | int, shape: tuple[int, ...]) -> torch.Tensor:
        """U[0, 1) float64 numbers. Drawing 3 and then 4 gives the same 7 as drawing 7 at once."""
        return torch.rand(shape, generator=self.generator(name), dtype=torch.float64)

    def normal(self, name: str | int, shape: tuple[int, ...]) -> torch.Tensor:
        """N(0, 1) float64 numbers, by inversion of ``uniform``.

        torch's own normal sampler consumes its generator in blocks, so its numbers depend on
        how the draws are split; inversion keeps them independent of the batch size.
        """
        u = self.uniform(name, shape).clamp_min_(2.0**-54)
        return torch.special.ndtri(u)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators seeded inside and as before afterwards.

    For what takes no generator: initialisation, Dropout.
    """
    # torch.manual_seed would also seed every GPU, now or at its later initialisation.
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
