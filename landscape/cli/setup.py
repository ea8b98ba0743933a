"""From the options of a command to an Objective, with the clean accuracy said first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from landscape import attacks, checkpoints, foreign, losses, models, parallel
from landscape import data as datasets
from landscape.attacks import Attack, Ball
from landscape.checkpoints import Checkpoint
from landscape.cli.output import Say
from landscape.diagnostics import evaluate
from landscape.diagnostics.eigenvalues import random_loss
from landscape.errors import CheckpointError, UsageError
from landscape.objective import Objective
from landscape.operators import memory_needed
from landscape.results import Estimate
from landscape.structured import pair
from landscape.training.subsets import Subset

# Bytes; less is there on every machine.
_WORTH_SAYING = 1 << 29


class Target:
    """A checkpoint made usable: its model on its device, and the data asked for."""

    def __init__(self, say: Say, checkpoint: str, **options: Any) -> None:
        self.say, self.path, self._given = say, Path(checkpoint), options
        self.checkpoint, found = checkpoints.load_with_steps(
            self.path, trust=options["trust_checkpoint"], key=options.get("key")
        )
        self.batch_size: int = options["batch_size"]
        self.seed: int = options.get("seed", 0)
        data_name, data_options = _data_choice(self.checkpoint, options)
        self.split: str = options["split"]
        self.data = datasets.load(
            data_name,
            self.split,
            data_dir=options["data_dir"],
            n_examples=options["n_examples"],
            seed=self.seed,
            **data_options,
        )
        if options.get("subset"):
            self.data = Subset.parse(options["subset"]).of(self.data)
        self.data_name = data_name
        self.loss = losses.named(options.get("loss_function", "cross-entropy"))
        self.spec = _model_spec(self.checkpoint, self.data, options)
        model = self.spec.build(seed=0)
        if found is not None:
            steps = [*found.steps, *self.checkpoint.fitted(model)[1]]
            say.remark(f"{self.path.name}: {'; '.join(steps) or 'weights by name'}")
            if found.others:
                say.remark(f"there are other weights in it, for --key: {', '.join(found.others)}")
        self.checkpoint.into(model)
        self.model = model.to(device(options["device"]), getattr(torch, options["dtype"])).eval()
        self._check_fits()

    def objective(
        self,
        attack: Attack | None = None,
        refresh: str = "fixed",
        params: Sequence[str] | None = None,
    ) -> Objective:
        chosen = self._given.get("params")
        return Objective(
            self.model,
            self.data,
            self.loss,
            attack=attack,
            refresh=refresh,
            params=params or (chosen.split(",") if chosen else None),
            batchnorm=self._given.get("batchnorm", "eval"),
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def ball(self, *, eps: float | None = None) -> Ball | None:
        """--norm and --eps, by default those of the training; None where neither has a radius."""
        # The attack that the training itself was judged by.
        trained = (self.checkpoint.method.get("config") or {}).get("evaluation") or {}
        for radius in (eps, self._given["eps"], trained.get("eps")):
            if radius is not None:
                return Ball(self._given["norm"] or trained.get("norm") or "linf", radius)
        return None

    def attack(
        self, name: str | None, *, eps: float | None = None, ball_alone: bool = False
    ) -> Attack | None:
        """The attack of a name, in the ball of ``ball``.

        ``ball_alone``: --norm and --eps have a use without an attack.
        """
        asked = {key: self._given[key] for key in ("norm", "eps", "alpha", "steps", "restarts")}
        if name is None:
            for key, value in asked.items():
                if ball_alone and key in ("norm", "eps"):
                    continue
                if value is not None:
                    raise UsageError(f"--{key} needs an attack: add --attack pgd-10, for example.")
            return None
        ball = self.ball(eps=eps)
        if ball is None:
            raise UsageError(
                f"--attack {name} needs a radius, and this checkpoint was not trained with one: "
                "add --eps, for example --eps 8/255."
            )
        return attacks.attack(
            name,
            eps=ball.radius,
            norm=ball.norm,
            step_size=asked["alpha"],
            steps=asked["steps"],
            restarts=asked["restarts"],
        )

    def random_loss(self, objective: Objective, draws: int = 10) -> Estimate:
        """Mean loss over random initialisations of the same architecture, under the same attack."""
        return random_loss(
            Objective(
                self.spec.build(seed=seed).to(objective.device, objective.dtype),
                self.data,
                self.loss,
                attack=objective.attack,
                refresh="each",
                seed=self.seed,
                batch_size=self.batch_size,
            )
            for seed in range(draws)
        )

    def _check_fits(self) -> None:
        """Refuse data of another kind than the network takes, in words of both."""
        if not hasattr(self.data, "in_shape"):
            return
        made, found = tuple(self.spec.in_shape), tuple(self.data.in_shape)
        fits = self.data.num_classes <= self.spec.num_classes
        if fits and found != made:  # many networks take images of any size
            first = next(self.model.parameters())
            try:
                with torch.no_grad():
                    self.model(first.new_zeros(1, *found))
            except RuntimeError:
                fits = False
        if not fits:
            raise UsageError(
                f"{self.path.name} takes inputs of shape {made} in {self.spec.num_classes} "
                f"classes, {self.data_name} has {found} in {self.data.num_classes}: choose other "
                "data by --data."
            )

    def introduce(self, objective: Objective, **needs: int) -> None:
        """Say what is measured, clean accuracy first, and warn near chance; of what is no
        classifier the loss alone. With ``needs``, those of ``memory_needed``, also what memory it
        takes.
        """
        method = self.checkpoint.method.get("name", "unknown training")
        plain = objective.with_attack(None)
        value = plain.value()
        if value.accuracy is None:
            self.say.remark(
                f"{self.path.name}: {self.spec.name}, {method}, {self.data_name}/{self.split}, "
                f"{value.samples} examples; {plain.loss_name} {value.loss:.4g}"
            )
            self._say_memory(objective, needs)
            return
        clean = evaluate(plain)
        self.say.remark(
            f"{self.path.name}: {self.spec.name}, {method}, {self.data_name}/{self.split}, "
            f"{clean.samples} examples; clean accuracy "
            f"{100 * clean.accuracy[0]:.1f} % "
            f"[{100 * clean.accuracy_low[0]:.1f}, {100 * clean.accuracy_high[0]:.1f}], "
            f"loss {clean.loss[0]:.4g}"
        )
        if clean.near_chance:
            self.say.warn(
                f"clean accuracy is near chance ({100 / clean.classes:.0f} %): weights, "
                "normalisation or data probably don't match."
            )
        self._say_memory(objective, needs)

    def _say_memory(self, objective: Objective, needs: dict[str, int]) -> None:
        needed = memory_needed(objective, **needs) if needs else 0
        if needed >= _WORTH_SAYING:
            self.say.memory(needed, objective.device)


def device(name: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one."""
    if name == "auto":
        own = parallel.device()  # of one of several processes
        return own or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{name}': write auto, cpu, cuda or cuda:1.") from error
    if found.type == "cuda" and (
        not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices that "
            "torch can use (`landscape doctor` shows more)."
        )
    return found


