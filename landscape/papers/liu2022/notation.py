"""liu2022 Table 3: the notation, with the values that the symbols have in one example.

The theory's symbols get theirs from §5.1 on a Gaussian mixture, where everything is in closed
form; the statements about these are checked besides, as the paper has no figure for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import norm

from landscape import params as P
from landscape.diagnostics import lipschitz
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import PAGE, figure
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, Sheet, curves, sheet
from landscape.papers.liu2022.fast import FIXED, MOMENTUM
from landscape.papers.liu2022.setting import full
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Work, measure


@dataclass(frozen=True)
class Mixture:
    """§5.1: n samples y(rη + z) in m > n dimensions, ‖η‖ = 1, z standard normal.

    w = Xᵀ(XXᵀ)⁻¹y interpolates the labels with the smallest norm (eq. 15). Rows of Q are the
    noise times the label's sign as the paper has it: X = r yηᵀ + Q.
    """

    n: int = 20
    m: int = 1000  # above 10 n log n + n − 1, as Theorem 2 needs
    seed: int = 0

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q, y and η."""
        rng = np.random.Generator(np.random.PCG64(self.seed))
        q = rng.standard_normal((self.n, self.m))
        y = np.where(np.arange(self.n) % 2 == 0, 1.0, -1.0)
        return q, y, np.eye(self.m)[0]

    def constants(self) -> tuple[float, float, float]:
        """s, t and v of eq. 16, with t = dᵀU⁻¹d (in print d U⁻¹d)."""
        q, y, eta = self.parts()
        d = q @ eta
        inverse = np.linalg.inv(q @ q.T)
        return float(y @ inverse @ y), float(d @ inverse @ d), float(y @ inverse @ d)

    def g(self, r: Any) -> np.ndarray:
        """wᵀη/‖w‖ of training at distance r, by eq. 21."""
        s, t, v = self.constants()
        k = s * (1 - t) + v**2
        r = np.asarray(r, dtype=float)
        return np.sqrt(np.maximum(k / s - (1 - t) / (k * r**2 + 2 * v * r + 1), 0))

    def solved(self, r: float) -> tuple[float, float]:
        """The same by solving for w itself; and 1/‖w‖, up to which ε the samples are separable."""
        q, y, eta = self.parts()
        x = r * np.outer(y, eta) + q
        w = x.T @ np.linalg.solve(x @ x.T, y)
        length = np.linalg.norm(w)
        return float(w @ eta / length), float(1 / length)


def robust_error(g: Any, radii: Any, eps: float) -> np.ndarray:
    """R(r_l, ε) = mean_k P(Z > r_k g − ε), eq. 4 with equal p_k."""
    g, radii = np.asarray(g, dtype=float), np.asarray(radii, dtype=float)
    return np.asarray(norm.sf(np.multiply.outer(g, radii) - eps).mean(-1))


MODES = (2.0, 3.0, 4.0)
BUDGETS = (0.0, 0.5, 1.0, 1.5, 2.0)


def theory(*, n: int = 20, m: int = 1000, seed: int = 0) -> Curves:
    """R against the r_l trained at, for several budgets; and g, both ways."""
    mixture = Mixture(n, m, seed)
    r = np.linspace(0.5, 6, 56)
    g = mixture.g(r)
    found = {f"R, eps={eps:g}": robust_error(g, MODES, eps) for eps in BUDGETS}
    s, t, v = mixture.constants()
    solved, margin = np.array([mixture.solved(float(x)) for x in r]).T
    found |= {"g": g, "g solved": solved, "margin": margin}
    found["turn"] = np.full_like(r, -v / (s * (1 - t) + v**2))
    return curves(r, found, x_label="r_l", y_label="robust error R (fraction)")


def values(run: Trained, *, n: int | None = None) -> Sheet:
    """Numbers that the symbols have for a trained network; standard deviations where there are."""
    d = run.difficulty
    config = run.config
    model = run.model("final")
    count = sum(p.numel() for p in model.parameters())
    return sheet(
        {
            "b": [float(count)],
            "m": [float(np.prod(config.model.in_shape))],
            "n": [float(len(d.labels))],
            "eps": [run.eps],
            "d": [(float(d.difficulty.mean()), float(d.difficulty.std()))],
            "G": [float(len(d.group))],
            "lip": [lipschitz(run.objective("final", n=n), samples=32, pairs=200).upper],
            "L": [(float(d.mean_loss.mean()), float(d.mean_loss.std()))],
            "w": [float(P.norm({n: p.detach() for n, p in model.named_parameters()}))],
        },
        ["value"],
        what="standard deviation over samples",
    )


