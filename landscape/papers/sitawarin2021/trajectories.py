"""sitawarin2021 Fig. 3 and Proposition 1: PGD of AT and of P-SAT on a problem of two inputs.

Two classes with logits (0, s(x)), s(x) = κ (b(x₁) − x₂) and the boundary b(x₁) = c + h sin 2πx₁,
the true class the second: p_y = 1/(1 + e⁻ˢ), ψ_P = 1 − 2 p_y. Attacks and masks are those of
training (``landscape.attacks``, ``landscape.training.curricula``).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.plotting.style import COLOURS
from landscape.running.work import measure

CENTRE, RADIUS, LEVELS = (0.32, 0.42), 0.3, (0.0, 1 / 3, 2 / 3, 1.0)
STEEPNESS, HEIGHT, WAVE = 20.0, 0.55, 0.06


class Waves(nn.Module):
    """Logits (0, κ (b(x₁) − x₂))."""

    def forward(self, x: Tensor) -> Tensor:
        s = STEEPNESS * (HEIGHT + WAVE * torch.sin(2 * torch.pi * x[:, 0]) - x[:, 1])
        return torch.stack([torch.zeros_like(s), s], 1)


def boundary(x1: np.ndarray) -> np.ndarray:
    """b(x₁)."""
    return np.asarray(HEIGHT + WAVE * np.sin(2 * np.pi * x1))


def gap(x1: Any, x2: Any) -> np.ndarray:
    """ψ_P in closed form."""
    s = STEEPNESS * (boundary(np.asarray(x1)) - np.asarray(x2))
    return np.asarray(-np.tanh(s / 2))


def _run(x: Tensor, eps: float, level: float | None, steps: int, step: float) -> Tensor:
    """Points of the search, (steps + 1, B, 2): of P-SAT at λ, or of AT for None."""
    from landscape.attacks import attack
    from landscape.random import Streams
    from landscape.training.batch import Batch
    from landscape.training.curricula import Difficulty, ProbabilityGap

    found = attack("pgd", eps=eps, norm="l2", steps=steps, step_size=step, start="zero")
    model = Waves().eval()
    y = torch.ones(len(x), dtype=torch.long)
    part = ProbabilityGap(found, difficulty=Difficulty("constant", 1.0 if level is None else level))
    streams = Streams(0, "trajectories")
    batch = Batch(model, x, y, None, streams, torch.arange(len(x)), 0.0, {})
    mask = part.mask(batch, found)
    path: list[Tensor] = []

    def seen(k: int, points: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
        path.append(points.clone())
        if mask is None:
            return torch.ones(len(points), dtype=torch.bool)
        return mask(k, points, logits, gradient)

    last = found.perturb(model, x, y, streams=streams, step_mask=seen)
    return torch.stack([*path, last])


def trajectories(
    *,
    centre: tuple[float, float],
    eps: float,
    levels: tuple[float, ...],
    steps: int = 12,
    step: float = 0.04,
) -> Curves:
    """Coordinates and ψ_P of one sample at every PGD step, for AT and for P-SAT at several λ."""
    x = torch.tensor([centre], dtype=torch.float64)
    named: dict[str, np.ndarray] = {}
    for name, level in {"AT": None, **{f"λ = {v:.2f}": v for v in levels}}.items():
        path = _run(x, eps, level, steps, step)[:, 0].numpy()
        named |= {f"{name}: x₁": path[:, 0], f"{name}: x₂": path[:, 1]}
        named[f"{name}: ψ"] = gap(path[:, 0], path[:, 1])
    return curves(np.arange(steps + 1), named, x_label="step")


def early_termination(
    *, eps: float, samples: int = 100, steps: int = 50, grid: int = 401
) -> Curves:
    """Proposition 1 on many samples: what early termination reaches of max min(ℓ, γ), against λ.

    γ(λ) = −log((1 − λ)/2); the optimum of the ball is found on a grid of polar coordinates.
    ``shortfall``: the largest over the samples of the optimum less what is reached, in nats;
    ``below AT``: the smallest excess of AT's loss over P-SAT's; ``stopped``: the share of samples
    whose search ended early; ``loss``: the mean loss at the end.
    """
    from landscape.random import Streams

    draw = Streams(0, "early termination").uniform("x", (samples, 2)).double()
    x = eps + (1 - 2 * eps) * draw  # balls within the box, samples on both sides of the boundary
    step = 2.5 * eps / steps
    adversarial = _loss(_run(x, eps, None, steps, step)[-1].numpy())
    angle = np.linspace(0, 2 * np.pi, grid)
    lengths = eps * np.linspace(0, 1, 51)
    ball = np.stack([np.outer(lengths, np.cos(angle)), np.outer(lengths, np.sin(angle))], -1)
    highest = _loss(x.numpy()[:, None] + ball.reshape(1, -1, 2)).max(1)
    levels = np.linspace(0, 1, 11)
    rows: dict[str, list[float]] = {n: [] for n in ("shortfall", "below AT", "stopped", "loss")}
    for level in levels:
        path = _run(x, eps, float(level), steps, step)
        reached = _loss(path[-1].numpy())
        gamma = -np.log((1 - level) / 2) if level < 1 else np.inf
        rows["shortfall"].append((np.minimum(highest, gamma) - np.minimum(reached, gamma)).max())
        rows["below AT"].append((adversarial - reached).min())
        still = torch.isclose(path[-1], path[-2], rtol=0, atol=0).all(1)
        rows["stopped"].append(float((still & (torch.as_tensor(reached) > gamma)).double().mean()))
        rows["loss"].append(reached.mean())
    return curves(levels, rows, x_label="difficulty λ")


def _loss(x: np.ndarray) -> np.ndarray:
    """−log p_y in nats, of points (..., 2)."""
    s = STEEPNESS * (boundary(x[..., 0]) - x[..., 1])
    return np.asarray(np.logaddexp(0, -s))


def _path(content: Curves, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return content.of(f"{name}: x₁"), content.of(f"{name}: x₂"), content.of(f"{name}: ψ")


def _draw(found: Found) -> Any:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.lines import Line2D

    content = found["trajectories"]
    fig, (axes,) = panels(4, ratio=1.45, sharex=True, sharey=True)
    greys = LinearSegmentedColormap.from_list("light", ["white", "0.62"])
    # The upper part of the ball, where the steps are.
    left, right = CENTRE[0] - 0.62 * RADIUS, CENTRE[0] + 0.72 * RADIUS
    low, high = CENTRE[1] - 0.2 * RADIUS, CENTRE[1] + 1.14 * RADIUS
    x1, x2 = np.linspace(left, right, 201), np.linspace(low, high, 201)
    field = gap(*np.meshgrid(x1, x2))
    turn = np.linspace(0, 2 * np.pi, 400)
    shown = None
    for ax, level in zip(axes, LEVELS, strict=True):
        extent = (left, right, low, high)
        shown = ax.imshow(field, cmap=greys, vmin=-1, vmax=1, extent=extent, origin="lower")
        ax.plot(x1, boundary(x1), color="0.25", linestyle="--", linewidth=0.8)
        circle = CENTRE[0] + RADIUS * np.cos(turn), CENTRE[1] + RADIUS * np.sin(turn)
        ax.plot(*circle, "k-", lw=0.8)
        a, b, _ = _path(content, "AT")
        ax.plot(a, b, "-", color=COLOURS[1], lw=4.5, zorder=3, solid_capstyle="round")
        a, b, _ = _path(content, f"λ = {level:.2f}")
        _arrows(ax, a, b, COLOURS[0])
        ax.plot(a[-1], b[-1], "X", color=COLOURS[0], markersize=7, mec="white", mew=0.6, zorder=5)
        ax.plot(*CENTRE, "o", color="white", mec="black", markersize=4, zorder=6)
        ax.set(xlim=(left, right), ylim=(low, high), xticks=(), yticks=())
        ax.set(aspect="equal", xlabel="input $x_1$", title=f"λ = {level:.2f}")
    axes[0].set_ylabel("input $x_2$")
    handles = [
        Line2D([], [], color=COLOURS[1], lw=4.5, label="PGD path of AT"),
        Line2D([], [], color=COLOURS[0], lw=1.2, marker="X", label="steps of P-SAT, and its end"),
        Line2D([], [], color="0.25", lw=0.8, ls="--", label="decision boundary"),
        Line2D([], [], color="black", lw=0.8, label="ball of radius ε"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    fig.colorbar(shown, ax=axes, label="gap $\\psi_P$", ticks=(-1, 0, 1), shrink=0.7)
    return fig


def _arrows(ax: Any, a: np.ndarray, b: np.ndarray, colour: str) -> None:
    """The steps that moved, an arrow each."""
    arrow = {"arrowstyle": "-|>,head_width=0.2,head_length=0.4", "color": colour, "lw": 1.0}
    arrow |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    for k in range(len(a) - 1):
        if np.hypot(a[k + 1] - a[k], b[k + 1] - b[k]) > 1e-12:
            ends = {"xy": (a[k + 1], b[k + 1]), "xytext": (a[k], b[k])}
            ax.annotate("", **ends, arrowprops=arrow, zorder=4)


def _stops(found: Found) -> Verdict:
    content = found["trajectories"]
    ok, parts = True, []
    for level in LEVELS[:-1]:
        a, b, psi = _path(content, f"λ = {level:.2f}")
        moved = np.hypot(np.diff(a), np.diff(b)) > 0
        count = int(moved.sum())
        # It moves exactly while ψ ≤ λ.
        ok &= bool((moved == (psi[:-1] <= level)).all()) and count < len(moved)
        parts.append(f"λ = {level:.2f}: {count} steps, ψ = {psi[-1]:.2f}")
    return claims.exactly(ok, "; ".join(parts) + f", of {len(content.x) - 1} steps of AT (exact)")


def _approaches(found: Found) -> Verdict:
    content = found["trajectories"]
    ends = {n: np.array(_path(content, n)[:2]) for n in ("AT", *(f"λ = {v:.2f}" for v in LEVELS))}
    far = [float(np.hypot(*(ends[f"λ = {v:.2f}"] - ends["AT"])[:, -1])) for v in LEVELS]
    same = bool((ends["λ = 1.00"] == ends["AT"]).all())
    falls = all(a >= b for a, b in itertools.pairwise(far))
    text = (
        f"distance of the ends from AT's: {', '.join(f'{d:.3f}' for d in far)} (to be 0 at λ = 1)"
    )
    return claims.exactly(same and falls, text)


def _lower_bound(found: Found) -> Verdict:
    content = found["termination"]
    lowest, last = float(content.of("below AT").min()), float(content.of("below AT")[-1])
    text = f"AT's loss exceeds P-SAT's by {lowest:.2g} nats or more at every λ, by {last:.2g} at 1"
    return claims.exactly(
        lowest >= -1e-9 and last == 0 and bool((np.diff(content.of("loss")) >= 0).all()),
        f"{text}; the mean loss never falls with λ (tolerance 10⁻⁹ nats)",
        lowest,
    )


def _proposition(found: Found) -> Verdict:
    content = found["termination"]
    worst = float(content.of("shortfall").max())
    text = f"of max min(ℓ, γ) at most {worst:.2g} nats are missed at any λ (tolerance 0.01 nats)"
    return claims.exactly(worst <= 0.01, text, worst)


FIG3 = Figure(
    "sitawarin2021/fig3",
    "PGD steps of AT and of P-SAT, which stop where the probability gap exceeds λ",
    plan=lambda scale: {
        "trajectories": measure(trajectories, centre=CENTRE, eps=RADIUS, levels=LEVELS),
        "termination": measure(early_termination, eps=RADIUS),
    },
    draw=_draw,
    claims=(
        Claim("P-SAT's search stops as soon as the constraint is violated.", "Fig. 3", _stops),
        Claim("As λ increases P-SAT approaches AT.", "Fig. 3, §4.3", _approaches),
        Claim(
            "The curriculum loss is a lower bound of the adversarial loss, equal to it at λ = 1.",
            "eqs. 13, 14",
            _lower_bound,
        ),
        Claim(
            "With two classes early termination solves the constrained problem.",
            "Proposition 1",
            _proposition,
        ),
    ),
)
