"""The table of commands: small runs of the real command line on bundled checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landscape import checkpoints, data
from landscape.checkpoints import read_payload
from landscape.diagnostics import Axis, surface
from landscape.errors import LandscapeError
from landscape.models import ModelSpec
from landscape.objective import Objective
from landscape.results import load, load_all

Saved = Callable[[Path], int]


@dataclass(frozen=True)
class Unit:
    """A piece of work: a function of the package that does one, and how many files keep.

    ``slack``: how many may be done and not saved when a run is killed.
    """

    function: str
    saved: Saved
    slack: int


@dataclass(frozen=True)
class Command:
    """One command line, run in a folder that holds copies of ``inputs``."""

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    units: Mapping[str, Unit] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)
    # Which functions give a batch of data, and the loss of one.
    batch: str = "landscape.batches:Batches._place"
    loss: str = "torch.nn.functional:cross_entropy"
    # A bundled checkpoint that may take the place of an input.
    other: str = "digits-pgd-seed1"
    # Whether the same command reads the files of a finished run.
    rereads: bool = False
    make: Callable[[Path], object] | None = None
    # Its faults by parts of their names, in the campaign and in its short version: none for all.
    # Whether pictures are its work: others don't draw, because
    # that would take most of their time.
    faults: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    draws: bool = False
    # How often it has each fault, where others have it once: less for slow commands.
    share: float = 1.0

    def prepare(self, folder: Path) -> None:
        """Put the inputs there."""
        if self.make is not None:
            self.make(folder)
        for name in self.inputs:
            source = checkpoints.bundled()[name]
            (folder / source.name).write_bytes(source.read_bytes())


def _surface_points(folder: Path) -> int:
    return _of(folder / "s.partial.h5", lambda path: int(load(path).done.sum()))


def _epochs(folder: Path) -> int:
    return _of(folder / "run/last.pt", lambda path: int(read_payload(path)["state"]["epoch"]))


def _attacks(folder: Path) -> int:
    return _of(folder / "e.partial.h5", lambda path: len(load(path).attack))


def _spectra(folder: Path) -> int:
    return _of(folder / "p.partial.h5", lambda path: len(load_all(path)))


def _curve_updates(folder: Path) -> int:
    return _of(folder / "c.partial.pt", lambda path: 2 * int(read_payload(path)["epoch"]))


def _curve_points(folder: Path) -> int:
    def finite(path: Path) -> int:
        losses = load(path).train_loss
        return int((losses == losses).sum())

    return _of(folder / "c.partial.h5", finite)


def _sealed(folder: Path) -> int:
    return sum(len([*folder.glob(f"cache/{kind}/*.json")]) for kind in ("runs", "measured"))


def _cached_epochs(folder: Path) -> int:
    found = (folder / "cache/runs").glob("*/last.pt")
    return sum(int(read_payload(path)["state"]["epoch"]) for path in found)


def _of(path: Path, count: Callable[[Path], int]) -> int:
    """Nothing is kept where there is no file, or none that can be read."""
    try:
        return count(path) if path.exists() else 0
    except LandscapeError:
        return 0


def _a_surface(folder: Path) -> None:
    """A finished result, for a command that only reads it."""
    path = checkpoints.bundled()["digits-pgd-seed0"]
    model = ModelSpec.from_dict(checkpoints.load(path).model).build(seed=0)
    checkpoints.load(path).into(model)
    x, y = data.load("digits", "test", n_examples=40).tensors()
    axis = Axis(-1, 1, 5)
    surface(Objective(model, (x, y)), x=axis, y=axis).save(folder / "s.h5")


_GRID = """
[train]
model = "mlp"
epochs = 2
n_examples = 60
batch_size = 20
device = "cpu"

[grid]
method = ["standard", "fgsm"]

