"""Closed forms against brute force and autograd, then everything else against the closed forms."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, optimize

import landscape as ls
from landscape.diagnostics.analytic import SWISH_MINIMUM, Logistic, swish_loss
from landscape.diagnostics.analytic_models import Neuron, Quadratic, attacked, own_output
from landscape.diagnostics.entropy import local_entropy
from landscape.errors import NumericalError, UsageError
from landscape.random import Streams

EXAMPLES = Path(__file__).parent.parent / "examples"
NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
GRID = {"x": ls.Axis(-1.0, 1.0, 41), "y": ls.Axis(-0.5, 2.0, 21)}
EPS = 0.6
AXIS = np.linspace(-2, 2, 41)
PLANE = np.stack(np.meshgrid(AXIS, AXIS), -1)
SAMPLE = np.array([-1.0, 1.0])


def data(n=11, m=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, m))
    return x, np.where(x[:, 0] + 0.5 * rng.normal(size=n) > 0, 1, -1)


def kanai_data():
    x = Streams(0, "kanai2021").normal("x", (100, 2)).numpy()
    return x, np.sign(x[:, 0])


def ball(norm, count=4000):
    """Points that fill the unit ball's edge densely, corners included."""
    angle = np.linspace(0, 2 * np.pi, count + 1)  # a multiple of 8: the corners are among them
    edge = np.stack([np.cos(angle), np.sin(angle)], 1)
    return edge / (np.abs(edge).max(1, keepdims=True) if norm == "linf" else 1)


def objective(x, y, norm, kind="fgsm", eps=EPS, theta=(0.7, -0.4), sizes=(4, 2, 5), **options):
    """The network that computes the closed form, with batches that are not equal."""
    model = Neuron(theta, span=6.0)
    labels = torch.as_tensor((y + 1) // 2).long()
    batches = list(zip(model.unit(x).split(sizes), labels.split(sizes), strict=True))
    unit = model.unit_eps(eps)
    # Along a linear function longer steps only come closer to the worst corner or point.
    more = {} if kind == "fgsm" else {"step_size": 1e3 * unit}
    attack = ls.attack(kind, eps=unit, norm=norm, **more)
    return ls.Objective(model, batches, attack=attack, **{"refresh": "each", **options})


# -- the closed forms themselves ------------------------------------------------------------------


@NORMS
def test_loss_is_the_largest_over_the_ball_and_lowest_the_smallest(norm):
    x, y = data()
    problem = Logistic(x, y, EPS, norm)
    for w in np.array([[0.7, -0.4], [2.0, 1.0], [0.0, -1.0], [-1e-3, 3.0], [0.0, 0.0]]):
        margins = y[:, None] * ((x[:, None] + EPS * ball(norm)) @ w)
        losses = np.logaddexp(0, -margins)
        assert_allclose(problem.loss(w), losses.max(1).mean(), rtol=1e-6)
        assert_allclose(problem.lowest(w), losses.min(1).mean(), rtol=1e-6)
        delta = problem.perturbations(w)
        assert np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= EPS + 1e-15
        reached = np.logaddexp(0, -y * ((x + delta) @ w)).mean()
        assert_allclose(problem.loss(w), reached, rtol=1e-12)


@NORMS
@pytest.mark.parametrize("eps", [0.0, EPS])
def test_derivatives_against_autograd(norm, eps):
    x, y = data(m=3)
    problem = Logistic(x, y, eps, norm)

    def loss(w):
        size = w.abs().sum() if norm == "linf" else (w**2).sum().sqrt()
        exponents = eps * size - torch.tensor(y) * (torch.tensor(x) @ w)
        return torch.log1p(exponents.exp()).mean()

    points = np.random.default_rng(1).normal(size=(2, 4, 3))
    assert problem.loss(points).shape == problem.smooth(points).shape == (2, 4)
    gradients, hessians = problem.gradient(points), problem.hessian(points)
    assert problem.smooth(points).all()
    for index in np.ndindex(2, 4):
        w = torch.tensor(points[index])
        assert_allclose(problem.loss(points)[index], loss(w), rtol=1e-12)
        assert_allclose(gradients[index], torch.func.grad(loss)(w), rtol=1e-10, atol=1e-14)
        assert_allclose(hessians[index], torch.func.hessian(loss)(w), rtol=1e-9, atol=1e-13)


@NORMS
def test_kinks(norm):
    x, y = data()
    problem = Logistic(x, y, EPS, norm)
    points = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1e-9]])
    smooth = {"linf": [False, False, False, True], "l2": [False, True, True, True]}[norm]
    assert problem.smooth(points).tolist() == smooth
    assert np.isfinite(problem.hessian(points)).all((1, 2)).tolist() == smooth
    assert np.isfinite(problem.hessian(points, held=True)).all()
    # At a kink the gradient is a subgradient: the loss lies above its tangent plane everywhere.
    for w in points:
        tangent = problem.loss(w) + (PLANE - w) @ problem.gradient(w)
        assert (problem.loss(PLANE) >= tangent - 1e-12).all()
    clean = Logistic(x, y, 0.0, norm)
    assert clean.smooth(points).all()
    assert np.isfinite(clean.hessian(points)).all()


