"""liu2022 Tables 4 and 5 and Fig. 3: what the difficulty of a sample depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from landscape import data as datasets
from landscape.diagnostics import Agreement, difficulty, difficulty_agreement
from landscape.diagnostics.ranks import mean_distance
from landscape.objective import Objective
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels, typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.liu2022.corruptions import CIFAR10C, CORRUPTIONS, corrupted
from landscape.papers.liu2022.setting import EPOCHS, SHORT, WRN34, full
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.trained import Trained
from landscape.running.work import Measure, Run, Work, measure
from landscape.training.folder import epoch_files

LEFT = ("short", "long", "wide")
RIGHT = ("clean", "FGSM", "PGD")
_METHOD = {"clean": "standard", "FGSM": "fgsm", "PGD": "pgd"}
# "Very small and close to 0": a third of that of unrelated difficulties.
SMALL = 1 / 9


def agreement(*runs: Trained, names: Sequence[str]) -> Agreement:
    """D-distances of the difficulties of all pairs of trainings."""
    return difficulty_agreement({n: r.difficulty for n, r in zip(names, runs, strict=True)})


def wide(scale: Scale, seed: int) -> Run:
    """The larger network of Table 4."""
    model = scale.pick(digits="lenet-8", mnist=None, paper=None)
    return full(scale, "pgd", seed, recipe=WRN34, model=model)


def settings(scale: Scale, seed: int) -> dict[str, Run]:
    """Left of Table 4: two durations and two architectures, all under PGD."""
    return {
        "short": full(scale, "pgd", seed, epochs=SHORT),
        "long": full(scale, "pgd", seed),
        "wide": wide(scale, seed),
    }


def perturbations(scale: Scale, seed: int) -> dict[str, Run]:
    """Right of Table 4: three kinds of perturbation."""
    return {name: full(scale, method, seed) for name, method in _METHOD.items()}


def _seeds(scale: Scale) -> tuple[int, ...]:
    # Distances within a setting need two trainings.
    seeds = scale.seeds(scale.pick(digits=3, paper=4))
    return seeds if len(seeds) > 1 else (seeds[0], seeds[0] + 1)


def pairs(scale: Scale, which: str) -> Measure:
    """Either half of Table 4, all seeds."""
    of = settings if which == "left" else perturbations
    runs = {f"{n}/{s}": run for s in _seeds(scale) for n, run in of(scale, s).items()}
    return measure(agreement, *runs.values(), names=list(runs))


def _table4(scale: Scale) -> Mapping[str, Work]:
    return {"left": pairs(scale, "left"), "right": pairs(scale, "right")}


def distances(found: Agreement, a: str, b: str) -> list[float]:
    """Of settings a and b: for every pair of seeds, different ones where a = b.

    Pair k holds the seeds (k, k + 1), cyclically, so that numbers of two settings are paired.
    """
    names = list(found.run)
    seeds = list(dict.fromkeys(n.partition("/")[2] for n in names))
    turned = seeds[1:] + seeds[:1]
    return [
        float(found.distance[names.index(f"{a}/{s}"), names.index(f"{b}/{t}")])
        for s, t in zip(seeds, turned, strict=True)
    ]


def _table4_sheet(found: Found) -> Sheet:
    rows: dict[str, list[Any]] = {}
    for name in dict.fromkeys((*LEFT, *RIGHT)):
        half, others = ("left", LEFT) if name in LEFT else ("right", RIGHT)
        cells = [_mean(distances(found[half], name, other)) for other in others]
        rows[name] = [*cells, None, None, None] if half == "left" else [None, None, None, *cells]
    return sheet(rows, (*LEFT, *RIGHT), what="standard deviation over pairs of seeds")


def _mean(values: Any) -> tuple[float, float]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def _left_small(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [-d for d in distances(found["left"], a, b)],
                f"D-distance of {a} and {b}, negative,",
                at_least=-SMALL,
            )
            for a, b in [(n, n) for n in LEFT] + list(combinations(LEFT, 2))
        ]
    )


def _perturbation_matters(found: Found) -> Verdict:
    """Between kinds of perturbation more than between architectures and durations."""
    return claims.all_of(
        [
            claims.greater(
                distances(found["right"], a, b),
                distances(found["left"], *other),
                "D-distance",
                names=(f"{a} and {b}", " and ".join(other)),
            )
            for a, b in combinations(RIGHT, 2)
            for other in combinations(LEFT, 2)
        ]
    )


def _own_seeds(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.greater(
                distances(found["right"], a, b),
                distances(found["right"], own, own),
                "D-distance",
                names=(f"{a} and {b}", f"{own} with itself"),
            )
            for a, b in combinations(RIGHT, 2)
            for own in (a, b)
        ]
    )


def _unrelated(found: Found) -> Verdict:
    """E|u − v| of independent uniform u, v is ∫∫|u − v| = 1/3; of ranks of N, (N² − 1)/(3N²)."""
    n = found["left"].samples
    rank = np.arange(n)
    exact = float(np.abs(rank[:, None] - rank[None]).mean() / n)
    text = f"of two random orders of {n} samples {exact:.5f}, in print .375, tolerance .001"
    return claims.exactly(abs(exact - 0.375) < 1e-3, text, exact)


TABLE4 = Figure(
    "liu2022/table4",
    "D-distances of difficulties between durations, architectures and kinds of perturbation",
    plan=_table4,
    draw=lambda found: typeset(_table4_sheet(found)),
    table=_table4_sheet,
    claims=(
        Claim(
            "Architecture and duration hardly change a sample's difficulty.",
            "App. D.1, Table 4 left",
            _left_small,
        ),
        Claim(
            "The kind of perturbation changes it more than these.",
            "App. D.1, Table 4 right",
            _perturbation_matters,
        ),
        Claim(
            "Between kinds of perturbation it differs more than between trainings of one kind.",
            "App. D.1, Table 4 right",
            _own_seeds,
        ),
        Claim(
            "The expected D-distance of two random difficulties is 0.375.", "App. D.1", _unrelated
        ),
    ),
    analogue="LeNet of width 4 for 15 epochs (short) and 30 (long) and of width 8 (wide) on "
    "digits, three seeds, in place of ResNet-18 for 100 and 200 epochs and WRN-34 on CIFAR-10, "
    "four runs.",
    needs="CIFAR-10.",
)

# -- Table 5 ----------------------------------------------------------------------------------


def corruption_distances(
    clean: Trained,
    fgsm: Trained,
    pgd: Trained,
    *,
    corruptions: Sequence[str],
    steps: int = 10,
    severity: int | None = None,
) -> Sheet:
    """D-distances on the test set between perturbed and corrupted images.

    Difficulties are ranks of the loss averaged over the kept networks: of the vanilla training on
    clean and on corrupted images, of the others under their own attacks. ``severity``: of
    CIFAR-10-C; without, the corruptions of this package are used.
    """

    def rank(run: Trained, test: Any, attack: str | None = None) -> np.ndarray:
        kept = [int(p.stem) for p in epoch_files(run.folder) if int(p.stem)]
        chosen = run.attack(attack) if attack else None

        def made() -> Iterator[Objective]:
            for epoch in kept:
                yield Objective(run.model(epoch), test, attack=chosen)

        return difficulty(made(), epochs=kept, features=False).difficulty

    test = clean.data("test")
    rows = {
        "clean": rank(clean, test),
        "FGSM": rank(fgsm, test, "fgsm"),
        "PGD": rank(pgd, test, f"pgd-{steps}"),
    }
    found: dict[str, list[Any]] = {name: [] for name in rows}
    for name in corruptions:
        if severity is None:
            x, y = test.tensors()
            worse: Any = (corrupted(x, name), y)
        else:
            options: dict[str, Any] = {"corruption": name, "severity": severity}
            worse = datasets.load("cifar10-c", "test", data_dir=clean.run.data_dir, **options)
        d = rank(clean, worse)
        for row, own in rows.items():
            found[row].append(mean_distance(own, d).value)
    return sheet(found, corruptions)


def _table5(scale: Scale) -> Mapping[str, Work]:
    names = {"paper": CIFAR10C}.get(scale.name, tuple(CORRUPTIONS))
    epochs = scale.pick(digits=EPOCHS, mnist=SHORT, paper=SHORT)
    seeds = scale.seeds(scale.pick(digits=3, paper=4))
    plan: dict[str, Work] = {
        f"seed{seed}": measure(
            corruption_distances,
            *(full(scale, method, seed, epochs=epochs) for method in _METHOD.values()),
            corruptions=names[:2] if scale.smoke else names,
            steps=scale.pick(digits=5, mnist=10, paper=10, smoke=2),
            severity=scale.pick(digits=None, paper=3),
        )
        for seed in seeds
    }
    return {**plan, "left": pairs(scale, "left")}


def _by_seed(found: Found) -> list[Sheet]:
    return [value for name, value in found.items() if name.startswith("seed")]


def _table5_sheet(found: Found) -> Sheet:
    sheets = _by_seed(found)
    values = np.array([s.value for s in sheets])
    first = sheets[0]
    rows: dict[str, list[Any]] = {  # a row for each corruption: a page has room for three columns
        str(name): [_mean(values[:, i, j]) for i in range(len(first.row))]
        for j, name in enumerate(first.column)
    }
    return sheet(
        rows, [str(r) for r in first.row], what=f"standard deviation over {len(sheets)} seeds"
    )


def _corruptions_matter(found: Found) -> Verdict:
    """The mean over corruptions, against the largest distance in the left of Table 4."""
    left = found["left"]
    own = [distances(left, *pair) for pair in combinations(LEFT, 2)]
    most = np.max(own, axis=0)[: len(_by_seed(found))]
    verdicts = []
    for i, row in enumerate(RIGHT):
        mean = [float(s.value[i].mean()) for s in _by_seed(found)]
        verdicts.append(
            claims.greater(
                mean[: len(most)],
                list(most),
                "D-distance",
                names=(f"{row} and corruptions, mean,", "left of Table 4, largest,"),
            )
        )
    return claims.all_of(verdicts)


TABLE5 = Figure(
    "liu2022/table5",
    "D-distances on the test set between attacked or clean and corrupted images",
    plan=_table5,
    draw=lambda found: typeset(_table5_sheet(found)),
    table=_table5_sheet,
    claims=(
        Claim(
            "Difficulty depends on the corruption: D is much larger than between architectures.",
            "App. D.1, Table 5",
            _corruptions_matter,
        ),
    ),
    analogue=f"{len(CORRUPTIONS)} simple corruptions made for 8×8 images in place of 18 of "
    "CIFAR-10-C; losses are averaged over networks kept every five of 30 epochs, three seeds.",
    needs="CIFAR-10 and CIFAR-10-C. The paper doesn't state the severity: 3. Losses are averaged "
    "over networks kept every five epochs.",
)

# -- Fig. 3 -----------------------------------------------------------------------------------


def _fig3(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{name}/seed{seed}": run
        for seed in scale.seeds(3)
        for name, run in (("long", full(scale, "pgd", seed)), ("wide", wide(scale, seed)))
    }


def _draw_fig3(found: Found) -> Any:
    fig, (row,) = panels(2, ratio=1.12)
    for ax, name, title in zip(row, ("long", "wide"), ("RN18-200", "WRN34"), strict=True):
        run = next(iter(found.under(name).values()))
        d = run.difficulty
        many = len(d.difficulty) > 3000
        ax.plot(
            d.difficulty,
            d.difficulty_error,
            ".",
            color=COLOURS[0],
            markersize=1 if many else 3,
            markeredgewidth=0,
            alpha=0.1 if many else 0.4,
            rasterized=many,
        )
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.set_xlabel("difficulty by mean loss")
        words = title if found.scale.name == "paper" else run.config.model.name
        ax.set_title(f"{words}: correlation {_pearson(run):.3f}")
    row[0].set_ylabel("difficulty by mean 0-1 error")
    return fig


def _pearson(run: Trained) -> float:
    d = run.difficulty
    return float(np.corrcoef(d.difficulty, d.difficulty_error)[0, 1])


def _strong(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [_pearson(run) for run in found.under(name).values()],
                f"correlation of the two difficulties, {name}",
                at_least=0.9,
            )
            for name in ("long", "wide")
        ]
    )


FIG3 = Figure(
    "liu2022/fig3",
    "Difficulty by mean loss against difficulty by mean 0-1 error",
    plan=_fig3,
    draw=_draw_fig3,
    claims=(Claim("The two correlate strongly, by more than 0.9.", "App. D.1, Fig. 3", _strong),),
    analogue="LeNets of width 4 and 8 on digits, 30 epochs, in place of ResNet-18 and WRN-34 on "
    "CIFAR-10; one seed is drawn.",
    needs="CIFAR-10.",
)
