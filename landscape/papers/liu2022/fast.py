"""liu2022 Figs. 16 to 19 and Table 1: fast training with weights and adaptive targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels, typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.liu2022.adaptive import correlated, pearson, scatter
from landscape.papers.liu2022.curves import HELD_OUT, decay, draw, finish, gap
from landscape.papers.liu2022.setting import FAST, RN18, WRN34, full
from landscape.papers.measures import accuracy
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Run, Work, measure

EPOCHS = {"digits": 15, "mnist": 38, "paper": 38}
MOMENTUM, FIXED = 0.9, 0.1  # ρ and β of the paper
_DIGITS = (
    "LeNet on digits, 15 epochs, ATTA-1 of ε = 0.1, in place of WRN-34 on CIFAR-10, 38 epochs, "
    "8/255; weights from epoch 8 on (below, classes that are not known yet never are), targets "
    "move from epoch 3 on. ATTA begins anew every four epochs, where its training error dips."
)


def warmup(scale: Scale, what: str) -> int:
    """Epochs without weights, or with fixed targets; 5 of 38 in the paper."""
    digits = {"reweight": 7, "adaptive-targets": 2}[what]
    return scale.pick(digits=digits, mnist=5, paper=5, smoke=1)


def atta(scale: Scale, seed: int, addition: str = "", fixed: float = FIXED) -> Run:
    """ATTA with one step, alone or with one of the paper's additions (Algorithm 1)."""
    options: dict[str, Any] = {}
    if addition:
        options[addition] = {"warmup": warmup(scale, addition)}
    if addition == "adaptive-targets":
        options[addition] |= {"fixed": fixed, "momentum": MOMENTUM}
    if not scale.smoke:
        epochs = EPOCHS[scale.name]
        # .1 for 30 epochs, .01 for 6, .001 for 2.
        options["milestones"] = (round(30 / 38 * epochs), round(36 / 38 * epochs))
    name = f"atta+{addition}" if addition else "atta"
    return full(scale, name, seed, epochs=EPOCHS, recipe=FAST, keep=None, **options)


def _of(found: Found, name: str) -> list[Trained]:
    return list(found.under(name).values())


# -- Fig. 16 ----------------------------------------------------------------------------------

_BETAS = (0.0, 0.1, 0.5, 1.0)


def _fig16(scale: Scale) -> Mapping[str, Work]:
    betas = (0.1, 1.0) if scale.smoke else _BETAS
    return {
        # One-hot targets are ATTA's own.
        f"beta={beta:g}/seed{seed}": atta(scale, seed)
        if beta == 1
        else atta(scale, seed, "adaptive-targets", beta)
        for beta in betas
        for seed in scale.seeds(3)
    }


def _betas(found: Found) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in found))


def _draw_fig16(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.95)
    for k, name in enumerate(_betas(found)):
        draw(ax, _of(found, name), k, name.replace("beta=", "β = "))
    finish(ax)
    return fig


def _gap_with_beta(found: Found) -> Verdict:
    names = _betas(found)
    beta = [float(n.removeprefix("beta=")) for n in names]
    gaps = np.array([[gap(r) for r in _of(found, n)] for n in names]).T
    return claims.trend(beta, gaps, "the generalisation gap with β")


FIG16 = Figure(
    "liu2022/fig16",
    "Learning curves of fast training with targets of several β",
    plan=_fig16,
    draw=_draw_fig16,
    claims=(
        Claim(
            "The generalisation gap shrinks with β, as targets adapt more.",
            "App. D.6, Fig. 16",
            _gap_with_beta,
        ),
    ),
    analogue=f"{_DIGITS} {HELD_OUT}",
    needs=f"CIFAR-10. β = 0, .1, .5 and 1; the paper's choice is in its legend alone. {HELD_OUT}",
)

# -- Fig. 17 ----------------------------------------------------------------------------------


def _fig17(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{name}/seed{seed}": atta(scale, seed, addition)
        for name, addition in (("ATTA", ""), ("ATTA, reweighted", "reweight"))
        for seed in scale.seeds(3)
    }


def _draw_fig17(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.9)
    for k, name in enumerate(("ATTA", "ATTA, reweighted")):
        draw(ax, _of(found, name), k, name)
    finish(ax, 2)
    ax.axvline(warmup(found.scale, "reweight"), color="0.6", lw=0.8, ls=":")
    return fig


def _pair(found: Found, number: Any) -> tuple[list[float], list[float]]:
    one, other = ([number(r) for r in _of(found, n)] for n in ("ATTA", "ATTA, reweighted"))
    return one, other


