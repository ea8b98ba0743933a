"""liu2020 Fig. 5 and what the paper proves (§3, App. A and B), in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from landscape.diagnostics.analytic import Logistic
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.work import Work, measure

EPS = (0.6, 1.2)
SIDE = 1e-7  # from a kink, where its slopes are taken
TOL = 1e-6


def one_point(eps: float) -> Logistic:
    """Of x = 1; the label −1 makes log(1 + exp(−yθx)) the paper's g."""
    return Logistic(np.ones((1, 1)), -np.ones(1), eps)


def band(*, eps: float) -> Curves:
    """g(x, θ) = log(1 + exp(θx)) at x = 1, its worst case and its best over |x' − x| ≤ ε."""
    theta = np.linspace(-2, 2, 401)
    problem, vanilla = one_point(eps), one_point(0.0)
    at = theta[:, None]
    # By search over x', apart from the closed form.
    inputs = 1 + eps * np.linspace(-1, 1, 401)
    searched = np.logaddexp(0, theta[:, None] * inputs)
    return curves(
        theta,
        {
            "clean": vanilla.loss(at),
            "worst": problem.loss(at),
            "best": problem.lowest(at),
            "searched worst": searched.max(1),
            "searched best": searched.min(1),
        },
        x_label="parameter θ",
        y_label="loss (nats)",
    )


def kinks(*, budgets: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9, 1.2)) -> Curves:
    """By ε: the jump of g_ε's slope at θ = 0, and the bound 2 ε L_θx of Proposition 2 there.

    L_θx = 1/2 at θ = 0, where ∂_θ g(x, 0) = x/2.
    """
    jumps = []
    for eps in budgets:
        left, right = one_point(eps).gradient(np.array([[-SIDE], [SIDE]]))[:, 0]
        jumps.append(right - left)
    named = {"jump of the slope": jumps, "bound": [2 * eps * 0.5 for eps in budgets]}
    return curves(budgets, named, x_label="budget ε", y_label="slope (nats)")


def regions(*, budgets: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9, 1.2)) -> Curves:
    """By ε: shares of a plane of w that are in V_ε and in T_ε, and are lost by either since the
    budget before (§3.1; one point at (−1, 0.5), L∞, ε̄ = 1)."""
    t = np.linspace(-2, 2, 201)
    plane = np.stack(np.meshgrid(t, t), -1)
    versions, constants = [], []
    for eps in budgets:
        problem = Logistic(np.array([[-1.0, 0.5]]), np.ones(1), eps)
        versions.append(problem.in_version_space(plane))
        constants.append(problem.no_better_than_constant(plane))
    pairs = range(1, len(budgets))
    return curves(
        budgets,
        {
            "share in V": [v.mean() for v in versions],
            "share in T": [c.mean() for c in constants],
            "new in V": [0.0, *((versions[i] & ~versions[i - 1]).mean() for i in pairs)],
            "lost from T": [0.0, *((constants[i - 1] & ~constants[i]).mean() for i in pairs)],
        },
        x_label="budget ε",
        y_label="share of the plane",
    )


