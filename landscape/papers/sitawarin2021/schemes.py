"""sitawarin2021 Table 4: curriculum schemes, what they constrain and what that leaves of an attack.

Each scheme is the method of that name in this package's table of methods, asked for its examples
at the begin and at the end of a training, on one trained network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import over_seeds, typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.setting import main, seeds
from landscape.running.trained import Trained
from landscape.running.work import Work, measure


@dataclass(frozen=True)
class Scheme:
    """A row: the constraint as the paper writes it, how it is met, and our method of that name."""

    constraint: str
    by: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> str:
        return f"{name}: {self.constraint}; {self.by}"


# Table 4. Its "perturbation norm" is a radius that rises; λ of DAT is −c, of H-SAT a share here.
SCHEMES: dict[str, Scheme] = {
    "radius": Scheme("‖δ‖∞ ≤ λ", "projection", "pgd+pas", {"pas": {"schedule": "linear"}}),
    "CAT18": Scheme("number of PGD steps", "setting it", "cat18"),
    "DAT": Scheme("⟨δ, ∇ℓ⟩ − ε‖∇ℓ‖₁ ≤ λ", "early termination", "dat"),
    "IAAT": Scheme("ψ_P ≤ 0", "projection, ‖δ‖∞ ≤ ε*(x)", "iaat", {"radii_warmup": 0}),
    "CAT20": Scheme("ψ_P ≤ 0", "projection, ‖δ‖∞ ≤ ε*(x)", "cat20"),
    "H-SAT": Scheme("ψ_H ≤ λ", "subset updates", "h-sat", {"difficulty": "step"}),
    "P-SAT": Scheme("ψ_P ≤ λ", "early termination", "p-sat"),
}
COLUMNS = ("loss at begin", "loss at end", "‖δ‖∞/ε at begin", "‖δ‖∞/ε at end", "right at end")
# Schemes whose λ ends where the constraint is none, and those that hold a sample at ψ_P ≤ 0.
SCHEDULED, HELD = ("radius", "CAT18", "DAT", "H-SAT", "P-SAT"), ("IAAT", "CAT20")


def curricula(run: Trained, *, n: int, epochs: int = 100, updates: int = 60) -> Sheet:
    """What the schemes' examples do to the network of a run, on n training samples.

    ``loss``: the rise of the mean loss over that of clean samples, as a share of the rise under
    PGD of 10 steps; ``right``: share of the samples that are right when clean and stay so. Begin
    and end are the first and the last of ``updates`` visits of the samples, evenly over
    ``epochs``, so that radii of single samples can move; they remember from visit to visit.
    """
    from landscape.losses import cross_entropy
    from landscape.random import Streams
    from landscape.training import method
    from landscape.training.batch import Batch
    from landscape.training.step_curriculum import stage

    model = run.model("final")
    data = run.data("train", n)
    device = run.config.resolved_device()
    pairs = [data[i] for i in range(len(data))]
    x = torch.stack([torch.as_tensor(a) for a, _ in pairs]).to(device)
    y = torch.as_tensor([int(b) for _, b in pairs]).to(device)

    def examples(name: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if name == "cat20":  # its constants are for 8/255
            scale = run.eps / (8 / 255)
            options = {"eta": 0.005 * scale, "smoothing": 10 / scale}
        part: Any = method(name, eps=run.eps, steps=10, **options).perturbation
        memory: dict[str, Tensor] = {}
        first = last = x
        if name in ("pgd", "cat18"):  # nothing to remember from visit to visit
            visits = [0, updates - 1]
        else:
            visits = list(range(updates))
        for k in visits:
            if name == "cat18":  # its stages go by validation accuracy: the first and the last
                stage(memory)[0] = 0 if k == 0 else 10
            batch = Batch(
                model,
                x,
                y,
                None,
                Streams(k, "curricula"),
                torch.arange(len(x)),
                (k + 0.5) * epochs / updates,
                memory,
                epochs,
                len(x),
            )
            last = part(batch)
            first = last if k == 0 else first
        return first, last

    def judged(points: Tensor) -> tuple[float, float, Tensor]:
        with torch.no_grad():
            logits = model(points)
        size = float((points - x).flatten(1).abs().amax(1).double().mean()) / run.eps
        return float(cross_entropy(logits, y).double().mean()), size, logits.argmax(1) == y

    clean, _, right = judged(x)
    full = judged(examples("pgd", {})[1])[0] - clean
    rows: dict[str, list[float]] = {}
    for name, scheme in SCHEMES.items():
        (a, size_a, _), (b, size_b, still) = map(judged, examples(scheme.method, scheme.options))
        share = float((still & right).sum() / right.sum())
        rows[name] = [(a - clean) / full, (b - clean) / full, size_a, size_b, share]
    return sheet(rows, COLUMNS)


def _plan(scale: Scale) -> Mapping[str, Work]:
    settings: dict[str, Any] = {"n": scale.pick(digits=128, paper=512, smoke=20)}
    if scale.smoke:
        settings |= {"epochs": 10, "updates": 10}
    return {
        f"schemes/seed{seed}": measure(curricula, main(scale).run(scale, "AT", seed), **settings)
        for seed in seeds(scale)
    }


def _values(found: Found, scheme: str, column: str) -> list[float]:
    return [content.at(scheme, column) for content in found.under("schemes").values()]


def _table(found: Found) -> Sheet:
    rows = {}
    for name, scheme in SCHEMES.items():
        means = [over_seeds(_values(found, name, column)) for column in COLUMNS]
        factor = (1, 1, 1, 1, 100)
        rows[scheme.row(name)] = [
            (round(f * float(mean), 4), round(f * float(spread), 4))
            for f, (mean, spread) in zip(factor, means, strict=True)
        ]
    count = len(seeds(found.scale))
    what = f"standard deviation over {count} networks" if count > 1 else ""
    heads = ["loss, begin", "loss, end", "‖δ‖∞, begin", "‖δ‖∞, end", "right, end"]
    return sheet(rows, heads, ["of PGD's", "of PGD's", "ε", "ε", "%"], what)


def _easier(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.greater(
                _values(found, name, "loss at end"),
                _values(found, name, "loss at begin"),
                f"{name}, rise of the loss over PGD's",
                names=("end", "begin"),
            )
            for name in SCHEDULED
        ]
    )


def _ends_as_pgd(names: tuple[str, ...], least: float) -> Callable[[Found], Verdict]:
    def check(found: Found) -> Verdict:
        return claims.all_of(
            [
                claims.positive(
                    _values(found, name, "loss at end"),
                    f"{name}, rise of the loss over PGD's at the end (demanded: {least:g})",
                    at_least=least,
                )
                for name in names
            ]
        )

    return check


def _small_radii(found: Found) -> Verdict:
    """Below half of ε at the begin, and larger at the end."""
    parts = []
    for name in HELD:
        begin, end = (_values(found, name, f"‖δ‖∞/ε at {at}") for at in ("begin", "end"))
        what = f"{name}, mean ‖δ‖∞/ε"
        parts.append(claims.greater(end, begin, what, names=("end", "begin")))
        parts.append(claims.positive([0.5 - v for v in begin], f"{name}, ½ less that at begin"))
    return claims.all_of(parts)


def _held(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                _values(found, name, "right at end"),
                f"{name}, share of samples still right (demanded: 0.9)",
                at_least=0.9,
            )
            for name in HELD
        ]
    )


_WHERE = "App. B.1, Table 4"
TABLE4 = Figure(
    "sitawarin2021/table4",
    "What curriculum schemes constrain, how, and what that leaves of the attack",
    plan=_plan,
    draw=lambda found: typeset(_table(found), digits=2),
    table=_table,
    claims=(
        Claim("Schedules of λ begin with easier examples than they end with.", "§4.1", _easier),
        Claim(
            "They end with the original adversarial loss (radius, DAT, H-SAT, P-SAT).",
            "§4.1, eq. 14",
            _ends_as_pgd(("radius", "DAT", "H-SAT", "P-SAT"), 0.95),
        ),
        Claim(
            "Radii of single samples (IAAT, CAT20) start small (here: below ε/2) and grow.",
            _WHERE,
            _small_radii,
        ),
        Claim(
            "IAAT and CAT20 keep samples from being pushed beyond the decision boundary (here: 90 "
            "% of those right stay so).",
            _WHERE,
            _held,
        ),
    ),
    analogue="The constraints are the paper's; the numbers, not in the paper, are of the schemes "
    "on LeNets trained by AT on digits with ε = 0.1. IAAT starts at ε, after its authors' warm-up; "
    "all but CAT20 start at random, which alone has ‖δ‖∞ of almost ε.",
    needs="one training of PreAct-ResNet-20, some 6 GPU hours",
)
