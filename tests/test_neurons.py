"""Dead neurons against networks built with known ones and against a slow loop."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn.modules import module as global_hooks

import landscape as ls
from landscape import models
from landscape.cli import run
from landscape.errors import NumericalError, UsageError
from landscape.plotting import picture

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
SIZES = (7, 5, 1, 4)


def data(*shape, classes=3, sizes=SIZES):
    g = torch.Generator().manual_seed(5)
    x = torch.rand(sum(sizes), *shape, generator=g, dtype=torch.float64)
    y = torch.randint(classes, (len(x),), generator=g)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def seeded(build):
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(3)
        return build().double()


def objective(model, batches, **kwargs):
    return ls.Objective(model, batches, **kwargs)


class Dense(nn.Module):
    """ReLU in every way that it is written; units 1 and 4 of the first layer are dead."""

    def __init__(self, way):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.act = nn.ReLU()
        self.way = way
        with torch.no_grad():
            self.first.weight[[1, 4]] = -self.first.weight[[1, 4]].abs()
            self.first.bias[[1, 4]] = -0.1

    def forward(self, x):
        z = self.first(x)
        a = {
            "module": self.act,
            "function": F.relu,
            "torch": torch.relu,
            "method": lambda v: v.relu(),
            "in place": lambda v: v.relu_(),
            "function in place": lambda v: F.relu(v, inplace=True),
            "clamp": lambda v: v.clamp(min=0),
            "clamp by position": lambda v: torch.clamp(v, 0, 100),
            "hardtanh": lambda v: F.hardtanh(v, 0.0, 100.0),
            "threshold": lambda v: F.threshold(v, 0.0, 0.0),
        }[self.way](z)
        return self.head(a)


WAYS = ["module", "function", "torch", "method", "in place", "function in place", "clamp"]
WAYS += ["clamp by position", "hardtanh", "threshold"]


@pytest.mark.parametrize("way", WAYS)
def test_known_dead_units_however_relu_is_written(way):
    model = seeded(lambda: Dense(way))
    batches = data(6)
    found = ls.neurons(objective(model, batches))
    x = torch.cat([x for x, _ in batches])
    a = torch.relu(model.first(x)).detach()
    dead = [all(float(a[i, j]) == 0 for i in range(len(x))) for j in range(8)]
    assert dead[1]
    assert dead[4]
    assert found.dead_units.tolist() == [sum(dead)]
    assert found.units.tolist() == found.positions.tolist() == [8]
    assert found.dead_positions.tolist() == [sum(dead)]
    assert not found.dead_layer.any()
    assert found.follows.tolist() == ["first"]
    assert found.layer[0] == ("act" if way == "module" else found.operation[0])
    share = (a == 0).double().mean(1).numpy()
    assert_allclose(found.sample_zero_share[:, 0], share)
    assert_allclose(found.zero_share, share.mean())
    assert_allclose(found.zero_share_standard_error, share.std(ddof=1) / math.sqrt(len(x)))
    assert_allclose(found.dead_share, sum(dead) / 8)


def test_bound_of_the_probability_to_be_active():
    found = ls.neurons(objective(seeded(lambda: Dense("module")), data(6)))
    assert found.samples == 17
    # A unit that is active with this probability is silent 17 times in one case of 20.
    assert_allclose((1 - found.activation_bound) ** 17, 0.05)
    assert abs(found.activation_bound - 3 / 17) < 0.02


class Convolutions(nn.Module):
    """BatchNorm before ReLU; channel 2 of the first and all of the second layer can be killed."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        return self.head(self.drop(x.flatten(1)))


def kill(bn, channels):
    with torch.no_grad():
        bn.weight[channels] = 0.01
        bn.bias[channels] = -5.0


