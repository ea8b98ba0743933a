"""Curves between networks: the algebra, their training, BatchNorm, barriers, files, the command."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray
from cases import CASES, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.testing import assert_close

import landscape as ls
from landscape import checkpoints, data, models
from landscape import params as P
from landscape.checkpoints import Checkpoint
from landscape.cli import run
from landscape.connectivity import (
    Connectivity,
    Curve,
    CurveCheckpoint,
    CurvePlan,
    CurveState,
    connect,
    extract,
    load_curve,
    profile,
    reestimate,
)
from landscape.connectivity.batchnorm import split
from landscape.connectivity.curves import bernstein
from landscape.connectivity.fitting import point_gradients
from landscape.errors import CheckpointError, NumericalError, UsageError
from landscape.random import seeded
from landscape.training import Optimiser
from landscape.training.samples import Samples

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("chain", [False, True], ids=["bezier", "chain"])
NETS = ["tied", "frozen", "unused", "conv, batchnorm, dropout"]


def points(n, size=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, size, generator=g, dtype=torch.float64)


def curve_of(array, chain=False):
    tensor = torch.as_tensor(array, dtype=torch.float64)
    return Curve(tensor, {"w": (tensor.shape[1],)}, chain)


def pair(name, scale=0.5):
    """Two networks of a case that differ in their trainable parameters and BatchNorm only."""
    a, b = CASES[name].model(), CASES[name].model()
    g = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for p in b.parameters():
            if p.requires_grad:
                p.add_(scale * torch.randn(p.shape, generator=g, dtype=p.dtype))
        for buffer in b.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand(buffer.shape, generator=g, dtype=buffer.dtype))
    return a, b


def quick(**changes):
    given = {"epochs": 3, "batch_size": 6, "optimiser": Optimiser(lr=0.05, weight_decay=1e-3)}
    return CurvePlan(**{**given, **changes})


# -- the algebra ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_bezier_against_de_casteljau(n):
    """Repeated interpolation of neighbours, which never forms a binomial coefficient."""
    p = points(n + 1)
    for t in (0.0, 1e-9, 0.3, 0.5, 0.9, 1.0):
        rows = p.clone()
        while len(rows) > 1:
            rows = (1 - t) * rows[:-1] + t * rows[1:]
        assert_close(curve_of(p).vector(t), rows[0])


def test_weights_in_closed_form():
    t = 0.3
    expected = [0.7**3, 3 * 0.3 * 0.7**2, 3 * 0.3**2 * 0.7, 0.3**3]
    assert_allclose(bernstein(3, np.array([t]))[0], expected, rtol=1e-14)
    assert_allclose(bernstein(9, np.linspace(0, 1, 17)).sum(1), 1, rtol=1e-13)


def test_a_chain_is_linear_between_its_points():
    p = points(5)
    for t in np.linspace(0, 1, 23):
        expected = [np.interp(t, np.linspace(0, 1, 5), column) for column in p.numpy().T]
        assert_allclose(curve_of(p, chain=True).vector(t), expected, atol=1e-14)


@BOTH
def test_the_ends_are_reproduced_bit_for_bit(chain):
    a = {"w": torch.tensor([-0.0, 1e-30, 3.0]), "s": torch.tensor(1 / 3)}
    b = {"w": torch.tensor([1e30, -0.0, 0.1]), "s": torch.tensor(-0.0)}
    curve = Curve.between(a, b, 4, chain=chain)
    for t, end in ((0.0, a), (1.0, b)):
        assert P.digest(curve.at(t)) == P.digest(end)
    assert_close(curve.at(0.5)["s"], torch.tensor(1 / 6))
    assert curve.line().order == 1
    with pytest.raises(UsageError, match=r"t must lie in \[0, 1\], got 1.1"):
        curve.at(1.1)


def test_arc_length_of_a_parabola():
    """y = x² over [−1, 1] is the Bezier curve of (−1, 1), (0, −1), (1, 1)."""
    curve = curve_of([[-1, 1], [0, -1], [1, 1]])
    x, y = curve.vector(0.3)
    assert_close(y, x**2)
    assert curve.length() == pytest.approx(math.sqrt(5) + math.asinh(2) / 2, rel=1e-12)


@pytest.mark.parametrize(("n", "chain"), [(1, False), (4, False), (4, True)])
def test_arc_length_against_a_fine_polygon(n, chain):
    curve = curve_of(points(n + 1), chain)
    dense = torch.stack([curve.vector(t) for t in np.linspace(0, 1, 4001)])
    polygon = float(dense.diff(dim=0).norm(dim=1).sum())
    assert curve.length() == pytest.approx(polygon, rel=1e-6)
    assert curve.length() >= curve.line().length()


# -- gradients and training -----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", NETS)
def test_gradients_of_the_points_against_autograd(name, chain):
    """The whole composition differentiated: points → B(t) → network in train mode → loss."""
    a, b = pair(name)
    x, y = joined(CASES[name].data())
    curve = Curve.between(P.trainable(a), P.trainable(b), 3, chain=chain)
    curve.points[1:-1] += points(2, curve.points.shape[1])
    decay = 0.3
    for t in (0.0, 0.2, 0.61):
        with seeded(4, CPU):
            value, found = point_gradients(copy.deepcopy(a), curve, t, x, y, decay=decay)
        leaves = curve.points.clone().requires_grad_()
        vector = sum(float(w) * p for w, p in zip(curve.weights(t), leaves, strict=True))
        net = copy.deepcopy(a).train()
        with seeded(4, CPU):
            output = torch.func.functional_call(net, curve.named(vector), (x,))
        loss = F.cross_entropy(output, y)
        (loss + decay / 2 * vector.square().sum()).backward()
        assert value == pytest.approx(float(loss.detach()), rel=1e-12)
        assert_close(found, leaves.grad[1:-1])


def test_the_adversarial_gradient_is_taken_at_examples_made_at_the_point():
    a, b = pair("mlp")
    x, y = joined(CASES["mlp"].data())
    curve = Curve.between(P.trainable(a), P.trainable(b), 2)
    fgsm = ls.attack("fgsm", eps=0.1)
    value, found = point_gradients(copy.deepcopy(a), curve, 0.4, x, y, attack=fgsm)
    there = copy.deepcopy(a)
    there.load_state_dict(curve.at(0.4))
    leaf = x.clone().requires_grad_()
    F.cross_entropy(there(leaf), y, reduction="sum").backward()
    worse = (x + 0.1 * leaf.grad.sign()).clamp(0, 1)
    there.zero_grad()
    loss = F.cross_entropy(there(worse), y)
    loss.backward()
    assert value == pytest.approx(float(loss.detach()))
    gradient = torch.cat([p.grad.flatten() for p in there.parameters()])
    assert_close(found[0], 2 * 0.4 * 0.6 * gradient)


def test_a_quadratic_problem_ends_at_its_closed_form():
    """L(θ) = L* + |θ − θ*|²_H: the middle point is (15/2) [θ*/3 − (a + b)/10] whatever H.

    The integrals over t of w₁, w₀w₁, w₁w₂ and w₁² are 1/3, 1/10, 1/10 and 2/15.
    """
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g, dtype=torch.float64)
    y = torch.randint(2, (40,), generator=g)

    def squared(output, target):
        return (output - F.one_hot(target, 2)).square().sum(1)

    a, b = (nn.Linear(3, 2, bias=False).double() for _ in range(2))
    for net, ends in ((a, 1.0), (b, -2.0)):
        nn.init.constant_(net.weight, ends)
    best = torch.linalg.lstsq(x, F.one_hot(y, 2).double()).solution.T.flatten()
    plan = CurvePlan(epochs=800, batch_size=40, optimiser=Optimiser(lr=0.02))
    curve, _ = connect(a, b, (x, y), plan=plan, loss=squared, points=3)
    expected = 7.5 * (best / 3 - (curve.points[0] + curve.points[2]) / 10)
    start = (curve.points[0] + curve.points[2]) / 2
    assert (start - expected).abs().min() > 0.5
    assert_close(curve.points[1], expected, atol=0.1, rtol=0)  # t is drawn at random
    # There, the gradient's mean over t is zero: a polynomial, which the quadrature gives exactly.
    exact = Curve(torch.stack([curve.points[0], expected, curve.points[2]]), curve.shapes)
    nodes, shares = np.polynomial.legendre.leggauss(8)
    mean = sum(
        share / 2 * point_gradients(a, exact, (node + 1) / 2, x, y, loss=squared)[1]
        for node, share in zip(nodes, shares, strict=True)
    )
    assert_close(mean, torch.zeros_like(mean), atol=1e-12, rtol=0)


@pytest.mark.parametrize("attack", [None, ls.attack("pgd-2", eps=0.1)], ids=["clean", "attack"])
def test_resuming_changes_nothing(attack, tmp_path):
    name = "conv, batchnorm, dropout"
    a, b = pair(name)
    batches = CASES[name].data()
    given = {"plan": quick(order=3), "attack": attack, "points": 3}
    states = []
    whole, result = connect(a, b, batches, save=states.append, **given)
    assert [s.epoch for s in states] == [1, 2, 3]
    for k, state in enumerate(states):
        path = CurveCheckpoint(state, a.state_dict()).save(tmp_path / f"{k}.pt")
        again, other = connect(a, b, batches, state=load_curve(path).state, **given)
        assert torch.equal(again.points, whole.points)
        assert_array_equal(other.train_loss, result.train_loss)
        assert_array_equal(other.epoch_loss, result.epoch_loss)
    fresh, _ = connect(a, b, batches, **{**given, "plan": quick(order=3, seed=1)})
    assert not torch.equal(fresh.points, whole.points)


def test_both_networks_are_left_as_they_were():
    name = "conv, batchnorm, dropout"
    a, b = pair(name)
    a.train()
    a.bn2.eval()
    a.conv1.weight.grad = torch.ones_like(a.conv1.weight)

    def snapshot(net):
        state = {**net.state_dict(), "grad": a.conv1.weight.grad}
        marks = [net.bn1.momentum, *(m.training for m in net.modules())]
        return P.digest(state), marks, torch.get_rng_state().tolist()

    before = [snapshot(a), snapshot(b)]
    attack = ls.attack("pgd-1", eps=0.1)
    connect(a, b, CASES[name].data(), CASES[name].data(), plan=quick(), attack=attack, points=3)
    assert [snapshot(a), snapshot(b)] == before


def test_frozen_parameters_stay_out_of_the_curve():
    a, b = pair("frozen")
    curve, _ = connect(a, b, CASES["frozen"].data(), plan=quick(), points=3)
    assert set(curve.shapes) == {n for n, p in a.named_parameters() if p.requires_grad}


# -- BatchNorm ------------------------------------------------------------------------------------


class Shifting(nn.Sequential):
    """BatchNorm after BatchNorm, 1-D and 2-D, with Dropout that must be off."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3, momentum=0.3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(48, 4),
            nn.BatchNorm1d(4, momentum=None),
            nn.Linear(4, 3),
        )