def _less(found: Found, number: Any, what: str) -> Verdict:
    return claims.greater(*_pair(found, number), what, names=("ATTA", "reweighted"))


def _late(run: Trained) -> float:
    return decay(run, begin=30 / 38)


FIG17 = Figure(
    "liu2022/fig17",
    "Learning curves of ATTA with and without weights",
    plan=_fig17,
    draw=_draw_fig17,
    claims=(
        Claim(
            "Weights reduce the generalisation gap.",
            "App. D.6, Fig. 17",
            lambda found: _less(found, gap, "generalisation gap"),
        ),
        Claim(
            "They prevent adversarial overfitting: the error rises less after the fall of the "
            "learning rate.",
            "App. D.6, Fig. 17",
            lambda found: _less(found, _late, "late rise of the robust error"),
        ),
    ),
    analogue=f"{_DIGITS} {HELD_OUT}",
    needs=f"CIFAR-10. {HELD_OUT}",
)

# -- Figs. 18 and 19 --------------------------------------------------------------------------


def weights(loss: np.ndarray, begin: int) -> np.ndarray:
    """Mean over the epochs after ``begin`` of p_y(x'), from recorded −log p_y (epoch, sample)."""
    return np.asarray(np.exp(-loss[begin:]).mean(0))


def true_targets(
    loss: np.ndarray, begin: int, fixed: float = FIXED, momentum: float = MOMENTUM
) -> np.ndarray:
    """Mean over the epochs after ``begin`` of the true class's share t_y of the target.

    t̃_y ← ρ t̃_y + (1 − ρ) p_y(x') from 1, t_y = β + (1 − β) t̃_y, once per epoch (Algorithm 1).
    """
    moving, found = np.ones(loss.shape[1]), []
    for p in np.exp(-loss[begin:]):
        moving = momentum * moving + (1 - momentum) * p
        found.append(fixed + (1 - fixed) * moving)
    return np.mean(found, axis=0)


def _against_difficulty(scale: Scale, addition: str) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    for seed in scale.seeds(3):
        plan[f"run/seed{seed}"] = atta(scale, seed, addition)
        plan[f"pgd/seed{seed}"] = full(scale, "pgd", seed)  # "based on the PGD perturbation"
    return plan