[[measure]]
diagnostic = "spectrum"
top = 1
n_examples = 40
"""

_PAIR = ("digits-pgd-seed0.pt", "digits-pgd-seed1.pt")
_FEW = ("--n-examples", "48", "--device", "cpu")

COMMANDS = {
    command.name: command
    for command in (
        Command(
            "train",
            (
                *("train", "fgsm", "--model", "mlp", "--n-examples", "60", "--batch-size", "20"),
                *("--epochs", "4", "--keep-every", "2", "--track", "batches", "--device", "cpu"),
                *("--out", "run"),
            ),
            units={"epochs": Unit("landscape.training.state:State.after", _epochs, 1)},
            batch="landscape.training.samples:Samples.take",
            loss="landscape.training.methods:Method.loss",
            rereads=True,
        ),
        Command(
            "spectrum",
            (
                *("spectrum", *_PAIR, "digits-standard-seed0.pt", "--top", "2", *_FEW),
                *("--out", "p.h5"),
            ),
            ("digits-pgd-seed0", "digits-pgd-seed1", "digits-standard-seed0"),
            {"spectra": Unit("landscape.diagnostics.eigenvalues:eigenpairs", _spectra, 1)},
            (0, 3),
            other="digits-fgsm-seed0",
        ),
        Command(
            "evaluate",
            (
                *("evaluate", _PAIR[0], "--attack", "clean,fgsm,pgd-3,pgd-5", *_FEW),
                *("--out", "e.h5"),
            ),
            ("digits-pgd-seed0",),
            {"attacks": Unit("landscape.diagnostics.evaluation:_outcome", _attacks, 1)},
            short=("nothing",),
        ),
        Command(
            "surface",
            (
                *("surface", _PAIR[0], "--grid", "5x6", "--attack", "fgsm", "--clean", *_FEW),
                *("--out", "s.h5"),
            ),
            ("digits-pgd-seed0",),
            {"points": Unit("landscape.diagnostics.surfaces:_Grid.put", _surface_points, 5)},
        ),
        Command(
            "connect",
            (
                *("connect", *_PAIR, "--epochs", "4", "--n-train", "64", "--points", "4"),
                *("--train-batch-size", "32", "--save-at", "0.5", *_FEW, "--out", "c.h5"),
            ),
            ("digits-pgd-seed0", "digits-pgd-seed1"),
            {
                "updates": Unit("landscape.connectivity.fitting:_Descent.step", _curve_updates, 2),
                "points": Unit("landscape.connectivity.profiles:Probe.at", _curve_points, 1),
            },
            (0, 3),
            other="digits-fgsm-seed0",
        ),
        Command(
            "figure",
            (
                *("figure", "liu2020/fig2", "--scale", "smoke", "--jobs", "1", "--device", "cpu"),
                *("--cache", "cache", "--out", "figures"),
            ),
            units={
                "works": Unit("landscape.running.cache:Cache.seal", _sealed, 1),
                "epochs": Unit("landscape.training.state:State.after", _cached_epochs, 2),
            },
            batch="landscape.training.samples:Samples.take",
            loss="landscape.training.methods:Method.loss",
            rereads=True,
            short=("random moment", "SIGTERM", "truncated"),
            share=0.25,
        ),
        Command(
            "sweep",
            ("sweep", "s.toml", "--jobs", "1", "--cache", "cache", "--out", "swept"),
            make=lambda folder: (folder / "s.toml").write_text(_GRID),
            units={
                "works": Unit("landscape.running.cache:Cache.seal", _sealed, 1),
                "epochs": Unit("landscape.training.state:State.after", _cached_epochs, 2),
            },
            batch="landscape.training.samples:Samples.take",
            loss="landscape.training.methods:Method.loss",
            rereads=True,
            short=("random moment", "full", "flipped"),
            share=0.25,
        ),
        Command(
            "figure --jobs 2",
            (
                *("figure", "liu2020/fig2", "--scale", "smoke", "--jobs", "2", "--device", "cpu"),
                *("--cache", "cache", "--out", "figures"),
            ),
            faults=("fresh",),  # work is counted in forked runs alone
            short=("nothing",),
        ),
        Command(
            "plot",
            ("plot", "s.h5", "--out", "drawn.png"),
            make=_a_surface,
            faults=("file", "bit", "error", "full", "read-only"),
            short=("bit",),
            draws=True,
        ),
    )
}
