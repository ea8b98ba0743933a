"""liu2022 Figs. 2 and 8: which samples a training fits when, in groups of like difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.diagnostics import Difficulty, difficulty
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2022.curves import HELD_OUT, decay, held_out, training
from landscape.papers.liu2022.setting import EPOCHS, full, sixths
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Work, measure
from landscape.training.folder import epoch_files

SHOWN = (0, 3, 6, 9)  # of ten groups; 0 is the hardest


def groups_along(run: Trained, *, attack: str = "pgd-10") -> Difficulty:
    """Groups by the run's own difficulty, with features of x' at its kept networks."""
    kept = [int(path.stem) for path in epoch_files(run.folder)]
    made = (run.objective(epoch, split="train", attack=attack) for epoch in kept)
    return difficulty(made, epochs=kept, by=run.difficulty)


# -- Fig. 2 -----------------------------------------------------------------------------------


def _fig2(scale: Scale) -> Mapping[str, Work]:
    attack = scale.pick(digits="pgd-5", mnist="pgd-10", paper="pgd-10", smoke="pgd-2")
    plan: dict[str, Work] = {}
    for seed in scale.seeds(3):
        run = full(scale, "pgd", seed)
        plan[f"run/seed{seed}"] = run
        plan[f"groups/seed{seed}"] = measure(groups_along, run, attack=attack)
    return plan


def _fig8(scale: Scale) -> Mapping[str, Work]:
    epochs = {name: 3 * n for name, n in EPOCHS.items()} | {"digits": 2 * EPOCHS["digits"]}
    n = epochs["digits" if scale.smoke else scale.name]
    return {
        f"run/seed{seed}": full(scale, "pgd", seed, epochs=epochs, keep=None, **sixths(scale, n))
        for seed in scale.seeds(3)
    }


def _runs(found: Found) -> list[Trained]:
    return list(found.under("run").values())


def losses(run: Trained) -> np.ndarray:
    """Mean loss (epoch, group) of the samples as the training met them."""
    return np.asarray(run.difficulty.group_loss)


def _draw_groups(ax: Any, x: np.ndarray, values: list[np.ndarray]) -> None:
    """``values``: (point, group) of every seed."""
    mean, spread = over_seeds(values)
    for i, g in enumerate(SHOWN):
        words = {0: " (hardest)", 9: " (easiest)"}.get(g, "")
        line(ax, x, mean[:, g], spread[:, g], label=f"$G_{g}${words}", **style_of(i, marker=None))
    ax.set(xlabel="epoch", ylim=(0, None))
    ax.locator_params(axis="x", integer=True)


def _draw_errors(ax: Any, runs: list[Trained], *, labels: bool) -> None:
    """Held-out and training error on an axis at the right, in grey."""
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    x = np.arange(1, len(runs[0].history.epoch) + 1)
    for values, style, name in ((held_out, "-", "held out"), (training, "--", "training")):
        mean, _ = over_seeds([100 * values(run) for run in runs])
        right.plot(x, mean, style, color="0.55", label=name if labels else "")
    right.set(ylim=(0, 100), ylabel="robust error (%)")
    right.yaxis.label.set_color("0.4")
    ax.set_zorder(right.get_zorder() + 1)
    ax.patch.set_visible(False)


def _legend(fig: Any, columns: int) -> None:
    named: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    fig.legend(named.values(), named, loc="outside lower center", ncols=columns)


def _draw_fig2(found: Found) -> Any:
    runs, measured = _runs(found), list(found.under("groups").values())
    fig, ((left, right),) = panels(2, ratio=0.85)
    _draw_groups(left, runs[0].history.epoch, [losses(run) for run in runs])
    left.set_ylabel("mean loss of the group (nats)")
    left.set_title("(a) loss")
    _draw_groups(right, measured[0].feature_epoch, [m.group_feature_norm for m in measured])
    right.set_ylabel(r"mean $\Vert h(x')\Vert_2$ of the group")
    right.set_title("(b) penultimate features")
    for ax, labels in ((left, True), (right, False)):
        _draw_errors(ax, runs, labels=labels)
    _legend(fig, 6)
    return fig


def _draw_fig8(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.95)
    runs = _runs(found)
    _draw_groups(ax, runs[0].history.epoch, [losses(run) for run in runs])
    ax.set_ylabel("mean loss of the group (nats)")
    _draw_errors(ax, runs, labels=True)
    _legend(fig, 3)
    return fig


def _drops(run: Trained, begin: float) -> tuple[np.ndarray, np.ndarray]:
    """Fall of each group's loss before and after the share ``begin`` of the epochs."""
    loss = losses(run)
    middle = max(1, int(begin * len(loss))) - 1
    return loss[0] - loss[middle], loss[middle] - loss[-1]