def test_large_exponents_do_not_overflow():
    problem = Logistic([[1000.0]], [1], 1.0)
    w = np.array([[5.0], [-5.0]])
    assert_allclose(problem.loss(w), [0, 5005])
    assert_allclose(problem.gradient(w)[:, 0], [0, -1001])
    assert np.isfinite(problem.hessian(w)).all()


def test_what_is_refused():
    x, y = data()
    for build, message in [
        (lambda: Logistic(x[0], y), r"expected x \(N, m\) and y \(N,\)"),
        (lambda: Logistic(x, y[:-1]), r"got \(11, 2\) and \(10,\)"),
        (lambda: Logistic(x[:0], y[:0]), "N > 0"),
        (lambda: Logistic(x * np.nan, y), "NaN or infinite"),
        (lambda: Logistic(x, (y + 1) // 2), r"labels must be −1 or \+1: write 2 \* y - 1"),
        (lambda: Logistic(x, y, -0.1), "eps must be a finite number of at least 0, got -0.1"),
        (lambda: Logistic(x, y, 0.1, "l1"), "unknown norm 'l1'"),
        (
            lambda: Logistic(x, y).loss([1.0, 2.0, 3.0]),
            r"points of shape \(\.\.\., 2\), got \(3,\)",
        ),
        (lambda: swish_loss(PLANE, SAMPLE, 0), r"label must be −1 or \+1, got 0"),
        (lambda: swish_loss(PLANE, SAMPLE, 1, np.inf), "eps must be a finite number"),
        (lambda: Neuron([0.0], span=0), "span must be a positive number, got 0"),
        (lambda: Neuron([0.0], activation="swich"), "did you mean 'swish'"),
        (
            lambda: attacked(Neuron([0.0]), [[1.0]], [0.5], 0, ls.attack("fgsm", eps=0.1)),
            r"label must be −1 or \+1, got 0",
        ),
    ]:
        with pytest.raises(UsageError, match=message):
            build()


# -- what landscape measures, against them --------------------------------------------------------


@NORMS
@pytest.mark.parametrize("kind", ["fgsm", "pgd-3"])
def test_surface_cell_by_cell_on_a_grid_that_is_not_square(norm, kind):
    x, y = data()
    attacked_objective = objective(x, y, norm, kind)
    # Not along the axes, and through the kinks.
    d1, d2 = np.array([1.0, 0.5]), np.array([-0.2, 1.5])
    directions = [{"theta": torch.tensor(d)} for d in (d1, d2)]
    found = ls.surface(attacked_objective, directions, **GRID)
    points = np.array([0.7, -0.4]) + found.x[:, None] * d1 + found.y[:, None, None] * d2
    assert found.loss.shape == (21, 41)
    assert_allclose(found.loss, Logistic(x, y, EPS, norm).loss(points), rtol=0, atol=1e-6)
    if kind == "fgsm":
        assert_allclose(found.loss, Logistic(x, y, EPS, norm).loss(points), rtol=1e-10)


@NORMS
def test_transposing_and_rebatching(norm):
    x, y = data()
    d1, d2 = {"theta": torch.tensor([1.0, 0.5])}, {"theta": torch.tensor([-0.2, 1.5])}
    d1, d2 = ({"theta": d["theta"].double()} for d in (d1, d2))
    small = {"x": ls.Axis(-1, 1, 7), "y": ls.Axis(-0.5, 2, 4)}
    one = ls.surface(objective(x, y, norm, "pgd-3"), (d1, d2), **small)
    other = objective(x, y, norm, "pgd-3", sizes=(1, 9, 1))
    swapped = ls.surface(other, (d2, d1), x=small["y"], y=small["x"])
    assert one.loss.shape == swapped.loss.T.shape == (4, 7)
    assert_allclose(swapped.loss.T, one.loss, rtol=1e-12)


def test_quadratic_surface_and_hessian():
    rng = np.random.default_rng(2)
    root, centre, theta = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    matrix = root + root.T  # a saddle
    d1, d2 = rng.normal(size=(2, 4))
    batches = [(torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n)) for n in (3, 1)]
    quadratic = ls.Objective(Quadratic(theta, matrix, centre), batches, own_output)
    directions = [{"theta": torch.tensor(d)} for d in (d1, d2)]
    found = ls.surface(quadratic, directions, **GRID)
    for j, b in enumerate(found.y):
        for i, a in enumerate(found.x):
            step = theta + a * d1 + b * d2 - centre
            assert_allclose(found.loss[j, i], step @ matrix @ step / 2, rtol=0, atol=1e-6)
    assert_allclose(ls.Hessian(quadratic) @ torch.eye(4).double(), matrix, rtol=0, atol=1e-12)


@NORMS
@pytest.mark.parametrize("eps", [0.0, EPS])
def test_hessian_and_gradient(norm, eps):
    x, y = data()
    problem = Logistic(x, y, eps, norm)
    for theta in ([0.7, -0.4], [-0.05, 1.3]):
        measured = objective(x, y, norm, eps=eps, theta=theta, refresh="fixed")
        dense = (ls.Hessian(measured) @ torch.eye(2).double()).numpy()
        assert_allclose(measured.gradient()["theta"], problem.gradient(theta), rtol=1e-10)
        assert_allclose(dense, problem.hessian(theta, held=True), rtol=1e-9)
        # What holding the perturbations leaves out: nothing, or the turning of the L2 ones.
        missing = problem.hessian(theta) - dense
        if norm == "linf" or eps == 0:
            assert_allclose(missing, 0, atol=1e-12)
        else:
            across = np.array([-theta[1], theta[0]]) / np.linalg.norm(theta)
            exponents = eps * np.linalg.norm(theta) - y * (x @ theta)
            bend = eps * (1 / (1 + np.exp(-exponents))).mean() / np.linalg.norm(theta)
            assert_allclose(missing, bend * np.outer(across, across), rtol=1e-8, atol=1e-12)


@NORMS
def test_whole_hessian_is_the_difference_of_gradients_attacked_anew(norm):
    x, y = data()
    each = objective(x, y, norm)
    theta, h = torch.tensor([0.7, -0.4]).double(), 1e-5
    columns = []
    for unit in torch.eye(2).double():
        up, down = (each.gradient({"theta": theta + s * h * unit})["theta"] for s in (1, -1))
        columns.append((up - down) / (2 * h))
    expected = Logistic(x, y, EPS, norm).hessian(theta.numpy())
    assert_allclose(torch.stack(columns, 1), expected, rtol=1e-6, atol=1e-8)


# -- liu2020 --------------------------------------------------------------------------------------


def sketch(eps):
    """Figure 5: x = 1 and g(x, θ) = log(1 + exp(θx))."""
    return Logistic([[1.0]], [-1], eps)


def test_figure_5():
    theta = np.linspace(-2, 2, 401)[:, None]
    clean = sketch(0).loss(theta)
    assert_allclose(clean, np.log1p(np.exp(theta[:, 0])), rtol=1e-12)
    jumps, widths = [], []
    for eps in (0.6, 1.2):
        worst, best = sketch(eps).loss(theta), sketch(eps).lowest(theta)
        moved = theta * np.linspace(1 - eps, 1 + eps, 1001)
        assert_allclose(worst, np.logaddexp(0, moved).max(1), rtol=1e-12)
        assert_allclose(best, np.logaddexp(0, moved).min(1), rtol=1e-12)
        assert (best <= clean).all()
        assert (clean <= worst).all()
        left, right = sketch(eps).gradient([[-1e-12], [1e-12]])[:, 0]
        jumps.append(right - left)
        widths.append(worst - best)
    # "not smooth at θ = 0", and sharper under the larger budget, whose band is wider.
    assert_allclose(jumps, [0.6, 1.2], rtol=1e-9)
    assert (widths[1] >= widths[0]).all()
    # The large budget exceeds |x|: the minimum is the constant classifier (Theorem 1).
    assert theta[sketch(1.2).loss(theta).argmin()] == 0
    assert theta[sketch(0.6).loss(theta).argmin()] == -2
    assert sketch(0.6).constant_from == 1


@NORMS
def test_version_space_shrinks_and_constant_directions_grow(norm):
    x, y = data()
    x[y * x[:, 0] < 0, 0] *= -1  # separable
    x[:, 0] += 0.3 * y
    budgets = [0.0, 0.1, 0.2, 0.4]
    problems = [Logistic(x, y, eps, norm) for eps in budgets]
    version = [p.in_version_space(PLANE) for p in problems]
    constant = [p.no_better_than_constant(PLANE) for p in problems]
    for small, large in zip(range(3), range(1, 4), strict=True):
        assert not (version[large] & ~version[small]).any()  # Proposition 1
        assert not (constant[small] & ~constant[large]).any()  # Theorem 1
    assert version[1].sum() < version[0].sum()
    # By definition: every perturbed input on the right side; γ = 0 as good as any γ.
    moved = y[:, None] * ((x[:, None] + 0.2 * ball(norm)) @ [1.0, 0.35])
    assert problems[2].in_version_space([1.0, 0.35]) == (moved >= 0).all()
    gammas = np.linspace(-3, 3, 601)[:, None]
    for w in PLANE[3::9, 5::7].reshape(-1, 2):
        best = problems[3].loss(gammas * w).min()
        lies = problems[3].no_better_than_constant(w)
        assert (best >= problems[3].loss(0 * w) - 1e-12) == lies
    epsilon = problems[0].constant_from
    assert Logistic(x, y, epsilon * 1.0001, norm).no_better_than_constant(PLANE).all()
    # The direction that holds out longest.
    mean = (y[:, None] * x).mean(0)
    last = mean if norm == "l2" else np.where(np.abs(mean) == np.abs(mean).max(), mean, 0)
    assert not Logistic(x, y, epsilon * 0.9999, norm).no_better_than_constant(last)


@NORMS
def test_one_sample_has_three_regions(norm):
    problem = Logistic(SAMPLE[None], [1], 0.3, norm)
    size = np.linalg.norm(PLANE, 1 if norm == "linf" else 2, axis=-1)
    off_edge = np.abs(np.abs(PLANE @ SAMPLE) - 0.3 * size) > 1e-9
    regions = [
        problem.in_version_space(PLANE),
        problem.in_version_space(-PLANE),
        problem.no_better_than_constant(PLANE),
    ]
    assert_array_equal(np.sum(regions, 0)[off_edge], 1)
    assert all(region.any() for region in regions)


def test_theorem_3_holds_for_equation_29_and_not_for_equation_6():
    x, y = data()
    x[:, 0] = y * (0.5 + np.abs(x[:, 0]))
    w = np.array([1.0, 0.0])  # ‖w‖_q = 1 for both norms; margins of 0.5 at least

    def printed(eps):
        e = np.exp(y * (x @ w) - eps)
        return np.einsum("n,ni,nj->ij", e / (1 + e) ** 2, x, x) / len(x)

    spectra = np.array([np.linalg.eigvalsh(printed(eps)) for eps in np.linspace(0, 0.5, 6)])
    assert (np.diff(spectra, axis=0) > 0).all()
    for norm in ("linf", "l2"):
        along = [Logistic(x, y, eps, norm).hessian(w, held=True)[0, 0] for eps in (0, 0.25, 0.5)]
        assert (np.diff(along) < 0).all()
    assert_allclose(Logistic([[1.0]], [1], 1.0).hessian([2.0]), 0)
    assert Logistic([[1.0]], [1], 0.0).hessian([2.0]) > 0.1


# -- kanai2021 ------------------------------------------------------------------------------------


def jump(loss, at, along, h=1e-6):
    """The change of the slope of ``loss`` across ``at``."""
    at, along = np.asarray(at, dtype=float), np.asarray(along, dtype=float)
    forward, centre, backward = loss(at + h * along), loss(at), loss(at - h * along)
    return (forward - 2 * centre + backward) / h


def test_lemmas_2_and_3():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 500, 2))
    round_, square = (Logistic(SAMPLE[None], [1], EPS, norm) for norm in ("l2", "linf"))
    moved = np.linalg.norm((round_.perturbations(a) - round_.perturbations(b))[:, 0], axis=1)
    nearest = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    assert (moved <= EPS / nearest * np.linalg.norm(a - b, axis=1) + 1e-12).all()
    moved = np.abs(square.perturbations(a) - square.perturbations(b))[:, 0]
    assert_allclose(moved, np.where(np.sign(a) == np.sign(b), 0, 2 * EPS), atol=1e-15)