def slow_statistics(net, x, sizes):
    """Means and unbiased variances of every layer's inputs, batch by batch, weighted by size."""
    sums = {}
    for batch in x.split(sizes):
        hidden = batch
        for index, layer in enumerate(net):
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                rows = hidden.movedim(1, -1).reshape(-1, hidden.shape[1])
                mean, var = rows.mean(0), rows.var(0, unbiased=True)
                old = sums.get(index, (0, 0))
                sums[index] = old[0] + len(batch) * mean, old[1] + len(batch) * var
                shape = (1, -1, *[1] * (hidden.ndim - 2))
                biased = rows.var(0, unbiased=False)
                centred = (hidden - mean.view(shape)) / (biased.view(shape) + layer.eps).sqrt()
                hidden = centred * layer.weight.view(shape) + layer.bias.view(shape)
            elif not isinstance(layer, nn.Dropout):
                hidden = layer(hidden)
    return {index: (mean / len(x), var / len(x)) for index, (mean, var) in sums.items()}


def test_reestimation_against_a_slow_loop():
    torch.manual_seed(0)
    net = Shifting().double().train()
    x = torch.rand(17, 1, 6, 6, dtype=torch.float64)
    params = {name: p.detach() + 0.1 for name, p in net.named_parameters()}
    other = copy.deepcopy(net)
    other.load_state_dict(params, strict=False)
    net(x)  # statistics that must be forgotten
    reestimate(net, params, Samples((x, torch.zeros(17, dtype=torch.int64)), CPU, x.dtype), 8)
    with torch.no_grad():
        expected = slow_statistics(other, x, [8, 9])  # a last batch of one joins the one before
    for index, (mean, var) in expected.items():
        assert_close(net[index].running_mean, mean)
        assert_close(net[index].running_var, var)
    assert net.training
    assert (net[1].momentum, net[6].momentum) == (0.3, None)


