"""A training by name: which network, which data, which plan. Data that a checkpoint stores."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from landscape.attacks import Attack
from landscape.checkpoints import Checkpoint, find, load
from landscape.data import augmentation, entry_of
from landscape.errors import UsageError
from landscape.models import ModelSpec
from landscape.training.mixing import Extra
from landscape.training.plan import Plan
from landscape.training.subsets import Subset


@dataclass(frozen=True)
class TrainConfig:
    """The whole of a training run; wrong values are refused here.

    Attributes:
        model: architecture, with its normalisation. Initialised from the plan's seed.
        data: a row of ``landscape.data.DATASETS`` or ``package.module:factory``; its splits
            train, val and test are used. data_options: of ``landscape.data.load``.
        n_examples: how many of the training split, ``None`` for all.
        subset: of these, the easiest, hardest or random ones: ``easiest:1000@RUN``.
        extra: additional training data, from which half of every batch comes (``Extra``, or the
            name of a data set, all of whose training split is taken).
        initial: checkpoint whose weights the training starts from, ``None`` for random ones; a
            path, or the name of one that comes with the package.
        augmentation: a row of ``landscape.data.AUGMENTATIONS``.
        evaluation: attack on the saved weights, on the validation and the test split.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; not part of what identifies a run.
    """

    model: ModelSpec
    data: str
    plan: Plan
    data_options: Mapping[str, Any] = field(default_factory=dict)
    n_examples: int | None = None
    subset: Subset | str | None = None
    extra: Extra | str | None = None
    initial: str | None = None
    augmentation: str = "none"
    evaluation: Attack | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        augmentation(self.augmentation)
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UsageError(f"unknown device '{self.device}': expected auto, cpu, cuda or cuda:N.")
        if self.n_examples is not None and self.n_examples < 1:
            raise UsageError(f"n_examples must be at least 1, got {self.n_examples}.")
        if isinstance(self.subset, str):
            object.__setattr__(self, "subset", Subset.parse(self.subset))
        if isinstance(self.extra, str):
            object.__setattr__(self, "extra", Extra(self.extra))
        if self.additional is not None:
            self.additional.check(self.model, self.data)
        if self.subset is not None and ":" in self.data:
            raise UsageError("a subset needs a data set by name, not one from a factory.")
        if ":" not in self.data:
            entry = entry_of(self.data)
            missing = {"train", "val", "test"} - set(entry.splits)
            if missing:
                raise UsageError(
                    f"{self.data} has no split '{min(missing)}', which training needs."
                )
            if entry.num_classes not in (None, self.model.num_classes):
                raise UsageError(
                    f"the model has {self.model.num_classes} classes, {self.data} has "
                    f"{entry.num_classes}."
                )

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration, JSON-able."""
        return {
            "model": self.model.to_dict(),
            "data": {"name": self.data, "options": dict(self.data_options)},
            "n_examples": self.n_examples,
            # Only if there is one: a run of all the data has the same digest as ever.
            **({"subset": self.chosen.describe()} if self.chosen else {}),
            **({"extra": self.additional.describe()} if self.additional else {}),
            **({"initial": self._describe_initial()} if self.initial else {}),
            "augmentation": self.augmentation,
            **self.plan.to_dict(),
            "evaluation": self.evaluation.describe() if self.evaluation else None,
            "device": self.device,
        }

    @property
    def chosen(self) -> Subset | None:
        """``subset``, which is never text once the configuration is made."""
        assert not isinstance(self.subset, str)
        return self.subset

    @property
    def additional(self) -> Extra | None:
        """``extra``, which is never text once the configuration is made."""
        assert not isinstance(self.extra, str)
        return self.extra

    @cached_property
    def start(self) -> Checkpoint | None:
        """The checkpoint ``initial``."""
        return None if self.initial is None else load(find(self.initial))

    def _describe_initial(self) -> dict[str, str]:
        assert self.start is not None
        return {"source": str(self.initial), "digest": self.start.digest}

    @property
    def digest(self) -> str:
        """SHA-256 of all but the device: what identifies a run."""
        text = json.dumps(identity(self.to_dict()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def resolved_device(self) -> torch.device:
        """The device that ``auto`` stands for here."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device '{name}' is not available here: use --device cpu.")
        return torch.device(name)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what may differ when a run is continued elsewhere, as JSON has it."""
    kept: dict[str, Any] = json.loads(json.dumps(config))
    kept.pop("device", None)
    for part in ("subset", "initial"):
        if isinstance(kept.get(part), dict):
            kept[part].pop("source", None)  # a file may be moved; its digest stays
    return kept


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``field: old → new`` for every value that differs between two configurations."""
    before, after = _flat(identity(old)), _flat(identity(new))
    return [
        f"{name}: {before.get(name, 'absent')} → {after.get(name, 'absent')}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves.update(_flat(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