def test_figure_2_linear():
    clean, square, round_ = (
        Logistic(SAMPLE[None], [1], eps, norm).loss
        for eps, norm in [(0, "l2"), (EPS, "linf"), (EPS, "l2")]
    )
    for at in ([0, 0], [0, 1], [0, -1.3], [1, 0]):
        for along in ([1, 0], [0, 1], [0.6, 0.8]):
            assert abs(jump(clean, at, along)) < 1e-3
    # (b): at the origin alone, alike in every direction; (c): along both axes.
    for along in ([1, 0], [0, 1], [0.6, 0.8]):
        assert_allclose(jump(round_, [0, 0], along), EPS, rtol=1e-3)
    for at, along in ([(0, 1), (1, 0)], [(1, 0), (0, 1)], [(0, -1.3), (1, 0)]):
        assert abs(jump(round_, at, along)) < 1e-3
        exponent = EPS * np.abs(at).sum() - np.dot(at, SAMPLE)
        assert_allclose(jump(square, at, along), 2 * EPS / (1 + np.exp(-exponent)), rtol=1e-3)


def test_swish_minimum():
    found = optimize.minimize_scalar(
        lambda u: u / (1 + np.exp(-u)), bracket=(-2, -1), options={"xtol": 1e-10}
    )
    assert_allclose(SWISH_MINIMUM, found.x, rtol=1e-6)
    assert -2 < SWISH_MINIMUM < -1  # as the paper says
    s = 1 / (1 + np.exp(-SWISH_MINIMUM))
    assert abs(s + SWISH_MINIMUM * s * (1 - s)) < 1e-15


