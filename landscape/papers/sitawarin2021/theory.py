"""sitawarin2021 Figs. 2 and 5: the logistic loss in closed form, and the schedules of λ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, curves
from landscape.plotting.style import COLOURS
from landscape.running.work import measure

LOSS, SECOND, PROBABILITY = "loss", "second derivative", "probability of the true class"


def logistic_loss(limit: float = 6.0, points: int = 241) -> Curves:
    """ℓ(z) = log(1 + e⁻ᶻ) of the true class's logit z, ℓ″ = p(1 − p) and p = e^(−ℓ)."""
    from landscape.diagnostics.analytic import Logistic

    z = np.linspace(-limit, limit, points)
    problem = Logistic(np.ones((1, 1)), np.ones(1))  # one sample x = 1, y = 1: its margin is w
    loss = problem.loss(z[:, None])
    named = {
        LOSS: loss,
        SECOND: problem.hessian(z[:, None])[:, 0, 0],
        PROBABILITY: np.exp(-loss),
    }
    return curves(z, named, x_label="logit z of the true class")


def _draw_logistic(found: Found) -> Any:
    content = found["logistic"]
    fig, (axes,) = panels(2, ratio=0.75)
    low, high = content.x[0] * 0.72, content.x[-1] * 0.72
    for ax, name, unit, ticks in (
        (axes[0], SECOND, "ℓ″(z) (nats / logit²)", (0, 0.05, 0.1, 0.15, 0.2, 0.25)),
        (axes[1], PROBABILITY, "probability p(z)", (0, 0.2, 0.4, 0.6, 0.8, 1)),
    ):
        loss, other = content.of(LOSS), content.of(name)
        ax.plot(content.x, loss, color=COLOURS[0], label="loss ℓ (left)")
        ax.set(xlabel=content.x_label, ylabel="logistic loss ℓ(z) (nats)", ylim=(0, 7.5))
        right = ax.twinx()
        right.spines["right"].set_visible(True)
        right.plot(content.x, other, "--", color=COLOURS[3], label=name.split(" of")[0])
        right.set(ylabel=unit, ylim=(0, 1.25 * other.max()), yticks=ticks)
        for at, colour, word in ((low, COLOURS[1], "difficult"), (high, COLOURS[2], "easy")):
            y = float(np.interp(at, content.x, other))
            right.annotate(
                word,
                (at, y),
                xytext=(at, y + (-0.38 if y > 0.7 * other.max() else 0.3) * other.max()),
                ha="center",
                color=colour,
                fontsize=7,
                arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.2},
            )
        handles = [*ax.get_lines(), *right.get_lines()]
        ax.legend(handles, [h.get_label() for h in handles], loc="upper center", ncols=2)
    axes[0].set_title("(a) second derivative")
    axes[1].set_title("(b) probability of the true class")
    return fig


def _small_on_both_sides(found: Found) -> Verdict:
    content = found["logistic"]
    second = content.of(SECOND)
    share = max(second[0], second[-1]) / second.max()
    text = (
        f"ℓ″ at z = {content.x[0]:g} and {content.x[-1]:g} is at most {share:.2g} of its maximum "
        "(demanded: 1/20)"
    )
    return claims.exactly(bool(share < 0.05), text, float(share))


def _difficult_is_small(found: Found) -> Verdict:
    content = found["logistic"]
    loss, second, p = (content.of(name) for name in (LOSS, SECOND, PROBABILITY))
    text = (
        f"at z = {content.x[0]:g}: loss {loss[0]:.3g} nats, p = {p[0]:.2g}, ℓ″ = {second[0]:.2g}; "
        f"at z = {content.x[-1]:g}: {loss[-1]:.2g} nats, p = {p[-1]:.3g}, ℓ″ = {second[-1]:.2g} "
        "(equal to 10⁻⁹)"
    )
    equal = np.isclose(second[0], second[-1], rtol=1e-9)
    return claims.exactly(bool(equal and loss[0] > 1000 * loss[-1] and p[0] < 0.01), text)


def _large_probability(found: Found) -> Verdict:
    content = found["logistic"]
    p, second = content.of(PROBABILITY), content.of(SECOND)
    order = np.argsort(p)
    right = p[order] >= 0.5
    falls = bool((np.diff(second[order][right]) < 0).all())
    high = float(second[p >= 0.9].max(initial=0.0))
    text = f"for p ≥ ½ ℓ″ falls with p ({'at' if falls else 'not at'} all points); p ≥ 0.9: ≤ "
    text += f"{high:.3g} of at most 0.25"
    known = bool((p >= 0.9).any())
    return claims.exactly(known and falls and high <= 0.0901, text, high)


