"""The networks of sitawarin2021: six defences in several settings, shared by all its figures.

The paper gives one number per cell of its tables and no count of seeds: at paper scale one
training each (``--seeds 0,1,2`` for more, which its claims need), three at the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from landscape.papers.scale import Scale
from landscape.running.work import Run

DEFENCES = {
    "AT": "pgd",
    "TRADES": "trades",
    "DAT": "dat",
    "CAT20": "cat20",
    "H-SAT": "h-sat",
    "P-SAT": "p-sat",
}
# The three that all figures compare.
COMPARED = ("AT", "H-SAT", "P-SAT")
# What the paper says of its trainings' cost (App. A), on a GPU of 2017.
HOURS = "trainings of PreAct-ResNet-20, some 6 GPU hours each"
# The defaults of the authors' code of CAT20, as the paper used it.
CAT20 = {"kappa": 10.0}
CAT20_UNSCALED = {"kappa": 10.0, "eta": 0.005, "smoothing": 10.0}


@dataclass(frozen=True)
class Setting:
    """Data, architecture and radius that defences are compared in.

    Attributes:
        key: in names of works. label: in print. recipe: of ``default_config``.
        options: of every defence. own: of single defences.
        kept: whether AT, H-SAT and P-SAT keep their networks along the training.
        once: defences that are trained with one seed only.
    """

    key: str
    label: str
    recipe: str
    options: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: bool = False
    once: tuple[str, ...] = ()

    def seeds(self, scale: Scale, defence: str) -> tuple[int, ...]:
        return seeds(scale)[:1] if defence in self.once else seeds(scale)

    def run(self, scale: Scale, defence: str, seed: int, **more: Any) -> Run:
        keep = None
        if self.kept and defence in COMPARED:
            keep = scale.pick(digits=2, paper=1, smoke=1)
        options = {**self.options, **self.own.get(defence, {}), **more}
        return scale.run(
            DEFENCES[defence], recipe=self.recipe, seed=seed, keep_every=keep, **options
        )


def seeds(scale: Scale) -> tuple[int, ...]:
    return scale.seeds(scale.pick(digits=3, paper=1))


def main(scale: Scale) -> Setting:
    """CIFAR-10 with PreAct-ResNet-20 and ε = 8/255: that of Figs. 1, 4, 6, 7 and of the gap."""
    # λ of P-SAT and H-SAT and c of DAT in proportion to the paper's epochs on CIFAR-10.
    digits = {"DAT": {"fosc_until": 32.0}, "CAT20": CAT20}
    return scale.pick(
        digits=Setting("digits", "digits, LeNet", "digits", own=digits, kept=True),
        mnist=Setting("mnist", "MNIST, CNN", "sitawarin2021/mnist", kept=True),
        paper=Setting(
            "cifar10-prn20", "CIFAR-10, PRN-20", "sitawarin2021/cifar10-prn20", kept=True
        ),
    )


def networks(scale: Scale) -> list[Setting]:
    """The settings of Table 1."""
    others = [
        Setting("cifar10-wrn", "CIFAR-10, WRN-34-10", "sitawarin2021/cifar10-wrn"),
        Setting("cifar100-prn20", "CIFAR-100, PRN-20", "sitawarin2021/cifar100-prn20"),
        Setting("cifar100-wrn", "CIFAR-100, WRN-34-10", "sitawarin2021/cifar100-wrn"),
    ]
    return [main(scale), *scale.pick(digits=[], paper=others)]


def mnist(scale: Scale) -> list[Setting]:
    """The two radii of Table 2; on digits the smaller one is that of ``main``."""

    def one(eps: float) -> Setting:
        options = {"eps": eps, "alpha": 0.02, "steps": 40}
        return Setting(f"eps={eps:g}", f"ε = {eps:g}", "sitawarin2021/mnist", options)

    both = [one(0.3), one(0.45)]
    smaller = replace(main(scale), label="ε = 0.1")
    return scale.pick(digits=[smaller, _twice()], mnist=both, paper=both)


def larger(scale: Scale) -> list[Setting]:
    """The settings of Table 3: two and three times the radius of ``main`` on CIFAR-10."""

    def one(data: str, label: str, recipe: str, k: int, own: Mapping[str, Any]) -> Setting:
        options = {"eps": k / 255, "alpha": 2 / 255, "steps": 10}
        key = f"{data}/eps={k}:255".replace("/", "-")
        return Setting(key, f"{label}, ε = {k}/255", f"sitawarin2021/{recipe}", options, own)

    cifar = {"DAT": {"fosc_until": 50.0}}
    return scale.pick(
        digits=[_twice()],
        mnist=[
            Setting(
                f"eps={eps:g}",
                f"ε = {eps:g}",
                "sitawarin2021/mnist",
                {"eps": eps, "alpha": 0.02, "steps": 40},
            )
            for eps in (0.35, 0.45)
        ],
        paper=[one("cifar10", "CIFAR-10", "cifar10-prn20", k, cifar) for k in (16, 24)]
        + [one("imagenette", "Imagenette", "imagenette", k, {}) for k in (16, 24)],
    )


def _twice() -> Setting:
    """Digits with twice the radius, of Tables 2 and 3: attacks of 5 steps of ε/2."""
    return Setting(
        "eps=0.2",
        "ε = 0.2",
        "digits",
        {"eps": 0.2, "alpha": 0.1, "steps": 5},
        {
            "DAT": {"fosc_until": 20.0},  # Table 3's 50 of 100 epochs
            "CAT20": CAT20_UNSCALED,
            "H-SAT": {"difficulty": "step"},  # Table 2's; in steps at .4, .6, .8 of the run
        },
        once=("DAT",),
    )