@NORMS
@pytest.mark.parametrize("y", [1, -1])
def test_swish_loss_by_brute_force(norm, y):
    # The ball's inside matters here: the worst input may lie in it.
    inside = (np.linspace(0, 1, 401)[:, None, None] * ball(norm, 80)).reshape(-1, 2)
    for theta in PLANE[::8, ::8].reshape(-1, 2):
        u = (SAMPLE + EPS * inside) @ theta
        brute = np.logaddexp(0, -y * u / (1 + np.exp(-u))).max()
        # Between the sampled angles an L2 ball bulges by 1e-3 of its radius.
        assert_allclose(swish_loss(theta, SAMPLE, y, EPS, norm), brute, rtol=0, atol=3e-3)
        assert swish_loss(theta, SAMPLE, y, EPS, norm) >= brute - 1e-12
    assert_allclose(swish_loss(PLANE, SAMPLE, y), swish_loss(PLANE, SAMPLE, y, 0.0, "l2"))


@NORMS
def test_pgd_finds_the_worst_of_the_swish_network(norm):
    model = Neuron([0.7, -0.4], 2.0, "swish")
    eps = model.unit_eps(EPS)
    attack = ls.attack("pgd-50", eps=eps, norm=norm, step_size=eps / 25, start="zero")
    points = PLANE.reshape(-1, 2)
    exact = swish_loss(points, SAMPLE, 1, EPS, norm)
    by_pgd = attacked(model, points, SAMPLE, 1, attack)
    assert (by_pgd <= exact + 1e-12).all()
    assert_allclose(by_pgd, exact, rtol=0, atol=1e-3)  # around the minimum it steps to and fro
    assert_array_equal(attacked(model, points, SAMPLE, 1, attack), by_pgd)