@pytest.mark.parametrize("channels", [[], [2], [0, 1, 2, 3]])
def test_channels_and_positions_against_a_slow_loop(channels):
    model = seeded(Convolutions)
    kill(model.bn1, [2])
    kill(model.bn2, channels)
    with torch.no_grad():
        model.conv1.bias[0] = -0.5  # some positions of channel 0 stay silent
    batches = data(2, 6, 6)
    found = ls.neurons(objective(model, batches))
    net = model.eval().requires_grad_(False)
    x = torch.cat([x for x, _ in batches])
    first = torch.relu(net.bn1(net.conv1(x)))
    second = torch.relu(net.bn2(net.conv2(first)))
    for layer, a in enumerate((first, second)):
        positions = [
            all(float(a[i, c, h, w]) == 0 for i in range(len(x)))
            for c in range(a.shape[1])
            for h in range(a.shape[2])
            for w in range(a.shape[3])
        ]
        each = len(positions) // a.shape[1]
        units = [all(positions[c * each : (c + 1) * each]) for c in range(a.shape[1])]
        assert found.positions[layer] == len(positions)
        assert found.dead_positions[layer] == sum(positions)
        assert found.units[layer] == a.shape[1]
        assert found.dead_units[layer] == sum(units)
        assert bool(found.dead_layer[layer]) == all(units)
        assert_allclose(
            found.sample_zero_share[:, layer], (a == 0).double().flatten(1).mean(1).numpy()
        )
    assert found.dead_units[0] >= 1
    assert found.dead_positions[0] > 36  # beyond the dead channel's
    # One module called twice is two layers.
    assert found.layer.tolist() == ["act", "act (2)"]
    assert found.follows.tolist() == ["bn1", "bn2"]
    assert found.constant_output == found.dead_layer.any() == (len(channels) == 4)
    assert found.constant_prediction or not found.constant_output


def test_a_dead_layer_makes_a_constant_classifier_whose_loss_is_that_of_its_bias():
    model = seeded(Convolutions)
    kill(model.bn2, slice(None))
    with torch.no_grad():
        model.head.bias.zero_()
    found = ls.neurons(objective(model, data(2, 6, 6)))
    assert found.constant_output
    assert found.constant_prediction
    assert found.predictions == 1
    assert found.output_range == 0
    assert_allclose([found.loss, found.chance_loss], math.log(3), rtol=1e-12)
    y = torch.cat([y for _, y in data(2, 6, 6)])
    assert_allclose(found.accuracy, float((y == 0).double().mean()))


def test_the_same_class_everywhere_is_not_a_constant_function():
    model = seeded(lambda: CASES["relu"].build())
    with torch.no_grad():
        model[-1].bias[1] += 100
    found = ls.neurons(objective(model, CASES["relu"].data()))
    assert found.constant_prediction
    assert not found.constant_output
    assert found.output_range > 0.01


def test_one_sample_alone_tells_of_no_constant_function():
    found = ls.neurons(objective(seeded(lambda: CASES["relu"].build()), data(6, sizes=(1,))))
    assert found.samples == 1
    assert found.output_range == 0
    assert not found.constant_output
    assert not found.constant_prediction


def test_a_dead_branch_beside_a_shortcut_is_no_constant_function():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
            with torch.no_grad():
                self.branch.bias.fill_(-100.0)

        def forward(self, x):
            return self.head(x + F.relu(self.branch(x)))

    found = ls.neurons(objective(seeded(Residual), data(6)))
    assert found.dead_layer.tolist() == [True]
    assert found.layer.tolist() == ["relu"]
    assert not found.constant_output


def test_tied_layers_are_counted_at_every_use():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(6, 6)
            self.two = nn.Linear(6, 6)
            self.two.weight = self.one.weight
            self.block = nn.Sequential(self.one, nn.ReLU())

        def forward(self, x):
            return F.relu(self.two(F.relu(self.one(self.block(x)))))

    model = seeded(Shared)
    with torch.no_grad():
        model.one.bias[3] = -50
    found = ls.neurons(objective(model, data(6, classes=6)))
    assert found.layer.tolist() == ["block.1", "relu", "relu (2)"]
    assert found.follows.tolist() == ["one", "one", "two"]
    assert found.dead_units[0] >= 1
    x = torch.cat([x for x, _ in data(6)])
    with torch.no_grad():
        a = model.block(x)
        b = F.relu(model.one(a))
        c = F.relu(model.two(b))
    assert found.dead_units.tolist() == [int((v == 0).all(0).sum()) for v in (a, b, c)]