def test_a_last_batch_of_one_is_joined():
    assert [len(p) for p in split(torch.arange(17), 8)] == [8, 9]
    assert [len(p) for p in split(torch.arange(18), 8)] == [8, 8, 2]
    assert [len(p) for p in split(torch.arange(1), 8)] == [1]


def test_the_profile_uses_statistics_of_every_t():
    name = "conv, batchnorm, dropout"
    a, b = pair(name)
    x, y = joined(CASES[name].data())
    curve, found = connect(a, b, (x, y), (x, y), plan=quick(batch_size=17), points=3)
    for i, t in enumerate(found.t):
        net = copy.deepcopy(a).eval()
        net.load_state_dict(curve.at(t), strict=False)
        reestimate(net, {}, Samples((x, y), CPU, x.dtype), 17)
        with torch.no_grad():
            loss = F.cross_entropy(net(x), y)
        assert found.train_loss[0, i] == pytest.approx(float(loss), rel=1e-12)
    # The end's own statistics give something else.
    assert abs(found.train_loss[0, 0] - ls.Objective(a, (x, y)).value().loss) > 1e-3
    assert "re-estimated" in found.provenance.objective["model"]["batchnorm"]


# -- what is measured -----------------------------------------------------------------------------


def test_losses_errors_and_barriers_of_a_network_without_batchnorm():
    a, b = pair("mlp", scale=2.0)
    batches = CASES["mlp"].data()
    attack = ls.attack("pgd-2", eps=0.1)
    curve, found = connect(a, b, batches, batches, plan=quick(), attack=attack, points=5)
    clean, robust = (ls.Objective(a, batches, attack=how, refresh="each") for how in (None, attack))
    straight = [{n: torch.lerp(p, P.trainable(b)[n], t) for n, p in clean.params.items()}
                for t in found.t]  # fmt: skip
    for row, path in enumerate(([curve.at(t) for t in found.t], straight)):
        worse = [robust.value(p) for p in path]
        assert_allclose(found.train_loss[row], [v.loss for v in worse], rtol=1e-9)
        assert_allclose(found.robust_test_error[row], [1 - v.accuracy for v in worse])
        assert_allclose(found.test_error[row], [1 - clean.value(p).accuracy for p in path])
        losses = [v.loss for v in worse]
        assert found.barrier[row] == pytest.approx(max(losses) - max(losses[0], losses[-1]))
        chord = [
            v - (1 - t) * losses[0] - t * losses[-1] for v, t in zip(losses, found.t, strict=True)
        ]
        assert found.barrier_linear[row] == pytest.approx(max(chord))
        assert found.t[np.argmax(losses)] == found.highest_t[row]
    # The ends are the networks themselves.
    for net, column in ((a, 0), (b, -1)):
        own = ls.Objective(net, batches, attack=attack, refresh="each").value().loss
        assert found.train_loss[0, column] == found.train_loss[1, column] == own
    assert found.length[1] == pytest.approx(
        math.dist(P.flatten(P.trainable(a)), P.flatten(P.trainable(b)))
    )
    assert found.length[0] >= found.length[1]
    assert (found.barrier >= 0).all()
    assert found.order == 2
    assert found.curve == "Bezier, order 2"


