"""kanai2021 Fig. 1: where the worst input goes when the parameters change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.kanai2021.bowl import Bowl
from landscape.papers.kanai2021.toys import path
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.work import Work, measure

X, EPS = (1.0, 1.0), 0.6
_MATRIX, _DEPTH = ((1.0, 0.35), (0.35, 0.6)), 0.5
_BOWL = {"model": "bowl", "matrix": _MATRIX, "depth": _DEPTH}
# θ goes straight from start to end. Linear: its second entry changes its sign on the way.
CASES: dict[str, dict[str, Any]] = {
    "linear": {"model": "linear", "start": (1.0, 0.35), "end": (1.0, -0.35)},
    "inactive": {**_BOWL, "start": (0.7, 1.1), "end": (1.15, 1.3)},
    "active": {**_BOWL, "start": (2.1, 1.2), "end": (1.5, 2.1)},
}
_PANELS = {
    ("linear", "l2"): "(a) linear, $L_2$",
    ("linear", "linf"): "(a) linear, $L_\\infty$",
    ("inactive", "l2"): "(b) inactive constraint",
    ("active", "l2"): "(c) active constraint",
}


def _plan(scale: Scale) -> Mapping[str, Work]:
    points = scale.pick(digits=400, paper=400, smoke=40)
    return {
        f"{name}/{norm}": measure(path, **case, norm=norm, x=X, eps=EPS, points=points)
        for name, case in CASES.items()
        for norm in ("l2", "linf")
    }


def _draw(found: Found) -> Any:
    fig, axes = panels(4, ratio=1.5)
    for ax, ((case, norm), title) in zip(axes[0], _PANELS.items(), strict=True):
        _contours(ax, CASES[case])
        norms = (norm,) if case == "linear" else ("l2", "linf")
        for which in norms:
            _ball(ax, which)
            _way(ax, found[f"{case}/{which}"])
        ax.plot(*X, "o", color="black", markersize=3)
        ax.annotate("$x$", X, xytext=(3, -8), textcoords="offset points")
        ax.set(title=title, xlabel="$x_1$", aspect="equal", xlim=(-0.1, 2.2), ylim=(-0.1, 2.2))
        ax.set_xticks([0, 1, 2])
        ax.set_yticks([0, 1, 2])
    axes[0, 0].set_ylabel("$x_2$")
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[0], lw=0.8, label="contours of $\\ell(x, \\theta_1)$"),
        Line2D(
            [], [], color=COLOURS[1], lw=0.8, ls="--", label="contours of $\\ell(x, \\theta_2)$"
        ),
        Line2D(
            [], [], color=COLOURS[0], marker="o", ls="", label="worst input $x'_1$ at $\\theta_1$"
        ),
        Line2D(
            [], [], color=COLOURS[1], marker="s", ls="", label="worst input $x'_2$ at $\\theta_2$"
        ),
        Line2D([], [], color=COLOURS[2], lw=2, label="way from $x'_1$ to $x'_2$"),
        Line2D([], [], color="black", lw=0.8, label="$\\|\\delta\\|_p = \\epsilon$"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def _contours(ax: Any, case: Mapping[str, Any]) -> None:
    axis = np.linspace(-0.1, 2.2, 81)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    for k, theta in enumerate((case["start"], case["end"])):
        if case["model"] == "linear":
            values = np.logaddexp(0, -grid @ np.array(theta))
        else:
            values = Bowl(np.array(case["matrix"]), case["depth"]).loss(grid, np.array(theta))
        style = {"colors": COLOURS[k], "linewidths": 0.5, "linestyles": ("-", "--")[k]}
        ax.contour(axis, axis, values, 6, **style)


def _ball(ax: Any, norm: str) -> None:
    if norm == "l2":
        turn = np.linspace(0, 2 * np.pi, 100)
        x, y = np.cos(turn), np.sin(turn)
    else:
        x, y = np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]], dtype=float)
    ax.plot(X[0] + EPS * x, X[1] + EPS * y, color="black", lw=0.8)


def _way(ax: Any, way: Any) -> None:
    x, y = way.of("x'₁"), way.of("x'₂")
    jumps = np.hypot(np.diff(x), np.diff(y)) > EPS
    if jumps.any():
        ax.plot(x[[0, -1]], y[[0, -1]], ":", color=COLOURS[2], lw=2)
    else:
        ax.plot(x, y, color=COLOURS[2], lw=2)
    for k, at in enumerate((0, -1)):
        ax.plot(x[at], y[at], "os"[k], color=COLOURS[k], markersize=4, zorder=5)


def _fastest(found: Found, name: str) -> tuple[float, float]:
    way = found[name]
    return float(np.nanmax(way.of("speed"))), float(np.nanmax(way.of("bound")))


def _circle(found: Found) -> Verdict:
    speed, bound = _fastest(found, "linear/l2")
    text = f"at most ‖Δx'‖/‖Δθ‖ = {speed:.4g}, bound ε/θ_min = {bound:.4g} (to 1e-6)"
    return claims.exactly(speed <= bound * (1 + 1e-6), text, speed)


def _corner(found: Found) -> Verdict:
    way = found["linear/linf"]
    moved = np.hypot(np.diff(way.of("x'₁")), np.diff(way.of("x'₂")))
    step = float(np.hypot(np.diff(way.of("θ₁")), np.diff(way.of("θ₂"))).max())
    jumps = moved > 1e-9
    true = jumps.sum() == 1 and abs(moved.max() - 2 * EPS) < 1e-9
    text = (
        f"{jumps.sum()} jump, of {moved.max():.4g} (2ε = {2 * EPS:g}) for ‖Δθ‖ = {step:.2g}; "
        "elsewhere x' stays (to 1e-9)"
    )
    return claims.exactly(bool(true), text, float(moved.max()))


def _bounded(*names: str) -> Any:
    def check(found: Found) -> Verdict:
        pairs = {name: _fastest(found, name) for name in names}
        text = "; ".join(
            f"{name}: ‖Δx'‖/‖Δθ‖ at most {speed:.4g}, bound C_θx/c = {bound:.4g} (to 1e-6)"
            for name, (speed, bound) in pairs.items()
        )
        true = all(speed <= bound * (1 + 1e-6) for speed, bound in pairs.values())
        return claims.exactly(true, text, max(speed for speed, _ in pairs.values()))

    return check


FIG1 = Figure(
    "kanai2021/fig1",
    "Where the worst input of a point goes when the parameters change",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "Under L2 the worst input of a linear model moves along the circle, at most "
            "ε/θ_min as fast as the parameters.",
            "Lemma 2, Fig. 1(a)",
            _circle,
        ),
        Claim(
            "Under L∞ it stays in its corner while no sign of θ changes, and jumps by 2ε however "
            "little θ moves where one does.",
            "Lemma 3, Fig. 1(a)",
            _corner,
        ),
        Claim(
            "Where the constraint is inactive the worst input is Lipschitz in θ, by C_θx/c.",
            "Lemma 4, Fig. 1(b)",
            _bounded("inactive/l2", "inactive/linf"),
        ),
        Claim(
            "On the edge of the L2 ball it is so too, with c of the bordered Hessian.",
            "Lemma 5, Fig. 1(c)",
            _bounded("active/l2"),
        ),
    ),
    analogue="None: closed forms. The losses of (b) and (c), sketches in the paper, are of an "
    "output that is quadratic in x − θ.",
)