def _easy_first(found: Found) -> Verdict:
    runs = _runs(found)
    first = [_drops(run, 0.5)[0] for run in runs]
    return claims.greater(
        [drop[9] for drop in first],
        [drop[0] for drop in first],
        "fall of the loss until the first fall of the learning rate",
        names=("G9", "G0"),
    )


def _hard_later(found: Found) -> Verdict:
    late = [_drops(run, 0.5)[1] for run in _runs(found)]
    return claims.all_of(
        [
            claims.greater(
                [drop[g] for drop in late],
                [drop[9] for drop in late],
                "fall of the loss after it",
                names=(f"G{g}", "G9"),
            )
            for g in (0, 3)
        ]
    )


def _error_rises(found: Found) -> Verdict:
    return claims.positive([decay(run) for run in _runs(found)], "late rise of the robust error")


def _ratios(found: Found, which: int) -> list[float]:
    """‖h‖ of G9 over that of G0 at half of the training (0) and at its end (1)."""
    values = []
    for measured in found.under("groups").values():
        at = (len(measured.feature_epoch) // 2, -1)[which]
        norms = measured.group_feature_norm[at]
        values.append(float(norms[9] / norms[0]))
    return values


def _features_easy(found: Found) -> Verdict:
    ratio = _ratios(found, 0)
    return claims.positive(
        ratio, "feature norm of G9 over that of G0 at half of the training", at_least=1.0
    )


def _features_meet(found: Found) -> Verdict:
    return claims.greater(
        _ratios(found, 0),
        _ratios(found, 1),
        "feature norm of G9 over that of G0",
        names=("half-way", "at the end"),
    )


FIG2 = Figure(
    "liu2022/fig2",
    "Loss and feature norms of groups of like difficulty along PGD training",
    plan=_fig2,
    draw=_draw_fig2,
    claims=(
        Claim("Early the loss of the easiest group falls fastest.", "§4.2, Fig. 2a", _easy_first),
        Claim(
            "Late the losses of the hard groups G0 and G3 fall more than that of G9.",
            "§4.2, Fig. 2a",
            _hard_later,
        ),
        Claim("In this period the robust test error rises.", "§4.2, Fig. 2a", _error_rises),
        Claim("At first easy samples have the larger features.", "§4.2, Fig. 2b", _features_easy),
        Claim("Late the features of hard samples catch up.", "§4.2, Fig. 2b", _features_meet),
    ),
    analogue="LeNet on 1,197 digits, 30 epochs, PGD-5 of ε = 0.1, in place of ResNet-18 on "
    f"CIFAR-10, 200 epochs, PGD-10 of 8/255; features under PGD-5. {HELD_OUT}",
    needs=f"CIFAR-10. {HELD_OUT} Features are those of the networks kept every five epochs.",
)


def reach(run: Trained) -> np.ndarray:
    """Epoch (group,) at which a group's loss has come half of its way down from its highest."""
    loss = losses(run)
    start = loss.argmax(0)
    lowest = np.array([loss[e:, g].min() for g, e in enumerate(start)])
    half = (loss.max(0) + lowest) / 2
    found = [
        next(e for e in range(start[g], len(loss)) if loss[e, g] <= half[g])
        for g in range(loss.shape[1])
    ]
    return np.array(found) + 1


def _harder_later(found: Found) -> Verdict:
    curves = np.array([reach(run) for run in _runs(found)])
    groups = np.arange(curves.shape[1])
    return claims.trend(-groups, curves, "epoch of half the fall with the group, hardest last")


FIG8 = Figure(
    "liu2022/fig8",
    "Loss of groups of like difficulty along a long PGD training",
    plan=_fig8,
    draw=_draw_fig8,
    claims=(
        Claim("The harder the group, the later its loss falls.", "App. D.3, Fig. 8", _harder_later),
    ),
    analogue="As Fig. 2, 60 epochs with five falls of the learning rate in place of 600. "
    f"{HELD_OUT}",
    needs=f"CIFAR-10. {HELD_OUT}",
)