def test_clean_training_with_robust_errors():
    a, b = pair("mlp")
    batches = CASES["mlp"].data()
    attack = ls.attack("fgsm", eps=0.1)
    given = {"plan": quick(), "points": 3}
    one, found = connect(a, b, batches, batches, attack=attack, adversarial=False, **given)
    other, plain = connect(a, b, batches, batches, **given)
    assert torch.equal(one.points, other.points)
    assert_array_equal(found.train_loss, plain.train_loss)
    assert plain.robust_test_error is None
    assert found.robust_test_error is not None
    assert plain.loss_label == "training loss (nats)"


def test_order_one_is_the_straight_line():
    a, b = pair("mlp")
    curve, found = connect(a, b, CASES["mlp"].data(), plan=quick(order=1), points=4)
    assert_array_equal(found.train_loss[0], found.train_loss[1])
    assert found.ratio in (None, 1.0)
    assert len(found.epoch_loss) == 0
    assert curve.order == 1


@BOTH
def test_training_lowers_the_barrier_of_the_bundled_pair(chain):
    paths = checkpoints.bundled()
    nets = [_network(paths[f"digits-standard-seed{seed}"]) for seed in (0, 1)]
    steps = []
    _, found = connect(
        *nets,
        data.load("digits", "train"),
        data.load("digits", "test"),
        plan=CurvePlan(epochs=25, chain=chain),
        points=11,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert found.barrier[1] > 1  # nats: the straight line leaves the valley
    assert found.ratio < 0.1
    assert found.test_error[0].max() < 0.06 < 0.4 < found.test_error[1].max()
    assert steps[-1][0] == steps[-1][1]
    assert [s for s, _ in steps] == sorted(s for s, _ in steps)


def _network(path):
    checkpoint = ls.load_checkpoint(path)
    return checkpoint.into(models.ModelSpec.from_dict(checkpoint.model).build(seed=0))


def test_the_result_is_stored_and_drawn(tmp_path):
    from landscape.plotting import picture

    a, b = pair("mlp")
    batches = CASES["mlp"].data()
    attack = ls.attack("fgsm", eps=0.1)
    _, found = connect(a, b, batches, batches, plan=quick(), attack=attack, points=4)
    found.save(tmp_path / "c.h5")
    again = ls.load(tmp_path / "c.h5")
    assert isinstance(again, Connectivity)
    assert again == found
    json.dumps(found.to_dict(), allow_nan=False)
    with xarray.open_dataset(tmp_path / "c.h5", engine="h5netcdf") as opened:
        assert opened.train_loss.dims == ("path", "t")
        assert_allclose(opened.t, [0, 1 / 3, 2 / 3, 1])
        assert list(opened.path.values) == ["curve", "straight line"]
    left, right = picture([found], ["one"]).axes
    assert left.get_ylabel() == "adversarial training loss (nats)"
    assert_allclose(left.lines[1].get_ydata(), found.train_loss[1])
    drawn = [line.get_ydata() / 100 for line in right.lines if len(line.get_ydata()) == 4]
    assert_allclose(drawn, np.concatenate([found.test_error, found.robust_test_error]))
    several = picture([found, found], ["one", "two"])
    names = [text.get_text() for text in several.legends[0].get_texts()]
    assert names[:4] == ["one", "two", "Bezier, order 2", "straight line"]
    assert found.plot().get_xlabel() == "position t along the path"


# -- refusals -------------------------------------------------------------------------------------


def test_refusals():
    a, b = pair("mlp")
    batches = CASES["mlp"].data()
    with pytest.raises(UsageError, match="the same weights: there is nothing to connect"):
        connect(a, copy.deepcopy(a), batches)
    with pytest.raises(UsageError, match=r"of different architectures .they differ in"):
        connect(a, CASES["relu"].model(), batches)
    with pytest.raises(UsageError, match="order must be a whole number of at least 1, got 0"):
        CurvePlan(order=0)
    with pytest.raises(UsageError, match="order must be a whole number of at least 1, got 0"):
        Curve.between(P.trainable(a), P.trainable(b), 0)
    with pytest.raises(UsageError, match="at least 3, both ends and a middle, got 2"):
        connect(a, b, batches, points=2)
    with pytest.raises(UsageError, match="the adversarial loss needs an attack"):
        connect(a, b, batches, adversarial=True)
    with pytest.raises(NumericalError, match=r"the curve diverged .* try a lower lr"):
        connect(
            a, b, batches, plan=quick(optimiser=Optimiser(lr=1e200, weight_decay=1.0)), points=3
        )
    with pytest.raises(UsageError, match="several dtypes"):
        connect(nn.Sequential(a, a[0].float()), nn.Sequential(b, b[0].float()), batches)
    scaled = [
        models.build("logistic", in_shape=(1, 2, 3), num_classes=3, normalize=(0.5, std), seed=i)
        for i, std in enumerate((0.2, 0.3))
    ]
    with pytest.raises(UsageError, match=r"the networks differ in 'normalize\.std', which no"):
        connect(*scaled, batches)
    one, other = pair("frozen")
    other[0].weight.add_(1)
    with pytest.raises(
        UsageError, match=r"the networks differ in '0\.weight', which no curve trains"
    ):
        connect(one, other, batches)


def test_a_state_of_other_settings_is_refused():
    a, b = pair("mlp")
    batches = CASES["mlp"].data()
    states = []
    connect(a, b, batches, plan=quick(), points=3, save=states.append)
    with pytest.raises(UsageError, match=r"other settings .epochs, seed differ.: pass --no-resume"):
        connect(a, b, batches, plan=quick(epochs=9, seed=5), points=3, state=states[0])
    with pytest.raises(UsageError, match=r"other settings .data differ."):
        connect(a, b, batches[:2], plan=quick(), points=3, state=states[0])


# -- files and the command ------------------------------------------------------------------------


def test_a_checkpoint_at_any_t(tmp_path):
    name = "conv, batchnorm, dropout"
    a, b = pair(name)
    x, y = joined(CASES[name].data())
    states = []
    curve, found = connect(a, b, (x, y), (x, y), plan=quick(), points=5, save=states.append)
    saved = CurveCheckpoint(states[-1], a.state_dict())
    there = extract(saved, a, 0.75, (x, y), 6).into(copy.deepcopy(a))
    assert P.digest(P.trainable(there)) == P.digest(curve.at(0.75))
    assert ls.Objective(there, (x, y)).value().loss == pytest.approx(found.train_loss[0, 3])
    assert P.digest(saved.first().state_dict) == P.digest(a.state_dict())


def test_damaged_and_foreign_curve_files(tmp_path):
    state = CurveState(curve_of(points(3)), settings={"seed": 1})
    path = CurveCheckpoint(state, {"w": torch.zeros(5)}).save(tmp_path / "c.pt")
    assert torch.equal(load_curve(path).curve.points, state.curve.points)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "points": content["points"] + 1}, tmp_path / "changed.pt")
    with pytest.raises(CheckpointError, match="does not match its digest"):
        load_curve(tmp_path / "changed.pt")
    torch.save({**content, "version": 2}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="has curve version 2, this landscape reads 1"):
        load_curve(tmp_path / "new.pt")
    del content["points"]
    torch.save(content, tmp_path / "short.pt")
    with pytest.raises(CheckpointError, match=r"short\.pt is damaged"):
        load_curve(tmp_path / "short.pt")