def test_tolerance_for_smooth_activations():
    model = seeded(lambda: CASES["conv, batchnorm, dropout"].build())
    batches = CASES["conv, batchnorm, dropout"].data()
    net = model.eval()
    kinds = {}
    for tol in (0.0, 0.05, 0.3, 50.0):
        found = ls.neurons(objective(model, batches), tol=tol)
        x = torch.cat([x for x, _ in batches])
        with torch.no_grad():
            a = torch.tanh(net.bn1(net.conv1(x)))
            z = net.bn2(net.conv2(F.pad(F.avg_pool2d(a, 2), (1, 0, 1, 0))))
        for layer, v in enumerate((a, F.softplus(z))):
            small = v.abs() <= tol
            assert found.dead_positions[layer] == int(small.all(0).sum())
            assert found.dead_units[layer] == int(small.all(0).flatten(1).all(1).sum())
        kinds[tol] = found.dead_units.tolist()
        assert found.operation.tolist() == ["tanh", "softplus"]
        assert found.layer.tolist() == ["tanh", "softplus"]
    assert kinds[0.0] == [0, 0]
    assert kinds[50.0] == [3, 4]


def test_units_of_sequences_are_on_the_last_axis_after_a_dense_layer():
    model = seeded(
        lambda: nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Flatten(), nn.Linear(35, 3))
    )
    with torch.no_grad():
        model[0].bias[2] = -100
    found = ls.neurons(objective(model, data(5, 4)))
    assert found.units.tolist() == [7]
    assert found.positions.tolist() == [35]
    assert found.dead_units[0] >= 1
    # And on the second after a convolution of as many axes.
    model = seeded(
        lambda: nn.Sequential(nn.Conv1d(5, 7, 1), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3))
    )
    assert ls.neurons(objective(model, data(5, 4))).positions.tolist() == [28]
    assert ls.neurons(objective(model, data(5, 4))).units.tolist() == [7]


def test_adversarial_inputs_are_those_of_the_attack():
    model = seeded(lambda: Dense("function"))
    attacked = objective(model, data(6), attack=ls.attack("pgd-3", eps=0.4))
    found = ls.neurons(attacked)
    x = torch.cat([term.x for term in attacked.terms()])
    a = torch.relu(model.first(x)).detach()
    assert_allclose(found.sample_zero_share[:, 0], (a == 0).double().mean(1).numpy())
    clean = ls.neurons(objective(model, data(6)))
    assert not np.array_equal(found.sample_zero_share, clean.sample_zero_share)
    assert_allclose(found.loss, attacked.value().loss)
    assert found.loss > clean.loss


@pytest.mark.parametrize("name", ["resnet18-1", "wrn-10-1", "preact-resnet18-1", "vgg-1"])
def test_every_activation_of_our_networks_is_seen(name):
    model = models.build(name, in_shape=(3, 32, 32), num_classes=3, seed=0)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = ls.neurons(objective(model, (x, torch.arange(4) % 3), batch_size=3))
    relus = [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)]
    assert sorted(found.layer) == sorted(relus)
    assert found.units.min() >= 4
    assert all(found.follows)


def test_hooks_are_gone_afterwards_also_after_a_failure():
    before = (
        dict(global_hooks._global_forward_hooks),
        dict(global_hooks._global_forward_pre_hooks),
    )
    model = seeded(lambda: Dense("module"))
    ls.neurons(objective(model, data(6)))
    bad = objective(model, data(6))
    with torch.no_grad():
        model.first.weight.fill_(math.inf)
    with pytest.raises(NumericalError, match="act is not finite"):
        ls.neurons(bad)
    after = (
        dict(global_hooks._global_forward_hooks),
        dict(global_hooks._global_forward_pre_hooks),
    )
    assert before == after
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Changing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        z = self.layer(x)
        return torch.relu(z) if len(x) > 5 else torch.tanh(z)