def schedules(points_per_epoch: int = 4) -> Curves:
    """λ of the methods that the paper's recipes make, against the epoch; NaN after the last."""
    from landscape.training import default_config

    linear = {"difficulty": "linear"}
    wanted: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
        "steps, MNIST": ("p-sat", "mnist", {}),
        "steps, PreAct-ResNet-20": ("p-sat", "cifar10-prn20", {}),
        "steps, WideResNet-34-10": ("p-sat", "cifar10-wrn", {}),
        "linear, H-SAT": ("h-sat", "cifar10-prn20", linear | {"difficulty_at": (0, 30)}),
        "linear, P-SAT": ("p-sat", "cifar10-prn20", linear | {"difficulty_at": (30, 70)}),
    }
    t = np.linspace(0, 100, 100 * points_per_epoch + 1)
    named = {}
    for name, (method, recipe, options) in wanted.items():
        config = default_config(None, None, method, recipe=f"sitawarin2021/{recipe}", **options)
        part: Any = config.plan.method.perturbation
        epochs = config.plan.epochs
        named[name] = [part.difficulty.at(e, epochs) if e <= epochs else np.nan for e in t]
    return curves(t, named, x_label="epoch", y_label="difficulty λ")


def _draw_schedules(found: Found) -> Any:
    content = found["schedules"]
    fig, (axes,) = panels(2, ratio=0.7, sharey=True)
    for ax, kind, title in (
        (axes[0], "steps, ", "(a) step schedules"),
        (axes[1], "linear, ", "(b) linear schedules"),
    ):
        names = [str(n) for n in content.curve if str(n).startswith(kind)]
        for i, name in enumerate(names):
            # The first ones wider, to be seen where others lie on them.
            dashes = {"linestyle": ("-", "--", "-.")[i], "linewidth": 3.0 - 0.9 * i}
            style = style_of(i, marker=None, **dashes)
            line(ax, content.x, content.of(name), label=name.removeprefix(kind), **style)
        ax.set(title=title, xlabel="epoch", ylim=(-0.05, 1.05))
        ax.legend(loc="lower right")
    axes[0].set_ylabel("difficulty λ")
    return fig


def _reaches_one(found: Found) -> Verdict:
    content = found["schedules"]
    parts, ok = [], True
    for name in map(str, content.curve):
        y = content.of(name)
        there = np.isfinite(y)
        epochs, rises = content.x[there][-1], bool((np.diff(y[there]) >= 0).all())
        reached = content.x[there][y[there] >= 1 - 1e-12]
        at = float(reached[0]) / epochs if len(reached) else np.inf
        ok &= rises and at < 0.9
        parts.append(f"{name}: at {at:.2f} of the run")
    return claims.exactly(ok, "never falls, and is 1 from " + "; ".join(parts) + " (demanded: .9)")


def _thirds(found: Found) -> Verdict:
    content = found["schedules"]
    steps: list[float] = []
    for name in (str(n) for n in content.curve if str(n).startswith("steps")):
        y = content.of(name)
        change = np.diff(y[np.isfinite(y)])
        steps += change[change > 0].tolist()
    whole = bool(np.allclose(steps, 1 / 3, atol=1e-4)) and len(steps) == 9
    return claims.exactly(whole, f"{len(steps)} steps, each of {np.mean(steps):.4f} (± 0.0001)")


FIG2 = Figure(
    "sitawarin2021/fig2",
    "Logistic loss with its second derivative and with the probability of the true class",
    plan=lambda scale: {"logistic": measure(logistic_loss)},
    draw=_draw_logistic,
    claims=(
        Claim(
            "The second derivative is small for large and for very negative logits alike.",
            "§4.2, Fig. 2a",
            _small_on_both_sides,
        ),
        Claim(
            "A small second derivative can belong to a difficult input: high loss, small "
            "probability.",
            "§4.2, Fig. 2",
            _difficult_is_small,
        ),
        Claim(
            "A large probability of the true class keeps the second derivative small.",
            "§4.2, Fig. 2b",
            _large_probability,
        ),
    ),
)


FIG5 = Figure(
    "sitawarin2021/fig5",
    "Schedules of the difficulty λ of P-SAT and H-SAT",
    plan=lambda scale: {"schedules": measure(schedules)},
    draw=_draw_schedules,
    claims=(
        Claim(
            "λ rises and is at its largest well before the training ends.",
            "§4.1, Fig. 5",
            _reaches_one,
        ),
        Claim("The step schedules rise by a third, three times.", "App. A, Fig. 5a", _thirds),
    ),
)
