"""liu2022 Figs. 12 to 15: instance-adaptive (IAT) and self-adaptive training (SAT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.diagnostics.features import sample_pass
from landscape.diagnostics.ranks import group_of
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.papers.liu2022.curves import HELD_OUT, decay, draw, finish, gap
from landscape.papers.liu2022.groups import SHOWN
from landscape.papers.liu2022.learning import no_decay
from landscape.papers.liu2022.setting import SHORT, full
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.trained import Trained
from landscape.running.work import Run, Work, measure
from landscape.training.folder import epoch_files

# As long as the whole trainings in the paper; at digits scale half, as IAT has three attacks.
EPOCHS = {**SHORT, "paper": 200}
_DIGITS = (
    "LeNet on digits, 15 epochs, PGD-5 of ε = 0.1, in place of ResNet-18 on CIFAR-10, 200 epochs, "
    "PGD-10 of 8/255."
)


def pgd(scale: Scale, seed: int) -> Run:
    """The training that the two are compared with, whose difficulties they are held against."""
    return full(scale, "pgd", seed, epochs=EPOCHS)


def iat(scale: Scale, seed: int) -> Run:
    """IAT as in the paper's text: ε_i moves by γ = 1.9/8 of ε itself, after a warm-up."""
    return full(scale, "iaat", seed, epochs=EPOCHS, memory="iaat.eps", keep=None, radii_rate=1.0)


def sat(scale: Scale, seed: int) -> Run:
    """SAT: targets move from 90 of 200 epochs on."""
    start = scale.pick(digits=7, mnist=9, paper=90, smoke=1)
    keep = 3 if scale.name == "digits" else 5
    return full(
        scale,
        "self-adaptive",
        seed,
        epochs=EPOCHS,
        memory="self-adaptive",
        keep=keep,
        start=start,
    )


# -- Fig. 12 ----------------------------------------------------------------------------------

_NAMES = {"pgd": "PGD AT", "iat": "IAT", "sat": "SAT"}


def _fig12(scale: Scale) -> Mapping[str, Work]:
    makers = {"pgd": pgd, "iat": iat, "sat": sat}
    return {
        f"{name}/seed{seed}": make(scale, seed)
        for name, make in makers.items()
        for seed in scale.seeds(3)
    }


def _of(found: Found, name: str) -> list[Trained]:
    return list(found.under(name).values())


def _draw_fig12(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.9)
    for k, (name, label) in enumerate(_NAMES.items()):
        draw(ax, _of(found, name), k, label)
    finish(ax)
    return fig


def _flat(found: Found) -> Verdict:
    return claims.all_of(
        [
            no_decay([decay(r) for r in _of(found, n)], f"late rise of the error, {_NAMES[n]}")
            for n in ("iat", "sat")
        ]
    )


def _smaller_gap(found: Found) -> Verdict:
    own = [gap(r) for r in _of(found, "pgd")]
    return claims.all_of(
        [
            claims.greater(
                own,
                [gap(r) for r in _of(found, n)],
                "generalisation gap",
                names=("PGD AT", _NAMES[n]),
            )
            for n in ("iat", "sat")
        ]
    )


FIG12 = Figure(
    "liu2022/fig12",
    "Learning curves of PGD, instance-adaptive and self-adaptive training",
    plan=_fig12,
    draw=_draw_fig12,
    claims=(
        Claim("IAT's and SAT's robust error hardly rises late.", "App. D.5, Fig. 12", _flat),
        Claim("Their generalisation gaps are smaller.", "App. D.5, Fig. 12", _smaller_gap),
    ),
    analogue=f"{_DIGITS} IAT's training error is under its own radii. {HELD_OUT}",
    needs=f"CIFAR-10. {HELD_OUT}",
)

# -- Fig. 13 ----------------------------------------------------------------------------------


def _fig13(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{name}/seed{seed}": make(scale, seed)
        for name, make in (("iat", iat), ("pgd", pgd))
        for seed in scale.seeds(3)
    }