@NORMS
def test_surface_of_the_swish_network_is_the_batch_of_networks(norm):
    model = Neuron([0.5, -1.0], 2.0, "swish")
    eps = model.unit_eps(EPS)
    attack = ls.attack("pgd-10", eps=eps, norm=norm, step_size=eps / 5, start="zero")
    sample = (model.unit(SAMPLE)[None], torch.tensor([1]))
    pgd = ls.Objective(model, sample, attack=attack, refresh="each")
    axes = [{"theta": torch.tensor(d).double()} for d in ([1.0, 0.0], [0.0, 1.0])]
    found = ls.surface(pgd, axes, x=ls.Axis(-1, 1, 7), y=ls.Axis(-1, 2, 4))
    points = np.stack(np.meshgrid(0.5 + found.x, -1.0 + found.y), -1).reshape(-1, 2)
    together = attacked(model, points, SAMPLE, 1, attack).reshape(4, 7)
    assert_allclose(found.loss, together, rtol=1e-12)


def test_figure_2_swish():
    def square(theta):
        return swish_loss(theta, SAMPLE, 1, EPS, "linf")

    def round_(theta):
        return swish_loss(theta, SAMPLE, 1, EPS, "l2")

    # (e) "has larger sets where the loss is smooth" than (f): the origin is its only kink.
    for at in ([0, 0.5], [0, -0.5], [0, -1.5], [0.5, 0], [-1, 0], [1.2, -1.2]):
        for along in ([1, 0], [0, 1]):
            assert abs(jump(round_, at, along)) < 1e-3
    assert jump(round_, [0, 0], [1, 0]) > 0.1
    # (f): where the attack lies inside the ball the kinks along the axes end, at 1.6 θ = u*.
    edge = -SWISH_MINIMUM / (1 + EPS)
    for theta in (0.3, edge - 0.05):
        assert jump(square, [0, -theta], [1, 0]) > 0.01
        assert jump(square, [theta, 0], [0, 1]) > 0.01
    for theta in (edge + 0.05, 1.5, 2):
        assert abs(jump(square, [0, -theta], [1, 0])) < 1e-3
        assert abs(jump(square, [theta, 0], [0, 1])) < 1e-3
    # θ₁ > 1, θ₂ < −1: constant while u* is within reach, smooth everywhere.
    corner = PLANE[(PLANE[..., 0] > 1) & (PLANE[..., 1] < -1)]
    flat = np.abs(corner).sum(1) <= -SWISH_MINIMUM / (1 - EPS)
    level = np.log1p(np.exp(-SWISH_MINIMUM / (1 + np.exp(-SWISH_MINIMUM))))
    assert_allclose(square(corner[flat]), level, rtol=1e-12)
    assert (square(corner[~flat]) < level).all()
    assert 0 < flat.sum() < len(flat)
    assert all(abs(jump(square, w, d)) < 1e-3 for w in corner for d in ([1, 0], [0, 1]))