@pytest.fixture
def two(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tiny checkpoint and one from elsewhere, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    loaded = ls.load_checkpoint(checkpoint)
    g = torch.Generator().manual_seed(0)
    state = {n: p + torch.randn(p.shape, generator=g) for n, p in loaded.state_dict.items()}
    folder = tmp_path / "ends"
    other = Checkpoint(state, loaded.model, loaded.data, loaded.method).save(folder / "b.pt")
    return [str(checkpoint), str(other)]


FEW = ["--epochs", "2", "--points", "5", "--n-train", "200", "--n-examples", "100"]


def test_the_command_writes_curve_result_picture_and_networks(two, capsys):
    assert run(["connect", *two, *FEW, "--attack", "fgsm", "--save-at", "1/2"]) == 0
    out, err = capsys.readouterr()
    name = "tiny-connect-b-fgsm"
    endings = (".h5", ".png", ".pdf", ".pt", "-t0.5.pt")
    assert [line for line in out.splitlines() if line.startswith("wrote")] == [
        f"wrote {name}{ending}" for ending in endings
    ]
    assert sorted(p.name for p in Path().iterdir()) == sorted(
        ["ends", *(name + ending for ending in endings)]
    )
    found = ls.load(f"{name}.h5")
    assert f"{found.barrier[1]:.6g}" in out
    assert "tiny.pt: logistic" in err
    assert "b.pt:" in err
    # The file of the network says what the curve's result says.
    assert run(["evaluate", f"{name}-t0.5.pt", "--n-examples", "100", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"][0]
    assert accuracy == pytest.approx(1 - found.test_error[0, 2])
    # The curve file alone gives the same numbers.
    command = ["connect", f"{name}.pt", *FEW[2:], "--attack", "fgsm", "--json", "--save-at", "1"]
    assert run(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert_allclose(again["train_loss"], found.train_loss, rtol=1e-6)
    assert_allclose(again["robust_test_error"], found.robust_test_error)
    assert_close(
        ls.load_checkpoint(f"{name}-along-fgsm-t1.pt").state_dict,
        ls.load_checkpoint(two[1]).state_dict,
    )


def test_an_interrupted_command_goes_on(two, capsys, monkeypatch):
    from landscape.connectivity import fitting

    monkeypatch.setattr("landscape.cli.resume.Partial.interval", 0.0)
    assert run(["connect", *two, *FEW, "--out", "whole.h5"]) == 0
    step = fitting._Descent.step

    def interrupted(self, now, *args):
        if now > 1:
            raise KeyboardInterrupt
        return step(self, now, *args)

    with monkeypatch.context() as context:
        context.setattr(fitting._Descent, "step", interrupted)
        context.setattr("landscape.cli.resume.Partial.interval", 1000.0)  # saved as it ends
        assert run(["connect", *two, *FEW, "--out", "half.h5"]) == 130
    assert load_curve("half.partial.pt").state.epoch == 1
    assert "Go on with" in capsys.readouterr().err
    changed = ["connect", *two, "--epochs", "3", *FEW[2:], "--out", "half.h5"]
    assert run(changed) == 2
    assert "(epochs differ): pass --no-resume" in capsys.readouterr().err
    assert run(["connect", *two, *FEW, "--out", "half.h5"]) == 0
    assert "1 epochs are done" in capsys.readouterr().err
    assert not Path("half.partial.pt").exists()
    one, other = load_curve("whole.pt"), load_curve("half.pt")
    assert torch.equal(one.curve.points, other.curve.points)
    assert_array_equal(ls.load("whole.h5").train_loss, ls.load("half.h5").train_loss)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--order", "0"], 2, "'--order': 0 is not in the range x>=1"),
        (["--split", "extra"], 2, "digits has no split 'extra'. Splits: train, val, test."),
        (["--data", "cifar10-c"], 2, "cifar10-c has no split 'train'"),
        (["--save-at", "2"], 2, "--save-at 2: t lies in [0, 1]"),
        (["--loss", "adversarial"], 2, "--loss adversarial needs an attack"),
        (["--out", "ends/b.h5"], 2, "b.pt is one of the inputs: choose another --out"),
        (["--n-train", "100000"], 2, "n_examples must lie between 1 and"),
        (["ends/b.pt"], 2, "got 3 files: give two checkpoints"),
    ],
)
def test_bad_input_is_one_line(two, capsys, arguments, code, message):
    assert run(["connect", *two, *arguments]) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert err.count("landscape: error:") == 1


def test_bad_pairs_are_one_line(two, capsys):
    spec = models.ModelSpec("lenet-2", (1, 8, 8), 10)
    state = spec.build(seed=0).state_dict()
    Checkpoint(state, spec.to_dict(), {"name": "digits", "options": {}}).save("lenet.pt")
    cases = {
        ("lenet.pt", two[0]): "of different architectures (name: lenet-2 and logistic)",
        (two[0], two[0]): "the same weights: there is nothing to connect",
        (two[0],): "holds no curve",
        (two[0], "nowhere.pt"): "nowhere.pt does not exist",
    }
    for paths, message in cases.items():
        assert run(["connect", *paths]) in (1, 2)
        assert message in capsys.readouterr().err
    assert run(["connect", "lenet.pt", "--epochs", "3", "--out", "x.h5"]) == 2
    assert "--epochs trains a curve and needs two checkpoints" in capsys.readouterr().err


def test_bare_weights_of_one_name(two, capsys):
    """The curve file of weights alone says what was given on the command line."""
    for folder, path in zip(("one", "two"), two, strict=True):
        Path(folder).mkdir()
        torch.save(ls.load_checkpoint(path).state_dict, Path(folder) / "best.pt")
    ends = ["one/best.pt", "two/best.pt"]
    assert run(["connect", *ends, *FEW]) == 2
    assert "does not say what data" in capsys.readouterr().err
    assert run(["connect", *ends, *FEW, "--model", "logistic", "--data", "digits"]) == 0
    assert "between one-best and two-best" in capsys.readouterr().out
    assert run(["connect", "best-connect-two-best.pt", *FEW[2:]]) == 0


def test_a_curve_worse_than_the_line_is_not_converged(two, capsys):
    assert run(["connect", *two, *FEW, "--lr", "50"]) == 3
    assert "the curve's barrier exceeds the straight line's" in capsys.readouterr().err
    assert ls.load("tiny-connect-b.h5").ratio is None or not ls.load("tiny-connect-b.h5").better


def test_a_dry_run_writes_nothing(two, capsys):
    assert run(["connect", *two, *FEW, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "up to 2 epochs" in out
    assert "would write tiny-connect-b.h5" in out
    assert [p.name for p in Path().iterdir()] == ["ends"]


def test_a_profile_of_a_given_curve():
    a, b = pair("mlp")
    batches = CASES["mlp"].data()
    curve, found = connect(a, b, batches, batches, plan=quick(), points=3)
    again = profile(a, curve, batches, batches, points=3)
    assert_array_equal(again.train_loss, found.train_loss)
    assert again.provenance.diagnostic == "profile"
    assert found.provenance.diagnostic == "connect"
