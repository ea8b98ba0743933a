"""sitawarin2021 Figs. 7 and 8: eigenvalues sample by sample, and adversarial images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from landscape.diagnostics.examples import Examples, adversarial_examples
from landscape.diagnostics.samples import SampleCurvature, sample_curvature
from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, OPEN, Claim, Verdict
from landscape.papers.drawing import panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.setting import COMPARED, HOURS, larger, main
from landscape.plotting.sheets import draw_sheet
from landscape.plotting.style import log_x, log_y
from landscape.running.trained import Trained
from landscape.running.work import Work, measure

GROUP = 32


def per_sample(
    run: Trained, *, n: int, form: str, sub_batches: Sequence[int], exact: bool
) -> SampleCurvature:
    """λ_max(∇²ℓ_i) at adversarial examples of training samples, and scores in their place."""
    objective = run.objective(split="train", n=n, attack="pgd-10", dtype=torch.float64)
    return sample_curvature(objective, sub_batches=sub_batches, form=form, exact=exact)


def _plan_samples(scale: Scale) -> Mapping[str, Work]:
    seed = scale.seeds(1)[0]
    n = scale.pick(digits=256, paper=1280, smoke=40)
    found: dict[str, Work] = {}
    for defence in COMPARED:
        run = main(scale).run(scale, defence, seed)
        printed = {"form": "printed", "sub_batches": (GROUP,), "exact": True}
        corrected = {"form": "corrected", "sub_batches": (1, GROUP), "exact": False}
        found[f"{defence}/printed"] = measure(per_sample, run, n=n, **printed)
        found[f"{defence}/corrected"] = measure(per_sample, run, n=n, **corrected)
    return found


def _numbers(found: Found, defence: str) -> dict[str, np.ndarray]:
    """Exact eigenvalues, the upper bound as printed, and the corrected lower bounds."""
    printed, corrected = found[f"{defence}/printed"], found[f"{defence}/corrected"]
    sizes = list(map(int, corrected.sub_batch))
    return {
        "exact": printed.lambda_max,
        "upper": printed.upper[list(map(int, printed.sub_batch)).index(GROUP)],
        "lower": corrected.lower[sizes.index(GROUP)],
        "own": corrected.lower[sizes.index(1)],
        "loss": printed.loss,
    }


def _rho(a: np.ndarray, b: np.ndarray) -> float:
    return claims.correlation(a.tolist(), b.tolist(), "").effect


_ROWS = {
    "upper": f"upper bound as printed,\ngroups of {GROUP} (mixed units)",
    "own": "corrected lower bound,\nown gradient",
}


def _draw_samples(found: Found) -> Any:
    fig, axes = panels(3, 2, ratio=0.85)
    for j, defence in enumerate(COMPARED):
        numbers = _numbers(found, defence)
        for i, (score, label) in enumerate(_ROWS.items()):
            ax, exact, values = axes[i][j], numbers["exact"], numbers[score]
            shown = np.isfinite(values) & (exact > 0) & (values > 0)
            style = style_of(j, linestyle="none", markersize=2, alpha=0.6, markeredgewidth=0)
            ax.plot(exact[shown], values[shown], **style)
            if score == "own":
                ends = np.array([exact[shown].min(), exact[shown].max()])
                ax.plot(ends, ends, "--", color="0.4", lw=0.8, zorder=1)
            log_x(ax)
            log_y(ax)
            rho = _rho(exact, values)
            hidden = int((~shown).sum())
            note = f", {hidden} not shown" if hidden else ""
            title = f"{defence}: " if i == 0 else ""
            ax.set_title(f"{title}ρ = {rho:.2f}{note}")
            if j == 0:
                ax.set_ylabel(f"{label}\n(nats / weight²)" if score == "own" else label)
            if i == 1:
                ax.set_xlabel(r"exact $\lambda_{\max}$ (nats / weight²)")
    return fig


def _ranks(score: str, at_least: float) -> Callable[[Found], Verdict]:
    def check(found: Found) -> Verdict:
        parts = []
        for defence in COMPARED:
            numbers = _numbers(found, defence)
            what = f"{defence}, exact and approximate"
            pair = numbers["exact"].tolist(), numbers[score].tolist()
            one = claims.correlation(*pair, what, at_least=at_least)
            loss = _rho(numbers["exact"], numbers["loss"])
            text = f"{one.numbers} (of the loss alone: {loss:.3f})"
            parts.append(Verdict(one.outcome, text, one.effect, one.samples, one.of))
        return claims.all_of(parts)

    return check


def _tight(found: Found) -> Verdict:
    """The share of samples within 15 %, by its Wilson interval of 90 %, against one half."""
    parts = []
    z = 1.6448536269514722
    for defence in COMPARED:
        numbers = _numbers(found, defence)
        exact, lower = numbers["exact"], numbers["own"]
        use = np.isfinite(lower) & (exact > 0)
        n, near = int(use.sum()), int((np.abs(lower[use] / exact[use] - 1) <= 0.15).sum())
        p = near / n
        centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low, high = ((centre + s * half) / (1 + z**2 / n) for s in (-1, 1))
        outcome = HOLDS if low > 0.5 else FAILS if high <= 0.5 else OPEN
        median = float(np.median(lower[use] / exact[use]))
        text = f"{defence}: {near} of {n} samples within 15 %, median ratio {median:.2f}"
        parts.append(Verdict(outcome, text, p, n, "samples"))
    return claims.all_of(parts)


FIG7 = Figure(
    "sitawarin2021/fig7",
    "Exact and approximate top eigenvalue of single samples' Hessians",
    plan=_plan_samples,
    draw=_draw_samples,
    claims=(
        Claim(
            "The approximation used (upper bound as printed, from groups of 32) ranks samples as "
            "the exact eigenvalue does: ρ > 0.6 for all three networks.",
            "App. C.2, Fig. 7",
            _ranks("upper", 0.6),
        ),
        Claim(
            "The lower bound from groups of 32, correctly scaled, does so too.",
            "App. C.2; eq. 19 corrected",
            _ranks("lower", 0.6),
        ),
        Claim(
            "The lower bound is tight: within 15 % of the true value (here: of most samples, with "
            "eq. 19 corrected and each sample's own gradient).",
            "§5",
            _tight,
        ),
    ),
    analogue="LeNet on digits with ε = 0.1, 256 training images in place of ten batches of 128; "
    "one training each. The second row, not in the paper, has the correctly scaled bound.",
    needs=f"three {HOURS}",
)


def examples(run: Trained, *, eps: float, n: int) -> Examples:
    """The same randomly drawn test images, attacked at a radius."""
    objective = run.objective(attack=run.attack("pgd-20", eps=eps))
    return adversarial_examples(objective, n, seed=0)


def _plan_examples(scale: Scale) -> Mapping[str, Work]:
    smaller = larger(scale)[scale.pick(digits=0, paper=-2)]  # Imagenette's
    run = smaller.run(scale, "P-SAT", scale.seeds(1)[0])
    n = scale.pick(digits=10, paper=10, smoke=3)
    radii = scale.pick(digits=(0.2, 0.3), mnist=(0.35, 0.45), paper=(16 / 255, 24 / 255))
    return {f"{eps:.4g}": measure(examples, run, eps=eps, n=n) for eps in radii}


def _draw_examples(found: Found) -> Any:
    first = next(iter(found.values()))
    images, captions = [first.clean], [f"{y}" for y in first.labels]
    rows, paper = ["original"], found.scale.name == "paper"
    for eps, result in found.items():
        images.append(result.adversarial)
        captions += [f"{y}" for y in result.adversarial_prediction]
        rows.append(f"ε = {float(eps) * 255:.0f}/255" if paper else f"ε = {float(eps):g}")
    return draw_sheet(
        np.concatenate(images),
        captions,
        columns=len(first.labels),
        row_labels=rows,
        title="below: label, and what the network says of the adversarial images",
    )


def _within(found: Found) -> Verdict:
    parts, ok = [], True
    for eps, result in found.items():
        size = np.abs(result.perturbation).reshape(len(result.labels), -1).max(1)
        radius = float(eps)
        ok &= bool((size <= radius * 1.001).all() and (size >= radius * 0.9).all())
        parts.append(f"ε = {radius:.3g}: ‖δ‖∞ from {size.min():.3g} to {size.max():.3g}")
    return claims.exactly(ok, f"{'; '.join(parts)} (demanded: 0.9 ε to ε)")


FIG8 = Figure(
    "sitawarin2021/fig8",
    "Randomly drawn images and their adversarial examples at two radii",
    plan=_plan_examples,
    draw=_draw_examples,
    claims=(Claim("The rows below are perturbed by the two radii.", "App. D, Fig. 8", _within),),
    analogue="Digits of 8×8 pixels at ε = 0.2 and 0.3, where the change is plain to see: that it "
    "can't be seen at 224×224 pixels is what the paper's figure is for. The paper doesn't say "
    "which network was attacked; here P-SAT's, trained at the smaller radius.",
    needs="a training of ResNet-34 on images of 224×224 pixels, and a GPU for it",
)
