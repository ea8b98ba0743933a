"""li2023 Figs. A1 to A3: whether PGD-50, HS of ReLU networks and 2000 samples do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.diagnostics import effectiveness, inputs
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.papers.li2023.along import (
    SPLITS,
    by_method,
    curvature_along,
    rank_correlation,
)
from landscape.papers.li2023.overfitting import ANALOGUE, DISK, NAMES
from landscape.papers.li2023.setting import trained
from landscape.papers.scale import Scale
from landscape.plotting.style import log_x
from landscape.random import Streams
from landscape.running.trained import Trained
from landscape.running.work import Work, measure

STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
ENOUGH = 50
SCHEMES = ("standard", "fgsm-r", "pgd")
# Of the samples, how many the paper averages over: 2000 of the 10,000 of its validation data.
SHARE = 0.2


# -- Fig. A1 --------------------------------------------------------------------------------------


def steps_sweep(run: Trained, *, steps: Sequence[int], n: int | None = None) -> Curves:
    """Loss and robust accuracy under PGD of so many steps of ε/4, on both splits."""
    rows: dict[str, list[float]] = {}
    for split in SPLITS:
        objective = run.objective("final", split=split, n=n)
        for count in steps:
            attack = run.attack(f"pgd-{count}", step_size=run.eps / 4)
            value = objective.with_attack(attack).value()
            rows.setdefault(f"{split}/loss", []).append(value.loss)
            rows.setdefault(f"{split}/accuracy", []).append(value.accuracy or 0.0)
    return curves(steps, rows, x_label="steps of PGD", y_label="loss (nats) or accuracy")


def _plan1(scale: Scale) -> Mapping[str, Work]:
    n = scale.pick(digits=None, mnist=2000, paper=None)
    steps = scale.pick(digits=STEPS, paper=STEPS, smoke=(1, 5, 50, 60))
    return {
        f"steps/{scheme}/seed{seed}": measure(
            steps_sweep, trained(scale, scheme, seed, along=True), steps=steps, n=n
        )
        for scheme in (SCHEMES[:2] if scale.smoke else SCHEMES)
        for seed in scale.seeds(3)
    }


def _draw1(found: Found) -> Any:
    groups = by_method(found, "steps")
    fig, axes = panels(2, ratio=0.8)
    for k, (scheme, seeds) in enumerate(groups.items()):
        for j, quantity in enumerate(("accuracy", "loss")):
            for split, dashes in zip(SPLITS, ("-", "--"), strict=True):
                mean, spread = over_seeds([c.of(f"{split}/{quantity}") for c in seeds])
                style = style_of(k, linestyle=dashes)
                label = f"{NAMES[scheme].removesuffix(' training')}, {split}"
                line(axes[0][j], seeds[0].x, mean, spread, label=label, **style)
    for ax, label in zip(axes[0], ("robust accuracy", "adversarial loss (nats)"), strict=True):
        ax.axvline(ENOUGH, color="0.6", lw=0.8, ls=":")
        log_x(ax)
        ax.set(xlabel="steps of PGD", ylabel=label, ylim=(0, None))
    axes[0][0].set_ylim(0, 1.02)
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def _change(one: Curves, name: str) -> float:
    """From 50 steps to the most."""
    values = one.of(name)
    return float(values[-1] - values[list(one.x).index(ENOUGH)])


def _steady_accuracy(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [
                    0.005 - max(abs(_change(c, f"{split}/accuracy")) for split in SPLITS)
                    for c in seeds
                ],
                f"0.5 % minus the change of accuracy beyond {ENOUGH} steps ({NAMES[scheme]})",
            )
            for scheme, seeds in by_method(found, "steps").items()
        ]
    )


def _steady_loss(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [0.01 - abs(_change(c, "train/loss")) / c.of("train/loss")[-1] for c in seeds],
                f"1 % minus the relative change of the training loss beyond {ENOUGH} steps "
                f"({NAMES[scheme]})",
            )
            for scheme, seeds in by_method(found, "steps").items()
        ]
    )


def _still_grows(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [_change(c, "test/loss") for c in seeds],
                f"growth of the test loss beyond {ENOUGH} steps (nats, {NAMES[scheme]})",
            )
            for scheme, seeds in by_method(found, "steps").items()
        ]
    )


FIGA1 = Figure(
    "li2023/figA1",
    "Robust accuracy and adversarial loss against the number of PGD steps",
    plan=_plan1,
    draw=_draw1,
    claims=(
        Claim(
            "Robust accuracy is steady from 50 steps on (half a point).", "A.1", _steady_accuracy
        ),
        Claim(
            "Adversarial loss on training data is steady from 50 steps on (1 %).",
            "A.1",
            _steady_loss,
        ),
        Claim(
            "Adversarial loss on validation data goes on growing up to 200 steps.",
            "A.1",
            _still_grows,
        ),
    ),
    analogue=ANALOGUE,
    needs=DISK,
)


# -- Fig. A2 --------------------------------------------------------------------------------------


def _plan2(scale: Scale) -> Mapping[str, Work]:
    n = scale.pick(digits=None, mnist=2000, paper=2000, smoke=20)
    activations = scale.pick(digits=("softplus", "softplus:10"), paper=("softplus",))
    return {
        f"curvature/pgd/seed{seed}": measure(
            curvature_along, trained(scale, "pgd", seed, along=True), activations=activations, n=n
        )
        for seed in scale.seeds(3)
    }


_DUAL = {"HS softplus": "softplus", "HS softplus:10": "softplus, β = 10"}


def _draw2(found: Found) -> Any:
    seeds = by_method(found, "curvature")["pgd"]
    duals = [str(name) for name in seeds[0].curve if str(name) in _DUAL]
    fig, axes = panels(2, ratio=0.7)
    for ax, names in zip(axes[0], (["GA"], duals), strict=True):
        other, handles = ax.twinx(), []
        other.spines["right"].set_visible(True)
        for k, name in enumerate(["HS", *names]):
            mean, spread = over_seeds([c.of(name) for c in seeds])
            label = _DUAL.get(name, {"HS": "HS, ReLU", "GA": "gradient alignment"}.get(name, name))
            target = ax if k == 0 else other
            line(target, seeds[0].x, mean, spread, label=label, **style_of(k))
            handles.append(target.get_lines()[-1])
        ax.set(xlabel="epoch", ylabel="HS, ReLU (1/input²)")
        other.set_ylabel(
            "gradient alignment (cosine)" if names == ["GA"] else "HS, softplus (1/input²)"
        )
        ax.legend(
            handles,
            [h.get_label() for h in handles],
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=len(handles),
        )
    return fig


def _aligned(found: Found, name: str, sign: int) -> Verdict:
    """Rank correlation over epochs, seed by seed."""
    rho = []
    for one in by_method(found, "curvature")["pgd"]:
        late = one.x > 0
        rho.append(sign * rank_correlation(one.of("HS")[late], one.of(name)[late]))
    words = "minus the rank" if sign < 0 else "rank"
    return claims.positive(rho, f"{words} correlation over epochs of HS and {name}")


def _like_softplus(found: Found) -> Verdict:
    """Judged by the paper's softplus; that of β = 10, if measured, stands beside it."""
    verdict = _aligned(found, "HS softplus", 1)
    if "HS softplus:10" not in by_method(found, "curvature")["pgd"][0].curve:
        return verdict
    text = f"{verdict.numbers}; not judged: {_aligned(found, 'HS softplus:10', 1).numbers}"
    return Verdict(verdict.outcome, text, verdict.effect, verdict.samples)


