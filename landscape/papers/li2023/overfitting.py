"""li2023 Figs. 1 and 2: overfitting in standard and in adversarial training (§4.1, §4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves
from landscape.papers.li2023.along import by_method, inputs_along, losses_along, smoothed
from landscape.papers.li2023.setting import squared, trained
from landscape.papers.scale import Scale
from landscape.running.work import Work, measure

NAMES = {"standard": "standard training", "fgsm-r": "FGSM-R training", "pgd": "PGD-10 training"}
# Eq. 9 and 10. The paper prints neither grid; α runs "from 0 to 1", β is in units of Table 1's,
# for each sample's own loss (10 is IGR's strength there), times the ball's squared radius.
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
BETAS = (0.0, 0.1, 1.0, 10.0)
ANALOGUE = (
    "LeNet with BatchNorm on 200 digits, ε = 0.1, for 32 epochs, measured every fourth, in place "
    "of WRN-34 on CIFAR-10 for 200; the training set is small so that it can be learned by heart."
)
DISK = (
    "The paper leaves the width of its WRN-34 open (10 here; the released code's default is 1). "
    "Networks of all 200 epochs are kept: 37 GB per training of WRN-34-10."
)
T = Mapping[str, Sequence[Curves]]


# -- Fig. 1 ---------------------------------------------------------------------------------------


def _plan1(scale: Scale) -> Mapping[str, Work]:
    n = scale.pick(digits=None, mnist=2000, paper=2000)
    works: dict[str, Work] = {}
    for method in ("standard", "fgsm-r"):
        for seed in scale.seeds(3):
            run = trained(scale, method, seed, along=True)
            works[f"losses/{method}/seed{seed}"] = measure(losses_along, run)
            works[f"inputs/{method}/seed{seed}"] = measure(inputs_along, run, n=n)
    return works


def variance(one: Curves, split: str) -> np.ndarray:
    """AV: adversarial minus clean loss, at every epoch."""
    return one.of(f"{split}/adversarial") - one.of(f"{split}/clean")


def gap(one: Curves) -> np.ndarray:
    """Adversarial loss on the test set minus that on the training set."""
    return one.of("test/adversarial") - one.of("train/adversarial")


def band(ax: Any, seeds: Sequence[Curves], values: Any, *, label: str, **style: Any) -> None:
    """Mean and standard deviation over seeds of ``values(curves)``, smoothed as in the paper."""
    x = seeds[0].x
    mean, spread = over_seeds([smoothed(x, values(one)) for one in seeds])
    line(ax, x, mean, spread, label=label, **style)


def _draw1(found: Found) -> Any:
    losses, slopes = by_method(found, "losses"), by_method(found, "inputs")
    fig, axes = panels(4, 2, ratio=1.0, sharex=True)
    for row, (method, seeds) in enumerate(losses.items()):
        ig, hs, *both = axes[row]
        for k, split in enumerate(("train", "test")):
            for ax, quantity in ((ig, "IG"), (hs, "HS")):
                name = f"{split}/{quantity}"
                style = style_of(k, markersize=2.5)
                band(ax, slopes[method], lambda c, name=name: c.of(name), label=split, **style)
        for split, ax in zip(("train", "test"), both, strict=True):
            shown = {
                "clean": lambda c, split=split: c.of(f"{split}/clean"),
                "adversarial": lambda c, split=split: c.of(f"{split}/adversarial"),
                "AV": lambda c, split=split: variance(c, split),
            }
            for k, (label, values) in enumerate(shown.items()):
                band(ax, seeds, values, label=label, **style_of(k + 2, markersize=2.5))
            ax.set_title(f"loss, {split} (nats)")
        ig.set_title("IG (1/input)")
        hs.set_title("HS (1/input²)")
        ig.set_ylabel(NAMES[method])
        top = max(ax.get_ylim()[1] for ax in both)
        for ax in both:
            ax.set_ylim(0, top)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    for ax in axes[:, :2].flat:
        ax.set_ylim(bottom=0)
    handles, labels = (
        a + b
        for a, b in zip(*(axes[0][j].get_legend_handles_labels() for j in (0, 2)), strict=True)
    )
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def _after_start(one: Curves, values: np.ndarray) -> np.ndarray:
    """Without the network before training."""
    return np.asarray(values[one.x > 0])


def _grows(seeds: Sequence[Curves], values: Any, what: str) -> Verdict:
    rows = [_after_start(one, values(one)) for one in seeds]
    return claims.trend(_after_start(seeds[0], seeds[0].x), rows, what)


def _gap_grows(found: Found) -> Verdict:
    return claims.all_of(
        {
            method: _grows(
                seeds,
                lambda c: variance(c, "test") - variance(c, "train"),
                f"test − train AV with the epoch ({NAMES[method]})",
            )
            for method, seeds in by_method(found, "losses").items()
        }
    )


def _milder(found: Found) -> Verdict:
    losses = by_method(found, "losses")
    last = {
        m: [(variance(c, "test") - variance(c, "train"))[-1] for c in losses[m]]
        for m in NAMES
        if m in losses
    }
    return claims.greater(
        last["standard"],
        last["fgsm-r"],
        "test − train AV at the end (nats)",
        names=("standard", "FGSM-R"),
    )


def first_decay(one: Curves) -> int:
    """Index of the first kept epoch at or after the first step of the learning rate (half-way)."""
    return int(np.argmax(one.x >= one.x[-1] / 2))


def _diverges(found: Found) -> Verdict:
    verdicts = []
    for method, seeds in by_method(found, "inputs").items():
        apart = [c.of("test/IG") - c.of("train/IG") for c in seeds]
        at = first_decay(seeds[0])
        verdicts.append(
            claims.greater(
                [a[-1] for a in apart],
                [a[at] for a in apart],
                f"test − train IG (1/input, {NAMES[method]})",
                names=("at the end", "at the first step of the learning rate"),
            )
        )
    return claims.all_of(verdicts)


def _drops(found: Found) -> Verdict:
    verdicts = []
    for method, seeds in by_method(found, "inputs").items():
        at = first_decay(seeds[0])
        verdicts.append(
            claims.greater(
                [c.of("train/IG")[at] for c in seeds],
                [c.of("train/IG")[-1] for c in seeds],
                f"IG on training data (1/input, {NAMES[method]})",
                names=("at the first step of the learning rate", "at the end"),
            )
        )
    return claims.all_of(verdicts)


def _dominated(found: Found) -> Verdict:
    seeds = by_method(found, "losses")["standard"]
    return claims.positive(
        [variance(c, "test")[-1] / c.of("test/clean")[-1] for c in seeds],
        "AV over clean loss, standard training, test, at the end",
        at_least=10,
    )


def _fooled(found: Found) -> Verdict:
    seeds = by_method(found, "losses")["standard"]
    worst = [max(c.of(f"{s}/robust accuracy")[-1] for s in ("train", "test")) for c in seeds]
    verdict = claims.positive([0.05 - w for w in worst], "5 % minus the larger robust accuracy")
    text = f"{verdict.numbers}; robust accuracy {100 * float(np.mean(worst)):.3g} %"
    return Verdict(verdict.outcome, text, verdict.effect, verdict.samples)


def _curved(found: Found) -> Verdict:
    slopes = by_method(found, "inputs")
    return claims.all_of(
        [
            claims.greater(
                [c.of(f"{split}/HS")[-1] for c in slopes["standard"]],
                [c.of(f"{split}/HS")[-1] for c in slopes["fgsm-r"]],
                f"HS at the end ({split}, 1/input²)",
                names=("standard", "FGSM-R"),
            )
            for split in ("train", "test")
        ]
    )


FIG1 = Figure(
    "li2023/fig1",
    "Input gradients, input curvature and losses along standard and adversarial training",
    plan=_plan1,
    draw=_draw1,
    claims=(
        Claim(
            "In standard and in adversarial training the gap of the adversarial variance between "
            "test and training data grows throughout.",
            "§4.1, Fig. 1",
            _gap_grows,
        ),
        Claim("Robust overfitting is milder in adversarial training.", "§4.1, Fig. 1", _milder),
        Claim(
            "After the first step of the learning rate IG on test and training data diverge.",
            "§4.1, Fig. 1",
            _diverges,
        ),
        Claim("IG on training data drops late in training.", "§5.2, Fig. 1", _drops),
        Claim(
            "In standard training adversarial variance is overwhelmingly larger than the clean "
            "loss (ten times, as checked here).",
            "§4.1",
            _dominated,
        ),
        Claim(
            "In standard training robust accuracy is close to zero on both data (below 5 %).",
            "§4.1",
            _fooled,
        ),
        Claim("Standard training ends with a larger HS than FGSM-R's.", "§4.3, Fig. 1", _curved),
    ),
    analogue=ANALOGUE,
    needs=DISK,
)


# -- Fig. 2 ---------------------------------------------------------------------------------------


def _plan2(scale: Scale) -> Mapping[str, Work]:
    works: dict[str, Work] = {}
    alphas = scale.pick(digits=ALPHAS, paper=ALPHAS, smoke=(0.0, 1.0))
    betas = scale.pick(digits=BETAS, paper=BETAS, smoke=(0.0, 1.0))
    for seed in scale.seeds(3):
        for alpha in alphas:
            options: dict[str, Any] = {"less-clean": {"alpha": alpha}} if alpha else {}
            method = "fgsm-r+less-clean" if alpha else "fgsm-r"
            run = trained(scale, method, seed, along=True, **options)
            works[f"alpha/{alpha:g}/seed{seed}"] = measure(losses_along, run)
        for beta in betas:
            options = {"igr": {"weight": beta * squared(scale)}} if beta else {}
            method = "standard+igr" if beta else "standard"
            run = trained(scale, method, seed, along=True, **options)
            works[f"beta/{beta:g}/seed{seed}"] = measure(losses_along, run)
    return works


_SHOWN2 = {
    "alpha": ("FGSM-R training minus α × clean loss", "α"),
    "beta": ("standard training plus β × IGR", "β"),
}


def _draw2(found: Found) -> Any:
    fig, axes = panels(2, ratio=0.75)
    for ax, (which, (title, symbol)) in zip(axes[0], _SHOWN2.items(), strict=True):
        for k, (value, seeds) in enumerate(by_method(found, which).items()):
            label = f"{symbol} = {value}"
            band(ax, seeds, gap, label=label, **style_of(k, markersize=2.5))
        ax.set(title=title, xlabel="epoch", ylabel="test − train adversarial loss (nats)")
        ax.legend()
    return fig


def _shrinks(found: Found, which: str) -> Verdict:
    groups = by_method(found, which)
    strengths = [float(name) for name in groups]
    final = np.array([[gap(c)[-1] for c in seeds] for seeds in groups.values()])
    verdict = claims.trend(strengths, -final.T, f"minus the gap at the end with {which}")
    gaps = ", ".join(f"{v:.3g}" for v in final.mean(axis=1))
    # A gap also closes where nothing is learned: log 10 is what a constant classifier has.
    last = [np.mean([c.of("test/adversarial")[-1] for c in seeds]) for seeds in groups.values()]
    losses = ", ".join(f"{v:.3g}" for v in last)
    text = (
        f"{verdict.numbers.partition(';')[0]}; gaps {gaps} nats; adversarial test losses {losses}"
    )
    return Verdict(verdict.outcome, text, verdict.effect, verdict.samples)


FIG2 = Figure(
    "li2023/fig2",
    "The gap between adversarial losses on test and training data, with less of the clean loss "
    "and with smaller input gradients",
    plan=_plan2,
    draw=_draw2,
    claims=(
        Claim(
            "The more of the clean loss is taken off adversarial training, the smaller the gap of "
            "adversarial losses between test and training data.",
            "§4.1, Fig. 2 left",
            lambda found: _shrinks(found, "alpha"),
        ),
        Claim(
            "The stronger input gradients are penalised in standard training, the smaller the gap.",
            "§4.2, Fig. 2 right",
            lambda found: _shrinks(found, "beta"),
        ),
    ),
    analogue=f"{ANALOGUE} α rises along the run, as networks otherwise never begin to learn; "
    "β is in units of 0.21, the squared radius of the ball in the paper's.",
    needs=f"{DISK} The paper prints no grids of α and β: these are ours.",
)
