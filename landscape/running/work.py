"""Work as data: trainings, and measurements of the trained networks."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from landscape._version import __version__
from landscape.provenance import plain

if TYPE_CHECKING:
    from landscape.results import Result
    from landscape.tracking import Tracking
    from landscape.training import TrainConfig


@dataclass(frozen=True, eq=False)
class From:
    """An option that another run provides: ``From(run, "hardest:300@{folder}")``.

    ``text`` may use ``{folder}``, the run's folder; ``{folder}/best.pt`` is its best checkpoint.
    ``stand_in`` takes its place where there is no folder yet and the method can't do without the
    option: a network of the same architecture as a teacher, for example.
    """

    run: Run
    text: str
    stand_in: Any = None

    def resolve(self, folder: Path) -> str:
        return self.text.format(folder=folder)

    def describe(self) -> str:
        return self.text.format(folder=self.run.digest[:16])


@dataclass(frozen=True)
class Given:
    """A checkpoint that is there already, identified by its content: it may be moved.

    ``digest``: SHA-256 of the file. ``data_dir``: where data sets lie, as of a ``Run``.
    """

    path: str
    digest: str
    data_dir: str | None = None

    def describe(self) -> str:
        return self.digest


@dataclass(frozen=True, eq=False)
class Run:
    """One training: what ``default_config`` and ``train`` are asked for; kept as a folder.

    Attributes:
        method: with additions, ``trades+awp``. options: of ``default_config``; a ``From`` stands
            for something that another run makes, and makes that run a prerequisite.
        keep_every, track: as of ``train``. data_dir: where data sets lie.
    """

    is_folder: ClassVar[bool] = True

    method: str
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_every: int | None = None
    track: Tracking | None = None
    data_dir: str | None = None

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that its options come from."""
        return tuple(option.run for option in _leaves(self.options) if isinstance(option, From))

    def config(self, folder_of: Callable[[Run], Path] | None = None) -> TrainConfig:
        """The resolved configuration; without ``folder_of`` options from other runs are left out,
        or are their stand-ins.

        Raises ``UsageError`` for a wrong option, as ``default_config``.
        """
        from landscape.training import default_config

        options = dict(self.options)
        data, model = options.pop("data", None), options.pop("model", None)
        given = _resolved(options, folder_of)
        return default_config(data, model, self.method, recipe=self.recipe, **given)

    def describe(self) -> dict[str, Any]:
        """Everything that its outcome depends on, JSON-able."""
        from landscape.training.config import identity

        taken = {name: o for name, o in _named(self.options) if isinstance(o, From)}
        return {
            "config": identity(self.config().to_dict()),
            "from": {name: option.describe() for name, option in taken.items()},
            "keep_every": self.keep_every,
            "track": self.track.describe() if self.track else None,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``describe``: runs of equal digest are the same run."""
        return _digest({"run": self.describe()})

    @cached_property
    def title(self) -> str:
        """In words; two runs may share them."""
        config = self.config()
        radius = ""
        if config.plan.method.perturbation is not None and config.evaluation is not None:
            radius = f", ε = {config.evaluation.ball.radius:.3g}"
        return f"{self.method} on {config.data}{radius}, seed {config.plan.seed}"


@dataclass(frozen=True, eq=False)
class Measure:
    """One measurement of trained networks: ``function(*trained, **settings)`` gives a ``Result``,
    which is kept as a file.

    The function is one that a module has by name, so that another process finds it; what it does
    may depend on its arguments alone. Its source is part of what identifies a measurement. One
    that takes ``partial`` is given a path, where it may keep what an interrupt would lose.
    ``called`` names it in what is said, and is no part of what it is.
    """

    is_folder: ClassVar[bool] = False

    function: Callable[..., Result]
    runs: tuple[Run, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    called: str = ""

    @property
    def needs(self) -> tuple[Run, ...]:
        return self.runs

    def describe(self) -> dict[str, Any]:
        source = inspect.getsource(self.function)
        return {
            "function": f"{self.function.__module__}.{self.function.__qualname__}",
            "source": hashlib.sha256(source.encode()).hexdigest(),
            "runs": [run.digest for run in self.runs],
            "settings": plain(
                {k: v.describe() if isinstance(v, Given) else v for k, v in self.settings.items()}
            ),
        }

    @cached_property
    def digest(self) -> str:
        return _digest({"measure": self.describe()})

    @property
    def title(self) -> str:
        what = self.called or self.function.__name__.replace("_", " ")
        of = self.runs[0].title if self.runs else ""
        more = f" and {len(self.runs) - 1} more" if len(self.runs) > 1 else ""
        return f"{what}{': ' if of else ''}{of}{more}"


Work = Run | Measure


def measure(function: Callable[..., Result], *runs: Run, **settings: Any) -> Measure:
    """``Measure`` as a call: ``measure(spectrum, run, top=20)``."""
    return Measure(function, runs, settings)


def everything(works: Mapping[str, Work]) -> dict[str, Work]:
    """All works by digest with what they need, prerequisites first."""
    found: dict[str, Work] = {}

    def add(work: Work) -> None:
        if work.digest not in found:
            for need in work.needs:
                add(need)
            found[work.digest] = work

    for work in works.values():
        add(work)
    return found


def _digest(content: Any) -> str:
    text = json.dumps({"landscape": __version__, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _named(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaves(options: Mapping[str, Any]) -> Iterator[Any]:
    return (value for _, value in _named(options))


def _resolved(
    options: Mapping[str, Any], folder_of: Callable[[Run], Path] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found[name] = _resolved(value, folder_of)
        elif not isinstance(value, From):
            found[name] = value
        elif folder_of is not None:
            found[name] = value.resolve(folder_of(value.run))
        elif value.stand_in is not None:
            found[name] = value.stand_in
    return found