FIGA2 = Figure(
    "li2023/figA2",
    "HS of the ReLU network beside its gradient alignment and the HS of softplus networks",
    plan=_plan2,
    draw=_draw2,
    claims=(
        Claim(
            "HS of the ReLU network and its gradient alignment go opposite ways along adversarial "
            "training.",
            "A.2, Fig. A2a",
            lambda found: _aligned(found, "GA", -1),
        ),
        Claim(
            "HS of the ReLU network and of its softplus dual go the same way.",
            "A.2, Fig. A2b",
            _like_softplus,
        ),
    ),
    analogue=f"{ANALOGUE} PGD-10 training; the paper does not say which. Beside the paper's "
    "softplus (β = 1) also β = 10, which is closer to ReLU where pre-activations are small.",
    needs=DISK,
)


# -- Fig. A3 --------------------------------------------------------------------------------------


def sampling(
    run: Trained, *, trials: int = 10_000, points: int = 30, n: int | None = None, seed: int = 0
) -> Curves:
    """Smallest and largest mean of k random samples in ``trials``, over the mean of all of them.

    Of HS and of the effectiveness of FGSM and PGD-10 on the test set, at ``points`` values of k.
    """
    objective = run.objective("final", split="test", n=n)
    x, _ = next(iter(objective.batches))
    attacks = {name: run.attack(name) for name in ("fgsm", "pgd-10")}
    found = effectiveness(objective, attacks, run.attack("pgd-50"), reference_name="pgd-50")
    values = {"HS": inputs(objective, top=min(20, x[0].numel())).hs}
    values |= {name: found.ratios(name) for name in attacks}
    total = objective.batches.samples
    at = np.unique(np.linspace(1, total, points).round().astype(int))
    at = np.unique([*at, round(SHARE * total)])
    rng = np.random.default_rng(Streams(seed).derived_seed("sampling"))
    rows: dict[str, np.ndarray] = {}
    for name, sample in values.items():
        counts = np.minimum(at, len(sample))
        low, high = np.full(len(at), np.inf), np.full(len(at), -np.inf)
        for _ in range(trials):
            means = np.cumsum(rng.permutation(sample))[counts - 1] / counts
            low, high = np.minimum(low, means), np.maximum(high, means)
        rows[f"{name}/low"], rows[f"{name}/high"] = low / sample.mean(), high / sample.mean()
        rows[f"{name}/mean"] = np.full(len(at), sample.mean())
    return curves(at, rows, x_label="samples", y_label="mean, over that of all")