@NORMS
def test_figures_2g_2h_and_theorem_3(norm):
    problem = Logistic(SAMPLE[None], [1], EPS, norm)
    gamma = 10.0
    found = local_entropy(problem.loss, PLANE.reshape(-1, 2), gamma)
    assert found.error.max() < 1e-7
    spectra = np.linalg.eigvalsh(found.hessian)
    bound = gamma + gamma**2 * np.linalg.norm(found.covariance, axis=(1, 2))
    assert (np.abs(spectra).max(1) <= bound).all()
    # L_ε is convex, so that more can be said: −F is convex and γ-smooth.
    assert spectra.min() >= -1e-8
    assert spectra.max() <= gamma
    # Slopes across the kinks change in proportion to the distance.
    across = local_entropy(problem.loss, np.array([[-1e-4, 1.0], [1e-4, 1.0]]), gamma).gradient
    assert np.abs(np.diff(across, axis=0)).max() < 2e-4 * gamma
    origin = local_entropy(problem.loss, np.array([[-1e-4, 0.0], [1e-4, 0.0]]), gamma).gradient
    assert np.abs(np.diff(origin, axis=0)).max() < 2e-4 * gamma


def test_smoothed_surfaces_are_almost_equally_smooth():
    sharpest = [
        np.linalg.eigvalsh(
            local_entropy(Logistic(SAMPLE[None], [1], EPS, norm).loss, PLANE[0], 1.0).hessian
        ).max()
        for norm in ("l2", "linf")
    ]
    assert_allclose(*sharpest, rtol=0.15)


