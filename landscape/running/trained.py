"""A finished run, as measurements see it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape import attacks, checkpoints
from landscape import data as datasets
from landscape.attacks import Attack
from landscape.checkpoints import Checkpoint
from landscape.diagnostics import Difficulty
from landscape.models import ModelSpec
from landscape.objective import Objective
from landscape.results import load
from landscape.running.work import Run
from landscape.tracking import Track
from landscape.training.config import TrainConfig
from landscape.training.folder import epoch_file
from landscape.training.history import History
from landscape.training.subsets import of_run


class Trained:
    """The folder of a finished run, its networks, data and records."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self._metrics: dict[str, dict[str, float]] = {}

    @cached_property
    def config(self) -> TrainConfig:
        """The configuration, without what came from other runs (data, radius, network: all)."""
        return self.run.config()

    @property
    def eps(self) -> float:
        """Radius that the training was judged by."""
        assert self.config.evaluation is not None
        return self.config.evaluation.ball.radius

    @cached_property
    def history(self) -> History:
        found: History = load(self.folder / "history.h5")
        return found

    @cached_property
    def track(self) -> Track:
        """What was recorded along the training; the run must have been asked to."""
        found: Track = load(self.folder / "track.h5")
        return found

    @property
    def difficulty(self) -> Difficulty:
        """How hard every training sample was, from the recorded losses (``track.samples``)."""
        return of_run(self.folder)

    def checkpoint(self, which: str | int = "best") -> Checkpoint:
        """``best``, ``final``, ``ensemble``, or the number of a kept epoch (0: before training)."""
        path = (
            epoch_file(self.folder, which)
            if isinstance(which, int)
            else self.folder / f"{which}.pt"
        )
        return checkpoints.load(path)

    def metrics(self, which: str = "best") -> dict[str, float]:
        """Accuracies of a saved checkpoint: ``test_accuracy``, ``test_robust_accuracy``, ..."""
        if which not in self._metrics:  # tables and claims ask for the same ones many times
            self._metrics[which] = dict(self.checkpoint(which).metrics)
        return dict(self._metrics[which])

    def model(self, which: str | int = "best") -> nn.Module:
        """The network in eval mode, on the configuration's device."""
        checkpoint = self.checkpoint(which)
        # A network of the user's own is built as the configuration says, which is the user's.
        same = checkpoint.model == self.config.model.to_dict()
        spec = self.config.model if same else ModelSpec.from_dict(checkpoint.model or {})
        model = checkpoint.into(spec.build(seed=0))
        return model.to(self.config.resolved_device()).eval()

    def fresh(self, seed: int) -> nn.Module:
        """A random network of the same architecture."""
        return self.config.model.build(seed=seed).to(self.config.resolved_device()).eval()

    def data(self, split: str = "test", n: int | None = None) -> Any:
        """A split of the data set, or a balanced part of it.

        ``train`` is what was trained on, but for a subset by difficulty: then it is the whole.
        """
        if split == "train" and n is None:
            n = self.config.n_examples
        return datasets.load(
            self.config.data,
            split,
            data_dir=self.run.data_dir,
            n_examples=n,
            **self.config.data_options,
        )

    def attack(self, name: str, **changes: Any) -> Attack:
        """The attack of a name in the ball of the training, or another ``eps`` or ``norm``."""
        assert self.config.evaluation is not None
        ball = self.config.evaluation.ball
        return attacks.attack(name, **{"eps": ball.radius, "norm": ball.norm, **changes})

    def objective(
        self,
        which: str | int = "best",
        *,
        split: str = "test",
        n: int | None = None,
        attack: str | Attack | None = None,
        refresh: str = "fixed",
        seed: int = 0,
        **options: Any,
    ) -> Objective:
        """L or L_ε of a saved network; ``dtype=torch.float64`` and ``Objective``'s options."""
        model = self.model(which).to(options.pop("dtype", torch.float32))
        if isinstance(attack, str):
            attack = self.attack(attack)
        return Objective(
            model, self.data(split, n), attack=attack, refresh=refresh, seed=seed, **options
        )
