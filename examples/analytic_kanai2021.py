"""The toy surfaces of "Smoothness Analysis of Adversarial Training" (Kanai et al. 2021).

python examples/analytic_kanai2021.py [FOLDER]

kanai2021-figure2, x = [−1, 1], y = 1, ε = 0.6, as in §5.1. What is said there and seen here:

- (b) the L2 loss of a linear model has a kink at θ = 0 alone (Theorem 1), (c) the L∞ loss has one
  wherever some θ_i = 0 (Theorem 2). The paper writes "not continuous": the losses are, their
  gradients are not.
- (e) with swish before the output, the L2 loss is smooth on a larger set than (f) the L∞ loss.
- (f) is smooth where the optimal attack lies inside the ball (Lemma 4): the kinks along the axes
  end at θ₁ = 0.8 and θ₂ = −0.8, and beyond θ₁ = 1, θ₂ = −1 there is none. In (c), too, that
  quadrant has none inside; it is the axes beside it that differ.
- (g), (h) the loss −F of EntropySGD is smooth, and almost equally so for both norms (Theorem 3).

The paper says that the worst attack on (e), (f) has no closed form and uses PGD, as is done here;
for this network it has one (``swish_loss``), and the title of the figure gives the difference.

kanai2021-figure4, 100 points x ~ N(0, I), y = sign(x₁): the same kinks for a data set. The paper
puts the optimum at θ₂ = 0: it is so exactly under L∞, and but for the sampling error under L2.

kanai2021-figure5: −F of those. The paper says that its optimum is that of the loss. That is so
in the limit of large γ; the smaller γ is, the further the optimum moves along θ₁.

The paper doesn't give γ; here it is 10. With γ = 0.03, as it trains with, −F would be nearly a
plane on this square. Dots mark the lowest points shown.
"""

import sys
from pathlib import Path

import numpy as np

import landscape as ls
from landscape.diagnostics.analytic import Logistic, swish_loss
from landscape.diagnostics.analytic_models import Neuron, attacked
from landscape.diagnostics.entropy import local_entropy
from landscape.plotting.style import COLOURS, MAP, MARKERS, PAGE, figure, paper, save_figure
from landscape.random import Streams

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
EPS, GAMMA = 0.6, 10.0
SAMPLE = np.array([-1.0, 1.0])
AXIS = np.linspace(-2, 2, 61)
PLANE = np.stack(np.meshgrid(AXIS, AXIS), -1)
POINTS = PLANE.reshape(-1, 2)
BALLS = {"clean": "clean", "l2": "$L_2$", "linf": "$L_\\infty$"}


def smoothed(problem):
    return local_entropy(problem.loss, POINTS, GAMMA, tol=1e-5).value.reshape(PLANE.shape[:2])


def by_pgd(norm):
    model = Neuron([0.0, 0.0], span=2.0, activation="swish")
    eps = model.unit_eps(EPS)
    attack = ls.attack("pgd-50", eps=eps, norm=norm, step_size=eps / 25, start="zero")
    return attacked(model, POINTS, SAMPLE, 1, attack).reshape(PLANE.shape[:2])


def relief(ax, values, title):
    """The surface from above its low side, lit so that kinks show."""
    from matplotlib.colors import LightSource

    x, y = PLANE[..., 0], PLANE[..., 1]
    light = LightSource(azdeg=200, altdeg=50)
    ax.plot_surface(x, y, values, cmap=MAP, rcount=81, ccount=81, linewidth=0, lightsource=light)
    j, i = np.unravel_index(values.argmin(), values.shape)
    ax.plot([x[j, i]], [y[j, i]], [values[j, i]], "o", color=COLOURS[1], zorder=10)
    ax.set_title(title, pad=-4)
    ax.set_xlabel("$\\theta_1$", labelpad=-8)
    ax.set_ylabel("$\\theta_2$", labelpad=-8)
    ax.tick_params(pad=-3)
    ax.set_xticks([-2, 0, 2])
    ax.set_yticks([-2, 0, 2])
    ax.locator_params(axis="z", nbins=4)
    ax.view_init(elev=35, azim=-120)
    ax.set_box_aspect((1, 1, 0.7), zoom=0.9)