def key_values(pairs: tuple[str, ...], option: str) -> dict[str, Any]:
    """KEY=VALUE pairs; whole numbers become numbers."""
    found: dict[str, Any] = {}
    for text in pairs:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"{option} {text}: write KEY=VALUE.")
        found[key.replace("-", "_")] = int(value) if value.lstrip("-").isdigit() else value
    return found


def _data_choice(checkpoint: Checkpoint, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = key_values(options["data_options"], "--data-option")
    if options["data"]:
        return options["data"], given
    if checkpoint.data is None:
        raise UsageError("the file does not say what data it was trained on: add --data NAME.")
    name, recorded = checkpoint.data["name"], checkpoint.data.get("options", {})
    if ":" in name and not options["trust_checkpoint"]:
        raise UsageError(
            f"the file names '{name}' as its data, and a file may not cause an import: name it "
            f"yourself (--data {name}) or trust the file (--trust-checkpoint)."
        )
    return name, {**recorded, **given}


def _model_spec(checkpoint: Checkpoint, data: Any, options: dict[str, Any]) -> models.ModelSpec:
    if options["model"] is None:
        if checkpoint.model is None:
            raise UsageError(
                "the file holds weights alone: add --model NAME (`landscape models` lists them)."
            )
        spec = models.ModelSpec.from_dict(checkpoint.model, trust=options["trust_checkpoint"])
        _check_size(checkpoint, spec)
        return spec
    normalize: tuple[Any, Any] | None = None
    if options["normalize"]:
        try:
            mean, std = (
                tuple(float(v) for v in part.split(",")) for part in options["normalize"].split(":")
            )
        except ValueError as error:
            raise UsageError(
                f"--normalize {options['normalize']}: write MEAN:STD, channels separated by commas."
            ) from error
        normalize = (mean, std)
    elif checkpoint.model is not None:
        normalize = checkpoint.model.get("normalize")
    else:  # the file's own, where its network has them
        normalize = foreign.statistics(checkpoint.state_dict)
    if hasattr(data, "in_shape"):
        return models.ModelSpec(options["model"], data.in_shape, data.num_classes, normalize)
    if ":" not in options["model"]:
        raise UsageError(
            "--model by name needs a data set by name, which knows its shape: give your own, "
            "--model package.module:factory."
        )
    shape, classes = _look_at(data)
    return models.ModelSpec(options["model"], shape, classes, normalize)


def _check_size(checkpoint: Checkpoint, spec: models.ModelSpec) -> None:
    """Refuse a description of far more numbers than the file holds, before they are made."""
    held = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    if not models.imports(spec.name) and (size := spec.size()) > 2 * held + 1000:
        raise CheckpointError(
            f"the file describes {spec.name} with {size:,} numbers and holds {held:,}: it is "
            "damaged, or its description is of another network."
        )


def _look_at(data: Any) -> tuple[tuple[int, ...], int]:
    """Shape of an input and number of classes, for factories that ask: of the first batch."""
    x, y = pair(next(iter(data), None), 0)
    shape = tuple(x.shape[1:]) or (1,)
    whole = not y.is_floating_point() and y.numel() > 0
    return shape, max(2, int(y.max()) + 1) if whole else 1
