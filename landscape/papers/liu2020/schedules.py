"""liu2020 Figs. 6 and 7: learning rates and budgets over time, from the configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.papers.liu2020.setting import LENET, RESNET, VGG, target, trained
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS, log_y
from landscape.running.work import Work, measure

FAMILIES = {family.key: family for family in (RESNET, VGG, LENET)}
TOL = 1e-9
JUST_BEFORE = 1e-6  # epochs before a reset


def learning_rates(*, family: str) -> Curves:
    """Learning rate of the paper's configuration against the epoch, with and without periods."""
    one, scale = FAMILIES[family], Scale("paper")
    t = _times(200)
    named = {}
    for name, resets in (("vanilla", False), ("periodic", True)):
        plan = trained(scale, one, target(scale, one), 0, resets=resets).config().plan
        named[name] = [plan.lr(float(time)) for time in t]
    return curves(t, named, x_label="epoch", y_label="learning rate")


def radii(*, family: str, resets: bool) -> Curves:
    """ε of the paper's configuration against the epoch, for both schedulers."""
    one, scale = FAMILIES[family], Scale("paper")
    named, epochs = {}, 0
    for schedule in ("cosine", "linear"):
        run = trained(scale, one, target(scale, one), 0, budget=schedule, resets=resets)
        plan = run.config().plan
        assert plan.method.budget is not None
        epochs, eps = plan.epochs, target(scale, one)
        t = _times(epochs)
        named[schedule] = [eps * plan.method.budget.at(float(x), epochs) for x in t]
    return curves(_times(epochs), named, x_label="epoch", y_label="budget ε")


def _times(epochs: int) -> np.ndarray:
    """Eight per epoch, and just before every multiple of 50, where periods end."""
    t = np.linspace(0, epochs, 8 * epochs + 1)
    ends = np.arange(50, epochs + 1, 50) - JUST_BEFORE
    return np.sort(np.r_[t, ends])


def _at(content: Curves, name: str, epoch: float) -> float:
    return float(content.of(name)[np.abs(content.x - epoch).argmin()])


def _plan6(scale: Scale) -> Mapping[str, Work]:
    return {key: measure(learning_rates, family=key) for key in ("vgg", "resnet")}


def _plan7(scale: Scale) -> Mapping[str, Work]:
    return {
        "lenet": measure(radii, family="lenet", resets=False),
        "resnet": measure(radii, family="resnet", resets=False),
        "resnet periodic": measure(radii, family="resnet", resets=True),
    }


# -- claims ---------------------------------------------------------------------------------------


def _table(content: Curves, name: str, stated: Mapping[float, float]) -> Verdict:
    """Values at some epochs against those that the text states, relative tolerance ``TOL``."""
    got = {epoch: _at(content, name, epoch) for epoch in stated}
    gap = max(abs(got[e] - v) / max(abs(v), 1e-12) for e, v in stated.items())
    numbers = ", ".join(f"{value:.4g} at {epoch:g}" for epoch, value in got.items())
    return claims.exactly(gap < TOL, f"{name}: {numbers}; tolerance {TOL:g}", gap)


def vgg_rate(found: Found) -> Verdict:
    half = 1e-3 * 0.1**0.5
    return _table(found["vgg"], "vanilla", {0: 1e-3, 100: 1e-3, 125: half, 150: 1e-4, 200: 1e-4})


def resnet_rate(found: Found) -> Verdict:
    stated = {0: 0.1, 100 - JUST_BEFORE: 0.1, 100: 0.01, 149.5: 0.01, 150: 0.001, 200: 0.001}
    return _table(found["resnet"], "vanilla", stated)


def periodic_rate(found: Found) -> Verdict:
    """Reset at 100 and 150, the curve of a whole run squeezed into each period."""
    periods = ((0, 100), (100, 150), (150, 200))
    gaps = []
    for content in found.values():
        for start, end in periods:
            for part in (0.0, 0.25, 0.5, 0.625, 0.75, 0.9):
                whole = _at(content, "vanilla", 200 * part)
                own = _at(content, "periodic", start + part * (end - start))
                gaps.append(abs(own - whole) / whole)
    gap = max(gaps)
    return claims.exactly(gap < TOL, f"largest relative difference {gap:.1e}, tolerance {TOL:g}")


def starts_at_zero(found: Found) -> Verdict:
    starts = [float(c.of(name)[0]) for c in found.values() for name in c.curve]
    falls = [
        _falls(c, name) for key, c in found.items() if "periodic" not in key for name in c.curve
    ]
    return claims.exactly(
        max(starts) == 0 and max(falls) == 0,
        f"largest start {max(starts):g}, largest fall {max(falls):g}",
    )