class Merged(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return torch.relu(self.layer(x.view(-1, 3))).view(len(x), -1)


def test_refusals():
    with pytest.raises(UsageError, match="no activation that is known"):
        ls.neurons(objective(CASES["logistic"].model(), CASES["logistic"].data()))
    for tol in (-1, math.inf, math.nan):
        with pytest.raises(UsageError, match=r"largest .* counts as zero, got"):
            ls.neurons(objective(CASES["relu"].model(), CASES["relu"].data()), tol=tol)
    with pytest.raises(UsageError, match="other activations, or of other shapes"):
        ls.neurons(objective(seeded(Changing), data(6)))
    with pytest.raises(UsageError, match=r"shape \(14, 3\) for 7 samples"):
        ls.neurons(objective(seeded(Merged), data(6, classes=6)))


def test_regression():
    case = CASES["regression"]
    found = ls.neurons(ls.Objective(case.model(), case.data(), "mse"))
    assert found.predictions is None
    assert found.constant_prediction is None
    assert found.chance_loss is None
    assert found.accuracy is None
    assert not found.constant_output


def test_one_sample():
    found = ls.neurons(objective(seeded(lambda: Dense("module")), data(6, sizes=(1,))))
    assert found.activation_bound == 0.95
    assert np.isinf(found.zero_share_standard_error).all()
    picture([found], [])


# -- command line ---------------------------------------------------------------------------------

STANDARD, PGD = (str(CHECKPOINTS / f"digits-{kind}-seed0.pt") for kind in ("standard", "pgd"))
QUICK = ["--n-examples", "40", "-q"]


def test_command(tmp_path, capsys):
    out = str(tmp_path / "a.h5")
    assert run(["neurons", STANDARD, PGD, *QUICK, "--out", out]) == 0
    text = capsys.readouterr().out
    assert "dead units" in text
    assert "act3" in text
    assert {p.suffix for p in tmp_path.iterdir()} == {".h5", ".png", ".pdf"}
    assert set(ls.load_all(out)) == {Path(STANDARD).stem, Path(PGD).stem}
    options = ["--json", "--attack", "fgsm", "--eps", "0.1", "--tol", "1/10"]
    assert run(["neurons", PGD, *QUICK, *options, "--out", str(tmp_path / "b.h5")]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["tol"] == 0.1
    assert body["layer"] == ["act1", "act2", "act3"]
    assert not body["constant_output"]
    assert run(["neurons", PGD, *QUICK, "--tol", "-1", "--out", str(tmp_path / "c.h5")]) == 2
    assert "counts as zero, got -1" in capsys.readouterr().err
    assert run(["neurons", PGD, *QUICK, "--dry-run", "--out", str(tmp_path / "d.h5")]) == 0
    assert not (tmp_path / "d.h5").exists()


def test_command_warns_of_a_constant_network(tmp_path, capsys):
    checkpoint = ls.load_checkpoint(PGD)
    spec = models.ModelSpec.from_dict(checkpoint.model)
    model = checkpoint.into(spec.build(seed=0))
    with torch.no_grad():
        model.fc1.bias.fill_(-100.0)
    dead = dataclasses.replace(checkpoint, state_dict=model.state_dict())
    path = dead.save(tmp_path / "dead.pt")
    assert run(["neurons", str(path), *QUICK, "--out", str(tmp_path / "a.h5")]) == 0
    said = capsys.readouterr().err
    assert "every unit is dead in act3" in said
    assert "the outputs do not depend on the input" in said
    assert "log C = 2.303" in said
    found = ls.load(tmp_path / "a.h5")
    assert_array_equal(found.dead_layer, [False, False, True])