def test_figure_4_optimum():
    x, y = kanai_data()
    square, round_ = (Logistic(x, y, EPS, norm) for norm in ("linf", "l2"))
    # "the optimal θ₂ is 0": a kink holds it there exactly under L∞, as 0 is a subgradient; under
    # L2 it is 0 for the distribution, and of the size of the sampling error for 100 samples.
    best = optimize.minimize_scalar(lambda t: square.loss([t, 0.0]), bounds=(0, 3)).x
    below, above = square.gradient([[best, -1e-9], [best, 1e-9]])[:, 1]
    assert below < 0 < above
    assert 0.5 < best < 2
    found = optimize.minimize(round_.loss, [1.0, 0.5], jac=round_.gradient, tol=1e-10).x
    assert 1e-3 < abs(found[1]) < 0.3
    # Without an attack the classes are separable: there is no finite optimum.
    ray = Logistic(x, y).loss(np.array([1.0, 0.0]) * np.array([[1], [10], [100], [1000]]))
    assert (np.diff(ray) < 0).all()


def smoothed_optimum(problem, gamma):
    """The lowest −F on a grid wider than the figure's."""
    t = np.linspace(-4, 4, 81)
    points = np.stack(np.meshgrid(t, t), -1).reshape(-1, 2)
    return points[local_entropy(problem.loss, points, gamma, tol=1e-5).value.argmin()]


def test_figure_5_optimum_is_that_of_the_loss_only_for_large_gamma():
    x, y = kanai_data()
    problem = Logistic(x, y, EPS, "linf")
    best = PLANE.reshape(-1, 2)[problem.loss(PLANE).argmin()]
    assert_allclose(smoothed_optimum(problem, 100.0), best, atol=0.101)
    assert np.linalg.norm(smoothed_optimum(problem, 1.0) - best) > 0.5


# -- local entropy --------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2])
def test_local_entropy_of_a_quadratic(m):
    rng = np.random.default_rng(4)
    root = rng.normal(size=(m, m))
    a, centre, gamma, beta = root @ root.T, rng.normal(size=m), 0.7, 1.6
    points = rng.normal(size=(5, m))

    def loss(theta):
        step = theta - centre
        return 0.5 * np.einsum("ki,ij,kj->k", step, a, step)

    found = local_entropy(loss, points, gamma, beta, kinks=(), tol=1e-10)
    both = a + gamma * np.eye(m)
    smoothed = beta * gamma * a @ np.linalg.inv(both)  # in ½ (θ − c)ᵀ · (θ − c)
    step = points - centre
    constant = 0.5 * np.linalg.slogdet(beta * both / (2 * np.pi))[1]
    value = 0.5 * np.einsum("ki,ij,kj->k", step, smoothed, step) + constant
    assert_allclose(found.value, value, rtol=1e-10)
    assert (np.abs(found.value - value) <= found.error + 1e-12).all()
    assert_allclose(found.gradient, step @ smoothed, rtol=1e-8, atol=1e-9)
    assert_allclose(found.hessian, np.broadcast_to(smoothed, (5, m, m)), rtol=1e-7, atol=1e-8)
    assert_allclose(found.covariance[0], np.linalg.inv(beta * both), rtol=1e-8, atol=1e-9)