def _falls(content: Curves, name: str) -> float:
    return max(0.0, -float(np.diff(content.of(name)).min()))


def reaches(found: Found) -> Verdict:
    """Where the target is reached: eq. 5 with ε_max of App. C.1."""
    cosine = 100 * np.arccos(1 - 2 * 0.4 / 0.6) / np.pi  # ½(1 − cos πr)·0.6 = 0.4
    want = {("lenet", "cosine"): cosine, ("lenet", "linear"): 50.0}
    want |= {("resnet", name): 100.0 for name in ("cosine", "linear")}
    got = {}
    for key, name in want:
        content = found[key]
        row = content.of(name)
        got[key, name] = float(content.x[np.argmax(row >= row.max() * (1 - TOL))])
    gap = max(abs(got[k] - want[k]) for k in want)
    tops = [float(found[key].of(name).max()) for key, name in want]
    over = max(abs(top - eps) for top, eps in zip(tops, (0.4, 0.4, 8 / 255, 8 / 255), strict=True))
    numbers = ", ".join(f"{key} {name} at epoch {value:.4g}" for (key, name), value in got.items())
    return claims.exactly(
        gap <= 1 / 8 and over < TOL, f"{numbers}; grid of 1/8 epoch, targets within {TOL:g}", gap
    )


# -- drawing --------------------------------------------------------------------------------------


def _draw(
    found: Found, keys: Mapping[str, str], series: Callable[[Found, str], Mapping[str, Any]]
) -> Any:
    fig, (axes,) = panels(2, ratio=0.75)
    for ax, (key, title) in zip(axes, keys.items(), strict=True):
        for k, (name, (content, curve, style)) in enumerate(series(found, key).items()):
            ax.plot(content.x, content.of(curve), style, color=COLOURS[k], label=name)
        ax.set_title(title)
        ax.set_xlabel("epoch")
    return fig, axes


def _draw6(found: Found) -> Any:
    def series(found: Found, key: str) -> Mapping[str, Any]:
        c = found[key]
        return {"vanilla": (c, "vanilla", "-"), "periodic": (c, "periodic", "--")}

    names = {"vgg": "VGG-8, Adam", "resnet": "ResNet18-8, SGD"}
    fig, axes = _draw(found, names, series)
    for ax in axes:
        log_y(ax)
    axes[0].set_ylabel("learning rate")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def _draw7(found: Found) -> Any:
    def series(found: Found, key: str) -> Mapping[str, Any]:
        own = {name: (found[key], name, "-") for name in ("cosine", "linear")}
        if f"{key} periodic" not in found:
            return own
        periodic = found[f"{key} periodic"]
        return own | {f"{name}, periodic": (periodic, name, ":") for name in ("cosine", "linear")}

    names = {"lenet": "MNIST, target 0.4", "resnet": "CIFAR-10, target 8/255"}
    fig, axes = _draw(found, names, series)
    axes[0].set_ylabel("budget ε (of pixels in [0, 1])")
    for ax in axes:
        ax.set_ylim(bottom=0)
    shown = (0, 2, 4, 6, 8)
    axes[1].set_yticks([k / 255 for k in shown], [f"{k}/255" if k else "0" for k in shown])
    fig.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


FIG6 = Figure(
    "liu2020/fig6",
    "Learning rates of VGG-8 and ResNet18-8 on CIFAR-10, with and without periods",
    plan=_plan6,
    draw=_draw6,
    claims=(
        Claim(
            "VGG: 1e-3, from epoch 100 to 150 exponentially to 1e-4, and constant then.",
            "App. C.1, Fig. 6",
            vgg_rate,
        ),
        Claim(
            "ResNet-18: 0.1, divided by 10 after epochs 100 and 150.",
            "App. C.1, Fig. 6",
            resnet_rate,
        ),
        Claim(
            "With periods it begins anew after epochs 100 and 150, in proportion to the period.",
            "App. C.1, Fig. 6",
            periodic_rate,
        ),
    ),
)
FIG7 = Figure(
    "liu2020/fig7",
    "Budgets over the epochs for MNIST and CIFAR-10 models",
    plan=_plan7,
    draw=_draw7,
    claims=(
        Claim(
            "ε starts at 0 and never falls without periods.", "§5, eq. 5, Fig. 7", starts_at_zero
        ),
        Claim(
            "It reaches the target and stays there: ε_max = 0.6 (cosine) and 0.8 (linear) on "
            "MNIST, 16/255 on CIFAR-10.",
            "App. C.1, Fig. 7",
            reaches,
        ),
    ),
)
