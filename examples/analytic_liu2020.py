"""The sketches of "On the Loss Landscape of Adversarial Training" (Liu et al. 2020), exactly.

python examples/analytic_liu2020.py [FOLDER]

liu2020-figure5: the paper's Figure 5, g(x, θ) = log(1 + exp(θx)) at x = 1 for ε = 0.6 and 1.2.
It shows, as the text of A.2 says:

- the loss under perturbation fluctuates within a band, whose upper edge is the worst case g_ε;
- g_ε is not smooth at θ = 0, the clean loss is;
- under the larger budget the band is wider and the kink sharper: the slope jumps by ε;
- and Theorem 1: from ε = |x| on, the optimum is the constant classifier θ = 0.

liu2020-regions (not in the paper): version space V_ε and constant directions T_ε of §3.1 for one
point in the plane. V_ε shrinks (Proposition 1) and T_ε grows (Theorem 1) with ε. What is left,
where every perturbed input is on the wrong side, is −V_ε: T_ε as defined there, with both signs of
γ, is not the whole complement of V_ε. Lines are those of equal adversarial loss.
"""

import sys
from pathlib import Path

import numpy as np

from landscape.diagnostics.analytic import Logistic
from landscape.plotting.style import COLOURS, PAGE, figure, paper, save_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
BLUE, RED, GREEN = COLOURS[0], COLOURS[1], COLOURS[2]
LIGHT = COLOURS[5]


def figure_5():
    theta = np.linspace(-2, 2, 801)
    fig = figure(PAGE, 0.38)
    panels = fig.subplots(1, 2, sharey=True)
    for ax, eps in zip(panels, (0.6, 1.2), strict=True):
        # y = −1 makes log(1 + exp(−yθx)) the paper's g.
        problem = Logistic([[1.0]], [-1], eps)
        clean = Logistic([[1.0]], [-1]).loss(theta[:, None])
        worst, best = problem.loss(theta[:, None]), problem.lowest(theta[:, None])
        ax.fill_between(theta, best, worst, color=LIGHT, alpha=0.4, linewidth=0)
        ax.plot(theta, worst, color=BLUE, label="worst case $g_\\epsilon(x, \\theta)$")
        ax.plot(theta, clean, color=RED, linestyle="--", label="clean $g(x, \\theta)$")
        lowest = worst.argmin()
        ax.plot(theta[lowest], worst[lowest], "*", color=BLUE, markersize=7, clip_on=False)
        left, right = problem.gradient([[-1e-9], [1e-9]])[:, 0]
        ax.set_title(f"$\\epsilon = {eps}$: slope jumps by {right - left:.1f} at $\\theta = 0$")
        ax.set_xlabel("parameter $\\theta$")
        ax.set_xlim(-2, 2)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("loss (nats)")
    panels[0].plot([], [], "*", color=BLUE, markersize=7, label="lowest worst case shown")
    panels[0].fill_between([], [], color=LIGHT, alpha=0.4, label="all $|x' - x| \\leq \\epsilon$")
    panels[0].legend(loc="upper left")
    return fig


def regions():
    t = np.linspace(-2, 2, 401)
    plane = np.stack(np.meshgrid(t, t), -1)
    budgets = (0.3, 0.6, 0.9)
    patch = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    label = {"ha": "center", "va": "center", "bbox": patch}
    fig = figure(PAGE, 0.7)
    panels = fig.subplots(2, 3, sharex=True, sharey=True)
    for row, norm in zip(panels, ("linf", "l2"), strict=True):
        for ax, eps in zip(row, budgets, strict=True):
            problem = Logistic([[-1.0, 0.5]], [1], eps, norm)
            right, wrong = problem.in_version_space(plane), problem.in_version_space(-plane)
            shown = np.where(right, 2, np.where(wrong, 0, 1))
            ax.contourf(t, t, shown, [-0.5, 0.5, 1.5, 2.5], colors=[RED, "0.9", BLUE], alpha=0.7)
            ax.contour(t, t, problem.loss(plane), 9, colors="black", linewidths=0.4)
            if right.any():
                ax.text(-1.5, 0.15, "$V_\\epsilon$", **label)
                ax.text(1.5, -0.15, "$-V_\\epsilon$", **label)
            ax.text(0.75, 1.5, "$T_\\epsilon$", **label)
            ball = {"linf": "$L_\\infty$", "l2": "$L_2$"}[norm]
            ax.set_title(f"{ball} ball, $\\epsilon = {eps}$")
            ax.set_aspect("equal")
            ax.set_xticks([-2, 0, 2])
            ax.set_yticks([-2, 0, 2])
    for ax in panels[:, 0]:
        ax.set_ylabel("$w_2$")
    for ax in panels[-1]:
        ax.set_xlabel("$w_1$")
    return fig


with paper():
    for name, draw in (("liu2020-figure5", figure_5), ("liu2020-regions", regions)):
        for path in save_figure(draw(), folder / name, overwrite=True):
            print(path)