def _plan(scale: Scale) -> Mapping[str, Work]:
    seed = scale.seeds(1)[0]
    n = scale.pick(digits=100, paper=1000, smoke=40)
    return {"values": measure(values, full(scale, "pgd", seed), n=n), "theory": measure(theory)}


# Symbol, where, meaning in our words, where in this package, which number.
ROWS = (
    ("b", "§5.2", "parameters of the network", "ModelSpec", "b"),
    ("c", "§5.2", "constant of isoperimetry", "(not measurable)", ""),
    ("C", "§5.2", "mean squared error on adversarial samples", "losses", ""),
    ("d(x)", "§3, eq. 1", "difficulty: rank of the mean loss", "difficulty()", "d"),
    ("D", "§3", "data set", "data.load", ""),
    ("f_w", "§1", "network", "models", ""),
    ("F, W, J", "Thm. 3", "functions, their parameters, slope in w", "(not measurable)", ""),
    ("G_i", "§4.2", "groups of like difficulty, 0 hardest", "Difficulty.group", "G"),
    ("h(C, ε)", "Def. 1", "band that outputs cover within the ball", "(not measurable)", ""),
    ("K", "§5", "components of the data's distribution", "notation.Mixture", "K"),
    ("l", "§5", "component that is trained on", "notation.Mixture", ""),
    ("L", "§5.2", "Lipschitz constant in x, upper bound", "lipschitz()", "lip"),
    ("L(x)", "§1", "loss of the perturbed sample", "Track.sample_loss", "L"),
    ("m", "§5", "entries of an input", "ModelSpec.in_shape", "m"),
    ("n", "§5", "training samples", "len(data)", "n"),
    ("o, o'", "§6", "outputs on x and on x'", "Batch.clean_logits", ""),
    ("p", "§1", "norm of the ball", "Ball.norm", "p"),
    ("r_l", "§5.1, eq. 3", "distance of the two classes' means", "notation.Mixture", "r"),
    ("g(r_l)", "Thm. 2", "cosine of w and η", "Mixture.g", "g"),
    ("R(r_l, ε)", "Thm. 2", "robust error, ε = 1", "robust_error", "R"),
    ("t, t̃", "§6.1", "target, and its moving average", "AdaptiveTargets", ""),
    ("w", "§5", "parameters; their norm", "params", "w"),
    ("x, x', X", "§1, §5", "input, perturbed input, as a matrix", "Objective", ""),
    ("y", "§1, §5", "label", "Objective", ""),
    ("α", "Alg. 1", "step size of the attack", "Attack.step_size", "alpha"),
    ("β", "§6.1", "share of the label in the target", "AdaptiveTargets.fixed", "beta"),
    ("γ, δ", "Thm. 3", "excess of variance, probability", "(not measurable)", ""),
    ("ε", "§1", "radius of the ball", "Ball.radius", "eps"),
    ("η", "§5.1, eq. 3", "direction of the means", "notation.Mixture", ""),
    ("ρ", "§6.1", "momentum of the moving target", "AdaptiveTargets.momentum", "rho"),
    ("μ_l, σ_l", "§5.2", "distribution, conditional variance", "(not measurable)", ""),
)


def _numbers(found: Found) -> dict[str, Any]:
    measured: Sheet = found["values"]
    known = {str(r): float(measured.value[i, 0]) for i, r in enumerate(measured.row)}
    theory_: Curves = found["theory"]
    middle = int(np.argmin(np.abs(theory_.x - MODES[0])))
    return {
        **known,
        "K": float(len(MODES)),
        "r": MODES[0],
        "g": float(theory_.of("g")[middle]),
        "R": float(theory_.of("R, eps=1")[middle]),
        "p": float("inf"),
        "alpha": known["eps"] / (4 if found.scale.name in ("paper", "mnist") else 2),
        "beta": FIXED,
        "rho": MOMENTUM,
    }


def _table(found: Found) -> Sheet:
    numbers = _numbers(found)
    rows: dict[str, list[Any]] = {
        f"{symbol}: {meaning}": [numbers.get(key)] for symbol, _, meaning, _, key in ROWS
    }
    return sheet(rows, ["value"])


