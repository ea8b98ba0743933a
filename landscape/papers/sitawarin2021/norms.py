"""sitawarin2021 Fig. 6: sizes of the perturbations of H-SAT and P-SAT along the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.along import length, measured_epochs, norms_along
from landscape.papers.sitawarin2021.setting import HOURS, main, seeds
from landscape.running.work import Work, measure

H_SAT, P_SAT, HELD = "H-SAT", "P-SAT", "P-SAT, λ held at 0"


def _plan(scale: Scale) -> Mapping[str, Work]:
    found: dict[str, Work] = {}
    # The linear schedules of Fig. 5b; H-SAT's is that of the other figures.
    linear = {
        H_SAT: {"difficulty": "linear", "difficulty_at": _part(scale, 0, 0.3)},
        P_SAT: {"difficulty": "linear", "difficulty_at": _part(scale, 0.3, 0.7)},
    }
    for seed in seeds(scale):
        for name, defence, held in ((H_SAT, H_SAT, None), (P_SAT, P_SAT, None), (HELD, P_SAT, 0.0)):
            own = {} if defence == H_SAT and scale.name in ("digits", "smoke") else linear[defence]
            found[f"{name}/seed{seed}"] = measure(
                norms_along,
                main(scale).run(scale, defence, seed, **own),
                epochs=(0, *measured_epochs(scale)),
                held=held,
                **scale.pick(digits={}, paper={}, smoke={"batches": 1, "size": 20}),
            )
    return found


def _part(scale: Scale, begin: float, end: float) -> tuple[float, float]:
    """Parts of a run as epochs."""
    epochs = length(scale)
    return (round(begin * epochs, 6), round(end * epochs, 6))


def _draw(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    for k, (name, dashes) in enumerate(((H_SAT, "-"), (P_SAT, "-"), (HELD, "--"))):
        several = list(found.under(name).values())
        mean, spread = over_seeds([c.y[0] for c in several])
        line(ax, several[0].x, mean, spread, label=name, **style_of(k, linestyle=dashes))
    ax.set(xlabel="epoch", ylabel=several[0].y_label, ylim=(0, 1.08))
    ax.legend(loc="lower right")
    return fig


def _grows(name: str) -> Callable[[Found], Verdict]:
    def check(found: Found) -> Verdict:
        several = list(found.under(name).values())
        # The untrained network is no part of the trend.
        return claims.trend(
            several[0].x[1:], [c.y[0][1:] for c in several], f"mean ‖δ‖∞/ε of {name} with the epoch"
        )

    return check


FIG6 = Figure(
    "sitawarin2021/fig6",
    "Mean size of the perturbations that H-SAT and P-SAT train on, along the training",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim("The perturbations of H-SAT grow as it trains.", "App. B.1, Fig. 6", _grows(H_SAT)),
        Claim("Those of P-SAT do.", "App. B.1, Fig. 6", _grows(P_SAT)),
        Claim(
            "As the network becomes robust, examples of the same difficulty need larger "
            "perturbations.",
            "App. B.1",
            _grows(HELD),
        ),
    ),
    analogue="LeNet on digits with ε = 0.1, λ linear over the same parts of the run. As in the "
    "paper without random starts, here in the measurement alone: on all training images, up to "
    "ten batches of 128. The dashed curve, not in the paper, has λ = 0 on the same networks.",
    needs=f"two {HOURS}",
)
