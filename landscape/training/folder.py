"""The folder of a training run, and what an existing one means for a new request.

=========== ==================================================================
last.pt     the training after its last finished epoch, from which it continues
best.pt     checkpoint of the epoch of highest validation accuracy so far
final.pt    checkpoint of the last epoch; there once the run is finished
ensemble.pt with periods of eps: the networks at their ends, as one checkpoint
history.h5  one row per finished epoch
track.h5    with ``track``: what was recorded along the training
epochs/     with ``keep_every``: checkpoints of the initial network and of every so many epochs
=========== ==================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscape import checkpoints
from landscape.checkpoints import Checkpoint, read_payload, write_payload
from landscape.errors import CheckpointError, OutputError, UsageError
from landscape.files import remove
from landscape.results import load
from landscape.tracking import Tracking
from landscape.training.config import TrainConfig, differences
from landscape.training.state import State

CHECKPOINTS = ("best.pt", "final.pt")
FILES = ("last.pt", *CHECKPOINTS, "ensemble.pt", "history.h5", "track.h5")
EPOCHS = "epochs"
FORMAT, VERSION = "landscape-training", 1


def write_state(out: Path, config: TrainConfig, state: State) -> None:
    """Replace ``last.pt``: from now on ``state.epoch`` epochs are done."""
    payload = {
        "format": FORMAT,
        "version": VERSION,
        "config": config.to_dict(),
        "state": state.to_payload(),
    }
    write_payload(out / "last.pt", payload, overwrite=True)


def epoch_file(out: Path, epoch: int) -> Path:
    """Where the checkpoint after so many epochs is kept."""
    return out / EPOCHS / f"{epoch:04d}.pt"


def epoch_files(out: str | Path) -> list[Path]:
    """The checkpoints along a run, earliest first."""
    found = sorted((Path(out) / EPOCHS).glob("[0-9][0-9][0-9][0-9]*.pt"))
    if not found:
        raise UsageError(
            f"{out} has no checkpoints along the training: train with --keep-every 1, or name "
            "checkpoint files."
        )
    return found


def clear(out: Path) -> None:
    """Delete the files of a run, and nothing else."""
    for name in FILES:
        remove(out / name)
    for path in (out / EPOCHS).glob("[0-9][0-9][0-9][0-9]*.pt"):
        path.unlink()


def existing(
    out: Path, config: TrainConfig, *, resume: bool, overwrite: bool
) -> State | Checkpoint | None:
    """What ``out`` holds of this run: its end, a state to continue from, or nothing."""
    if overwrite:
        return None
    present = [out / name for name in FILES if (out / name).exists()]
    if present and not resume:
        raise OutputError(
            f"{out} holds a training run ({', '.join(path.name for path in present)}): pass "
            "--resume to continue it, --overwrite to start over, or another --out."
        )
    found = {path.name: checkpoints.load(path) for path in present if path.name in CHECKPOINTS}
    for checkpoint in found.values():
        _check_same(out, checkpoint.method.get("config"), config)
    if len(found) == len(CHECKPOINTS):
        _check_finished(out, found["best.pt"], found["final.pt"])
        return found["best.pt"]
    if not (out / "last.pt").exists():
        return None
    payload = read_payload(out / "last.pt")
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{out / 'last.pt'} is not the state of a training run.")
    if payload.get("version") != VERSION:
        raise CheckpointError(
            f"{out / 'last.pt'} has version {payload.get('version')}, this landscape reads "
            f"{VERSION}: pass --overwrite to start over."
        )
    try:
        old, state = dict(payload["config"]), State(**payload["state"])
        state.check()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{out / 'last.pt'} is damaged ({type(error).__name__}: {error}): pass --overwrite to "
            "start over."
        ) from error
    _check_same(out, old, config)
    return state


def _check_finished(out: Path, best: Checkpoint, final: Checkpoint) -> None:
    """Refuse files of this run in each other's place; they say what they are."""
    wanted = State(epoch=len(final.history["seconds"]), columns=final.history).best()
    for name, checkpoint, epoch in (
        ("best.pt", best, wanted),
        ("final.pt", final, len(final.history["seconds"])),
    ):
        if checkpoint.epoch != epoch or "test_accuracy" not in checkpoint.metrics:
            raise CheckpointError(
                f"{out / name} is another checkpoint of this run (epoch {checkpoint.epoch}, "
                f"expected {epoch}): put the right one back, or pass --overwrite to start over."
            )


def _check_same(out: Path, old: dict[str, Any] | None, config: TrainConfig) -> None:
    changed = ["not made by landscape"] if old is None else differences(old, config.to_dict())
    if changed:
        raise UsageError(
            f"{out} holds a training of another configuration ({'; '.join(changed)}): "
            "pass --overwrite to start over, or another --out."
        )


def check_track(out: Path, track: Tracking) -> None:
    """Refuse to return a finished run as tracked if it wasn't, or not like this."""
    path = out / "track.h5"
    if not path.exists():
        raise UsageError(
            f"{out} holds a finished training that was not tracked: pass --overwrite to train "
            "again, or leave --track out."
        )
    provenance, wanted = load(path).provenance, track.describe()
    made = {**provenance.settings, "seed": provenance.seed}
    changed = [name for name in wanted if made.get(name) != wanted[name]]
    if changed:
        raise UsageError(
            f"{out} holds a finished training that was tracked with other settings "
            f"({', '.join(changed)} differ): pass --overwrite to train again."
        )