def slopes(ax, surfaces):
    """∂/∂θ₁ along θ₂ = 0.5: a jump is a kink of the surface."""
    row = np.abs(AXIS - 0.5).argmin()
    middle = (AXIS[1:] + AXIS[:-1]) / 2
    for i, (label, values) in enumerate(surfaces.items()):
        slope = np.diff(values[row]) / np.diff(AXIS)
        style = {"color": COLOURS[i], "marker": MARKERS[i], "markevery": (2 * i, 10)}
        ax.plot(middle, slope, label=label, **style)
    ax.set_xlabel("$\\theta_1$, at $\\theta_2 = 0.5$")
    ax.set_ylabel("slope along $\\theta_1$ (nats)")
    ax.set_title("kinks are jumps of the slope")
    ax.legend(loc="upper left")


def figure_2():
    linear = {
        "clean": Logistic(SAMPLE[None], [1]),
        "l2": Logistic(SAMPLE[None], [1], EPS, "l2"),
        "linf": Logistic(SAMPLE[None], [1], EPS, "linf"),
    }
    swish = {"clean": swish_loss(PLANE, SAMPLE, 1), "l2": by_pgd("l2"), "linf": by_pgd("linf")}
    flat = {norm: smoothed(linear[norm]) for norm in ("l2", "linf")}
    fig = figure(PAGE, 0.95)
    letters = iter("abcdefgh")
    for i, (norm, problem) in enumerate(linear.items()):
        ax = fig.add_subplot(3, 3, 1 + i, projection="3d")
        relief(ax, problem.loss(PLANE), f"({next(letters)}) linear, {BALLS[norm]}")
    for i, (norm, values) in enumerate(swish.items()):
        ax = fig.add_subplot(3, 3, 4 + i, projection="3d")
        relief(ax, values, f"({next(letters)}) swish, {BALLS[norm]}")
    slopes(
        fig.add_subplot(3, 3, 7),
        {
            "(b)": linear["l2"].loss(PLANE),
            "(c)": linear["linf"].loss(PLANE),
            "(g)": flat["l2"],
            "(h)": flat["linf"],
        },
    )
    for i, (norm, values) in enumerate(flat.items()):
        ax = fig.add_subplot(3, 3, 8 + i, projection="3d")
        relief(ax, values, f"({next(letters)}) $-F$, linear, {BALLS[norm]}")
    short = max(
        np.abs(swish[norm] - swish_loss(PLANE, SAMPLE, 1, EPS, norm)).max()
        for norm in ("l2", "linf")
    )
    fig.suptitle(
        f"Loss (nats) of one point under $\\epsilon = {EPS}$, and EntropySGD's $-F$ of it at "
        f"$\\gamma = {GAMMA:g}$\nPGD in (e), (f): within {short:.0g} nats of the worst case",
        fontsize=8,
    )
    return fig


def toy_data():
    x = Streams(0, "kanai2021").normal("x", (100, 2)).numpy()
    return x, np.sign(x[:, 0])


def figure_4():
    x, y = toy_data()
    fig = figure(PAGE, 0.35)
    for i, (norm, letter) in enumerate(zip(BALLS, "abc", strict=True)):
        problem = Logistic(x, y) if norm == "clean" else Logistic(x, y, EPS, norm)
        ax = fig.add_subplot(1, 3, i + 1, projection="3d")
        relief(ax, problem.loss(PLANE), f"({letter}) loss (nats), {BALLS[norm]}")
    return fig


def figure_5():
    x, y = toy_data()
    fig = figure(PAGE * 0.7, 0.5)
    for i, (norm, letter) in enumerate((("l2", "a"), ("linf", "b"))):
        ax = fig.add_subplot(1, 2, i + 1, projection="3d")
        relief(ax, smoothed(Logistic(x, y, EPS, norm)), f"({letter}) $-F$ (nats), {BALLS[norm]}")
    return fig


with paper():
    for number, draw in ((2, figure_2), (4, figure_4), (5, figure_5)):
        for path in save_figure(draw(), folder / f"kanai2021-figure{number}", overwrite=True):
            print(path)