def _plan3(scale: Scale) -> Mapping[str, Work]:
    trials = scale.pick(digits=10_000, paper=10_000, smoke=50)
    return {
        f"sampling/pgd/seed{seed}": measure(
            sampling, trained(scale, "pgd", seed, along=True), trials=trials
        )
        for seed in scale.seeds(3)
    }


_MEASURED = {"HS": "HS", "fgsm": "effectiveness of FGSM", "pgd-10": "effectiveness of PGD-10"}


def _draw3(found: Found) -> Any:
    one = by_method(found, "sampling")["pgd"][0]
    fig, axes = panels(3, ratio=0.8)
    for k, (ax, (name, label)) in enumerate(zip(axes[0], _MEASURED.items(), strict=True)):
        value = one.of(f"{name}/mean")[0]
        low, high = (value * one.of(f"{name}/{end}") for end in ("low", "high"))
        colour = style_of(k)["color"]
        ax.fill_between(
            one.x, low, high, color=colour, alpha=0.25, lw=0, label="least and most of all trials"
        )
        ax.axhline(value, color=colour, label="all samples")
        ax.axvline(SHARE * one.x[-1], color="0.6", lw=0.8, ls=":", label="a fifth")
        ax.set(xlabel="samples", ylabel=f"{label}{' (1/input²)' if name == 'HS' else ''}")
    axes[0][0].legend()
    return fig


def _off(one: Curves, name: str, at: int) -> float:
    """Largest relative deviation from the mean of all samples, in any trial."""
    return float(max(one.of(f"{name}/high")[at] - 1, 1 - one.of(f"{name}/low")[at]))


def _at_share(one: Curves) -> int:
    return list(one.x).index(round(SHARE * one.x[-1]))


def _within(found: Found, names: Sequence[str], most: float) -> Verdict:
    seeds = by_method(found, "sampling")["pgd"]
    return claims.all_of(
        [
            claims.positive(
                [most - _off(c, name, _at_share(c)) for c in seeds],
                f"{most:g} minus the largest relative deviation of {_MEASURED[name]} at "
                f"{seeds[0].x[_at_share(seeds[0])]:.0f} samples",
            )
            for name in names
        ]
    )


def _acute(found: Found) -> Verdict:
    seeds = by_method(found, "sampling")["pgd"]
    few = 1  # of the grid's points, the second: about a thirtieth of the samples
    return claims.greater(
        [_off(c, "HS", few) for c in seeds],
        [max(_off(c, name, few) for name in ("fgsm", "pgd-10")) for c in seeds],
        f"largest relative deviation at {seeds[0].x[few]:.0f} samples",
        names=("HS", "effectiveness"),
    )


FIGA3 = Figure(
    "li2023/figA3",
    "How far means over few samples are from those over all",
    plan=_plan3,
    draw=_draw3,
    claims=(
        Claim(
            "Effectiveness over a fifth of the samples is nearly that over all (2 %).",
            "A.3, Fig. A3",
            lambda found: _within(found, ("fgsm", "pgd-10"), 0.02),
        ),
        Claim(
            "HS over a fifth of the samples is within 10 % of that over all.",
            "A.3, Fig. A3",
            lambda found: _within(found, ("HS",), 0.10),
        ),
        Claim("With few samples HS fluctuates more than effectiveness.", "A.3, Fig. A3", _acute),
    ),
    analogue=f"{ANALOGUE} Of 300 test images a fifth are 60, where the paper has 2000 of 10,000: "
    "means over so few deviate more. The other figures average over all images at this scale.",
    needs=DISK,
)