def remembered(run: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and what the method remembered of every sample: (epoch, sample, entry)."""
    track = run.track
    assert track.memory is not None
    assert track.memory_epoch is not None
    return track.memory_epoch, track.memory


def radii(run: Trained) -> np.ndarray:
    """ε_i of every training sample after the last epoch."""
    return np.asarray(remembered(run)[1][-1, :, 0])


def scatter(ax: Any, d: np.ndarray, y: np.ndarray) -> None:
    """Points of one seed over the difficulty."""
    many = len(d) > 3000
    ax.plot(
        d,
        y,
        ".",
        color=COLOURS[0],
        markersize=1 if many else 3,
        markeredgewidth=0,
        alpha=0.1 if many else 0.4,
        rasterized=many,
    )
    ax.set(xlabel="difficulty d (0 hardest, 1 easiest)", xlim=(0, 1))


def pearson(x: Any, y: Any) -> float:
    """Correlation, 0 where one of the two is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _draw_fig13(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    run, by = _of(found, "iat")[0], _of(found, "pgd")[0]
    d, eps = by.difficulty.difficulty, radii(run)
    scatter(ax, d, eps)
    ax.axhline(run.eps, color="0.4", lw=0.8, ls="--", label="ε")
    ax.set(ylabel="radius $\\epsilon_i$ after training", ylim=(0, None))
    ax.set_title(f"correlation {pearson(d, eps):.3f}")
    ax.legend()
    return fig


def correlated(values: Sequence[float], what: str, *, sign: int = 1) -> Verdict:
    """ "Highly correlated": by more than one half, for every seed."""
    return claims.positive([sign * v for v in values], f"correlation of {what}", at_least=0.5)


def _radii_follow(found: Found) -> Verdict:
    pairs = zip(_of(found, "iat"), _of(found, "pgd"), strict=True)
    return correlated([pearson(b.difficulty.difficulty, radii(a)) for a, b in pairs], "ε_i and d")


FIG13 = Figure(
    "liu2022/fig13",
    "Radii of instance-adaptive training against the difficulty of the samples",
    plan=_fig13,
    draw=_draw_fig13,
    claims=(
        Claim(
            "The radius of a sample and its difficulty d are highly correlated: hard samples get "
            "small radii.",
            "App. D.5, Fig. 13",
            _radii_follow,
        ),
    ),
    analogue=f"{_DIGITS} One seed is drawn.",
    needs="CIFAR-10.",
)

# -- Figs. 14 and 15 --------------------------------------------------------------------------


def group_weights(run: Trained, by: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and the mean weight (epoch, group) of the groups by the difficulty of ``by``.

    w_i = max_j t_ij, 1 before targets move; over a minibatch they are divided by their mean.
    """
    groups = group_of(by.difficulty.difficulty, 10)
    every, targets = remembered(run)
    weight = targets.max(2)
    mean = np.array([[w[groups == g].mean() for g in range(10)] for w in weight])
    before = np.arange(1, every[0]) if len(every) else np.array([], dtype=int)
    return np.r_[before, every], np.vstack([np.ones((len(before), 10)), mean])


def target_accuracy(run: Trained, by: Trained, *, attack: str = "pgd-10") -> Curves:
    """Robust accuracy of the groups at the kept networks, by label and by moving target.

    By target a sample is right where argmax f(x') = argmax t. Before targets move, t is the label.
    """
    groups = group_of(by.difficulty.difficulty, 10)
    epochs, targets = remembered(run)
    known = list(epochs)
    kept = [int(p.stem) for p in epoch_files(run.folder) if int(p.stem)]
    rows: dict[str, list[float]] = {f"{w} G{g}": [] for w in ("label", "target") for g in range(10)}
    for epoch in kept:
        seen = sample_pass(run.objective(epoch, split="train", attack=attack), features=False)
        target = targets[known.index(epoch)].argmax(1) if epoch in known else seen.labels
        for what, truth in (("label", seen.labels), ("target", target)):
            for g in range(10):
                right = (seen.predicted == truth)[groups == g]
                rows[f"{what} G{g}"].append(float(right.mean()))
    return curves(kept, rows, x_label="epoch", y_label="robust accuracy (fraction)")


def _fig14(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{name}/seed{seed}": make(scale, seed)
        for name, make in (("sat", sat), ("pgd", pgd))
        for seed in scale.seeds(3)
    }


def _fig15(scale: Scale) -> Mapping[str, Work]:
    attack = scale.pick(digits="pgd-5", mnist="pgd-10", paper="pgd-10", smoke="pgd-2")
    return {
        f"seed{seed}": measure(target_accuracy, sat(scale, seed), pgd(scale, seed), attack=attack)
        for seed in scale.seeds(3)
    }


def _weights(found: Found) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(_of(found, "sat"), _of(found, "pgd"), strict=True)
    return [group_weights(a, b) for a, b in pairs]


def _group_lines(ax: Any, x: np.ndarray, values: Sequence[np.ndarray]) -> None:
    mean, spread = over_seeds(values)
    for k, g in enumerate(SHOWN):
        words = {0: " (hardest)", 9: " (easiest)"}.get(g, "")
        line(ax, x, mean[:, g], spread[:, g], label=f"$G_{g}${words}", **style_of(k, markevery=3))
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)


def _draw_fig14(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.8)
    weights = _weights(found)
    _group_lines(ax, weights[0][0], [w for _, w in weights])
    ax.set(ylabel="mean weight of the group", ylim=(0, 1.05))
    ax.legend(loc="lower left")
    return fig


def _ends(found: Found) -> np.ndarray:
    """Weights (seed, group) after the last epoch."""
    return np.array([w[-1] for _, w in _weights(found)])


def _hard_light(found: Found) -> Verdict:
    return claims.trend(np.arange(10), _ends(found), "the final weight with the group")


def _printed_weights(found: Found) -> Verdict:
    ends = _ends(found)
    return claims.all_of(
        [
            claims.positive(list(ends[:, 9]), "weight of the easiest group", at_least=0.9),
            claims.positive(list(-ends[:, 0]), "weight of the hardest, negative", at_least=-0.6),
        ]
    )


FIG14 = Figure(
    "liu2022/fig14",
    "Weights of groups of like difficulty in self-adaptive training",
    plan=_fig14,
    draw=_draw_fig14,
    claims=(
        Claim("Hard samples weigh less than easy ones.", "App. D.5, Fig. 14", _hard_light),
        Claim(
            "Easiest samples weigh about 1, the hardest about 0.4 (at most 0.6).",
            "App. D.5, Fig. 14",
            _printed_weights,
        ),
    ),
    analogue=f"{_DIGITS} Targets move from epoch 8 on: eight times, "
    "so that with ρ = .9 the label keeps at least 43 % of each.",
    needs="CIFAR-10. Targets are recorded every five epochs. (The text calls the easiest group "
    "G0, Fig. 2 the hardest: here too.)",
)


def _draw_fig15(found: Found) -> Any:
    fig, (row,) = panels(2, ratio=0.85, sharey=True)
    for ax, what, title in zip(row, ("label", "target"), ("label", "adaptive target"), strict=True):
        values = [
            np.array([100 * c.of(f"{what} G{g}") for g in range(10)]).T for c in found.values()
        ]
        _group_lines(ax, next(iter(found.values())).x, values)
        ax.set(title=f"against the {title}", ylim=(0, 102))
    row[0].set_ylabel("robust training accuracy (%)")
    fig.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def _end(found: Found, name: str) -> list[float]:
    return [float(c.of(name)[-1]) for c in found.values()]


def _targets_easier(found: Found) -> Verdict:
    return claims.greater(
        _end(found, "target G0"),
        _end(found, "label G0"),
        "robust accuracy of the hardest group",
        names=("by target", "by label"),
    )


def _easy_alike(found: Found) -> Verdict:
    apart = [
        abs(a - b) for a, b in zip(_end(found, "target G9"), _end(found, "label G9"), strict=True)
    ]
    return no_decay(apart, "difference of the two for the easiest group")


FIG15 = Figure(
    "liu2022/fig15",
    "Robust accuracy by label and by adaptive target in self-adaptive training",
    plan=_fig15,
    draw=_draw_fig15,
    claims=(
        Claim(
            "Hard samples are easier to fit by the adaptive target than by the label.",
            "App. D.5, Fig. 15",
            _targets_easier,
        ),
        Claim("For easy samples the two hardly differ.", "App. D.5, Fig. 15", _easy_alike),
    ),
    analogue=f"{_DIGITS} Networks kept every three epochs, in eval "
    "mode under PGD-5. Targets move eight times: with ρ = .9 few can change their class.",
    needs="CIFAR-10. Networks and targets are those of every fifth epoch, in eval mode.",
)