@NORMS
def test_local_entropy_against_adaptive_integration(norm):
    problem = Logistic(*data(5), EPS, norm)
    points, gamma = np.array([[0.2, -0.1], [-1.5, 2.0]]), 2.0
    found = local_entropy(problem.loss, points, gamma, tol=1e-9)
    for (p, q), value in zip(points, found.value, strict=True):

        def integrand(b, a, p=p, q=q):
            kernel = gamma / 2 * ((a - p) ** 2 + (b - q) ** 2)
            return np.exp(-problem.loss([a, b]) - kernel)

        # Quadrant by quadrant around the kinks.
        pieces = [
            integrate.dblquad(integrand, *across, *up, epsabs=1e-7)[0]
            for across in [(-7, 0), (0, 6)]
            for up in [(-6, 0), (0, 7)]
        ]
        assert_allclose(value, -np.log(sum(pieces)), atol=1e-6)


@NORMS
def test_gradient_and_hessian_of_the_local_entropy(norm):
    problem = Logistic(*data(5), EPS, norm)
    at, h, (gamma, beta) = np.array([0.1, -0.3]), 1e-3, (3.0, 0.5)
    steps = np.array([[0, 0], [h, 0], [-h, 0], [0, h], [0, -h]])
    found = local_entropy(problem.loss, at + steps, gamma, beta, tol=1e-9)
    v, g = found.value, found.gradient
    assert_allclose(g[0], [(v[1] - v[2]) / (2 * h), (v[3] - v[4]) / (2 * h)], rtol=1e-5, atol=1e-7)
    columns = np.stack([g[1] - g[2], g[3] - g[4]], 1) / (2 * h)
    assert_allclose(found.hessian[0], columns, rtol=1e-4, atol=1e-5)


def test_local_entropy_of_nothing():
    found = local_entropy(lambda theta: np.zeros(len(theta)), np.array([[3.0, -1.0]]), 0.03)
    assert_allclose(found.value, -np.log(2 * np.pi / 0.03), rtol=1e-12)
    assert_allclose(found.mean, [[3.0, -1.0]], rtol=1e-10)
    assert_allclose(found.hessian, np.zeros((1, 2, 2)), atol=1e-10)


def test_local_entropy_refuses():
    def zero(theta):
        return np.zeros(len(theta))

    at = np.zeros((1, 2))
    for call, error, message in [
        (lambda: local_entropy(zero, np.zeros(2), 1.0), UsageError, r"expected points of shape"),
        (lambda: local_entropy(zero, np.zeros((1, 3)), 1.0), UsageError, r"got \(1, 3\)"),
        (lambda: local_entropy(zero, at, 0.0), UsageError, "gamma must be a positive number"),
        (lambda: local_entropy(zero, at, 1.0, np.inf), UsageError, "beta must be a positive"),
        (lambda: local_entropy(lambda t: t[:, 0], at, 1.0), UsageError, "at least 0 everywhere"),
        (lambda: local_entropy(lambda t: 0.0, at, 1.0), UsageError, "one each"),
        (lambda: local_entropy(zero, at * np.nan, 1.0), UsageError, "NaN or infinite"),
        (lambda: local_entropy(lambda t: zero(t) + 1e4, at, 1.0), NumericalError, "underflows"),
        (lambda: local_entropy(zero, PLANE[0], 1e8), NumericalError, "fewer points at a time"),
        (
            lambda: local_entropy(lambda t: 5 * np.abs(t[:, 0] - 0.3), at, 1.0),
            NumericalError,
            "give the coordinates where the gradient jumps as kinks",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()
    known = local_entropy(lambda t: 5 * np.abs(t[:, 0] - 0.3), at, 1.0, kinks=(0.3,))
    assert known.error.max() < 1e-8


# -- the pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "pictures"),
    [
        ("analytic_liu2020", ["liu2020-figure5", "liu2020-regions"]),
        ("analytic_kanai2021", ["kanai2021-figure2", "kanai2021-figure4", "kanai2021-figure5"]),
    ],
)
def test_examples(script, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "new")])
    runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == sorted(f"{name}.{form}" for name in pictures for form in ("pdf", "png"))
    assert all(name in capsys.readouterr().out for name in written[:1])
