"""How hard every sample is to fit: the rank of its loss, averaged over a training."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from landscape import params as P
from landscape.diagnostics.features import SamplePass, sample_pass
from landscape.diagnostics.ranks import (
    group_means,
    group_of,
    mean_over_epochs,
    ranks,
)
from landscape.diagnostics.samples import spearman
from landscape.errors import DataError, UsageError
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.results import Estimate, Result, array, scalar


@dataclass(frozen=True, eq=False)
class Difficulty(Result):
    """d(x_i) of every sample i in the order of the data, and averages over groups of like d.

    d is near 0 for the hardest sample and near 1 for the easiest. ``difficulty_error`` is the
    same of the share of epochs in which the sample was classified wrongly, and
    ``loss_and_error`` Spearman's correlation of the two (None where there is no 0-1 error).
    ``sample_group[i]`` = ⌊G·d⌋ of the d that the groups were made by, which is another run's if
    the provenance says so; group 0 is the hardest. Means over a group have the standard error of
    the mean of its samples, NaN for fewer than two. ``predicted`` is the class at the last epoch
    that a network was at hand for.
    """

    kind: ClassVar[str] = "difficulty"

    labels: np.ndarray = array("sample", label="class")
    difficulty: np.ndarray = array("sample", label="difficulty d (0 hardest, 1 easiest)")
    difficulty_error: np.ndarray | None = array(
        "sample", label="difficulty d by 0-1 error", default=None
    )
    mean_loss: np.ndarray = array("sample", units="nats", label="loss, mean over epochs")
    mean_error: np.ndarray | None = array(
        "sample", units="fraction", label="0-1 error, mean over epochs", default=None
    )
    epochs_seen: np.ndarray = array("sample", label="epochs in which the sample was seen")
    predicted: np.ndarray | None = array("sample", label="class predicted at last", default=None)
    sample_group: np.ndarray = array("sample", label="group of the sample")
    group: np.ndarray = array("group", label="group (0 hardest)")
    group_size: np.ndarray = array("group", units="samples", label="size of the group")
    epoch: np.ndarray = array("epoch", units="epochs", label="epoch")
    group_loss: np.ndarray = array("epoch", "group", units="nats", label="mean loss of the group")
    group_loss_standard_error: np.ndarray = array("epoch", "group", units="nats")
    group_error: np.ndarray | None = array(
        "epoch", "group", units="fraction", label="0-1 error of the group", default=None
    )
    group_error_standard_error: np.ndarray | None = array(
        "epoch", "group", units="fraction", default=None
    )
    feature_epoch: np.ndarray | None = array(
        "feature_epoch", units="epochs", label="epoch", default=None
    )
    group_feature_norm: np.ndarray | None = array(
        "feature_epoch", "group", label="mean feature norm ‖h(x)‖₂ of the group", default=None
    )
    group_feature_norm_standard_error: np.ndarray | None = array(
        "feature_epoch", "group", default=None
    )
    loss_and_error: Estimate | None = scalar(
        label="Spearman correlation of mean loss and mean 0-1 error", default=None
    )

    def with_features(self, other: Difficulty) -> Difficulty:
        """This one with the feature norms and predictions of another made ``by`` it."""
        if not np.array_equal(self.sample_group, other.sample_group):
            raise UsageError("the feature norms are of other groups: make them with by=.")
        names = [f.name for f in self.fields() if "feature" in f.name] + ["predicted"]
        described = {**self.provenance.objective, "features": other.provenance.objective}
        return dataclasses.replace(
            self,
            provenance=dataclasses.replace(self.provenance, objective=described),
            **{name: getattr(other, name) for name in names},
        )

    def plot(self, ax: Any = None, quantity: str = "loss") -> Any:
        from landscape.plotting.difficulty import draw

        return draw(self, quantity, ax=ax)


def difficulty(
    objective: Objective | Iterable[Objective],
    *,
    epochs: Sequence[int] | None = None,
    groups: int = 10,
    by: Difficulty | None = None,
    features: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Difficulty:
    """d(x) = P(L(x) < L(e)) + ½·P(L(x) = L(e)), e uniform over the data, L the mean over epochs.

    liu2022 eq. 1: L(x) is the loss of x's perturbed input, averaged over all epochs of a
    training; groups and feature norms as in its §4.2, Fig. 2. e may be x itself, so that d lies
    in [1/2N, 1 − 1/2N] and has mean ½. Here every epoch is a network, in eval mode on the data as
    they are; ``recorded_difficulty`` takes the losses that a training itself met.

    Args:
        objective: the network at one epoch, or at several in their order, on the same data, under
            the attack whose difficulty is meant, or none.
        epochs: of the objectives, 1, 2, … by default. They can be made one after the other if
            this is given.
        groups: G, group g holding the samples with g/G ≤ d < (g + 1)/G: equal up to ties.
        by: make the groups by the d of another run on the same data.
        features: measure ‖h(x)‖₂ of the input h of the last Linear layer too.
        progress: called as (networks done, networks).

    Cost: a forward pass and an attack per network. When it lies: groups by the run's own d differ
    in their own mean loss by construction; whether hard samples stay hard is seen in groups by
    another run's. d ranks whatever there is, also noise: with one epoch, or N small, compare two
    runs (``difficulty_distance``). It hides by how much losses differ. Mislabelled, rare and merely
    low-contrast images look alike. ‖h‖ grows with the weights: compare groups, not networks.
    """
    start = time.perf_counter()
    chosen = [objective] if isinstance(objective, Objective) else objective
    if epochs is None:
        chosen = list(chosen)
        epochs = range(1, len(chosen) + 1)
    passes: list[SamplePass] = []
    described: list[dict[str, Any]] = []
    for one in chosen:
        described.append(one.describe())
        if described[-1]["data"] != described[0]["data"]:
            raise UsageError(
                f"objective {len(passes)} has other data than the first: d compares the losses "
                "of the same samples."
            )
        passes.append(sample_pass(one, features=features))
        if progress is not None:
            progress(len(passes), len(epochs))
    if not passes or len(passes) != len(epochs):
        raise UsageError(f"{len(passes)} objectives for {len(epochs)} epochs: give one for each.")
    labels = passes[0].labels
    found = recorded_difficulty(
        np.stack([p.loss for p in passes]),
        labels,
        correct=np.stack([p.predicted == labels for p in passes]),
        epochs=epochs,
        groups=groups,
        by=by,
        objective={**described[0], "networks": [d["model"]["digest"] for d in described]},
    )
    elapsed = time.perf_counter() - start
    return dataclasses.replace(
        found,
        predicted=passes[-1].predicted,
        provenance=dataclasses.replace(found.provenance, wall_time=round(elapsed, 3)),
        **_features(passes, epochs, found) if features else {},
    )


def recorded_difficulty(
    loss: Any,
    labels: Any,
    *,
    correct: Any = None,
    epochs: Any = None,
    groups: int = 10,
    by: Difficulty | None = None,
    objective: Mapping[str, Any] | None = None,
) -> Difficulty:
    """``difficulty`` from losses recorded along a training, as liu2022 has it.

    Not a function of an Objective, since what it needs was seen only by the training itself:
    the inputs as they were augmented and perturbed then, the network in train mode.

    Args:
        loss: (epochs, N), of the inputs trained on, NaN where a sample was not seen: the mean is
            over the epochs in which it was. ``Track.sample_loss`` is such a record.
        labels: (N,). correct: (epochs, N), whether classified correctly, NaN where not seen.
        epochs: of the rows, 1, 2, … by default.
        objective: what the provenance records of training and data.
    """
    losses, classes = np.asarray(loss, dtype=np.float64), np.asarray(labels)
    if losses.ndim != 2 or 0 in losses.shape or classes.shape != losses.shape[1:]:
        raise UsageError(
            "expected losses of shape (epochs, samples) and one label per sample, got "
            f"{losses.shape} and {classes.shape}."
        )
    if groups < 2:
        raise UsageError(f"groups must be at least 2, got {groups}.")
    number = np.arange(1, len(losses) + 1) if epochs is None else np.array(epochs)
    if number.shape != losses.shape[:1]:
        raise UsageError(f"{len(number)} epochs for losses of {len(losses)}: give one for each.")
    mean_loss, seen = mean_over_epochs(losses)
    d = ranks(mean_loss)
    if by is not None:
        described = {} if objective is None else objective.get("data", {})
        check_same_data(by, classes, described.get("digest"))
    chosen = d if by is None else by.difficulty
    record = Record(
        "difficulty",
        dict(objective or {}),
        None,
        groups=groups,
        by=None if by is None else P.digest({"d": torch.as_tensor(chosen)}),
    )
    index = group_of(chosen, groups)
    group_loss = group_means(losses, index, groups)
    extra: dict[str, Any] = {}
    if correct is not None:
        errors = 1 - np.asarray(correct, dtype=np.float64)
        if errors.shape != losses.shape:
            raise UsageError(f"correct has shape {errors.shape}, the losses {losses.shape}.")
        mean_error, _ = mean_over_epochs(errors)
        group_error = group_means(errors, index, groups)
        extra = {
            "mean_error": mean_error,
            "difficulty_error": ranks(mean_error),
            "group_error": group_error[0],
            "group_error_standard_error": group_error[1],
            "loss_and_error": spearman(mean_loss, mean_error),
        }
    return Difficulty(
        provenance=record.finish(),
        labels=classes,
        difficulty=d,
        mean_loss=mean_loss,
        epochs_seen=seen,
        sample_group=index,
        group=np.arange(groups),
        group_size=np.bincount(index, minlength=groups),
        epoch=number,
        group_loss=group_loss[0],
        group_loss_standard_error=group_loss[1],
        **extra,
    )


def check_same_data(other: Difficulty, labels: np.ndarray, digest: str | None) -> None:
    """Refuse to compare the difficulty of other samples, by digest if it is known."""
    theirs = other.provenance.objective.get("data", {}).get("digest")
    if len(labels) != len(other.labels):
        why = f"{len(other.labels)} samples and {len(labels)}"
    elif not np.array_equal(other.labels, labels):
        why = "their labels differ"
    elif digest and theirs and digest != theirs:
        why = f"digests {theirs[:12]} and {digest[:12]}"
    else:
        return
    raise DataError(f"the two difficulties are of other data ({why}): d ranks within one set.")


# -- inside ---------------------------------------------------------------------------------------


def _features(
    passes: Sequence[SamplePass], epochs: Sequence[int], of: Difficulty
) -> dict[str, Any]:
    norms = np.stack([p.feature_norm for p in passes if p.feature_norm is not None])
    mean, error = group_means(norms, of.sample_group, len(of.group))
    return {
        "feature_epoch": np.array(epochs),
        "group_feature_norm": mean,
        "group_feature_norm_standard_error": error,
    }