def _numbers(found: Found, addition: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Difficulty by PGD and the weight, or target, of every sample, for all seeds."""
    number = weights if addition == "reweight" else true_targets
    begin = warmup(found.scale, addition)
    pairs = zip(_of(found, "run"), _of(found, "pgd"), strict=True)
    losses = [(b.difficulty.difficulty, np.asarray(a.track.sample_loss)) for a, b in pairs]
    return [(d, number(loss, begin)) for d, loss in losses]


def _scatter_figure(name: str, title: str, addition: str, label: str, claim: Claim) -> Figure:
    def picture(found: Found) -> Any:
        fig, ((ax,),) = panels(1)
        d, value = _numbers(found, addition)[0]
        scatter(ax, d, value)
        ax.set(ylabel=label, ylim=(0, 1.02), title=f"correlation {pearson(d, value):.3f}")
        return fig

    return Figure(
        name,
        title,
        plan=lambda scale: _against_difficulty(scale, addition),
        draw=picture,
        claims=(claim,),
        analogue=f"{_DIGITS} Difficulty is that of PGD training; one seed is drawn.",
        needs="CIFAR-10. Difficulty is that of PGD training of a ResNet-18.",
    )


def _follow(found: Found, addition: str, what: str) -> Verdict:
    values = [pearson(*pair) for pair in _numbers(found, addition)]
    return correlated(values, f"the {what} and d")


FIG18 = _scatter_figure(
    "liu2022/fig18",
    "Mean weight of a sample against its difficulty",
    "reweight",
    "mean weight $p_y(x')$",
    Claim(
        "Hard samples get small weights, easy ones large ones: the two correlate highly.",
        "App. D.6, Fig. 18",
        lambda found: _follow(found, "reweight", "weight"),
    ),
)
FIG19 = _scatter_figure(
    "liu2022/fig19",
    "Mean share of the true class in the adaptive target against the sample's difficulty",
    "adaptive-targets",
    "mean target of the true class",
    Claim(
        "Targets of easy samples are close to their labels, those of hard ones far from them: "
        "the two correlate highly.",
        "App. D.6, Fig. 19",
        lambda found: _follow(found, "adaptive-targets", "target"),
    ),
)

# -- Table 1 ----------------------------------------------------------------------------------


def robust(scale: Scale) -> dict[str, Any]:
    """AutoAttack on the last network; at digits scale targeted APGD of ten steps in its place."""
    return {
        "which": "final",
        "n": scale.pick(digits=None, paper=None, smoke=40),
        "attacks": scale.pick(
            digits=("apgd-t-10",), mnist=("pgd-20",), paper=("pgd-20",), smoke=("pgd-2",)
        ),
        "autoattack": scale.pick(digits=False, mnist=True, paper=True, smoke=False),
    }


def strongest(evaluation: Any) -> float:
    """Accuracy in percent under the last attack of an evaluation."""
    return 100 * float(evaluation.accuracy[-1])


OURS = {"ATTA": "", "reweighting": "reweight", "adaptive target": "adaptive-targets"}


def _rows(scale: Scale, seed: int) -> dict[str, Run]:
    paper = scale.name == "paper"
    free: dict[str, Any] = {"epochs": 25, "replays": 8} if paper else {}
    wong: dict[str, Any] = {"epochs": scale.pick(digits=15, paper=15)}
    if paper:
        wong |= {"model": "preact-resnet18", "lr": 0.2, "alpha": 10 / 255}
    rows = {
        "free (Shafahi et al.)": scale.run("free", recipe=WRN34, seed=seed, **free),
        "FGSM-R (Wong et al.)": scale.run(
            "fgsm-r", recipe=RN18, seed=seed, schedule="cyclic", **wong
        ),
    }
    return rows | {name: atta(scale, seed, addition) for name, addition in OURS.items()}


def _table1(scale: Scale) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    for seed in scale.seeds(3):
        for name, run in _rows(scale, seed).items():
            if name not in OURS and seed and scale.name == "digits":
                continue
            plan[f"run/{name}/seed{seed}"] = run
            plan[f"robust/{name}/seed{seed}"] = measure(accuracy, run, **robust(scale))
    return plan


def _robust(found: Found, name: str) -> list[float]:
    return [strongest(e) for e in found.under(f"robust/{name}").values()]


def passes(run: Trained) -> int:
    """Forward and backward passes over a batch per update, together."""
    own = run.config.plan.method.passes
    return int(own.forward + own.backward)


def _table1_sheet(found: Found) -> Sheet:
    rows: dict[str, Sequence[Any]] = {}
    for name in dict.fromkeys(n.split("/")[1] for n in found):
        runs, values = list(found.under(f"run/{name}").values()), _robust(found, name)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        plan = runs[0].config.plan
        epochs = plan.epochs * plan.method.replays
        rows[name] = [epochs, passes(runs[0]), (float(np.mean(values)), spread)]
    units = ("", "passes / update", "%")
    return sheet(
        rows, ("epochs", "complexity", "robust"), units, what="standard deviation over seeds"
    )


def _better(found: Found, name: str, than: str) -> Verdict:
    return claims.greater(
        _robust(found, name), _robust(found, than), "robust accuracy (%)", names=(name, than)
    )


def _four_passes(found: Found) -> Verdict:
    counts = {n: passes(next(iter(found.under(f"run/{n}").values()))) for n in OURS}
    said = ", ".join(f"{n} {count}" for n, count in counts.items())
    return claims.exactly(set(counts.values()) == {4}, f"passes per update: {said}; exact", 4)


TABLE1 = Figure(
    "liu2022/table1",
    "Robust accuracy of fast adversarial trainings",
    plan=_table1,
    draw=lambda found: typeset(_table1_sheet(found)),
    table=_table1_sheet,
    claims=(
        Claim(
            "Reweighting improves on ATTA.",
            "§6.1, Table 1",
            lambda found: _better(found, "reweighting", "ATTA"),
        ),
        Claim(
            "Adaptive targets improve on ATTA.",
            "§6.1, Table 1",
            lambda found: _better(found, "adaptive target", "ATTA"),
        ),
        Claim(
            "Adaptive targets are best.",
            "§6.1, Table 1",
            lambda found: _better(found, "adaptive target", "reweighting"),
        ),
        Claim("Neither adds a pass to ATTA's four.", "§6.1, Table 1", _four_passes),
    ),
    analogue=f"{_DIGITS} Targeted APGD of ten steps in place of AutoAttack. YOPO (Zhang et al. "
    "2019a) and backward smoothing (Chen et al. 2021a) are not in the table: the toolkit has "
    "neither. Baselines have one seed.",
    needs="CIFAR-10. In the paper the rows above ATTA are RobustBench's numbers; here two are "
    "trained, with the settings of their own papers, and YOPO and backward smoothing are missing.",
)