def _draw(found: Found) -> Any:
    numbers = _numbers(found)
    heads = ("symbol", "first in", "what it is", "in landscape", "value here")
    rows = [(s, w, m, h, f"{numbers[k]:.6g}" if k in numbers else "–") for s, w, m, h, k in ROWS]
    at = (0.01, 0.11, 0.23, 0.66, 0.99)
    high = 0.165 * (len(rows) + 1.6)
    fig = figure(PAGE, high / PAGE)
    ax = fig.add_subplot()
    ax.axis("off")
    ax.set(xlim=(0, 1), ylim=(-0.2, len(rows) + 1.2))
    for i, row in enumerate((heads, *rows)):
        for x, text, column in zip(at, row, range(5), strict=True):
            side = "right" if column == 4 else "left"
            ax.text(x, len(rows) - i + 0.5, text, ha=side, va="center", fontsize=7)
    for y, lw in ((len(rows) + 1.1, 0.8), (len(rows), 0.5), (0, 0.8)):
        ax.axhline(y, color="black", lw=lw)
    return fig


# -- the theory's statements ------------------------------------------------------------------


def _both_ways(found: Found) -> Verdict:
    t: Curves = found["theory"]
    off = float(np.abs(t.of("g") - t.of("g solved")).max())
    return claims.exactly(off < 1e-9, f"largest difference {off:.1e}, tolerance 1e-9", off)


def _easier_better(found: Found) -> Verdict:
    """dR/dr_l ≤ 0 from r_l = −v/(s(1 − t) + v²) on, where the parabola in eq. 21 turns."""
    t: Curves = found["theory"]
    rise = max(float(np.diff(t.of(f"R, eps={eps:g}")).max()) for eps in BUDGETS)
    return claims.exactly(
        rise <= 1e-12,
        f"largest rise of R between neighbouring r_l in [0.5, 6]: {rise:.1e}, tolerance 1e-12 "
        f"(g turns at r_l = {float(t.of('turn')[0]):.2g})",
        -rise,
    )


def gaps(t: Curves) -> dict[float, float]:
    """R(r_1, ε) − R(r_K, ε) by ε: what training on the hardest mode costs."""
    first, last = (int(np.argmin(np.abs(t.x - r))) for r in (MODES[0], MODES[-1]))
    return {
        eps: float(t.of(f"R, eps={eps:g}")[first] - t.of(f"R, eps={eps:g}")[last])
        for eps in BUDGETS
    }


def separated(t: Curves) -> float:
    """The largest ε with r_k g(r_l) ≥ ε for all k and l of ``MODES``, which Lemma 4 needs."""
    hardest = int(np.argmin(np.abs(t.x - MODES[0])))
    return float(MODES[0] * t.of("g")[hardest])


def _gap_grows(found: Found) -> Verdict:
    t: Curves = found["theory"]
    limit, cost = separated(t), gaps(t)
    inside = [eps for eps in BUDGETS if eps <= limit]
    rises = [cost[b] - cost[a] for a, b in pairwise(inside)]
    shown = ", ".join(f"{cost[eps]:.4f} at ε = {eps:g}" for eps in BUDGETS)
    text = f"difference {shown}; Lemma 4 needs ε ≤ {limit:.2f}; exact"
    return claims.exactly(bool(rises) and min(rises) > 0, text, min(rises, default=0.0))


def _gap_grows_beyond(found: Found) -> Verdict:
    cost = list(gaps(found["theory"]).values())
    rises = np.diff(cost)
    margin = float(found["theory"].of("margin").min())
    text = (
        f"difference from {cost[0]:.4f} at ε = 0 to {cost[-1]:.4f} at {BUDGETS[-1]:g}, smallest "
        f"step {rises.min():.1e}; samples are separable up to ε = {margin:.1f}; exact"
    )
    return claims.exactly(bool((rises > 0).all()), text, float(rises.min()))


TABLE3 = Figure(
    "liu2022/table3",
    "The notation, where this package has it, and values in an example",
    plan=_plan,
    draw=_draw,
    table=_table,
    claims=(
        Claim("g(r_l) has the closed form of eq. 21.", "Thm. 2, App. B.2", _both_ways),
        Claim(
            "The robust error R falls as the training samples become easier.",
            "Thm. 2",
            _easier_better,
        ),
        Claim(
            "The cost of training on hard samples grows with ε, while r_k g(r_l) ≥ ε.",
            "Cor. 1, Lemma 4",
            _gap_grows,
        ),
        Claim(
            "It grows with ε wherever the training samples are separable.",
            "Cor. 1",
            _gap_grows_beyond,
        ),
    ),
    analogue="Values are of the network of Fig. 2, and of §5.1 with 20 samples in 1,000 "
    f"dimensions, modes at r = {', '.join(f'{r:g}' for r in MODES)}.",
    needs="CIFAR-10.",
)