def curvature(*, budgets: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> Curves:
    """By ε ≤ ε̂ = 1: smallest and largest eigenvalue of ∇²L_ε at w = (0.7, 0.3), ‖w‖₁ = 1, on
    points with margins of 1 to 2: of eq. 6, and of eq. 29, which leaves ‖w‖_q = 1 underived."""
    x = np.array([[1.0, 1.0], [2.0, 0.0], [1.5, 1.5], [0.6, 2.0]])
    y, w = np.ones(len(x)), np.array([0.7, 0.3])
    rows: dict[str, list[float]] = {f"{a} {b}": [] for b in ("eq. 6", "eq. 29") for a in ENDS}
    for eps in budgets:
        s = expit(eps - x @ w)
        printed = np.einsum("n,ni,nj->ij", s * (1 - s), x, x) / len(x)
        for which, hessian in (("eq. 6", Logistic(x, y, eps).hessian(w)), ("eq. 29", printed)):
            low, high = np.linalg.eigvalsh(hessian)
            rows[f"smallest {which}"].append(low)
            rows[f"largest {which}"].append(high)
    return curves(budgets, rows, x_label="budget ε", y_label="eigenvalue (loss / weight²)")


ENDS = ("smallest", "largest")


def probability(*, gammas: tuple[float, ...] = (4.5, 5.0, 6.0, 8.0, 12.0)) -> Curves:
    """By γ: the largest P(‖∇L‖ > γεL_θx) that eq. 24 allows, and Theorem 2's bound on it.

    With g = ‖∇L‖/(εL_θx) eq. 24 says E[g²/2 − 2g] ≤ 0. The integrand is at least −2, at g = 2, so
    P (γ²/2 − 2γ) − 2 (1 − P) ≤ 0 and P ≤ 4/(γ − 2)²; a law with g = 2 or γ attains it.
    """
    gamma = np.asarray(gammas)
    p = 4 / (gamma - 2) ** 2
    expected = p * (gamma**2 / 2 - 2 * gamma) + (1 - p) * -2.0
    named = {
        "attained": p,
        "E of eq. 24": expected,
        "Theorem 2": 4 / (gamma**2 - 2 * gamma + 4),
    }
    return curves(gamma, named, x_label="γ", y_label="probability")


def _plan(scale: Scale) -> Mapping[str, Work]:
    return {
        "small": measure(band, eps=EPS[0]),
        "large": measure(band, eps=EPS[1]),
        "kinks": measure(kinks),
        "regions": measure(regions),
        "curvature": measure(curvature),
        "probability": measure(probability),
    }


# -- claims ---------------------------------------------------------------------------------------


def within_band(found: Found) -> Verdict:
    gaps = []
    for name in ("small", "large"):
        c = found[name]
        gaps += [np.abs(c.of("worst") - c.of("searched worst")).max()]
        gaps += [np.abs(c.of("best") - c.of("searched best")).max()]
    gap = float(max(gaps))
    return claims.exactly(gap < TOL, f"closed form against search: {gap:.1e}, tolerance {TOL:g}")


def not_smooth(found: Found) -> Verdict:
    jump = found["kinks"].of("jump of the slope")
    true = abs(jump[0]) < TOL and bool((jump[1:] > TOL).all())
    text = f"jump of the slope at θ = 0: {jump[0]:.1e} at ε = 0, {jump[1]:.3g} at ε = "
    return claims.exactly(true, f"{text}{found['kinks'].x[1]:g}, tolerance {TOL:g}", float(jump[1]))


def sharper(found: Found) -> Verdict:
    eps, jump = found["kinks"].x, found["kinks"].of("jump of the slope")
    gap = float(np.abs(jump - eps).max())
    rising = bool((np.diff(jump) > TOL).all())
    text = f"the jump is ε within {gap:.1e}, tolerance {TOL:g}"
    return claims.exactly(rising and gap < TOL, text, float(jump[-1] - jump[0]))


def proposition2(found: Found) -> Verdict:
    jump, bound = found["kinks"].of("jump of the slope"), found["kinks"].of("bound")
    excess = float((jump - bound).max())
    text = f"jump minus bound at most {excess:.1e}, tolerance {TOL:g}: the bound is attained"
    return claims.exactly(excess < TOL, text, excess)


def wider(found: Found) -> Verdict:
    widths = [found[n].of("worst") - found[n].of("best") for n in ("small", "large")]
    least = float((widths[1] - widths[0]).min())
    return claims.exactly(least > -TOL, f"band wider by at least {least:.2g} nats", least)


def proposition1(found: Found) -> Verdict:
    regions_ = found["regions"]
    new, share = regions_.of("new in V").max(), regions_.of("share in V")
    return claims.exactly(
        bool(new == 0) and bool((np.diff(share) <= 0).all()),
        f"share in V_ε falls from {share[0]:.3f} to {share[-1]:.3f}; joining it: {new:.0%}",
    )


def theorem1(found: Found) -> Verdict:
    regions_ = found["regions"]
    lost, share = regions_.of("lost from T").max(), regions_.of("share in T")
    return claims.exactly(
        bool(lost == 0) and bool(share[-1] == 1),
        f"share in T_ε grows from {share[0]:.3f} to {share[-1]:.3f} at ε = {regions_.x[-1]:g} > "
        f"ε̄ = 1; leaving it: {lost:.0%}",
    )


def _rises(found: Found, which: str) -> Verdict:
    rows = {end: found["curvature"].of(f"{end} {which}") for end in ENDS}
    least = min(float(np.diff(row).min()) for row in rows.values())
    numbers = "; ".join(f"{end} from {row[0]:.3f} to {row[-1]:.3f}" for end, row in rows.items())
    return claims.exactly(
        least > -TOL,
        f"eigenvalues of {which} from ε = 0 to ε̂ = 1: {numbers}, tolerance {TOL:g}",
        least,
    )


def theorem3(found: Found) -> Verdict:
    return _rises(found, "eq. 6")


def theorem3_printed(found: Found) -> Verdict:
    return _rises(found, "eq. 29")


def theorem2(found: Found) -> Verdict:
    c = found["probability"]
    allowed, bound = c.of("attained"), c.of("Theorem 2")
    excess = float((allowed - bound).max())
    feasible = float(c.of("E of eq. 24").max())
    k = int((allowed - bound).argmax())
    return claims.exactly(
        excess < TOL,
        f"at γ = {c.x[k]:g} a law with E = {feasible:.0e} in eq. 24 has P = {allowed[k]:.3f}, the "
        f"bound is {bound[k]:.3f}; eq. 25 gives 4/(γ − 2)²",
        excess,
    )


# -- drawing --------------------------------------------------------------------------------------


def _draw(found: Found) -> Any:
    fig, (axes,) = panels(2, ratio=0.8, sharey=True)
    for ax, name, eps in zip(axes, ("small", "large"), EPS, strict=True):
        c = found[name]
        best, worst = c.of("best"), c.of("worst")
        label = "all |x′ − x| ≤ ε"
        ax.fill_between(c.x, best, worst, color=COLOURS[5], alpha=0.4, lw=0, label=label)
        ax.plot(c.x, worst, color=COLOURS[0], label="worst case $g_ε$(x, θ)")
        ax.plot(c.x, c.of("clean"), "--", color=COLOURS[1], label="clean g(x, θ)")
        ax.plot(
            c.x[worst.argmin()],
            worst.min(),
            "*",
            color=COLOURS[0],
            ms=7,
            label="lowest worst case shown",
        )
        kinks_ = found["kinks"]
        jump = kinks_.of("jump of the slope")[list(kinks_.x).index(eps)]
        ax.set_title(f"ε = {eps:g}: the slope jumps by {jump:.1f} at θ = 0")
        ax.set_xlabel(c.x_label)
    axes[0].set_ylabel(c.y_label)
    axes[0].set_ylim(bottom=0)
    handles, names = axes[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=4)
    return fig


FIG5 = Figure(
    "liu2020/fig5",
    "The vanilla and the adversarial loss of one parameter under two budgets",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "Under perturbation the loss stays in a band whose upper edge is the adversarial loss.",
            "App. A.2, Fig. 5",
            within_band,
        ),
        Claim("The band is wider under the larger budget.", "App. A.2, Fig. 5", wider),
        Claim(
            "The adversarial loss is not smooth at θ = 0, the vanilla loss is.",
            "App. A.2, Fig. 5",
            not_smooth,
        ),
        Claim(
            "The kink is sharper under the larger budget: the slopes on its sides differ more.",
            "App. A.2, Fig. 5",
            sharper,
        ),
        Claim(
            "Gradients at two points differ by L_θθ of their distance and 2 ε L_θx at most, and "
            "the bound is tight (at the kink of Fig. 5).",
            "Proposition 2, App. B.2",
            proposition2,
        ),
        Claim(
            "The version space shrinks as the budget grows (logistic regression, a point in the "
            "plane).",
            "Proposition 1",
            proposition1,
        ),
        Claim(
            "Directions in which nothing beats the constant classifier grow with the budget to "
            "all of space (the same point).",
            "Theorem 1",
            theorem1,
        ),
        Claim(
            "On separable data all curvatures of the adversarial logistic loss of eq. 6 grow with "
            "the budget (one example).",
            "Theorem 3",
            theorem3,
        ),
        Claim(
            "The matrix of eq. 29, which takes ‖w‖ for a constant, grows with the budget (the same "
            "example).",
            "App. B.4, eq. 29",
            theorem3_printed,
        ),
        Claim(
            "Large gradients are as rare as Theorem 2 says by what its proof has shown before "
            "(eq. 24).",
            "Theorem 2, App. B.3",
            theorem2,
        ),
    ),
)
