"""Good files of every kind, and the command lines that read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape.checkpoints import Checkpoint
from landscape.cli import run
from landscape.models import ModelSpec

_DATA = ["--data", "digits", "--n-examples", "20", "-q"]
_BARE = ["--model", "logistic", *_DATA]
_TRAIN = ["train", "standard", "--model", "logistic", "--data", "digits", "--n-examples", "20"]
_RUN = [*_TRAIN, "--epochs", "2", "--batch-size", "20", "--out", "run", "--track-samples", "-q"]
_FIGURE = ["figure", "kanai2021/fig1", "--scale", "smoke", "--jobs", "1", "--out", "figures"]
_REPORT = ["report", "tiny.pt", "--n-examples", "20", "--sections", "accuracy,trace", "-q"]
_LINE = ["--directions", "between", "--grid", "3"]
_DRY = ["sweep", "sweep.toml", "--dry-run"]
_SURFACE = ["surface", "tiny.pt", "--n-examples", "20", "-q", "--overwrite"]


@dataclass(frozen=True)
class Seed:
    """A good file, by its place in the prepared folder, and what reads it in that place."""

    file: str
    commands: tuple[tuple[str, ...], ...]


def _seed(file: str, *commands: list[str]) -> Seed:
    return Seed(file, tuple(map(tuple, commands)))


def _reads(file: str, model: list[str]) -> list[list[str]]:
    """What is done with a checkpoint."""
    return [
        ["inspect", file],
        ["inspect", file, "--json"],
        ["evaluate", file, *model, "--attack", "clean", "--json", "--out", "e"],
        ["spectrum", file, *model, "--top", "1", "--out", "s"],
        ["surface", "second.pt", *_DATA, *_LINE, "--to", file, "--out", "b"],
        ["train", "standard", *model, "--from", file, "--epochs", "1", "--dry-run"],
    ]


_SWEEP = """
[train]
data = "digits"
model = "logistic"
n_examples = 20
epochs = 1
[grid]
method = ["standard", "pgd"]
eps = ["2/255", 0.1]
seed = [0, 1]
[[exclude]]
method = "standard"
eps = 0.1
[[measure]]
diagnostic = "evaluate"
n_examples = 10
[[measure]]
diagnostic = "spectrum"
top = 1
n_examples = 10
"""

KINDS: Mapping[str, tuple[Seed, ...]] = {
    "checkpoints": (
        _seed("tiny.pt", *_reads("tiny.pt", _DATA)),
        _seed("bare.pth", *_reads("bare.pth", _BARE)),
        _seed("nested.pth", *_reads("nested.pth", _BARE)),
        _seed("old.pth", *_reads("old.pth", _BARE)),
        _seed("tiny.safetensors", *_reads("tiny.safetensors", _BARE)),
    ),
    "results": (
        *(
            _seed(f"{name}.h5", ["plot", f"{name}.h5", "--overwrite", "-q"])
            for name in ("spectrum", "density", "trace", "evaluation", "samples", "run/track")
        ),
        _seed(
            "surface.h5",
            ["plot", "surface.h5", "--html", "--overwrite", "-q"],
            ["export", "surface.h5", "--to", "goldstein"],
            ["export", "surface.h5", "--to", "vts"],
        ),
        _seed("goldstein.h5", ["export", "goldstein.h5", "--to", "landscape"]),
        _seed("run/track.h5", ["export", "run/track.h5", "--to", "tensorboard"]),
        _seed(
            "report.h5",
            ["compare", "report.h5", "other.h5", "--json"],
            ["compare", "report.h5", "other.h5"],
            ["plot", "report.h5", "--overwrite", "-q"],
        ),
        _seed(
            "surface.partial.h5",
            [*_SURFACE, "--grid", "5x3", "--out", "surface.h5"],
        ),
        _seed(
            "report.partial.h5",
            [*_REPORT, "--out", "report.h5", "--overwrite"],
        ),
        _seed("run/track.h5", [*_TRAIN, "--subset", "easiest:5@run", "--dry-run"]),
    ),
    "configuration": (
        _seed("plane.pt", [*_SURFACE, "--directions", "plane.pt", "--grid", "3x3", "--out", "s"]),
        _seed("run/last.pt", _RUN),
        _seed("run/best.pt", _RUN),
        _seed("run/final.pt", _RUN),
        _seed("run/history.h5", _RUN),
        _seed("figures/smoke/kanai2021/fig1.json", _FIGURE),
        _seed("sweep.toml", _DRY, [*_DRY, "--json"]),
        _seed("runs/figures/measured/SEAL.json", _FIGURE, [*_FIGURE, "--dry-run"]),
    ),
}


def prepare(folder: Path) -> dict[str, list[Seed]]:
    """Make every good file in ``folder``; the seeds, with the names that digests give."""
    spec = ModelSpec("logistic", (1, 8, 8), 10)
    state = spec.build(seed=0).state_dict()
    before = Path.cwd()
    os.chdir(folder)
    try:
        method = {"name": "pgd", "config": {"evaluation": {"eps": 0.1, "norm": "linf"}}}
        data = {"name": "digits", "options": {}}
        Checkpoint(state, spec.to_dict(), data, method, {"loss": [1.0]}, {"a": 0.5}, 3, 0).save(
            "tiny.pt"
        )
        Checkpoint(spec.build(seed=1).state_dict(), spec.to_dict(), data).save("second.pt")
        torch.save(state, "bare.pth")
        Path("sweep.toml").write_text(_SWEEP)
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"net": wrapped, "acc": 9.5, "epoch": 7}, "nested.pth")
        torch.save({"state_dict": state}, "old.pth", _use_new_zipfile_serialization=False)
        from safetensors.torch import save_file

        save_file(state, "tiny.safetensors")
        few = ["tiny.pt", "--n-examples", "20", "-q"]
        for arguments in (
            ["spectrum", *few, "--top", "2", "--out", "spectrum"],
            ["density", *few, "--probes", "2", "--out", "density"],
            ["trace", *few, "--samples", "4", "--out", "trace"],
            ["evaluate", *few, "--attack", "fgsm", "--out", "evaluation"],
            ["samples", *few, "--out", "samples"],
            [*_SURFACE, "--grid", "5x3", "--save-directions", "plane.pt", "--out", "surface"],
            ["export", "surface.h5", "--to", "goldstein", "--out", "goldstein.h5"],
            [*_REPORT, "--out", "report.h5"],
            [*_REPORT, "--seed", "1", "--out", "other.h5"],
            [*_RUN, "--overwrite"],
            [*_FIGURE, "-q"],
        ):
            code = run(arguments)
            assert code in (0, 3), (arguments, code)
        for name in ("surface", "report"):
            Path(f"{name}.partial.h5").write_bytes(Path(f"{name}.h5").read_bytes())
        seals = sorted(str(path) for path in Path("runs/figures/measured").glob("*.json"))[:3]
    finally:
        os.chdir(before)
    return {
        kind: [
            Seed(file, seed.commands)
            for seed in found
            for file in (seals if "SEAL" in seed.file else [seed.file])
        ]
        for kind, found in KINDS.items()
    }
