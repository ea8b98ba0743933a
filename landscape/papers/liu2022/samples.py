"""liu2022 Figs. 20 and 21: the easiest and the hardest samples of every class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.diagnostics import Examples
from landscape.diagnostics.examples import adversarial_examples
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.papers.liu2022.setting import EPOCHS, L2, RN18, SHORT, SVHN, at, full
from landscape.papers.scale import Scale
from landscape.plotting.difficulty import extremes
from landscape.plotting.sheets import draw_sheet
from landscape.plotting.style import COLOURS
from landscape.running.trained import Trained
from landscape.running.work import Run, Work, measure


def extreme_examples(run: Trained, *, each: int = 3, attack: str = "pgd-10") -> Examples:
    """The ``each`` easiest, then the hardest, of every class with their adversarial examples."""
    rows = np.concatenate(extremes(run.difficulty, each))
    return adversarial_examples(
        run.objective("final", split="train", attack=attack), indices=rows.tolist()
    )


def likeness(run: Trained, *, share: float = 0.1) -> Curves:
    """Mean distance of the images of a class from each other: its easiest, hardest and all.

    Root mean square over pixels, per class, the easiest and hardest ``share`` of the class.
    """
    x, y = run.data("train").tensors()
    d, labels = run.difficulty.difficulty, y.numpy()
    flat = x.reshape(len(x), -1).double().numpy()
    found: dict[str, list[float]] = {"easiest": [], "hardest": [], "all": []}
    classes = np.unique(labels)
    for label in classes:
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-d[rows], kind="stable")]
        n = max(2, round(share * len(rows)))
        for name, part in (("easiest", rows[:n]), ("hardest", rows[-n:]), ("all", rows[:1000])):
            v = flat[part]
            square = 2 * ((v - v.mean(0)) ** 2).sum() / (len(v) - 1) / v.shape[1]
            found[name].append(float(np.sqrt(square)))
    return curves(classes, found, x_label="class", y_label="RMS distance of images (input)")


def _plan(scale: Scale, recipe: Mapping[str, str], **options: Any) -> Mapping[str, Work]:
    attack = scale.pick(digits="pgd-5", mnist="pgd-10", paper="pgd-10", smoke="pgd-2")
    plan: dict[str, Work] = {}
    for seed in scale.seeds(1 if options else 3):
        run: Run = full(scale, "pgd", seed, recipe=recipe, **options)
        if not plan:
            plan["run"] = run
            each = scale.pick(digits=3, paper=6, smoke=1)
            plan["examples"] = measure(extreme_examples, run, each=each, attack=attack)
        plan[f"likeness/seed{seed}"] = measure(likeness, run)
    return plan


def _fig21_plan(scale: Scale) -> Mapping[str, Work]:
    if scale.name == "paper":
        return _plan(scale, SVHN)
    # No second data set is offline: the digits ranked under the L2 ball of Fig. 9.
    epochs = scale.pick(digits=SHORT, mnist=EPOCHS, paper=EPOCHS)
    return _plan(scale, RN18, eps=at(scale, L2)[-1], norm="l2", epochs=epochs)


def _draw(found: Found) -> Any:
    examples: Examples = found["examples"]
    difficulty = found["run"].difficulty.difficulty
    classes = found["run"].data("train").classes
    each = len(examples.index) // len(np.unique(examples.labels)) // 2
    images, captions, colours = [], [], []
    for k, row in enumerate(examples.index):
        colour = COLOURS[0] if k % (2 * each) < each else COLOURS[1]
        images += [examples.clean[k], examples.adversarial[k]]
        said = classes[examples.adversarial_prediction[k]]
        captions += [f"{difficulty[row]:.3f}", f"→ {said[:7]}"]
        colours += [colour, colour]
    labels = examples.labels[:: 2 * each]
    return draw_sheet(
        np.stack(images),
        captions,
        columns=4 * each,
        title=f"{each} easiest (left) and {each} hardest (right) samples of every class, each "
        "clean and perturbed:\ndifficulty d, → class predicted under attack",
        row_labels=[classes[label][:7] for label in labels],
        colours=colours,
    )


def _alike(found: Found) -> Verdict:
    sheets = list(found.under("likeness").values())
    return claims.greater(
        [float(s.of("hardest").mean()) for s in sheets],
        [float(s.of("easiest").mean()) for s in sheets],
        "RMS distance of images within a class, mean over classes,",
        names=("hardest tenth", "easiest tenth"),
    )


def _wrong(found: Found) -> Verdict:
    """Counts of the samples shown, with the largest error rate that 5 % chance would leave."""
    e: Examples = found["examples"]
    each = len(e.index) // len(np.unique(e.labels)) // 2
    hard = np.arange(len(e.index)) % (2 * each) >= each
    right = e.adversarial_prediction == e.labels
    easy_right, hard_wrong = float(right[~hard].mean()), float((~right[hard]).mean())
    text = (
        f"predicted rightly under attack: {100 * easy_right:.0f} % of the easiest shown, wrongly: "
        f"{100 * hard_wrong:.0f} % of the hardest; all in print, tolerance 5 %"
    )
    outcome = "holds" if min(easy_right, hard_wrong) >= 0.95 else "does not hold"
    return Verdict(outcome, text, min(easy_right, hard_wrong), int(hard.sum()), "samples")


_CLAIMS = (
    Claim(
        "The easiest samples of a class look alike, the hardest are diverse.",
        "§4, App. D.2, Figs. 20 and 21",
        _alike,
    ),
    Claim(
        "Under attack the easiest are predicted rightly, the hardest wrongly.",
        "Figs. 20 and 21",
        _wrong,
    ),
)
FIG20 = Figure(
    "liu2022/fig20",
    "The easiest and the hardest training samples of every class",
    plan=lambda scale: _plan(scale, RN18),
    draw=_draw,
    claims=_CLAIMS,
    analogue="Digits in place of CIFAR-10; three of each kind and class in place of 18. Likeness "
    "over three seeds.",
    needs="CIFAR-10. Six of each kind and class are drawn, the paper has 18.",
)
FIG21 = Figure(
    "liu2022/fig21",
    "The easiest and the hardest training samples of every class of a second data set",
    plan=_fig21_plan,
    draw=_draw,
    claims=_CLAIMS,
    analogue="No second data set is at hand offline: digits, ranked by training against an L2 "
    "ball of 0.8, in place of SVHN; one seed.",
    needs="SVHN. Six of each kind and class are drawn, the paper has 18.",
)
